import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { planOf } from '#src/commands/plan.ts';
import { plainOf } from '#src/commands/plan-text.ts';
import { register } from '#src/commands/sign.ts';
import { tell } from '#src/commands/status.ts';
import { digestOf } from '#src/digest.ts';
import { isFault } from '#src/errors.ts';
import { type LabSigstore, openLabSigstore } from '#src/lab/sigstore.ts';
import { readStatus } from '#state/status.ts';
import { signedBy, trustText } from '../documents/people.ts';
import { ann, bob, checkOut, cid, keyturn, releaseFiles, SPAWNING_SECONDS, withStand } from './stand.ts';

let sigstore: LabSigstore;
beforeAll(async () => {
  sigstore = await openLabSigstore();
});
afterAll(() => sigstore.close());

const SUBJECT = 'bob@provider.example';
const PATH = 'releases/w/1.yaml';
const ROOT = 'trust/sigstore.json';

/** The next version of the stand's trust document: everybody keeps their key, and bob has an identity. */
function trustFiles(): ReturnType<typeof signedBy> {
  const people = [ann, bob, cid].map(({ id, publicPem }) => {
    const identities = id === 'bob' ? [{ issuer: sigstore.issuerUrl, subject: SUBJECT }] : [];
    return { id, keys: [publicPem], identities };
  });
  const trustedRoot = { file: ROOT, digest: digestOf(sigstore.trustedRoot) };
  return signedBy('trust/2.yaml', trustText([ann, bob, cid], { version: 2, people, trustedRoot }), [ann, bob]);
}

function signing(file: string, token: string): readonly string[] {
  const services = ['--fulcio-url', sigstore.fulcioUrl, '--rekor-url', sigstore.rekorUrl, '--timestamp-url', sigstore.timestampUrl];
  return ['sign', file, '--identity-token', token, '--signer', 'bob', ...services];
}

it(
  'a release that one signs with a key and another with an identity is planned, accepted, and says who signed it how',
  () =>
    withStand(async (stand) => {
      await stand.merge({ [ROOT]: sigstore.trustedRoot, ...(await trustFiles()) });
      const release = await releaseFiles(1, { previous: null, signers: [ann] });
      await checkOut(stand.folder, release);
      const [file, token] = [join(stand.folder, PATH), join(stand.folder, 'token')];
      await writeFile(token, `${await sigstore.identityToken(SUBJECT)}\n`);
      expect(await keyturn(...signing(file, token))).toMatchObject({ code: 0, errors: '' });
      const files = {
        ...release,
        'releases/w/1.bob.sigstore.json': (await readFile(join(stand.folder, 'releases/w/1.bob.sigstore.json'))).toString(),
      };
      const named = `bob (${SUBJECT} of ${sigstore.issuerUrl})`;
      await stand.propose(files);
      const foreseen = await planOf(stand.config, { ref: 'refs/pull/7/head' });
      expect(foreseen.documents.find(({ path }) => path === PATH)).toMatchObject({
        approvedBy: ['ann', 'bob'],
        signatures: [
          { person: 'ann', by: { kind: 'key' } },
          { person: 'bob', by: { kind: 'identity', issuer: sigstore.issuerUrl, subject: SUBJECT } },
        ],
      });
      expect(plainOf(foreseen).join('\n')).toContain(named);
      await stand.merge(files);
      const status = await readStatus(stand.pool);
      expect(status.documents.find(({ path }) => path === PATH)).toMatchObject({ approvedBy: ['ann', 'bob'] });
      expect(tell(status).join('\n')).toContain(named);
    }),
  SPAWNING_SECONDS * 1000,
);

it(
  'a token that is refused is in no output, and nothing is written',
  () =>
    withStand(async (stand) => {
      await checkOut(stand.folder, await releaseFiles(1, { previous: null, signers: [] }));
      const file = join(stand.folder, PATH);
      const other = await openLabSigstore();
      const token = await other.identityToken(SUBJECT);
      await other.close();
      await writeFile(join(stand.folder, 'token'), token);
      const ended = await keyturn(...signing(file, join(stand.folder, 'token')));
      expect(ended.code).not.toBe(0);
      expect(ended.errors + ended.output).not.toContain(token.slice(0, 24));
      await expect(readFile(join(stand.folder, 'releases/w/1.bob.sigstore.json'))).rejects.toMatchObject({ code: 'ENOENT' });
    }),
  SPAWNING_SECONDS * 1000,
);

/** Runs `keyturn sign …` in this process. */
async function reasonOf(...words: readonly string[]): Promise<string> {
  const program = new Command().exitOverride();
  register(program);
  return program.parseAsync(words, { from: 'user' }).then(
    () => 'signed',
    (thrown: unknown) => (isFault(thrown) ? thrown.reason : `a bug: ${String(thrown)}`),
  );
}

it('a key and a token, neither, a token without services or without a name for the file are refused', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-sign-keyless-'));
  try {
    await checkOut(folder, await releaseFiles(1, { previous: null, signers: [] }));
    const [file, token] = [join(folder, PATH), join(folder, 'token')];
    await writeFile(token, 'x');
    const mistakes = [
      ['sign', file, '--signer', 'bob'],
      ['sign', file, '--signer', 'bob', '--identity-token', token],
      ['sign', file, '--signer', 'bob', '--identity-token', token, '--fulcio-url', sigstore.fulcioUrl],
      ['sign', file, '--signer', 'bob', '--identity-token', token, '--key', token, '--fulcio-url', sigstore.fulcioUrl],
      ['sign', file, '--signer', 'bob', '--key', token, '--rekor-url', sigstore.rekorUrl],
      ['sign', file, '--identity-token', token, '--fulcio-url', sigstore.fulcioUrl, '--rekor-url', sigstore.rekorUrl],
      signing(file, token),
    ];
    for (const words of mistakes) expect(await reasonOf(...words), words.slice(2).join(' ')).toBe('InvalidRequest');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
