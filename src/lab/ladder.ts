import { styleText } from 'node:util';
import type { LabEvent } from './children.ts';

/** Column widths: the longest names that the story prints, so that columns stay straight. Characters. */
const WIDTH = { seconds: 6, subject: 24, kind: 9, name: 25, proof: 8 } as const;
/** A fact or an about is cut here: digests and key ids are recognised by their beginning. Characters. */
const VALUE_MAX_CHARACTERS = 60;

const DAY_MILLISECONDS = 86_400_000;

/** Turns events into lines; null where an event says nothing new. */
export type Ladder = (event: LabEvent) => string | null;

interface Rung {
  readonly subject: string;
  readonly kind: string;
  readonly name: string;
  readonly said: string;
  readonly colour: 'green' | 'yellow' | 'red' | 'dim' | 'bold';
}

/**
 * A ladder of what happened: time since its opening (the days that the story's clock is moved on left out), whose run, gate or step, verdict or fact, and what
 * is waited for. Every line says LAB, so that every screenful does. A gate is asked on every look, and a
 * wait is announced on every look: each is printed once, until its answer changes.
 */
export function openLadder(options: { readonly startedAt: number; readonly colour: boolean }): Ladder {
  const said = new Map<string, string>();
  const subjects = new Map<string, string>();
  let moved = 0;
  return (event) => {
    if (event.event === 'clock-moved' && typeof event.days === 'number') moved += event.days * DAY_MILLISECONDS;
    if (event.event === 'time-line') return timeLineOf(event.entries);
    const run = textOf(event.run);
    const named = subjectOf(event);
    // A run's own name says which workflow it is; only some of its events tell that.
    if (run !== '' && textOf(event.workflow) !== '' && named !== null && (event.serial !== undefined || !subjects.has(run))) subjects.set(run, named);
    const known = (event.event === 'rotation-finished' ? named : null) ?? subjects.get(run) ?? named ?? run;
    const rung = rungOf(event, known);
    if (rung === null) return null;
    // A step's receipt and its wait share a key: a wait that comes back after a receipt is news.
    const key = `${run}\n${rung.kind === 'gate' ? `gate ${rung.name}` : 'run'}`;
    const line = `${rung.kind} ${rung.name} ${rung.said}`;
    if (run !== '' && said.get(key) === line) return null;
    said.set(key, line);
    // What was said before the clock was moved, and is heard after it, has the old time.
    const sinceStart = Date.parse(event.at) - options.startedAt;
    const seconds = ((sinceStart >= moved ? sinceStart - moved : sinceStart) / 1000).toFixed(1);
    return lineOf(seconds, rung, options.colour);
  };
}

/** The story's end once more: each refusal by its time since the webhook, and how that is known. */
function timeLineOf(entries: unknown): string {
  const lines = (Array.isArray(entries) ? entries : []).map((entry: Readonly<Record<string, unknown>>) => {
    const [milliseconds = '', what = '', proof = ''] = [entry.milliseconds, entry.what, entry.proof].map(textOf);
    const said = typeof entry.said === 'string' ? entry.said : '';
    return `LAB ${`${milliseconds} ms`.padStart(10)}  ${what.padEnd(WIDTH.name)}  ${proof.padEnd(WIDTH.proof)}  ${said}`.trimEnd();
  });
  return ['LAB from the webhook of the revocation:', ...lines].join('\n');
}

function lineOf(seconds: string, rung: Rung, colour: boolean): string {
  const paint = (text: string) => (colour ? styleText(rung.colour, text, { validateStream: false }) : text);
  const columns = [seconds.padStart(WIDTH.seconds), rung.subject.padEnd(WIDTH.subject), rung.kind.padEnd(WIDTH.kind), rung.name.padEnd(WIDTH.name)];
  return `LAB ${columns.join('  ')}  ${paint(rung.said)}`.trimEnd();
}

/** `chat/2 retire`: the workload, and as much of the serial and the workflow as the event tells; null where it tells no workload. */
function subjectOf(event: LabEvent): string | null {
  const workload = textOf(event.workload);
  if (workload === '') return null;
  const serial = textOf(event.serial);
  return `${workload}${serial === '' ? '' : `/${serial}`} ${textOf(event.workflow).replace(/-.*$/, '')}`.trim();
}

function rungOf(event: LabEvent, subject: string): Rung | null {
  const name = textOf(event.gate) || textOf(event.step);
  const reason = [event.waitingFor ?? event.reason, event.about].map(textOf).filter(Boolean).join(': ');
  switch (event.event) {
    case 'gate':
      if (event.verdict === 'yes') return { subject, kind: 'gate', name, said: 'yes', colour: 'dim' };
      return { subject, kind: 'gate', name, said: `no, ${reason}`, colour: 'yellow' };
    case 'step':
      return { subject, kind: 'step', name, said: '', colour: 'dim' };
    case 'receipt':
      return { subject, kind: 'receipt', name, said: [textOf(event.proof), factsOf(event.facts)].filter(Boolean).join(' '), colour: 'green' };
    case 'waiting':
      return { subject, kind: 'waiting', name, said: reason, colour: 'yellow' };
    case 'refused':
      return { subject, kind: 'refused', name: name || textOf(event.path), said: reason, colour: 'red' };
    case 'release-accepted':
    case 'revocation-accepted':
    case 'baseline-accepted':
      return { subject, kind: 'accepted', name: documentOf(event), said: approversOf(event), colour: 'bold' };
    case 'clock-moved':
      return { subject: 'lab', kind: 'clock', name: 'moved on', said: `${textOf(event.days)} days`, colour: 'bold' };
    case 'rotation-due':
      return { subject, kind: 'due', name: 'rotation', said: `epoch ${textOf(event.epoch)}, since ${textOf(event.dueAt)}`, colour: 'bold' };
    case 'destruction-due':
      return { subject, kind: 'due', name: 'destruction', said: `epoch ${textOf(event.epoch)}, since ${textOf(event.dueAt)}`, colour: 'bold' };
    case 'reopened':
      return { subject, kind: 'reopened', name: '', said: 'the target again', colour: 'bold' };
    case 'guest-refused':
      return {
        subject,
        kind: 'guest',
        name: 'refused',
        said: `${reason.replace(/: $/, '')} by ${textOf(event.where)} ${textOf(event.milliseconds)} ms after the webhook`,
        colour: 'bold',
      };
    case 'revocation-finished':
      return { subject, kind: 'finished', name: documentOf(event), said: 'carried out: every refusal has its receipt', colour: 'bold' };
    case 'rotation-finished':
      return { subject, kind: 'finished', name: 'rotation', said: retiredOf(event), colour: 'bold' };
    case 'lab-ready':
      return { subject: 'lab', kind: 'ready', name: '', said: textOf(event.dashboard) || textOf(event.config), colour: 'bold' };
    case 'lab-finished':
      return { subject: 'lab', kind: 'finished', name: textOf(event.story), said: endOf(event), colour: event.failed === undefined ? 'bold' : 'red' };
    default:
      return null;
  }
}

/** A document by its path in the repository, as far as its event tells. */
function documentOf({ event, path, kbs, version, id }: LabEvent): string {
  if (event.startsWith('revocation-')) return `revocations/${textOf(id)}.yaml`;
  return textOf(path) || `baseline/${textOf(kbs)}/${textOf(version)}.yaml`;
}

function approversOf(event: LabEvent): string {
  const approvers = event.approvedBy;
  return Array.isArray(approvers) && approvers.length > 0 ? `signed by ${approvers.map(textOf).join(' and ')}` : '';
}

function retiredOf(event: LabEvent): string {
  const retired = event.retired;
  if (!Array.isArray(retired) || retired.length === 0) return 'serving';
  // The same release under its next key retires itself under the one before.
  return `${retired.map((serial) => (serial === event.serial ? 'its key before' : textOf(serial))).join(', ')} refused and disabled`;
}

function endOf(event: LabEvent): string {
  if (event.failed !== undefined) return `failed: ${[event.failed, event.about].map(textOf).filter(Boolean).join(': ')}`;
  if (event.story === 'revocation') {
    const refused = `refused at the proxy after ${textOf(event.proxyRefusedMs)} ms, by the policy after ${textOf(event.policyRefusedMs)} ms`;
    return `${refused}; ${textOf(event.receipts)} receipts, chain ${textOf(event.chain)}`;
  }
  return `${textOf(event.rotations)} rotations, ${textOf(event.receipts)} receipts, chain ${textOf(event.chain)}`;
}

/** The facts of a receipt as `name value`, those that are more than a word by their size. */
function factsOf(facts: unknown): string {
  if (typeof facts !== 'object' || facts === null) return '';
  return Object.entries(facts)
    .map(([name, value]) => {
      if (Array.isArray(value)) return `${name} ${value.map(textOf).join(', ')}`;
      if (typeof value !== 'object' || value === null) return `${name} ${textOf(value)}`;
      return `${name} of ${Object.keys(value).join(', ')}`;
    })
    .join(' · ');
}

/** A short text of a plain value; empty for anything that has parts. Control characters cannot reach the terminal: events quote other people's words. */
function textOf(value: unknown): string {
  if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') return '';
  const text = String(value).replace(/\p{Cc}/gu, ' ');
  return text.length > VALUE_MAX_CHARACTERS ? `${text.slice(0, VALUE_MAX_CHARACTERS - 1)}…` : text;
}
