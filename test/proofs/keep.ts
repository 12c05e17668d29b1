/**
 * A release that keeps its key, over a model as large as one likes: its rotation ends, and the controller has neither read nor
 * written a byte of the model. Seen in what the kernel counts of its system calls, and in every file's stamp.
 *
 * `node test/proofs/keep.ts [--bytes N]`; `--bytes 1073741824` is the long form.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parse, stringify } from 'yaml';
import { type Digest, digestOf } from '#src/digest.ts';
import { approve } from '#src/lab/approvers.ts';
import { daysAfter, imageOf, initDataText, releaseText, WORKLOAD } from '#src/lab/documents.ts';
import { writeModel } from '#src/lab/model.ts';
import type { Setting } from '#src/lab/setting.ts';
import { type Merge, merge, propose } from '#src/lab/story.ts';
import { query } from './end-world.ts';
import { type Proof, prove } from './proof.ts';

const { values } = parseArgs({ options: { bytes: { type: 'string', default: String(64 * 1024 * 1024) } } });
const BYTES = Number(values.bytes);
/** Documents, receipts and the cluster's listings go through the same calls: so much of the model would not be told from them. Bytes. */
const OTHERS_BYTES = 32 * 1024 * 1024;
/** Both rotations take seconds; sealing and three guests that read it all take what the disk takes. */
const LIMIT_SECONDS = 600;

/** What a process has read and written by system calls, sockets and all, as the kernel counts it (proc(5), rchar and wchar). Bytes. */
function movedBy(pid: number | null): number {
  if (pid === null) throw new Error('the controller does not run');
  const lines = readFileSync(`/proc/${pid}/io`, 'utf8');
  return ['rchar', 'wchar'].reduce((sum, name) => sum + Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(lines)?.[1] ?? Number.NaN), 0);
}

/** Every file of a folder, with what would be another where somebody had written it or put another in its place. */
function stampsOf(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => {
      const { ino, size, mtimeMs, ctimeMs } = statSync(join(parentPath, name));
      return [join(parentPath, name), ino, size, mtimeMs, ctimeMs].join(' ');
    })
    .sort();
}

/** The second release of the story, under the first one's key: another image, guest and measurement, the same weights. */
async function keeping(setting: Setting, previous: Digest): Promise<Merge> {
  const serial = 2;
  const initData = initDataText({ kbsUrl: setting.publicUrl, image: imageOf(serial) });
  const file = `guests/${WORKLOAD}/${serial}.toml`;
  const [model] = setting.models;
  const plan = { serial, previous, expires: daysAfter(Date.now(), 30), modelFolder: '/', manifestDigest: model?.manifestDigest ?? '', soakSeconds: 0 };
  const release = parse(releaseText({ ...plan, initData: { file, digest: digestOf(initData) } })) as { artifact: object };
  const artifact = { ...release.artifact, source: 'keep', address: null, plaintextManifest: null };
  const text = stringify({ ...release, artifact }, { aliasDuplicateObjects: false, lineWidth: 0 });
  const proposal = { path: `releases/${WORKLOAD}/${serial}.yaml`, text, beside: { [file]: initData } };
  return { serial, digest: digestOf(text), files: await approve(setting.keyturn, setting.checkout, proposal, setting.approvers.slice(0, 2)) };
}

async function keepIt(proof: Proof, model: string): Promise<void> {
  await proof.stage(
    async ({ setting }) => {
      const first = await propose(setting, 1, null);
      await proof.inTime((await merge(setting, first, proof.signal)).ended);
      const store = join(setting.folder, 'ciphertext');
      const [stamps, before] = [stampsOf(store), movedBy(setting.pid('serve'))];
      const sealed = stamps.reduce((sum, stamp) => sum + Number(stamp.split(' ').at(-3)), 0);
      proof.fact(`release 1 is sealed: ${mebibytes(sealed)} in ${stamps.length} files`, sealed > BYTES);
      const second = await keeping(setting, first.digest);
      await proof.inTime((await merge(setting, second, proof.signal)).ended);
      const moved = movedBy(setting.pid('serve')) - before;
      proof.fact(`release 2 keeps its key and serves; the controller moved ${mebibytes(moved)} in all`, moved < Math.min(OTHERS_BYTES, sealed));
      proof.same('every file of the ciphertext is the one it was', stampsOf(store), stamps);
      const counts = 'select (select count(*)::int from sealings) as sealings, (select count(*)::int from resources) as paths';
      proof.same('one sealing, and a path of its own for each release', await query(setting, counts), [{ sealings: 1, paths: 2 }]);
    },
    { model },
  );
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

await prove(LIMIT_SECONDS, async (proof) => {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-keep-'));
  try {
    await writeModel(folder, { sizeBytes: BYTES, seed: 1 });
    await keepIt(proof, folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
