import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import { register } from '#src/commands/sign.ts';
import { isFault } from '#src/errors.ts';
import { makePerson, releaseText, revocationText, trustText } from '../documents/people.ts';

const ann = makePerson('ann');
const BY_NOBODY = { keys: [], identities: [], trustedRoot: null };
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-sign-'));
  await writeFile(join(folder, 'ann.pem'), ann.privatePem, { mode: 0o600 });
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function sign(...words: readonly string[]): Promise<string> {
  const program = new Command().exitOverride();
  register(program);
  return program.parseAsync(['sign', ...words], { from: 'user' }).then(
    () => 'signed',
    (thrown: unknown) => (isFault(thrown) ? thrown.reason : `a bug: ${String(thrown)}`),
  );
}

async function put(path: string, text: string): Promise<string> {
  const file = join(folder, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text);
  return file;
}

it('writes the bundle beside the document, over its exact bytes', async () => {
  const text = releaseText('w', 1, null);
  const file = await put('releases/w/1.yaml', text);
  expect(await sign(file, '--key', join(folder, 'ann.pem'))).toBe('signed');
  const bundle = await readFile(join(folder, 'releases/w/1.ann.sigstore.json'));
  expect(verifyBundle(bundle, Buffer.from(text), { ...BY_NOBODY, keys: [{ person: 'ann', pem: ann.publicPem }] })).toMatchObject({
    kind: 'signed',
    person: 'ann',
  });
});

it('signs documents at every depth, under the name that is asked for', async () => {
  const revocation = await put('revocations/r.yaml', revocationText('r', { kind: 'all' }));
  expect(await sign(revocation, '--key', join(folder, 'ann.pem'), '--signer', 'ann-2')).toBe('signed');
  await readFile(join(folder, 'revocations/r.ann-2.sigstore.json'));
  const trust = await put('trust/1.yaml', trustText([ann, makePerson('bob'), makePerson('cid')]));
  expect(await sign(trust, '--key', join(folder, 'ann.pem'), '--out', join(folder, 'out.json'))).toBe('signed');
  await readFile(join(folder, 'out.json'));
});

it('signs nothing that would be refused', async () => {
  const key = join(folder, 'ann.pem');
  expect(await sign(await put('releases/w/2.yaml', releaseText('w', 1, null)), '--key', key)).toBe('WrongPlace');
  expect(await sign(await put('releases/w/1.yaml', `${releaseText('w', 1, null)}more: 1\n`), '--key', key)).toBe('UnknownField');
  expect(await sign(await put('notes.yaml', 'x'), '--key', key)).toBe('WrongPlace');
  expect(await sign(join(folder, 'none.yaml'), '--key', key)).toBe('NotFound');
  const good = await put('releases/w/1.yaml', releaseText('w', 1, null));
  expect(await sign(good, '--key', join(folder, 'none.pem'))).toBe('NotFound');
  expect(await sign(good, '--key', await put('bad.pem', 'x'))).toBe('KeyUnsupported');
  expect(await sign(good, '--key', key, '--signer', 'Ann B')).toBe('InvalidRequest');
});
