import { digestOf } from '#src/digest.ts';
import { appraise, type Expectation } from '#src/domain/attestation-result.ts';
import type { TargetDocument } from '#src/domain/documents/release.ts';
import type { Json } from '#src/domain/json.ts';
import type { Boot, Fetch } from '#src/domain/kbs.ts';
import { keyPath } from '#src/domain/paths.ts';
import type { Reason } from '#src/domain/reasons.ts';
import { type Known, targetName } from '#src/domain/release.ts';
import { grantOf } from '#src/domain/want.ts';
import { earliest, type Instant, later } from '#src/instant.ts';
import type { Ledger } from '#src/ledger.ts';
import type { Cluster, Pod } from '#src/world.ts';
import { isMarked } from './hold-roll.ts';
import { askEach, requireAnswers, withoutOf } from './reach.ts';
import type { Look } from './step.ts';
import { ROTATION_ANNOTATION, rotationOf } from './template.ts';

/**
 * A listing of pods says what was, not what is: a look that slept this long may not commit on it
 * (R21). Long enough to appraise some thousand pods; a restart in between is found by the boot's name.
 */
export const PODS_GOOD_SECONDS = 60;

/** A boot fetches its key once; a few more are its retries. More are not appraised: each costs a signature chain. */
const FETCHES_PER_BOOT_MAX = 16;

/** What a look at all pods of a revision's targets found. */
export type PodsLook = PodsFound | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string };

/** Every pod runs the revision and has answered for itself, in every cluster that answers or is waited for. */
export interface PodsFound {
  readonly kind: 'good';
  readonly evidence: Json;
  /** `<pod uid>/<container id>` of each, by the target's name. */
  readonly boots: Readonly<Record<string, readonly string[]>>;
  readonly goodUntil: Instant;
}

/** A boot that has answered for itself, and with what: the first fetch that its attestation was good for. */
export interface Counted {
  readonly boot: Boot;
  readonly teeKey: string;
  readonly fetch: Fetch;
  readonly token: string;
  /** Of every fetch of the boot: it may have attested again. */
  readonly tokens: readonly string[];
}

/** What asking about boots needs of a look. */
type Asking = Pick<Look, 'world' | 'ledger'>;

type Bad = Extract<PodsLook, { kind: 'bad' }>;
type Answer<T> = { readonly kind: 'good'; readonly value: T } | Bad;

/**
 * Whether every pod of every target runs this revision: its template names it, no pod in any phase
 * runs another, enough of them serve, and each one's boot was attested on the release's measurement
 * and has fetched the key at the revision's path (DESIGN §7). A verdict is judged at the fetch and
 * stands for that boot. Throws Fault.
 */
export async function lookAtPods(look: Look, known: Known): Promise<PodsLook> {
  if (known.release.rollout.attestation.source !== 'proxy')
    return bad('NotSupportedYet', `rollout.attestation.source ${known.release.rollout.attestation.source}`);
  const told: Told = new Map();
  const round = await askEach(look, known.release.targets, (target, cluster) => lookAtTarget(look, known, { target, cluster }, told));
  const evidence: Record<string, Json> = {};
  const boots: Record<string, readonly string[]> = {};
  for (const { target, value: found } of round.answered) {
    if (found.kind === 'bad') return found;
    evidence[targetName(target)] = found.value.map(evidenceOf);
    boots[targetName(target)] = found.value.map(({ boot }) => `${boot.podUid}/${boot.containerId}`);
  }
  requireAnswers(round);
  const goodUntil = later(look.now, PODS_GOOD_SECONDS);
  return { kind: 'good', evidence: { rotation: known.rotation, boots: evidence, ...withoutOf(round) }, boots, goodUntil };
}

/**
 * Lists a target's pods and notes every boot among them, whatever it runs, so that a fetch can be told
 * from its address when the pod is long gone. Asked now and then for a workload that serves: a pod
 * that came and went unseen would hold up the retirement of what it fetched. Throws Fault.
 */
export async function sightPods(cluster: Cluster, ledger: Ledger, target: TargetDocument): Promise<readonly Pod[]> {
  const pods = await cluster.pods(target);
  await ledger.sighted(bootsOf(cluster, pods));
  return pods;
}

/** What a listing says of those that have an address of their own, and have started. */
export function bootsOf(cluster: Cluster, pods: readonly Pod[]): readonly Boot[] {
  return pods.map((pod) => bootOf(cluster, pod)).filter((boot) => boot !== null);
}

/**
 * Every pod of a target that has this revision's spec, each with the attestation of its present boot. Bad where one has not attested
 * yet, or is down: what it will rest on when it is back nobody knows. Whether it serves is not asked. Throws Fault.
 */
export async function attestedBoots(look: Asking, known: Known, target: TargetDocument, cluster: Cluster): Promise<Answer<readonly Counted[]>> {
  const pods = await sightPods(cluster, look.ledger, target);
  const boots: Boot[] = [];
  for (const pod of pods.filter((one) => one.annotations[ROTATION_ANNOTATION] === known.rotation && !isFinished(one))) {
    const boot = bootOf(cluster, pod);
    if (boot === null) return bad('PodNotAttested', `${pod.name} has no address of its own, or has not started`);
    boots.push(boot);
  }
  return countAll(look, known, target, boots);
}

/**
 * The first pod of a target that serves, is the release's, was attested and has fetched the key at the
 * revision's path, whatever the others do. Bad, with what was found of the last of them, where there is none. Throws Fault.
 */
export async function attestedAmong(look: Look, known: Known, target: TargetDocument, cluster: Cluster): Promise<Answer<Json>> {
  const pods = await sightPods(cluster, look.ledger, target);
  let answer: Answer<Json> = bad('PodsMissing', `${targetName(target)}: none runs the new template`);
  for (const pod of pods.filter((one) => one.annotations[ROTATION_ANNOTATION] === known.rotation && !isFinished(one))) {
    const boot = serving(known, { target, cluster }, pod, new Map());
    const counted = boot.kind === 'bad' ? boot : await countAll(look, known, target, [boot.value]);
    if (counted.kind === 'bad') answer = counted;
    else return { kind: 'good', value: counted.value.map(evidenceOf) };
  }
  return answer;
}

/** Pods by what tells them apart: uid, and the address that a KBS sees. Two clusters may use the same network where each has a KBS of its own. */
type Told = Map<string, string>;

interface Place {
  readonly target: TargetDocument;
  readonly cluster: Cluster;
}

async function lookAtTarget(look: Look, known: Known, { target, cluster }: Place, told: Told): Promise<Answer<readonly Counted[]>> {
  const found = await cluster.object(target);
  if (found === null) return bad('NotFound', targetName(target));
  if (rotationOf(found.object) !== known.rotation) return bad('TemplateOutdated', targetName(target));
  if (isMarked(found.annotations)) return bad('PodsNotMoved', `${targetName(target)}: the roll is held`);
  const pods = await sightPods(cluster, look.ledger, target);
  const moved = movedOf(known, target, pods, found.replicas);
  if (moved.kind === 'bad') return moved;
  const boots: Boot[] = [];
  for (const pod of moved.value) {
    const boot = serving(known, { target, cluster }, pod, told);
    if (boot.kind === 'bad') return boot;
    boots.push(boot.value);
  }
  return countAll(look, known, target, boots);
}

/** The pods that can serve, where no other runs anything else. */
function movedOf(known: Known, target: TargetDocument, pods: readonly Pod[], replicas: number): Answer<readonly Pod[]> {
  const other = pods.find((pod) => pod.annotations[ROTATION_ANNOTATION] !== known.rotation);
  if (other !== undefined) return bad('PodsNotMoved', `${targetName(target)} ${other.name}`);
  // One that ran to its end neither serves nor starts again, and its own revision is the right one.
  const running = pods.filter((pod) => !isFinished(pod));
  const expected = Math.max(target.minimumAttested, replicas);
  return running.length < expected ? bad('PodsMissing', `${targetName(target)}: ${running.length} of ${expected}`) : { kind: 'good', value: running };
}

/**
 * The boot of a pod that is ready, runs the release's images, and can be told by its address. A pod that
 * is listed twice is one pod, and where two clusters use the same network and the same KBS a fetch tells neither's.
 */
function serving(known: Known, { target, cluster }: Place, pod: Pod, told: Told): Answer<Boot> {
  if (!pod.ready || pod.terminating) return bad('PodNotReady', pod.name);
  const released = new Set(Object.values(known.release.images));
  const image = pod.images.find((name) => !released.has(name));
  if (image !== undefined || pod.images.length === 0) return bad('MeasurementMismatch', `${pod.name} runs ${image ?? 'no image'}, which is not the release's`);
  const boot = bootOf(cluster, pod);
  if (boot === null) return bad('PodNotAttested', `${pod.name} has no address of its own, or has not started`);
  for (const name of [boot.podUid, `${boot.address} at ${target.kbs}`]) {
    const other = told.get(name);
    if (other !== undefined) return bad('PodNotAttested', `${other} and ${pod.name} are both ${name}`);
    told.set(name, pod.name);
  }
  return { kind: 'good', value: boot };
}

/** A pod's present boot; null while it cannot be told from others by its address. */
function bootOf(cluster: Cluster, pod: Pod): Boot | null {
  const { uid, name, containerId, address, startedAt, hostNetwork } = pod;
  if (containerId === null || address === null || startedAt === null || hostNetwork) return null;
  return { cluster: cluster.name, podUid: uid, containerId, pod: name, address, startedAt };
}

/** Ran to its end (`Succeeded`, `Failed`): it does not start again. */
function isFinished(pod: Pod): boolean {
  return pod.phase === 'Succeeded' || pod.phase === 'Failed';
}

async function countAll(look: Asking, known: Known, target: TargetDocument, boots: readonly Boot[]): Promise<Answer<readonly Counted[]>> {
  const bound = look.world.cluster(target.cluster).clockBoundSeconds;
  const { repository, attestationSigners } = look.world.broker(target.kbs);
  const { tee, devices, initData, claims } = grantOf(known, target, repository);
  const expectation: Expectation = { tee, devices, initData, claims, maxAgeSeconds: known.release.rollout.attestation.maxAgeSeconds };
  const first = earliest(boots.map((boot) => boot.startedAt));
  const fetches = first === null ? [] : await look.ledger.fetches(target.kbs, keyPath(repository, known), later(first, -bound));
  const counted: Counted[] = [];
  for (const boot of boots) {
    const since = later(boot.startedAt, -bound);
    const own = fetches.filter((fetch) => fetch.decision === 'released' && fetch.address === boot.address && fetch.at >= since);
    const answer = await count(look, boot, own, { since, signers: attestationSigners, expectation });
    if (answer.kind === 'bad') return answer;
    counted.push({ ...answer.value, tokens: [...new Set(own.flatMap((fetch) => fetch.handshake?.token ?? []))] });
  }
  return { kind: 'good', value: counted };
}

interface Judging {
  readonly since: Instant;
  readonly signers: readonly string[];
  readonly expectation: Expectation;
}

/** The first good fetch of a boot, in the order in which they came: a later look takes the same one, and the same TEE key. */
async function count(look: Asking, boot: Boot, fetches: readonly Fetch[], { since, signers, expectation }: Judging): Promise<Answer<Omit<Counted, 'tokens'>>> {
  let answer: Bad = bad('PodNotAttested', `${boot.pod} at ${boot.address}`);
  for (const fetch of fetches.slice(0, FETCHES_PER_BOOT_MAX)) {
    const { handshake } = fetch;
    if (handshake === null || handshake.at < since || handshake.address !== boot.address) continue;
    const appraisal = await appraise(handshake.token, fetch.at, signers, expectation);
    if (appraisal.kind === 'bad') {
      answer = bad(appraisal.reason, `${boot.pod}: ${appraisal.about}`);
    } else if (await look.ledger.count(boot, appraisal.teeKey)) {
      return { kind: 'good', value: { boot, teeKey: appraisal.teeKey, fetch, token: handshake.token } };
    } else {
      answer = bad('PodNotAttested', `${boot.pod}: its TEE key was counted for another boot`);
    }
  }
  return answer;
}

function evidenceOf({ boot, teeKey, fetch, token }: Counted): Json {
  const { podUid: uid, containerId, address } = boot;
  return { uid, containerId, address, teeKey, attestationResult: digestOf(token), fetch: fetch.id };
}

function bad(reason: Reason, about: string): Bad {
  return { kind: 'bad', reason, about };
}
