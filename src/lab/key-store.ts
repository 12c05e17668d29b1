import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openLabKeyVault } from './key-vault.ts';
import { openLabKms } from './kms.ts';

/** The key stores that the lab can play, as `--keys` calls them. */
export type KeysKind = 'aws' | 'azure';

/** A key store of the lab, running. */
export interface LabKeyStore {
  readonly url: string;
  /** Its entry in `keyturn.yaml`, at this address or behind another one. */
  readonly settingsAt: (url: string) => Readonly<Record<string, unknown>>;
  /** Its key that signs receipts, as `receipts.signer` names it, and the public half; null: a key in a file signs them. */
  readonly signer: { readonly keyId: string; readonly publicKeyPem: string } | null;
  readonly close: () => Promise<void>;
}

/** Opens one on 127.0.0.1 with its keys, and what its clients need, in a folder. `clock`: milliseconds since 1970. */
export async function openLabKeyStore(kind: KeysKind, folder: string, clock: () => Promise<number>): Promise<LabKeyStore> {
  switch (kind) {
    case 'aws': {
      const { url, close } = await openLabKms({ folder, clock });
      return { url, close, signer: null, settingsAt: (endpoint) => ({ kind: 'aws-kms', region: 'eu-central-1', endpoint, disabledProofSeconds: 0 }) };
    }
    case 'azure': {
      const token = randomBytes(32).toString('base64url');
      const { url, close, certificateAuthorityPem, makeSigningKey } = await openLabKeyVault({ folder, clock, token });
      const [tokenFile, authorityFile] = [join(folder, 'token'), join(folder, 'certificate-authority.pem')];
      await writeFile(tokenFile, token, { mode: 0o600 });
      await writeFile(authorityFile, certificateAuthorityPem);
      const settings = { credential: { file: tokenFile }, certificateAuthority: { file: authorityFile }, protection: 'software', keySizeBits: 2048 };
      const signer = await makeSigningKey('receipts');
      return { url, close, signer, settingsAt: (at) => ({ kind: 'azure-key-vault', url: at, ...settings, disabledProofSeconds: 0 }) };
    }
  }
}
