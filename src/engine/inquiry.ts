/** Why something waits or was denied, from receipts, runs and the proxy's rows. Reads; asks no other system. */
import {
  type BootInquiry,
  type Inquiry,
  noFor,
  type RotationInquiry,
  type RunInquiry,
  rotationConclusion,
  type StepInquiry,
  type Waiting,
  type WorkloadInquiry,
  worstOf,
} from '#src/domain/inquiry.ts';
import { type Reason, reasons } from '#src/domain/reasons.ts';
import type { KeyRequest } from '#state/dashboard-pods.ts';
import { readRotation, rotationOfRun } from '#state/dashboard-rotation.ts';
import type { RunView } from '#state/dashboard-runs.ts';
import { clockOf, type Db } from '#state/database.ts';
import { gateSayingNo, unacceptedDocuments } from '#state/inquiry.ts';
import { openRuns } from '#state/runs.ts';
import { helpFor, readStatus } from '#state/status.ts';
import type { Workflow } from '#workflows/step.ts';
import { type BootParts, bootInquiries } from './inquiry-boot.ts';
import { revocationInquiry, type StepNames } from './inquiry-revocation.ts';

/** What an inquiry needs. A command opens the parts and puts them in this record. */
export interface InquiryParts extends BootParts {
  readonly workflows: readonly Workflow[];
  /** Those on a revocation. */
  readonly emergencies: readonly StepNames[];
}

/** Pods that one wait names and that are told of. */
const PODS_SHOWN = 3;
/** Rotations of one workload that have an open run: one on its way, and those that were superseded meanwhile. */
const ROTATIONS_SHOWN = 10;

/**
 * Answers about a run's or rotation's id, a workload, a revocation (its id, or its document's path or digest), or a pod (its name, uid or
 * address), in this order; null: nothing has this name. Throws Fault.
 */
export async function inquire(parts: InquiryParts, db: Db, name: string): Promise<Inquiry | null> {
  const rotation = await rotationOfRun(db, name);
  if (rotation !== null) return rotationInquiry(parts, db, rotation);
  const workload = await workloadInquiry(parts, db, name);
  if (workload !== null) return workload;
  const revocation = await revocationInquiry(parts.emergencies, db, name);
  if (revocation !== null) return revocation;
  const boots = await bootInquiries(parts, db, name);
  const [newest] = boots;
  return newest === undefined ? null : { kind: 'pod', at: await clockOf(db)(), name, boots, conclusion: newest.conclusion };
}

async function rotationInquiry(parts: InquiryParts, db: Db, id: string): Promise<RotationInquiry | null> {
  const view = await readRotation(db, id);
  if (view === null) return null;
  const { workload, serial, epoch, state, withdrawnBy, revokedBy } = view.rotation;
  const runs: RunInquiry[] = [];
  for (const run of view.runs) runs.push(await runInquiry(parts, db, run));
  const pods: BootInquiry[] = [];
  for (const pod of await podsIn(db, runs, view.requests)) pods.push(...(await bootInquiries(parts, db, pod)).slice(0, 1));
  const revision = `s${serial}-v${epoch}`;
  const conclusion = rotationConclusion(runs, pods, `${revision} of ${workload} is ${state}; nothing is waited for`);
  return { kind: 'rotation', at: view.at, id, workload, revision, state, withdrawnBy, revokedBy, runs, pods, conclusion };
}

async function runInquiry({ workflows }: InquiryParts, db: Db, run: RunView): Promise<RunInquiry> {
  const { id, workflow, serial, endedAt } = run;
  const standing = run.receipts.filter(({ counts }) => counts);
  const planned = workflows.find(({ name }) => name === workflow)?.steps.map(({ name }) => name) ?? [];
  const receiptOf = (step: string) => standing.findLast((receipt) => receipt.step === step);
  const steps = [...new Set([...planned, ...standing.map(({ step }) => step)])].map((name): StepInquiry => {
    const receipt = receiptOf(name);
    const state = receipt !== undefined ? 'done' : endedAt === null && run.step === name ? 'here' : 'to come';
    return { name, state, at: receipt?.at ?? null, proof: receipt?.proof ?? null };
  });
  return { id, workflow, serial, endedAt, steps, waiting: await waitingOf(db, run) };
}

async function waitingOf(db: Db, { id, step, waitingFor, about, since, nextRetryAt, deadline, endedAt }: RunView): Promise<Waiting | null> {
  if (endedAt !== null || waitingFor === null || !isReason(waitingFor)) return null;
  const { help } = reasons[waitingFor];
  return { step, reason: waitingFor, about: about ?? '', since, nextRetryAt, deadline, gate: await gateSayingNo(db, id), help };
}

/** A row may be of a newer version, with a word that this one does not know. */
function isReason(text: string): text is Reason {
  return Object.hasOwn(reasons, text);
}

/** Pods, or addresses, that these runs say they wait for, after those that were refused the rotation's key when they last asked. */
async function podsIn(db: Db, runs: readonly RunInquiry[], requests: readonly KeyRequest[]): Promise<readonly string[]> {
  const said = runs.flatMap(({ waiting }) => (waiting === null ? [] : [waiting.about])).join('\n');
  if (said === '') return [];
  const last = new Map(requests.toReversed().map((request) => [request.address, request]));
  const refused = [...last.values()].filter(({ decision }) => decision === 'refused').map(({ pod, address }) => pod ?? address);
  const { rows } = await db.query<{ pod: string }>(
    'select pod from boots where strpos($1, pod) > 0 group by pod order by max(last_seen_at) desc, pod limit $2',
    [said, PODS_SHOWN],
  );
  const addresses = said.match(/\b(?:\d{1,3}\.){3}\d{1,3}\b/g) ?? [];
  return [...new Set([...refused, ...(rows.length > 0 ? rows.map(({ pod }) => pod) : addresses)])].slice(0, PODS_SHOWN);
}

async function workloadInquiry(parts: InquiryParts, db: Db, name: string): Promise<WorkloadInquiry | null> {
  const status = await readStatus(db);
  const workload = status.workloads.find((one) => one.name === name);
  const documents = (await unacceptedDocuments(db, name)).map((document) => ({ ...document, help: helpFor(document.reason) }));
  if (workload === undefined && documents.length === 0) return null;
  const ids = new Set<string>();
  for (const run of await openRuns(db, name)) ids.add((await rotationOfRun(db, run)) ?? run);
  const rotations: RotationInquiry[] = [];
  for (const id of [...ids].slice(-ROTATIONS_SHOWN)) rotations.push(...[await rotationInquiry(parts, db, id)].filter((one) => one !== null));
  // What it should run first: the others wait for that one.
  rotations.sort((a, b) => Number(b.revision === workload?.target) - Number(a.revision === workload?.target));
  const held = workload?.held ?? null;
  const conclusion = worstOf(
    [
      ...(held === null ? [] : [noFor(held.reason, held.about, null, null)]),
      ...rotations.map((rotation) => rotation.conclusion),
      ...documents.flatMap(({ path, reason, about, since }) =>
        reason !== null && isReason(reason) ? [noFor(reason, about === null || !about.startsWith(path) ? `${path}: ${about ?? ''}` : about, since, null)] : [],
      ),
    ],
    `${name} runs ${workload?.target ?? 'nothing'}; nothing is waited for`,
  );
  return { kind: 'workload', at: status.at, name, target: workload?.target ?? null, rotations, documents, conclusion };
}
