import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { issue, type KeyedCertificate, makeAuthority } from './certificates.ts';

/** The lab's keys beside its approvers': files for those who hold the private half, text for those who check. */
export interface LabKeys {
  readonly receiptsKeyFile: string;
  readonly receiptsPublicKeyFile: string;
  readonly kbsAdminKeyFile: string;
  readonly kbsAdminPublicKeyPem: string;
  /** Secret of the webhook's HMAC. */
  readonly webhookSecretFile: string;
  /** The attestation service's token signer, and the file with the CA that it chains to. */
  readonly tokenSigner: { readonly keyPem: string; readonly chainPem: string };
  readonly attestationSignersFile: string;
}

async function ed25519(folder: string, name: string): Promise<{ readonly keyFile: string; readonly publicKeyFile: string; readonly publicKeyPem: string }> {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const [keyFile, publicKeyFile] = [join(folder, `${name}.pem`), join(folder, `${name}.public.pem`)];
  const publicKeyPem = publicKey.export({ format: 'pem', type: 'spki' }).toString();
  await writeFile(keyFile, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
  await writeFile(publicKeyFile, publicKeyPem);
  return { keyFile, publicKeyFile, publicKeyPem };
}

/** Makes them anew, in files under `folder` that only their owner reads. */
export async function makeKeys(folder: string): Promise<LabKeys> {
  const [receipts, admin] = await Promise.all([ed25519(folder, 'receipts'), ed25519(folder, 'kbs-admin')]);
  const authority: KeyedCertificate = await makeAuthority('Keyturn lab attestation authority');
  const signer = await issue(authority, { commonName: 'Keyturn lab attestation service', names: [] });
  const webhookSecretFile = join(folder, 'webhook-secret');
  const attestationSignersFile = join(folder, 'attestation-signers.pem');
  await writeFile(webhookSecretFile, randomBytes(32).toString('hex'), { mode: 0o600 });
  await writeFile(attestationSignersFile, authority.certificatePem);
  return {
    receiptsKeyFile: receipts.keyFile,
    receiptsPublicKeyFile: receipts.publicKeyFile,
    kbsAdminKeyFile: admin.keyFile,
    kbsAdminPublicKeyPem: admin.publicKeyPem,
    webhookSecretFile,
    tokenSigner: { keyPem: signer.keyPem, chainPem: `${signer.certificatePem}${authority.certificatePem}` },
    attestationSignersFile,
  };
}
