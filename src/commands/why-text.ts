/** An inquiry in words, for a terminal. */
import type { Appraised, AskedFor, BootInquiry, Conclusion, Inquiry, RotationInquiry, RunInquiry, WorkloadInquiry } from '#src/domain/inquiry.ts';
import { canonicalJson } from '#src/domain/json.ts';
import { revocationLines } from './why-revocation-text.ts';

/** Requests of a boot that are told one by one: those before say the same. */
const FETCHES_SHOWN = 8;
/** A claim's value: a digest fits. */
const VALUE_SHOWN = 140;

/** What it comes to first, then what that rests on. */
export function inquiryText(inquiry: Inquiry): readonly string[] {
  const lines = [...headLines(inquiry), ...conclusionLines(inquiry.conclusion), ...bodyLines(inquiry)];
  return lines.map((line) => line.replace(/[\p{C}\u2028\u2029]/gu, '�').trimEnd());
}

function headLines(inquiry: Inquiry): readonly string[] {
  switch (inquiry.kind) {
    case 'pod':
      return [`pod ${inquiry.name} at ${inquiry.at}`];
    case 'rotation':
      return [`rotation ${inquiry.id}: ${inquiry.revision} of ${inquiry.workload} (${inquiry.state}) at ${inquiry.at}`];
    case 'revocation':
      return [`revocation ${inquiry.id} of ${inquiry.subject ?? 'what cannot be read'} (${inquiry.verdict}) at ${inquiry.at}`];
    case 'workload':
      return [`workload ${inquiry.name}: ${inquiry.target === null ? 'held, nothing to run' : `should run ${inquiry.target}`} at ${inquiry.at}`];
  }
}

function conclusionLines({ kind, reason, about, since, claim, help }: Conclusion): readonly string[] {
  const word = { good: 'GOOD', waits: 'WAITS', denied: 'NO' }[kind];
  return [
    `${word}  ${reason === null ? about : `${reason}: ${about}`}`,
    ...(since === null ? [] : [`  since  ${since}`]),
    ...(claim === null ? [] : [`  claim  ${claim}`]),
    ...(help === null ? [] : [`  do     ${help}`]),
  ];
}

function bodyLines(inquiry: Inquiry): readonly string[] {
  switch (inquiry.kind) {
    case 'pod':
      return inquiry.boots.flatMap(bootLines);
    case 'rotation':
      return rotationLines(inquiry);
    case 'revocation':
      return revocationLines(inquiry);
    case 'workload':
      return workloadLines(inquiry);
  }
}

function workloadLines({ rotations, documents }: WorkloadInquiry): readonly string[] {
  return [
    ...documents.flatMap(({ path, verdict, reason, about, help }) => [
      '',
      `DOCUMENT ${path}: ${verdict}${reason === null ? '' : `: ${reason}: ${about ?? ''}`}`,
      ...(help === null ? [] : [`  do     ${help}`]),
    ]),
    ...rotations.flatMap((rotation) => ['', `ROTATION ${rotation.id}: ${rotation.revision} (${rotation.state})`, ...rotationLines(rotation)]),
  ];
}

function rotationLines({ withdrawnBy, revokedBy, runs, pods }: RotationInquiry): readonly string[] {
  return [
    ...(revokedBy === null ? [] : [`REVOKED by ${revokedBy}`]),
    ...(withdrawnBy === null ? [] : [`WITHDRAWN by ${withdrawnBy}`]),
    ...runs.flatMap(runLines),
    ...pods.flatMap(bootLines),
  ];
}

function runLines({ id, workflow, serial, endedAt, steps, waiting }: RunInquiry): readonly string[] {
  const width = Math.max(0, ...steps.map(({ name }) => name.length));
  return [
    '',
    `${id}  ${workflow}${serial === null ? '' : ` of serial ${serial}`}${endedAt === null ? '' : `, ended ${endedAt}`}`,
    ...steps.flatMap(({ name, state, at, proof }) => {
      const mark = { done: '✓', here: '→', 'to come': '·' }[state];
      const line = `  ${mark} ${name.padEnd(width)}  ${at ?? ''}${proof === 'accepted' ? '  accepted, not observed' : ''}`;
      return state === 'here' && waiting !== null ? [line, ...waitingLines(waiting)] : [line];
    }),
    ...(waiting !== null && !steps.some(({ state }) => state === 'here') ? waitingLines(waiting) : []),
  ];
}

function waitingLines({ reason, about, since, nextRetryAt, deadline, gate, help }: NonNullable<RunInquiry['waiting']>): readonly string[] {
  const times = [
    since === null ? '' : `since ${since}`,
    nextRetryAt === null ? '' : `again at ${nextRetryAt}`,
    deadline === null ? '' : `deadline ${deadline}`,
  ];
  return [`      ${gate === null ? '' : `${gate} says no: `}${reason}: ${about}`, `      ${times.filter((text) => text !== '').join(', ')}`, `      ${help}`];
}

function bootLines(boot: BootInquiry): readonly string[] {
  const { pod, cluster, uid, containerId, address, startedAt, lastSeenAt, workload, target, countedFor, fetches, attestations, conclusion } = boot;
  const where = cluster === '' ? 'no pod was ever sighted at this address' : `${cluster}, uid ${uid}, container ${containerId}, at ${address}`;
  const released = fetches.filter(({ decision }) => decision === 'released').length;
  return [
    '',
    `POD ${pod}: ${where}`,
    `  started ${startedAt}, last seen ${lastSeenAt}`,
    ...(workload === null ? ['  nothing tells which workload it belongs to'] : [`  of workload ${workload.name} (${KNOWN_BY[workload.by]})`]),
    ...(target === null ? [] : [`  should run ${target.revision}: ${target.path}`]),
    `  counted: ${countedFor ?? 'no'}`,
    ...conclusionLines(conclusion).map((line) => `  ${line}`),
    ...(fetches.length === 0 ? ['  no request for a key'] : [`  requests for a key: ${fetches.length} (${released} released), the newest first`]),
    ...fetches.slice(0, FETCHES_SHOWN).map(fetchLine),
    ...attestations.flatMap(attestationLines),
  ];
}

const KNOWN_BY = {
  receipt: 'a receipt counted it',
  fetch: 'from the key that it asked for',
  run: 'a run waits for it',
  name: 'from its name',
} as const;

function fetchLine({ at, kbs, path, revision, decision, type, deniedBecause }: AskedFor): string {
  const because = deniedBecause === null ? '' : ` (${deniedBecause})`;
  return `    ${at}  ${decision}  ${path} (${revision ?? 'none of ours'}) at ${kbs}${type === null ? '' : `: ${type}${because}`}`;
}

function attestationLines({ at, kbs, reason, about, differences }: Appraised): readonly string[] {
  return [
    `  attested ${at} at ${kbs}: ${reason === null ? (differences.length === 0 ? 'good for what it should run' : 'not what it should be') : `${reason}: ${about ?? ''}`}`,
    ...differences.map(({ claim, expected, found }) => `    ${claim}: expected ${shown(expected)}, found ${found === null ? 'nothing' : shown(found)}`),
  ];
}

function shown(value: Appraised['differences'][number]['expected']): string {
  const text = typeof value === 'string' ? value : canonicalJson(value);
  return text.length > VALUE_SHOWN ? `${text.slice(0, VALUE_SHOWN)}…` : text;
}
