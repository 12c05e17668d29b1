import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { isEnvelopeError } from '#src/envelope/envelope-error.ts';
import { keysetOf } from '#src/envelope/keyset.ts';
import { associatedDataOf, ciphertextDigestOf, filesOf, manifestOf, openFolder, SEALED_MANIFEST_NAME, sealedPath, sealManifest } from '#src/envelope/layout.ts';
import { isModelPath, type Manifest, manifestFrom, parseManifest } from '#src/envelope/manifest.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { Secret } from '#src/secret.ts';
import { testFolder } from './folder.ts';

const MiB = 1024 * 1024;
const workers = openWorkers(2);
afterAll(() => workers.close());

/** The kind of an EnvelopeError, the code of the file system's error, or 'done'. */
async function outcome(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
    return 'done';
  } catch (error) {
    if (isEnvelopeError(error)) return error.kind;
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

function write(folder: string, files: Readonly<Record<string, Buffer>>): void {
  for (const [path, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), bytes);
  }
}

/** Seals a model, as an artifact store has it. */
async function sealedModel(files: Readonly<Record<string, Buffer>>, key: Secret, listed = (manifest: Manifest) => manifest): Promise<string> {
  const [plain, sealed] = [testFolder(), testFolder()];
  write(plain, files);
  const manifest = listed(await manifestOf(plain, workers));
  for (const { path } of manifest.lines) {
    mkdirSync(dirname(join(sealed, path)), { recursive: true });
    const associatedData = associatedDataOf(manifest.digest, path);
    await workers.pass({ from: join(plain, path), to: join(sealed, sealedPath(path)), openWith: null, sealWith: key, associatedData, hash: 'both' });
  }
  writeFileSync(join(sealed, SEALED_MANIFEST_NAME), sealManifest(manifest, key));
  return sealed;
}

const model = {
  'a.safetensors': randomBytes(2 * MiB + 77),
  'b.safetensors': randomBytes(2 * MiB + 77),
  'sub/empty': Buffer.alloc(0),
  'config.json': Buffer.from('{}'),
};

describe('a sealed folder', () => {
  it('opens to the plaintext with the key alone', async () => {
    using key = new Secret(randomBytes(32));
    using keyset = keysetOf(key);
    const folder = await sealedModel(model, key);
    const to = join(testFolder(), 'opened');
    const opened = await openFolder({ folder, keyset, to, workers });
    for (const [path, bytes] of Object.entries(model)) expect(readFileSync(join(to, path)).equals(bytes)).toBe(true);
    expect(opened.files).toBe(5);
    const sealed = [...Object.keys(model), 'keyturn.manifest'].map((path) => join(folder, sealedPath(path)));
    expect(opened.sizeBytes).toBe(sealed.reduce((sum, path) => sum + statSync(path).size, 0));
  });

  it('has the digest that sha256sum and sort give its files', async () => {
    using key = new Secret(randomBytes(32));
    using keyset = keysetOf(key);
    const folder = await sealedModel(model, key);
    const { ciphertextDigest } = await openFolder({ folder, keyset, to: null, workers });
    const command = "find . -name '*.sealed' -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum";
    expect(ciphertextDigest).toBe(`sha256:${execFileSync('sh', ['-c', command], { cwd: folder }).toString().slice(0, 64)}`);
  });

  it('does not open with another key, and writes nothing then', async () => {
    using key = new Secret(randomBytes(32));
    using other = new Secret(randomBytes(32));
    using keyset = keysetOf(other);
    const folder = await sealedModel(model, key);
    const to = join(testFolder(), 'opened');
    expect(await outcome(openFolder({ folder, keyset, to, workers }))).toBe('not-authentic');
    expect(existsSync(to)).toBe(false);
  });

  it.each([
    ['cut', 'truncated|not-authentic', (folder: string) => truncateSync(join(folder, 'a.safetensors.sealed'), MiB)],
    ['cut to nothing', 'truncated', (folder: string) => truncateSync(join(folder, 'a.safetensors.sealed'), 0)],
    ['missing', 'ENOENT', (folder: string) => renameSync(join(folder, 'a.safetensors.sealed'), join(folder, 'elsewhere'))],
    ['in another’s place', 'not-authentic', (folder: string) => copyFileSync(join(folder, 'b.safetensors.sealed'), join(folder, 'a.safetensors.sealed'))],
    ['a named pipe', 'unsafe-path', (folder: string) => pipeInPlaceOf(join(folder, 'a.safetensors.sealed'))],
  ] as const)('does not open when a file is %s', async (_, kind, spoil) => {
    using key = new Secret(randomBytes(32));
    using keyset = keysetOf(key);
    const folder = await sealedModel(model, key);
    spoil(folder);
    const to = testFolder();
    expect(await outcome(openFolder({ folder, keyset, to, workers }))).toMatch(new RegExp(`^(${kind})$`));
    expect(readdirSync(to)).not.toContain('a.safetensors');
  });

  it('does not open when a file is not the one that the manifest lists, though all is sealed under the key', async () => {
    using key = new Secret(randomBytes(32));
    using keyset = keysetOf(key);
    const listed = ({ lines }: Manifest) => manifestFrom(lines.map((line) => (line.path === 'config.json' ? { ...line, digest: digestOf('other') } : line)));
    const folder = await sealedModel(model, key, listed);
    expect(await outcome(openFolder({ folder, keyset, to: null, workers }))).toBe('changed');
  });

  it('does not open when a file of another model under the same key is put in', async () => {
    using key = new Secret(randomBytes(32));
    using keyset = keysetOf(key);
    const folder = await sealedModel(model, key);
    const other = await sealedModel({ ...model, 'config.json': Buffer.from('{"other":true}') }, key);
    copyFileSync(join(other, 'a.safetensors.sealed'), join(folder, 'a.safetensors.sealed'));
    expect(await outcome(openFolder({ folder, keyset, to: null, workers }))).toBe('not-authentic');
  });
});

function pipeInPlaceOf(path: string): void {
  renameSync(path, `${path}.gone`);
  execFileSync('mkfifo', [path]);
}

describe('re-encryption', () => {
  it('gives the same plaintext under the new key only, in new bytes of the same length', async () => {
    const folder = testFolder();
    const plaintext = randomBytes(3 * MiB);
    writeFileSync(join(folder, 'plain'), plaintext);
    using oldKey = new Secret(randomBytes(32));
    using newKey = new Secret(randomBytes(32));
    const common = { associatedData: 'keyturn/v1\nx', hash: 'both' } as const;
    const at = (name: string) => join(folder, name);
    const sealed = await workers.pass({ ...common, from: at('plain'), to: at('old'), openWith: null, sealWith: oldKey });
    const anew = await workers.pass({ ...common, from: at('old'), to: at('new'), openWith: oldKey, sealWith: newKey });
    expect(anew).toMatchObject({ plaintextDigest: digestOf(plaintext), plaintextBytes: plaintext.length, ciphertextBytes: sealed.ciphertextBytes });
    expect(anew.ciphertextDigest).toBe(digestOf(readFileSync(at('new'))));
    expect(anew.ciphertextDigest).not.toBe(sealed.ciphertextDigest);
    expect(await outcome(workers.pass({ ...common, from: at('new'), to: null, openWith: oldKey, sealWith: null }))).toBe('not-authentic');
    const opened = await workers.pass({ ...common, from: at('new'), to: at('back'), openWith: newKey, sealWith: null });
    expect(readFileSync(at('back')).equals(plaintext)).toBe(true);
    expect(opened.ciphertextDigest).toBe(anew.ciphertextDigest);
    expect(statSync(at('back')).mode & 0o777).toBe(0o600);
  });

  it('leaves nothing behind when it fails, and never overwrites', async () => {
    const folder = testFolder();
    writeFileSync(join(folder, 'plain'), randomBytes(3 * MiB));
    using key = new Secret(randomBytes(32));
    const seal = { from: join(folder, 'plain'), to: join(folder, 'sealed'), openWith: null, sealWith: key, associatedData: 'x', hash: 'neither' } as const;
    await workers.pass(seal);
    expect(await outcome(workers.pass(seal))).toBe('EEXIST');
    const open = { from: join(folder, 'sealed'), to: join(folder, 'opened'), openWith: key, sealWith: null, associatedData: 'y', hash: 'neither' } as const;
    expect(await outcome(workers.pass(open))).toBe('not-authentic');
    expect(readdirSync(folder).sort()).toEqual(['plain', 'sealed']);
  });

  it('is refused for a file that grows while it is read', async () => {
    const folder = testFolder();
    const from = join(folder, 'plain');
    writeFileSync(from, Buffer.alloc(32 * MiB));
    let ended = false;
    const hashing = outcome(workers.pass({ from, to: null, openWith: null, sealWith: null, associatedData: '', hash: 'both' })).finally(() => {
      ended = true;
    });
    while (!ended) {
      appendFileSync(from, 'more');
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await hashing).toBe('changed');
  });

  it('does not block the event loop', async () => {
    const folder = testFolder();
    writeFileSync(join(folder, 'plain'), Buffer.alloc(64 * MiB));
    using key = new Secret(randomBytes(32));
    let turns = 0;
    const turn = setInterval(() => {
      turns += 1;
    }, 1);
    await workers.pass({ from: join(folder, 'plain'), to: null, openWith: null, sealWith: key, associatedData: 'x', hash: 'both' });
    clearInterval(turn);
    expect(turns).toBeGreaterThan(3);
  });
});

describe('a manifest', () => {
  it('is what sha256sum prints for the folder', async () => {
    const folder = testFolder();
    write(folder, { 'b.bin': Buffer.from('b'), 'a.bin': Buffer.from('a'), 'sub/é.bin': Buffer.from('c'), 'Z.bin': Buffer.from('d') });
    const command = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum";
    const text = execFileSync('sh', ['-c', command], { cwd: folder }).toString();
    const manifest = await manifestOf(folder, workers);
    expect(manifest.text).toBe(text);
    expect(manifest.digest).toBe(`sha256:${createHash('sha256').update(text).digest('hex')}`);
  });

  it('is read in its one form only', () => {
    const line = (path: string) => ({ path, digest: digestOf(path) });
    const { text } = manifestFrom([line('b'), line('a')]);
    expect(parseManifest(text).lines.map(({ path }) => path)).toEqual(['a', 'b']);
    const kinds = [
      '',
      '\n',
      text.trimEnd(),
      `${text}\n`,
      text.toUpperCase(),
      text.replace('  ', ' '),
      `${text.trimEnd().split('\n').reverse().join('\n')}\n`,
    ].map((other) => {
      try {
        parseManifest(other);
        return 'read';
      } catch (error) {
        return isEnvelopeError(error) ? error.kind : String(error);
      }
    });
    expect(kinds).toEqual(Array.from(kinds, () => 'malformed'));
    expect(() => manifestFrom([line('a'), line('a')])).toThrow();
  });

  it('names no path that could leave its folder or hide another', () => {
    const bad = ['', '/etc/passwd', '..', 'a/../b', './a', 'a//b', 'a/', 'a\nb', 'a\\b', 'keyturn.manifest', 'a.sealed/b', `${'x'.repeat(513)}`];
    expect(bad.filter(isModelPath)).toEqual([]);
    expect(['a', 'a/b.c', '...', 'a.sealed', 'sub/keyturn.manifest', 'ü'].filter(isModelPath)).toHaveLength(6);
  });
});

describe('a folder of plaintext', () => {
  it('may have links inside, but none that lead out, and none to folders', async () => {
    const [inside, outside] = [testFolder(), testFolder()];
    write(outside, { secret: Buffer.from('x') });
    write(inside, { 'blobs/1': Buffer.from('x') });
    symlinkSync('blobs/1', join(inside, 'model.safetensors'));
    expect([...(await filesOf(inside))].sort()).toEqual(['blobs/1', 'model.safetensors']);
    symlinkSync(join(outside, 'secret'), join(inside, 'leak'));
    expect(await outcome(filesOf(inside))).toBe('unsafe-path');
    const looped = testFolder();
    symlinkSync('.', join(looped, 'loop'));
    expect(await outcome(filesOf(looped))).toBe('unsafe-path');
  });
});

describe('the threads', () => {
  it('do more passes than there are threads, and fail one without failing the next', async () => {
    const folder = testFolder();
    writeFileSync(join(folder, 'plain'), 'x');
    const hash = (name: string) =>
      outcome(workers.pass({ from: join(folder, name), to: null, openWith: null, sealWith: null, associatedData: '', hash: 'both' }));
    expect(await Promise.all(['plain', 'none', 'plain', 'none', 'plain'].map(hash))).toEqual(['done', 'ENOENT', 'done', 'ENOENT', 'done']);
  });

  it('reject what is asked of them after they were closed', async () => {
    const closed = openWorkers(1);
    await closed.close();
    await expect(closed.pass({ from: '/dev/null', to: null, openWith: null, sealWith: null, associatedData: '', hash: 'neither' })).rejects.toThrow();
  });
});

it('the ciphertext’s digest does not depend on the order in which files are found', () => {
  const lines = ['b', 'a', 'c'].map((path) => ({ path, digest: digestOf(path) }));
  expect(ciphertextDigestOf(lines)).toBe(ciphertextDigestOf([...lines].reverse()));
});
