/**
 * KServe's own reader against what is sealed here: its decryptor, with its own client of the Confidential Data Hub, on a folder as its
 * storage initializer has it after the download. Runs where `python3 -c 'import kserve_storage.confidential'` works, as after
 * `pip install 'kserve-storage[confidential]'` (0.20.0 and 0.21.0 were tried); else every test here is skipped, and says so.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { newFetchedKey } from '#src/envelope/codec.ts';
import { rewrapJwe } from '#src/envelope/jwe-pass.ts';
import { manifestOf, sealedManifestName, sealedPath, sealManifest } from '#src/envelope/layout.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import type { Secret } from '#src/secret.ts';
import { testFolder } from './folder.ts';

const execute = promisify(execFile);
const CODEC = 'kserve-jwe';
const PROBE = "import kserve_storage.confidential, importlib.metadata as m; print(m.version('kserve-storage'), m.version('jwcrypto'))";
/** Python starts in seconds, and on a loaded machine in many. */
const PYTHON_SECONDS = 120;
const RESOURCE = 'keyturn/w-1/s1-v1-0-01234567';

let versions: string | null = null;
const workers = openWorkers(2);

beforeAll(async () => {
  versions = await execute('python3', ['-c', PROBE], { timeout: PYTHON_SECONDS * 1000 }).then(
    ({ stdout }) => stdout.trim(),
    () => null,
  );
  // The reporter counts what was skipped, and says why only where it is asked to.
  process.stderr.write(
    versions === null
      ? '\nSKIPPED: KServe’s own reader opened nothing: python3 has no kserve_storage.confidential\n\n'
      : `\nkserve-storage, jwcrypto: ${versions}\n\n`,
  );
}, PYTHON_SECONDS * 1000);
afterAll(() => workers.close());

/** The Confidential Data Hub, as far as a key is fetched from it. Gives its address, and what was asked. */
async function openHub(keys: Readonly<Record<string, Secret>>): Promise<{ readonly url: string; readonly asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const key = keys[(request.url ?? '').replace('/cdh/resource/', '')];
    response.writeHead(key === undefined ? 404 : 200).end(key === undefined ? '' : Buffer.from(key.reveal()));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** Lets KServe open a folder in place, as `kserve-decrypt` does in its storage initializer. Gives its exit code. */
async function kserveDecrypt(folder: string, hub: string, resource = RESOURCE): Promise<number> {
  const order = ['-m', 'kserve_storage.confidential.cli', '--source-dir', folder, '--resource-id', `kbs:///${resource}`];
  return execute('python3', order, { env: { ...process.env, CDH_ADDR: hub }, timeout: PYTHON_SECONDS * 1000 }).then(
    () => 0,
    (error: unknown) => Number((error as { readonly code?: unknown }).code),
  );
}

/** Around where a part of the work ends, and what a model consists of. */
const MODEL: Readonly<Record<string, Buffer>> = {
  'config.json': Buffer.from('{"layers":1}'),
  'one-byte': Buffer.from('1'),
  '.hidden': Buffer.from('eyJ: a file whose plaintext looks like a JWE'),
  'a.tar.gz': randomBytes(49_153),
  'sub/two/model-00001-of-00001.safetensors': randomBytes(3 * 1024 * 1024 + 1),
};

async function sealedModel(key: Secret): Promise<string> {
  const [plain, sealed] = [testFolder(), testFolder()];
  for (const [path, bytes] of Object.entries(MODEL)) {
    for (const folder of [plain, sealed]) mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(plain, path), bytes);
    const order = { openWith: null, sealWith: key, sealAs: CODEC, associatedData: '', hash: 'neither' } as const;
    await workers.pass({ from: join(plain, path), to: join(sealed, sealedPath(path, CODEC)), ...order });
  }
  writeFileSync(join(sealed, sealedManifestName(CODEC)), sealManifest(await manifestOf(plain, workers), key, CODEC));
  return sealed;
}

function filesIn(folder: string): readonly string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return entries.map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1)).sort();
}

/** Opens a copy of the folder, and compares every byte. */
async function expectOpened(sealed: string, hub: string): Promise<void> {
  const folder = testFolder();
  cpSync(sealed, folder, { recursive: true });
  expect(await kserveDecrypt(folder, hub)).toBe(0);
  expect(filesIn(folder)).toEqual([...Object.keys(MODEL), 'keyturn.manifest'].sort());
  for (const [path, bytes] of Object.entries(MODEL)) expect(readFileSync(join(folder, path)).equals(bytes), path).toBe(true);
  // What the manifest lies beside the files for: nothing in a JWE says which file it is.
  await execute('sha256sum', ['--check', '--strict', '--quiet', 'keyturn.manifest'], { cwd: folder });
}

describe('KServe’s storage initializer', () => {
  it('opens what was sealed here, byte for byte, and asks for the key once a file', { timeout: PYTHON_SECONDS * 1000 }, async (test) => {
    if (versions === null) return test.skip();
    using key = newFetchedKey(CODEC);
    const hub = await openHub({ [RESOURCE]: key });
    await expectOpened(await sealedModel(key), hub.url);
    expect(hub.asked).toEqual(Array(Object.keys(MODEL).length + 1).fill(`/cdh/resource/${RESOURCE}`));
  });

  it('opens it after a rewrap under the new key alone', { timeout: 3 * PYTHON_SECONDS * 1000 }, async (test) => {
    if (versions === null) return test.skip();
    using old = newFetchedKey(CODEC);
    using key = newFetchedKey(CODEC);
    const [sealed, rewrapped] = [await sealedModel(old), testFolder()];
    for (const path of filesIn(sealed)) {
      mkdirSync(dirname(join(rewrapped, path)), { recursive: true });
      rewrapJwe({ from: join(sealed, path), to: join(rewrapped, path), openWith: old.reveal(), sealWith: key.reveal() });
    }
    await expectOpened(rewrapped, (await openHub({ [RESOURCE]: key })).url);
    await expectOpened(sealed, (await openHub({ [RESOURCE]: old })).url);
    expect(await kserveDecrypt(rewrapped, (await openHub({ [RESOURCE]: old })).url)).toBe(1);
  });

  it('opens nothing of a file that was changed, nor without the key', { timeout: 3 * PYTHON_SECONDS * 1000 }, async (test) => {
    if (versions === null) return test.skip();
    using key = newFetchedKey(CODEC);
    const sealed = await sealedModel(key);
    expect(await kserveDecrypt(sealed, (await openHub({})).url)).toBe(1);
    const path = join(sealed, 'a.tar.gz.jwe');
    const text = readFileSync(path);
    text.write(text[10_000] === 0x41 ? 'B' : 'A', 10_000);
    writeFileSync(path, text);
    expect(await kserveDecrypt(sealed, (await openHub({ [RESOURCE]: key })).url)).toBe(1);
    expect(existsSync(join(sealed, 'a.tar.gz'))).toBe(false);
  });
});
