/** Why something waits or was denied: the words in which `keyturn why` tells it, and what the rows of a pod's boot come to. */
import type { Instant } from '../instant.ts';
import type { ClaimDifference } from './attestation-differences.ts';
import type { RevocationInquiry } from './inquiry-revocation.ts';
import { type Reason, reasons } from './reasons.ts';

/** What it comes to. */
export interface Conclusion {
  /** `good`: nothing is wrong and nothing is waited for. `waits`: for another, or for time. `denied`: it was refused, or a person has to act. */
  readonly kind: 'good' | 'waits' | 'denied';
  /** null where it is good. */
  readonly reason: Reason | null;
  readonly about: string;
  readonly since: Instant | null;
  /** The claim that says no; null: none does, or it is not a claim. */
  readonly claim: string | null;
  /** What a person can do; null: nothing. */
  readonly help: string | null;
}

/** One request for a key, as a proxy answered it. */
export interface AskedFor {
  readonly at: Instant;
  readonly kbs: string;
  readonly path: string;
  /** The revision whose path it is; null: none of ours. */
  readonly revision: string | null;
  readonly decision: 'released' | 'refused';
  /** Who said no: the proxy's own word or the KBS's (README of `src/proxy`); null where it was released. */
  readonly type: string | null;
  /** Why the path is denied; null: the proxy does not deny it. */
  readonly deniedBecause: string | null;
}

/** One attestation, appraised against what the workload should run. */
export interface Appraised {
  readonly at: Instant;
  readonly kbs: string;
  /** null: good, or not asked, since the attestation service's CA cannot be read from here. */
  readonly reason: Reason | null;
  readonly about: string | null;
  readonly differences: readonly ClaimDifference[];
}

/** What is known of the machine behind a pod, from its start to its next restart. */
export interface BootInquiry {
  readonly cluster: string;
  readonly pod: string;
  readonly uid: string;
  readonly containerId: string;
  readonly address: string;
  readonly startedAt: Instant;
  readonly lastSeenAt: Instant;
  /** Whose it is, and how that is known; null: nothing tells. */
  readonly workload: { readonly name: string; readonly by: 'receipt' | 'fetch' | 'run' | 'name' } | null;
  /** What it should run: the workload's target; null: none, or its workload is not known. */
  readonly target: { readonly revision: string; readonly rotation: string; readonly path: string } | null;
  /** The revision whose key it was counted for; null: for none. */
  readonly countedFor: string | null;
  /** Newest first. */
  readonly fetches: readonly AskedFor[];
  /** Newest first. */
  readonly attestations: readonly Appraised[];
  readonly conclusion: Conclusion;
}

/** What the proxy's own refusals mean; all else a KBS said itself. */
const PROXY_WORDS: Readonly<Record<string, Reason>> = {
  DenyListStale: 'Unreachable',
  NotRecorded: 'Unreachable',
  BrokerUnreachable: 'Unreachable',
  PluginInternalError: 'ResourceUnanswered',
};

/** What a boot's rows come to. Pure. */
export function conclusionOf(boot: Omit<BootInquiry, 'conclusion'>): Conclusion {
  const { target, countedFor, fetches, attestations, pod, address, startedAt } = boot;
  const [fetch] = fetches;
  if (fetch !== undefined && fetch.decision === 'refused') return refusedFor(boot, fetch, attestations[0]);
  if (countedFor !== null) {
    if (target === null || countedFor === target.revision) return good(`${pod} attested, fetched the key of ${countedFor}, and was counted`);
    return waits('PodsNotMoved', `${pod} runs ${countedFor}; ${target.revision} is what it should run`, startedAt);
  }
  if (fetch === undefined && attestations[0] === undefined)
    return waits('PodNotAttested', `${pod}: neither an attestation nor a request for a key came from ${address} since it started`, startedAt);
  const [bad] = attestations.filter(({ reason }) => reason !== null);
  if (fetch === undefined) {
    const [newest] = attestations;
    if (newest !== undefined && newest.reason !== null) return noFor(newest.reason, `${pod}: ${newest.about ?? ''}`, newest.at, claimOf(newest));
    return waits('PodNotAttested', `${pod} attested, and asked for no key since`, newest?.at ?? startedAt);
  }
  if (target !== null && fetch.path !== target.path)
    return waits('PodsNotMoved', `${pod} fetched the key of ${fetch.revision ?? fetch.path}; ${target.revision} is what it should run`, fetch.at);
  if (bad !== undefined && bad.reason !== null) return noFor(bad.reason, `${pod}: ${bad.about ?? ''}`, bad.at, claimOf(bad));
  return waits('PodNotAttested', `${pod} has its key, and is counted by the next look at its pods`, fetch.at);
}

function refusedFor({ pod, fetches, target }: Omit<BootInquiry, 'conclusion'>, fetch: AskedFor, attestation: Appraised | undefined): Conclusion {
  const since = beginningOf(fetches);
  const what = `${pod} was refused ${fetch.path}: ${fetch.type ?? 'refused'}`;
  if (fetch.deniedBecause !== null) {
    const isRetired = fetch.deniedBecause === 'retired';
    const about = isRetired ? `${what}, since ${fetch.revision ?? 'that revision'} is retired` : `${what}, by ${fetch.deniedBecause}`;
    return denied(isRetired ? 'PodsNotMoved' : 'Revoked', about, since, 'nothing-is-revoked');
  }
  const word = fetch.type === null ? undefined : PROXY_WORDS[fetch.type];
  if (word !== undefined) return denied(word, what, since, null);
  if (target !== null && fetch.path !== target.path) return denied('PodsNotMoved', `${what}; ${target.revision} is what it should run`, since, null);
  const claim = attestation === undefined ? null : claimOf(attestation);
  if (claim !== null) return denied('MeasurementMismatch', `${what}: ${attestation?.about ?? claim}`, since, claim);
  if (attestation === undefined) return denied('PodNotAttested', `${what}; no attestation of it was seen`, since, null);
  return denied('PolicyNotInstalled', `${what}, though what it attested is what the release demands`, since, null);
}

/** When the refusals that have not been broken off began. */
function beginningOf(fetches: readonly AskedFor[]): Instant | null {
  const end = fetches.findIndex(({ decision }) => decision === 'released');
  return fetches.slice(0, end < 0 ? fetches.length : end).at(-1)?.at ?? null;
}

function claimOf({ differences }: Appraised): string | null {
  return differences[0]?.claim ?? null;
}

function good(about: string): Conclusion {
  return { kind: 'good', reason: null, about, since: null, claim: null, help: null };
}

function waits(reason: Reason, about: string, since: Instant | null): Conclusion {
  return { kind: 'waits', reason, about, since, claim: null, help: reasons[reason].help };
}

/** A no that a wait may mend, or a person alone. */
export function noFor(reason: Reason, about: string, since: Instant | null, claim: string | null): Conclusion {
  const { next, help } = reasons[reason];
  return { kind: next === 'stop' ? 'denied' : 'waits', reason, about, since, claim, help };
}

function denied(reason: Reason, about: string, since: Instant | null, claim: string | null): Conclusion {
  return { kind: 'denied', reason, about, since, claim, help: reasons[reason].help };
}

/** A step of a run. */
export interface StepInquiry {
  readonly name: string;
  readonly state: 'done' | 'here' | 'to come';
  /** When its receipt was written; null: it has none that counts. */
  readonly at: Instant | null;
  readonly proof: string | null;
}

/** What a run waits for. */
export interface Waiting {
  readonly step: string | null;
  readonly reason: Reason;
  readonly about: string;
  readonly since: Instant | null;
  readonly nextRetryAt: Instant | null;
  readonly deadline: Instant | null;
  /** The gate that says no; null: the step itself is not there yet. */
  readonly gate: string | null;
  readonly help: string;
}

/** A run of a rotation. */
export interface RunInquiry {
  readonly id: string;
  readonly workflow: string;
  readonly serial: number | null;
  readonly endedAt: Instant | null;
  readonly steps: readonly StepInquiry[];
  /** null: it has ended, or is being looked at. */
  readonly waiting: Waiting | null;
}

/** What is known of a rotation. */
export interface RotationInquiry {
  readonly kind: 'rotation';
  readonly at: Instant;
  readonly id: string;
  readonly workload: string;
  /** `s<serial>-v<epoch>`. */
  readonly revision: string;
  readonly state: string;
  readonly withdrawnBy: string | null;
  readonly revokedBy: string | null;
  readonly runs: readonly RunInquiry[];
  /** Those that something waits for. */
  readonly pods: readonly BootInquiry[];
  readonly conclusion: Conclusion;
}

/** What is known of a pod, or of whoever calls from an address: its boots, the newest first. */
export interface PodInquiry {
  readonly kind: 'pod';
  readonly at: Instant;
  readonly name: string;
  readonly boots: readonly BootInquiry[];
  /** That of the newest boot. */
  readonly conclusion: Conclusion;
}

/** What is known of a workload. */
export interface WorkloadInquiry {
  readonly kind: 'workload';
  readonly at: Instant;
  readonly name: string;
  /** What it should run; null: it is held. */
  readonly target: string | null;
  /** Those with an open run. */
  readonly rotations: readonly RotationInquiry[];
  /** Documents at the branch's tip that were not accepted. */
  readonly documents: readonly {
    readonly path: string;
    readonly verdict: string;
    readonly reason: string | null;
    readonly about: string | null;
    readonly since: Instant;
    readonly help: string | null;
  }[];
  readonly conclusion: Conclusion;
}

/** What `keyturn why` answers. */
export type Inquiry = PodInquiry | RotationInquiry | WorkloadInquiry | RevocationInquiry;

/** Waits for another wait of the same workload: told where there is nothing better to tell. */
const DERIVED: readonly (Reason | null)[] = ['TargetNotServing', 'Superseded'];

/** What several things come to: the worst of them, the first of those; good where there are none. Pure. */
export function worstOf(conclusions: readonly Conclusion[], otherwise: string): Conclusion {
  const order = ['denied', 'waits', 'good'] as const;
  for (const kind of order) {
    const found = conclusions.filter((one) => one.kind === kind);
    const own = found.find(({ reason }) => !DERIVED.includes(reason)) ?? found[0];
    if (own !== undefined) return own;
  }
  return good(otherwise);
}

/** What a rotation's runs come to; a pod that was denied is why they wait. Pure. */
export function rotationConclusion(runs: readonly RunInquiry[], pods: readonly BootInquiry[], otherwise: string): Conclusion {
  const waiting = runs.flatMap((run) => (run.waiting === null ? [] : [run.waiting]));
  const worst = worstOf(
    waiting.map(({ reason, about, since, gate }) => noFor(reason, about, since, gate)),
    otherwise,
  );
  const refused = pods.find(({ conclusion }) => conclusion.kind === 'denied')?.conclusion;
  return worst.kind === 'waits' && refused !== undefined ? { ...worst, kind: 'denied', claim: refused.claim ?? worst.claim } : worst;
}
