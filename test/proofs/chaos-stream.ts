import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type Digest, digestOf } from '#src/digest.ts';
import { approve } from '#src/lab/approvers.ts';
import { daysAfter, imageOf, initDataText, releaseText, WORKLOAD } from '#src/lab/documents.ts';
import { writeModel } from '#src/lab/model.ts';
import { hint } from '#src/lab/story.ts';
import { accessOf, createWorkload } from '#src/lab/workload.ts';
import { type House, UNDER_WAY } from './chaos-house.ts';
import { seeded } from './proof.ts';

/** Small: many rotations matter here, not their bytes. */
const MODEL_SIZE_BYTES = 1024 * 1024;
const NAMES = [WORKLOAD, 'code', 'embed', 'rank'] as const;
/** One release in so many is merged while the one before is still rolling. */
const IMPATIENT = 0.3;
const IMPATIENCE_MAX_MILLISECONDS = 6000;
/** As many as the lab's cluster has runtime classes. */
const SERIAL_MAX = 99;
const LOOK_MILLISECONDS = 300;
/** Of all workloads together. */
const OPEN_RUNS_MAX = 10;
/** How long a release may wait for acceptance: longer than the clock is moved on between its signing and its merge. Days. */
const EXPIRES_DAYS = 200;

/** Releases that come one behind the other, for each workload by itself. */
export interface Stream {
  /** Paths of all that were merged. */
  readonly merged: () => readonly string[];
  /** The clock was moved on by so many seconds, all in all. */
  readonly moved: { seconds: number };
  /** Merges nothing while `work` is done. */
  readonly quietly: (work: () => Promise<void>) => Promise<void>;
  /** No more are merged; resolves when those under way are. Rejects with what went wrong. */
  readonly end: () => Promise<void>;
}

/** Creates the workloads and begins to release. */
export async function openStream(house: House, seed: number, workloads: number): Promise<Stream> {
  const names = NAMES.slice(0, workloads);
  for (const name of names.slice(1)) await createWorkload(accessOf(house.setting.farSides.kubeconfig), name);
  const ending = new AbortController();
  const merged: string[] = [];
  const moved = { seconds: 0 };
  let quiet: Promise<void> = Promise.resolve();
  const signal = AbortSignal.any([ending.signal, house.proof.signal]);
  const streams = names.map(async (workload, index) => {
    const chance = seeded(seed + 1 + index);
    let previous: Digest | null = null;
    for (let serial = 1; !signal.aborted && serial <= SERIAL_MAX; serial += 1) {
      await quiet;
      await untilRoom(house, signal);
      const { path, digest, files } = await propose(house, { workload, serial, previous, seed: 1000 * index + serial });
      await quiet;
      if (signal.aborted) return;
      await house.setting.farSides.git.commit(files, `Release ${serial} of ${workload}`);
      merged.push(path);
      previous = digest;
      await hint(house.setting);
      if (chance() < IMPATIENT) await pause(chance() * IMPATIENCE_MAX_MILLISECONDS, null, { signal }).catch(() => undefined);
      else await untilServing(house, workload, serial, signal);
    }
  });
  const all = Promise.all(streams);
  all.catch(() => undefined);
  return {
    merged: () => merged,
    moved,
    quietly: async (work) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      quiet = promise;
      await work().finally(resolve);
    },
    end: async () => {
      ending.abort();
      await all;
    },
  };
}

interface Plan {
  readonly workload: string;
  readonly serial: number;
  readonly previous: Digest | null;
  readonly seed: number;
}

/** Weights, a release of them, and two signatures. */
async function propose({ setting }: House, { workload, serial, previous, seed }: Plan) {
  const modelFolder = join(setting.folder, 'models', `${workload}-${serial}`);
  const { manifestDigest } = await writeModel(modelFolder, { sizeBytes: MODEL_SIZE_BYTES, seed });
  const initData = initDataText({ kbsUrl: setting.publicUrl, image: imageOf(serial, workload) });
  const initDataFile = `guests/${workload}/${serial}.toml`;
  const path = `releases/${workload}/${serial}.yaml`;
  const text = releaseText({
    workload,
    serial,
    previous,
    expires: daysAfter(Date.now(), EXPIRES_DAYS),
    modelFolder,
    manifestDigest,
    initData: { file: initDataFile, digest: digestOf(initData) },
    soakSeconds: 0,
  });
  const files = await approve(setting.keyturn, setting.checkout, { path, text, beside: { [initDataFile]: initData } }, setting.approvers.slice(0, 2));
  return { path, digest: digestOf(text), files };
}

/** A slow machine gets no more than it can carry. The database may be away: whoever asks then asks again. */
async function untilRoom({ query }: House, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const rows = await query(`select 1 from runs where ${UNDER_WAY}`).catch(() => null);
    if (rows !== null && rows.length < OPEN_RUNS_MAX) return;
    await pause(LOOK_MILLISECONDS, null, { signal }).catch(() => undefined);
  }
}

/** The same. */
async function untilServing({ query }: House, workload: string, serial: number, signal: AbortSignal): Promise<void> {
  const text = `select 1 from revisions where workload = $1 and serial = $2 and state in ('serving', 'closing', 'retired')`;
  while (!signal.aborted) {
    const rows = await query(text, [workload, serial]).catch(() => []);
    if (rows.length > 0) return;
    await pause(LOOK_MILLISECONDS, null, { signal }).catch(() => undefined);
  }
}
