import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { manifestOf, writeModel } from '#src/lab/model.ts';
import { testFolder } from '#test/envelope/folder.ts';

const MiB = 1024 * 1024;

it('a model is the same for the same seed, and another for another', async () => {
  const digests = await Promise.all([1, 1, 2].map(async (seed) => (await writeModel(testFolder(), { sizeBytes: MiB, seed })).manifestDigest));
  expect(digests[0]).toBe(digests[1]);
  expect(digests[0]).not.toBe(digests[2]);
});

it('a model’s digest is that of the files that were written', async () => {
  const folder = testFolder();
  const { manifestDigest, files } = await writeModel(folder, { sizeBytes: MiB, seed: 1 });
  const manifest = await manifestOf(folder);
  expect(manifest.digest).toBe(manifestDigest);
  expect(readdirSync(folder).sort()).toEqual([...files, 'keyturn.manifest'].sort());
  expect(readFileSync(join(folder, 'keyturn.manifest'), 'utf8')).toBe(manifest.text);
});

it('its shards are safetensors: a header of JSON whose offsets cover the rest without a gap', async () => {
  const folder = testFolder();
  const { files } = await writeModel(folder, { sizeBytes: 33 * MiB, seed: 1 });
  const shards = files.filter((path) => path.endsWith('.safetensors'));
  expect(shards).toHaveLength(3);
  let total = 0;
  for (const path of shards) {
    const bytes = readFileSync(join(folder, path));
    const headerBytes = Number(bytes.readBigUInt64LE(0));
    const tensors = Object.values(
      JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes)) as Record<string, { shape: [number, number]; data_offsets: [number, number] }>,
    );
    const offsets = tensors.map(({ data_offsets }) => data_offsets).sort(([a], [b]) => a - b);
    expect(headerBytes % 8).toBe(0);
    expect(offsets.map(([from]) => from)).toEqual([0, ...offsets.slice(0, -1).map(([, to]) => to)]);
    expect(8 + headerBytes + (offsets.at(-1)?.[1] ?? 0)).toBe(bytes.length);
    for (const { shape, data_offsets } of tensors) expect(shape[0] * shape[1] * 2).toBe(data_offsets[1] - data_offsets[0]);
    total += statSync(join(folder, path)).size - 8 - headerBytes;
  }
  expect(total).toBe(33 * MiB);
});
