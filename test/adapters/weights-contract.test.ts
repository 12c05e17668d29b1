import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll } from 'vitest';
import { openWeights } from '#src/adapters/weights/index.ts';
import { openWorkers } from '#src/envelope/workers.ts';
import { artifactStoreContract, type StoreName } from '#test/contracts/artifact-store.ts';
import { testFolder } from '#test/envelope/folder.ts';
import { openS3Stand } from './weights-s3-stand.ts';

const threads = openWorkers(2);
afterAll(() => threads.close());

artifactStoreContract('a folder', async () => {
  const folders = { one: testFolder(), two: testFolder() };
  const weights = openWeights(
    {
      one: { kind: 'file', path: folders.one, guestAddress: 'file:///one' },
      two: { kind: 'file', path: folders.two, guestAddress: 'file:///two' },
    },
    threads,
  );
  const files = async (store: StoreName) => {
    const entries = readdirSync(folders[store], { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
    return new Map(entries.map(({ parentPath, name }) => [join(parentPath, name).slice(folders[store].length + 1), readFileSync(join(parentPath, name))]));
  };
  return {
    weights,
    files,
    write: async (store, path, bytes) => {
      const place = join(folders[store], path);
      rmSync(place, { force: true });
      mkdirSync(dirname(place), { recursive: true });
      if (bytes !== null) writeFileSync(place, bytes);
    },
    hasHalves: async (store) => [...(await files(store)).keys()].some((path) => path.endsWith('.part')),
    close: async () => {},
  };
});

artifactStoreContract('S3', async () => {
  const { weights, labs, close } = await openS3Stand(threads);
  return {
    weights,
    files: async (store) => {
      const found = new Map<string, Buffer>();
      for (const key of labs[store].store.objects.keys()) {
        await labs[store].store.change(key, (bytes) => {
          found.set(key, bytes);
          return bytes;
        });
      }
      return found;
    },
    write: async (store, path, bytes) => {
      const { objects, put } = labs[store].store;
      objects.delete(path);
      if (bytes !== null) await put(path, bytes, null, { ifMatch: null, ifNoneMatch: null });
    },
    hasHalves: async (store) => labs[store].store.uploads.size > 0 || [...labs[store].store.objects.keys()].some((key) => key.endsWith('.part')),
    close,
  };
});
