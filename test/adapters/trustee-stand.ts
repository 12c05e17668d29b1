import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TrusteeConfig, trusteeSchema } from '#src/adapters/trustee/config.ts';
import { openTrustee } from '#src/adapters/trustee/index.ts';
import { instantOf } from '#src/instant.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import { type LabKbs, openLabKbs } from '#src/lab/kbs.ts';
import type { KeyBroker } from '#src/world.ts';

/** An adapter on lab KBSs, with a clock that the test moves and real keys. */
export interface TrusteeStand {
  readonly broker: KeyBroker;
  readonly kbs: readonly LabKbs[];
  readonly config: TrusteeConfig;
  readonly folder: string;
  /** Thumbprints of the prober's keys, in order. */
  readonly proberKeys: readonly string[];
  /** Moves the clock of both sides on. */
  readonly advance: (seconds: number) => void;
  /** Opens the adapter anew with other settings. */
  readonly reopen: (change: Readonly<Record<string, unknown>>) => Promise<KeyBroker>;
  readonly close: () => Promise<void>;
}

const ROLES = { resource: 'keys', policy: 'policies', referenceValue: 'values' } as const;

/** Opens it, with one KBS or with replicas that share nothing. Tokens live 10 s, the leeway is 60 s, as in production. */
export async function openTrusteeStand(replicas = 1, curve: 'ed25519' | 'P-256' = 'ed25519'): Promise<TrusteeStand> {
  const folder = await mkdtemp(join(tmpdir(), 'trustee-'));
  const pair = curve === 'ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const adminKey = join(folder, 'admin.pem');
  await writeFile(adminKey, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const authority = await makeAuthority('attestation');
  const signer = await issue(authority, { commonName: 'token signer', names: [] });
  const signersFile = join(folder, 'signers.pem');
  await writeFile(signersFile, authority.certificatePem);
  let ahead = 0;
  const now = (): number => Date.now() + ahead;
  const kbs = await Promise.all(
    Array.from({ length: replicas }, () =>
      openLabKbs({
        folder: null,
        clock: async () => now(),
        tokenLeewaySeconds: 60,
        adminPublicKeys: [{ publicKeyPem: pair.publicKey.export({ type: 'spki', format: 'pem' }).toString(), issuer: 'keyturn', audience: 'kbs' }],
        roles: [
          { role: ROLES.resource, allowedEndpoints: '^/kbs/v0/resource/keyturn-eu/[^/]+/[^/]+$' },
          { role: ROLES.policy, allowedEndpoints: '^/kbs/v0/resource-policy$' },
          { role: ROLES.referenceValue, allowedEndpoints: '^/kbs/v0/reference-value(/.+)?$' },
        ],
        tokenSigner: { keyPem: signer.keyPem, chainPem: signer.certificatePem + authority.certificatePem },
      }),
    ),
  );
  const urls = kbs.map(({ url }) => url);
  const settings = {
    url: urls[0],
    publicUrl: urls[0],
    replicas: replicas > 1 ? urls : [],
    admin: { keys: [{ id: 'admin-1', file: adminKey }], issuer: 'keyturn', audience: 'kbs', roles: ROLES },
    attestationSigners: { file: signersFile },
    repository: 'keyturn-eu',
    storage: 'postgres',
  };
  const proberKeys: string[] = [];
  const parts = {
    installation: 'eu',
    clock: async () => instantOf(now()),
    proberKeySeen: async (thumbprint: string) => void proberKeys.push(thumbprint),
  };
  const reopen = (change: Readonly<Record<string, unknown>>): Promise<KeyBroker> => openTrustee('main', trusteeSchema.parse({ ...settings, ...change }), parts);
  return {
    broker: await reopen({}),
    kbs,
    config: trusteeSchema.parse(settings),
    folder,
    proberKeys,
    advance: (seconds) => {
      ahead += seconds * 1000;
    },
    reopen,
    close: async () => {
      await Promise.all(kbs.map((one) => one.close()));
      await rm(folder, { recursive: true, force: true });
    },
  };
}
