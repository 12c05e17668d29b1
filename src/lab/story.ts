import { createHmac, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type Digest, digestOf } from '../digest.ts';
import { approve } from './approvers.ts';
import { type LabEvent, runCommand } from './children.ts';
import { moveClock } from './clock.ts';
import { daysAfter, imageOf, initDataText, ROTATE_AFTER_DAYS, releaseText, WORKLOAD } from './documents.ts';
import type { Setting } from './setting.ts';
import { failure } from './watch.ts';

/** From a merge to the end of its rotation. The whole story takes under a minute on two cores; a loaded machine gets several. Seconds. */
const ROTATION_SECONDS = 180;
/** A webhook is answered at once: it is only a hint. Seconds. */
const WEBHOOK_SECONDS = 5;
/** For one look at where everything stands. Seconds. */
const STATUS_SECONDS = 20;
/** How long the lab's releases may wait for acceptance. Days. */
const RELEASE_EXPIRES_DAYS = 30;
const DAY_SECONDS = 86_400;
/** The release that the story ends with. */
const LAST_SERIAL = 2;
/** Of the status that a failure carries: more does not help in a terminal. Characters. */
const STATUS_MAX_CHARACTERS = 4000;

/** Tells the controller, as the repository's webhook does, that the branch moved. It polls as well: a hint that is lost costs seconds, so no answer is no failure. */
export async function hint(setting: Setting): Promise<void> {
  // A host's deliveries differ by the commit that they tell of: the same one again would be taken for a replay.
  const body = JSON.stringify({ ref: 'refs/heads/main', delivery: randomUUID() });
  const secret = await readFile(setting.keys.webhookSecretFile);
  const signature = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
  const headers = { 'content-type': 'application/json', 'x-github-event': 'push', 'x-hub-signature-256': signature };
  await fetch(setting.webhookUrl, { method: 'POST', body, headers, signal: AbortSignal.timeout(WEBHOOK_SECONDS * 1000) }).then(
    (answer) => answer.body?.cancel(),
    () => undefined,
  );
}

/** Whether this is the end of the rotation to `serial`. Throws where the release itself is refused for good. */
function isEnd(event: LabEvent, serial: number): boolean {
  if (event.event === 'refused' && event.run === undefined && event.path === `releases/${WORKLOAD}/${serial}.yaml`) {
    throw failure(String(event.reason), `releases/${WORKLOAD}/${serial}.yaml: ${String(event.about)}`);
  }
  return event.event === 'rotation-finished' && event.workload === WORKLOAD && event.serial === serial;
}

/** What `keyturn status` says, cut short; or why it says nothing. */
export async function standing(setting: Setting): Promise<string> {
  const { code, output, errors } = await runCommand(setting.keyturn, ['status', '--json', '--config', setting.configFile], STATUS_SECONDS);
  return (code === 0 ? output : errors).trim().slice(0, STATUS_MAX_CHARACTERS);
}

/** A release as its pull request brings it, signed. */
export interface Merge {
  readonly serial: number;
  readonly digest: Digest;
  readonly files: Readonly<Record<string, string | Buffer>>;
}

/** Writes one release, and has two of three approvers sign it. Its pods soak for `soakSeconds` before they count as serving. */
export async function propose(setting: Setting, serial: number, previous: Digest | null, soakSeconds = 0): Promise<Merge> {
  const model = setting.models[serial - 1];
  if (model === undefined) throw failure('NotFound', `no weights for release ${serial}`);
  const initData = initDataText({ kbsUrl: setting.publicUrl, image: imageOf(serial) });
  const initDataFile = `guests/${WORKLOAD}/${serial}.toml`;
  const text = releaseText({
    serial,
    previous,
    expires: daysAfter(Date.now(), RELEASE_EXPIRES_DAYS),
    modelFolder: model.folder,
    manifestDigest: model.manifestDigest,
    initData: { file: initDataFile, digest: digestOf(initData) },
    soakSeconds,
    codec: model.codec,
  });
  const proposal = { path: `releases/${WORKLOAD}/${serial}.yaml`, text, beside: { [initDataFile]: initData } };
  const files = await approve(setting.keyturn, setting.checkout, proposal, setting.approvers.slice(0, 2));
  return { serial, digest: digestOf(text), files };
}

/** Resolves when the next rotation to a release has ended: one that has not been heard of yet. Rejects after a deadline, with where everything stands. */
function nextEnd(setting: Setting, serial: number, signal: AbortSignal): Promise<void> {
  const ended = setting.watch
    .next((event) => isEnd(event, serial), ROTATION_SECONDS, signal)
    .then(
      () => undefined,
      async (thrown: unknown) => {
        if (!(thrown instanceof Error) || thrown.name !== 'DeadlinePassed') throw thrown;
        throw failure('DeadlinePassed', `release ${serial}: ${thrown.message}; status: ${await standing(setting)}`);
      },
    );
  // It may fail while what causes it is still being done; whoever awaits it hears of that all the same.
  ended.catch(() => undefined);
  return ended;
}

/** Merges one release; what is returned resolves when its rotation has ended. */
export async function merge(setting: Setting, { serial, files }: Merge, signal: AbortSignal): Promise<{ readonly ended: Promise<void> }> {
  const ended = nextEnd(setting, serial, signal);
  await setting.farSides.git.commit(files, `Release ${serial} of ${WORKLOAD}`);
  await hint(setting);
  return { ended };
}

/**
 * The story's first two rotations: a first release is adopted, then a second takes its place, with other weights, another key
 * and another measurement. The second is written and signed while the first is being adopted.
 */
export async function tellStory(setting: Setting, signal: AbortSignal): Promise<void> {
  const first = await propose(setting, 1, null);
  const { ended } = await merge(setting, first, signal);
  const [second] = await Promise.all([propose(setting, 2, first.digest), ended]);
  await (await merge(setting, second, signal)).ended;
}

/**
 * Its third: nothing is merged. The clock is moved on until the key in service is as old as its release
 * allows, and the same release goes on under the next one, its weights re-encrypted. `onMove` hears of
 * the days before they pass, so that whoever shows times knows.
 */
export async function tellOfAge(setting: Setting, signal: AbortSignal, onMove: (days: number) => void): Promise<void> {
  const ended = nextEnd(setting, LAST_SERIAL, signal);
  onMove(ROTATE_AFTER_DAYS);
  await moveClock(setting.farSides.databaseUrl, ROTATE_AFTER_DAYS * DAY_SECONDS);
  await ended;
}
