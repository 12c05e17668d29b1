import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type NewRelease, newRelease, type Written } from '#src/commands/new-release.ts';
import { digestOf } from '#src/digest.ts';
import { parseDocument } from '#src/domain/documents/parse.ts';
import type { ReleaseDocument } from '#src/domain/documents/release.ts';
import { isFault } from '#src/errors.ts';
import { checkOut, digestAt, imageOf, initDataFor, keyturn, releaseFiles, SPAWNING_SECONDS } from './stand.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keyturn-release-'));
  await checkOut(folder, { ...(await releaseFiles(1, { previous: null })), 'releases/w/notes.txt': 'x' });
});
afterEach(() => rm(folder, { recursive: true }));

const TOLD: NewRelease = {
  ...{ workload: 'w', repository: '', weights: null, address: null, artifact: null, from: null, images: {}, initData: {} },
  ...{ referenceValues: [], settings: [], expires: '2027-01-31T00:00:00Z', base: null, template: false, config: null },
};

function draft(change: Partial<NewRelease>): Promise<Written> {
  return newRelease({ ...TOLD, repository: folder, ...change }, () => undefined);
}

async function reasonOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'written',
    (thrown: unknown) => (isFault(thrown) ? thrown.reason : `a bug: ${String(thrown)}`),
  );
}

async function read(path: string): Promise<ReleaseDocument> {
  const parsed = parseDocument(path, await readFile(join(folder, path)));
  if (parsed.kind !== 'parsed' || parsed.document.kind !== 'Release') throw new Error(JSON.stringify(parsed));
  return parsed.document;
}

it('gives the next serial after the highest, and names the newest file by its bytes', async () => {
  const written = await draft({});
  expect(written).toMatchObject({
    path: 'releases/w/2.yaml',
    serial: 2,
    base: 'releases/w/1.yaml',
    previous: { path: 'releases/w/1.yaml' },
    files: [],
    fillIn: [],
  });
  const bytes = await readFile(join(folder, 'releases/w/2.yaml'));
  expect(written.digest).toBe(digestOf(bytes));
  expect((await read('releases/w/2.yaml')).previous).toBe(digestOf(await readFile(join(folder, 'releases/w/1.yaml'))));
  expect((await draft({})).serial).toBe(3);
});

it('computes the manifest as sha256sum prints it, and tells how far it is', async () => {
  const weights = join(folder, 'model');
  await checkOut(weights, { 'b.bin': 'bb', 'a/c.bin': 'ccc' });
  const told: [number, number][] = [];
  const written = await newRelease({ ...TOLD, repository: folder, weights, address: 'file:///models/w/2' }, (done, total) => void told.push([done, total]));
  const line = (path: string, text: string): string => `${createHash('sha256').update(text).digest('hex')}  ${path}\n`;
  const { artifact } = await read('releases/w/2.yaml');
  expect(artifact).toMatchObject({
    source: 'plaintext',
    address: 'file:///models/w/2',
    plaintextManifest: digestOf(line('a/c.bin', 'ccc') + line('b.bin', 'bb')),
  });
  expect([written.weights, told.at(-1)]).toMatchObject([{ files: 2, sizeBytes: 5 }, [5, 5]]);
  expect((await draft({ weights: `file://${weights}` })).artifact?.plaintextManifest).toBe(artifact.plaintextManifest);
});

it('copies init-data to its place, and refuses one that admits other images', async () => {
  const [image, other] = [imageOf('2'), imageOf('3')];
  const good = join(folder, 'good.toml');
  const bad = join(folder, 'bad.toml');
  await writeFile(good, initDataFor(image));
  await writeFile(bad, initDataFor(other));
  const before = await readdir(join(folder, 'guests/w'));
  expect(await reasonOf(draft({ images: { chat: image }, initData: { cpu: bad } }))).toBe('ImageNotBound');
  expect([await readdir(join(folder, 'guests/w')), await readdir(join(folder, 'releases/w'))]).toEqual([before, expect.not.arrayContaining(['2.yaml'])]);
  const { files } = await draft({ images: { chat: image }, initData: { cpu: good }, artifact: 'keep' });
  expect(files).toEqual([{ path: 'guests/w/2-cpu.toml', digest: digestOf(initDataFor(image)), how: 'copied' }]);
  expect(await readFile(join(folder, 'guests/w/2-cpu.toml'), 'utf8')).toBe(initDataFor(image));
  expect((await read('releases/w/2.yaml')).guests.cpu?.initData).toEqual({ file: 'guests/w/2-cpu.toml', digest: digestOf(initDataFor(image)) });
});

it('makes init-data for a new image from the one before, and says so', async () => {
  const image = imageOf('2');
  const { files, artifact } = await draft({ images: { chat: image }, artifact: 'keep', from: 1 });
  expect(files).toEqual([{ path: 'guests/w/2-cpu.toml', digest: digestOf(initDataFor(image)), how: 'made' }]);
  expect(artifact).toMatchObject({ source: 'keep', from: 1, address: null });
});

it('goes back to an older release’s settings where it is told to', async () => {
  await draft({ images: { chat: imageOf('2') } });
  const { serial, base, previous } = await draft({ base: 1, artifact: 'keep', from: 1 });
  expect([serial, base, previous?.path]).toEqual([3, 'releases/w/1.yaml', 'releases/w/2.yaml']);
  expect((await read('releases/w/3.yaml')).images.chat).toBe(imageOf('1'));
});

it.each<[string, Partial<NewRelease>, string]>([
  ['a workload without a release', { workload: 'other' }, 'NotFound'],
  ['a template where there are releases', { template: true }, 'InvalidRequest'],
  ['a name that no workload has', { workload: '../w' }, 'InvalidRequest'],
  ['a folder that is not there', { repository: '/nonexistent' }, 'NotFound'],
  ['weights that are not there', { weights: '/nonexistent' }, 'NotFound'],
  ['weights of another scheme', { weights: 's3://bucket/model' }, 'NotSupportedYet'],
  ['init-data that is not there', { initData: { cpu: '/nonexistent' } }, 'NotFound'],
  ['an image without a digest', { images: { chat: 'registry.example/chat:latest' } }, 'Malformed'],
  ['a base that is not there', { base: 7 }, 'NotFound'],
])('writes nothing for %s', async (_, change, reason) => {
  expect(await reasonOf(draft(change))).toBe(reason);
  expect((await readdir(join(folder, 'releases/w'))).sort()).toEqual(['1.ann.sigstore.json', '1.bob.sigstore.json', '1.yaml', 'notes.txt']);
});

it('never writes over what is there, and leaves nothing half written', async () => {
  const toml = initDataFor(imageOf('1'));
  const guest = (name: string) => ({
    ...{ tee: 'sample', runtimeClass: 'kata-lab-1', devices: { gpu: 0, switch: 0 }, referenceValues: { svn: ['1'] }, kbsResources: [] },
    initData: { file: `guests/w/2-${name}.toml`, digest: digestOf(toml) },
  });
  const second = await releaseFiles(2, { previous: null, change: { guests: { cpu: guest('cpu'), gpu: guest('gpu') } } });
  await checkOut(folder, { ...second, 'guests/w/2-cpu.toml': toml, 'guests/w/2-gpu.toml': toml, 'guests/w/3-gpu.toml': 'somebody’s' });
  expect(await reasonOf(draft({ images: { chat: imageOf('3') } }))).toBe('Conflict');
  expect(await readFile(join(folder, 'guests/w/3-gpu.toml'), 'utf8')).toBe('somebody’s');
  expect(await readdir(join(folder, 'guests/w'))).not.toContain('3-cpu.toml');
  expect(await readdir(join(folder, 'releases/w'))).not.toContain('3.yaml');
});

it('begins a first release with what it is told, and lists the rest', async () => {
  const written = await draft({ workload: 'chat', template: true, images: { chat: imageOf('1') } });
  expect([written.digest, written.previous, written.fillIn]).toEqual([null, null, expect.arrayContaining(['guests.cvm.tee', 'key.store'])]);
  expect(written.fillIn).not.toContain('images.chat');
  expect(await readFile(join(folder, 'releases/chat/1.yaml'), 'utf8')).toContain('# the digest of the release before; null for the first');
  expect(await reasonOf(draft({ workload: 'chat' }))).toBe('Malformed');
});

it(
  'is a command that tells what changed and what to do next',
  async () => {
    const { code, output } = await keyturn(
      'release',
      'new',
      'w',
      '--repository',
      folder,
      '--reencrypt',
      '--set',
      'key.rotateAfterDays=7',
      '--expires',
      '2027-01-31T00:00:00Z',
    );
    expect(code).toBe(0);
    for (const told of ['releases/w/2.yaml', 'key.rotateAfterDays', 'null → 7', 'keyturn sign', 'keyturn plan']) expect(output).toContain(told);
    const usage = await Promise.all([
      keyturn('release', 'new', 'w', '--repository', folder, '--keep', '--reencrypt'),
      keyturn('release', 'new', 'w', '--repository', folder, '--from', '1'),
      keyturn('release', 'new', 'w', '--repository', folder, '--image', 'chat'),
    ]);
    expect(usage.map((one) => one.code)).toEqual([2, 2, 2]);
    const json = await keyturn('release', 'new', 'w', '--repository', folder, '--json');
    expect(JSON.parse(json.output)).toMatchObject({
      path: 'releases/w/3.yaml',
      digest: digestAt({ a: await readFile(join(folder, 'releases/w/3.yaml'), 'utf8') }, 'a'),
    });
  },
  SPAWNING_SECONDS * 1000,
);
