import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf } from '#src/digest.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { retireRevision } from '#workflows/retire-revision.ts';
import { type House, openRuns, UNDER_WAY, type Waiting } from './chaos-house.ts';
import { kbsOf } from './end-world.ts';
import type { PassedWrite } from './gate.ts';

/** A rotation takes ten seconds; the last of them wait for each other. Seconds. */
const SETTLE_SECONDS = 240;
/** A receipt's `at` is read in its transaction, before its commit. Milliseconds. */
const COMMIT_MILLISECONDS = 50;

/** Waits until nothing is under way and no twin key is enabled, or its time is over. Returns what is open then. */
export async function settle(house: House): Promise<readonly Waiting[]> {
  const isStill = async () => (await house.query(`select 1 from runs where ${UNDER_WAY}`)).length === 0 && (await strayKeys(house)).length === 0;
  await house.proof
    .until('nothing is under way', SETTLE_SECONDS, async () => ((await isStill()) ? true : null))
    .catch((thrown: unknown) => {
      if (!(thrown instanceof Error) || thrown.name !== 'DeadlinePassed') throw thrown;
    });
  return openRuns(house);
}

interface Receipt {
  readonly run: string;
  readonly workflow: string;
  readonly step: string;
  readonly at: number;
  readonly text: string;
}

/** What happened twice, each told in a line. */
export async function doubled(house: House, clockMoves: readonly { readonly at: number; readonly seconds: number }[]): Promise<readonly string[]> {
  const receipts = await house.query<Receipt>(
    `select c.run, o.workflow, c.step, (extract(epoch from (c.body::jsonb ->> 'at')::timestamptz) * 1000)::float8 as at, c.body as text
     from receipts c join runs o on o.id = c.run order by c.number`,
  );
  const writes = house.gates.flatMap(({ kms, kbs, kubernetes }) => [...kms.writes, ...kbs.writes, ...kubernetes.writes]);
  const machineAt = ({ at }: Receipt): number => at - (clockMoves.findLast((move) => at - move.seconds * 1000 >= move.at)?.seconds ?? 0) * 1000;
  return [
    ...twiceReceived(receipts),
    ...twiceSealed(writes),
    ...(await strayKeys(house)).map((key) => `an enabled key that no receipt names: ${key}`),
    ...lateWrites(
      writes,
      receipts.map((receipt) => ({ ...receipt, at: machineAt(receipt) })),
    ),
  ];
}

/** A step has one receipt that counts; `reopened` lets those after `confirm-published` count anew. */
function twiceReceived(receipts: readonly Receipt[]): readonly string[] {
  const wrong: string[] = [];
  for (const [run, own] of Map.groupBy(receipts, (receipt) => receipt.run)) {
    const counting = new Set<string>();
    for (const { step } of own) {
      if (step === 'reopened') for (const name of ['patch-template', 'try-first-pods', 'move-pods', 'confirm-serving']) counting.delete(name);
      else if (counting.has(step)) wrong.push(`two receipts of ${step} in ${run}`);
      else counting.add(step);
    }
  }
  return wrong;
}

const RESOURCE = /^POST \/kbs\/v0\/resource\/(\S+)/;

/** A path of a KBS is given one byte string, ever. */
function twiceSealed(writes: readonly PassedWrite[]): readonly string[] {
  const bytes = new Map<string, Set<string>>();
  for (const { what, body } of writes) {
    const path = RESOURCE.exec(what)?.[1];
    if (path !== undefined) bytes.set(path, (bytes.get(path) ?? new Set()).add(digestOf(body)));
  }
  return [...bytes].flatMap(([path, digests]) => (digests.size > 1 ? [`${digests.size} byte strings at ${path}`] : []));
}

/**
 * Nobody acts on a step that has its receipt: whoever still would was fenced before. Writes that say whose they are: the creation of a
 * key (its tag), a resource (its path), a template (its annotation). A run that was reopened patches anew.
 */
function lateWrites(writes: readonly PassedWrite[], receipts: readonly Receipt[]): readonly string[] {
  const acts = [
    { step: 'create-key', is: /TrentService\.CreateKey$/, names: ({ body }: PassedWrite, { run }: Receipt) => body.includes(run) },
    { step: 'put-resource', is: RESOURCE, names: ({ what }: PassedWrite, { text }: Receipt) => text.includes(RESOURCE.exec(what)?.[1] ?? '\0') },
    { step: 'patch-template', is: /^PATCH (?!.*dryRun)\S+\/deployments\//, names: ({ body }: PassedWrite, { run }: Receipt) => body.includes(run) },
  ];
  const reopened = new Set(receipts.filter(({ step }) => step === 'reopened').map(({ run }) => run));
  return acts.flatMap(({ step, is, names }) => {
    const own = receipts.filter((receipt) => receipt.step === step && !reopened.has(receipt.run));
    const carried = writes.filter(({ what, status }) => is.test(what) && (status === null || status < 300));
    return carried.flatMap((write) =>
      own
        .filter((receipt) => names(write, receipt) && write.at > receipt.at + COMMIT_MILLISECONDS)
        .map(({ run, at }) => `${write.what} of ${run} ${Math.round(write.at - at)} ms after its receipt of ${step}`),
    );
  });
}

/** Ids of enabled keys that no receipt names. */
async function strayKeys({ query, setting }: House): Promise<readonly string[]> {
  const named = await query<{ key: string }>(`select body::jsonb #>> '{facts,keyId}' as key from receipts where step = 'create-key'`);
  const { keys } = JSON.parse(await readFile(join(setting.folder, 'kms', 'kms.json'), 'utf8')) as { keys: readonly { id: string; state: string }[] };
  const ours = new Set(named.map(({ key }) => key?.split('/').at(-1)));
  return keys.filter(({ id, state }) => state === 'Enabled' && !ours.has(id)).map(({ id }) => id);
}

/** A revision is brought or taken away by these; what else is open changes nothing about it. */
const ROTATES: readonly string[] = [adoptRevision.name, retireRevision.name];

interface Revision {
  readonly workload: string;
  readonly serial: number;
  readonly state: string;
  readonly path: string | null;
  readonly adopted: readonly string[];
  readonly retired: readonly string[];
}

/** What is missing, each told in a line. */
export async function lost(house: House, merged: readonly string[], waiting: readonly Waiting[]): Promise<readonly string[]> {
  const revisions = await house.query<Revision>(
    `select r.workload, r.serial, r.state,
       (select c.body::jsonb #>> '{evidence,places,0,path}' from receipts c where c.run = r.rotation and c.step = 'put-resource' limit 1) as path,
       array(select step from receipts where run = r.rotation) as adopted,
       array(select c.step from receipts c join runs o on o.id = c.run where o.revision = r.id and o.workflow = 'retire-revision') as retired
     from revisions r order by r.id`,
  );
  const accepted = await house.query<{ path: string }>(`select path from documents where kind = 'Release' and verdict = 'accepted'`);
  const missing = (steps: readonly { readonly name: string }[], there: readonly string[]) =>
    steps.map(({ name }) => name).filter((name) => !there.includes(name));
  const isOpen = ({ workload }: Revision): boolean => waiting.some((run) => run.workload === workload && ROTATES.includes(run.workflow));
  const { resources } = await kbsOf(house.setting);
  const serving = revisions.filter(({ state }) => state === 'serving');
  return [
    ...merged.filter((path) => !accepted.some((document) => document.path === path)).map((path) => `${path} was never accepted`),
    ...accepted
      .filter(({ path }) => !revisions.some(({ workload, serial }) => path === `releases/${workload}/${serial}.yaml`))
      .map(({ path }) => `${path} has no revision`),
    ...serving.flatMap((revision) =>
      missing(adoptRevision.steps, revision.adopted).map((step) => `${revision.workload} ${revision.serial} serves without ${step}`),
    ),
    ...revisions
      .filter((revision) => revision.state === 'retired' && !isOpen(revision))
      .flatMap((revision) =>
        missing(retireRevision.steps, revision.retired).map((step) => `${revision.workload} ${revision.serial} is retired without ${step}`),
      ),
    ...revisions
      .filter((revision) => !['serving', 'retired'].includes(revision.state) && !isOpen(revision))
      .map(({ workload, serial, state }) => `${workload} ${serial} stays ${state}`),
    ...[...new Set(revisions.map(({ workload }) => workload))]
      .filter((name) => !serving.some(({ workload }) => workload === name) && !waiting.some(({ workload }) => workload === name))
      .map((name) => `${name} is not served`),
    ...serving.filter(({ path }) => path !== null && !Object.hasOwn(resources, path)).map(({ path }) => `the KBS has nothing at ${path}`),
    ...waiting.filter(({ waitingFor, overdue }) => waitingFor === null || overdue).map(({ run }) => `${run} is open, and nobody woke it`),
  ];
}
