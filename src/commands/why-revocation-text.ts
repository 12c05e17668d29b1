/** What `keyturn why` tells of a revocation, for a terminal. The words are those of its page. */
import { momentOf, sentenceOf } from '#src/dashboard/sentences.ts';
import type { MomentInquiry, RevocationInquiry } from '#src/domain/inquiry-revocation.ts';

const FATES = { gone: 'gone: none of them is left', told: 'told to go', left: 'not told to go: each keeps what it has until it ends' } as const;

/** Everything but its head and its conclusion. */
export function revocationLines(inquiry: RevocationInquiry): readonly string[] {
  const { path, digest, reason, why, approvedBy, workloads, revisions, holders, recovery, neverLifted, liftings, undone, waiting } = inquiry;
  return [
    '',
    `DOCUMENT ${path}  ${digest}`,
    `  by       ${approvedBy.length === 0 ? 'nobody known' : approvedBy.join(', ')}`,
    ...(reason === null
      ? ['  what it says cannot be read']
      : [`  because  ${reason}: ${why}`, `  recovery ${recovery}`, `  lifting  ${neverLifted ?? 'a reinstatement, signed by the recoverers, may lift it'}`]),
    ...liftings.map(
      ({ path: lifting, verdict, approvedBy: people, justification }) =>
        `  ${verdict === 'accepted' ? 'lifted by' : `${verdict}:`} ${lifting}, signed by ${people.join(', ')}: ${justification ?? 'cannot be read'}`,
    ),
    '',
    `TOOK ${revisions} ${revisions === 1 ? 'revision' : 'revisions'}`,
    ...workloads.map(({ name, target }) => `  ${name}: ${target === null ? 'held, nothing is left to run' : `should run ${target}`}`),
    ...(holders.fate === null ? [] : [`  ${holders.total} ${holders.total === 1 ? 'pod' : 'pods'} may have had it in memory: ${FATES[holders.fate]}`]),
    ...timeLines(inquiry),
    ...(undone.length === 0 ? [] : ['', 'NOT DONE YET']),
    ...undone.flatMap(({ workflow, step, since }) => [
      `  ${step}: ${sentenceOf(workflow, step) ?? ''} Undone since ${since}`,
      ...waiting
        .filter((one) => one.step === step)
        .flatMap((one) => [
          `      ${one.reason}: ${one.about}${one.since === null ? '' : `, since ${one.since}`}${one.nextRetryAt === null ? '' : `, again at ${one.nextRetryAt}`}`,
          `      ${one.help}`,
        ]),
    ]),
  ];
}

function timeLines({ moments, hinted }: RevocationInquiry): readonly string[] {
  const times = moments.map(({ milliseconds }) => (milliseconds < 0 ? 'before' : `${milliseconds} ms`));
  const width = Math.max(0, ...times.map((time) => time.length));
  return [
    '',
    `TIME LINE since ${hinted ? 'the webhook' : 'it was first seen'}`,
    ...moments.flatMap((moment, index) => momentLines(moment, (times[index] ?? '').padStart(width))),
  ];
}

function momentLines({ at, event, workflow, receipt, seq, digest, proof, saw }: MomentInquiry, time: string): readonly string[] {
  const sentence = (workflow === null ? null : sentenceOf(workflow, event)) ?? momentOf(event) ?? event;
  const indent = ' '.repeat(time.length + 4);
  return [
    `  ${time}  ${at}  ${sentence}`,
    ...(receipt === null
      ? []
      : [
          `${indent}${event}, ${proof === 'accepted' ? 'accepted: nothing of it can be read back' : 'observed'}; receipt ${receipt}${seq === null ? '' : `, number ${seq} of the log`}, ${digest ?? ''}`,
        ]),
    ...saw.map((line) => `${indent}${line}`),
  ];
}
