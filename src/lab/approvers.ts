import { generateKeyPairSync } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Keyturn, runCommand } from './children.ts';
import type { Person } from './documents.ts';
import { failure } from './watch.ts';

/** Signing one document takes a fraction of a second; a machine under load was seen to need several. Seconds. */
const SIGN_SECONDS = 60;

/** A person of the lab, with the file that holds their private key (PKCS #8, PEM). */
export interface Approver extends Person {
  readonly keyFile: string;
}

/** Three people, of whom two have to sign: one may be away, and one alone can do nothing. */
export const APPROVER_IDS = ['ada', 'grace', 'katherine'] as const;

/** Makes the lab's approvers, each with a new P-256 key in a file of their own under `folder`. */
export async function makeApprovers(folder: string): Promise<readonly Approver[]> {
  return Promise.all(
    APPROVER_IDS.map(async (id) => {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const keyFile = join(folder, `${id}.pem`);
      await writeFile(keyFile, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
      return { id, keyFile, publicKeyPem: publicKey.export({ format: 'pem', type: 'spki' }).toString() };
    }),
  );
}

async function bundleOf(keyturn: Keyturn, checkout: string, path: string, signer: Approver): Promise<[string, Buffer]> {
  const words = ['sign', join(checkout, path), '--key', signer.keyFile, '--signer', signer.id];
  const { code, errors } = await runCommand(keyturn, words, SIGN_SECONDS);
  if (code !== 0) throw failure('ServerError', `keyturn sign ${path} as ${signer.id} ended with ${code}: ${errors.trim()}`);
  const bundle = `${path.replace(/\.yaml$/, '')}.${signer.id}.sigstore.json`;
  return [bundle, await readFile(join(checkout, bundle))];
}

/** A document as it is proposed: its path in the repository, its text, and the files that it names by digest. */
export interface Proposal {
  readonly path: string;
  readonly text: string;
  readonly beside: Readonly<Record<string, string>>;
}

/**
 * Puts a proposal into the checkout, has these people sign it there with `keyturn sign`, and returns
 * all that its merge brings, by path in the repository. Throws where signing fails.
 */
export async function approve(keyturn: Keyturn, checkout: string, proposal: Proposal, signers: readonly Approver[]): Promise<Record<string, string | Buffer>> {
  const files = { ...proposal.beside, [proposal.path]: proposal.text };
  for (const [path, text] of Object.entries(files)) {
    const file = join(checkout, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }
  const bundles = await Promise.all(signers.map((signer) => bundleOf(keyturn, checkout, proposal.path, signer)));
  return { ...files, ...Object.fromEntries(bundles) };
}
