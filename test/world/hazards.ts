import type { Answer } from '#src/domain/kbs.ts';
import { Fault } from '#src/errors.ts';
import type { Instant } from '#src/instant.ts';
import type { Clock } from '#src/world.ts';

/** A write that reached an outside system of the test world. */
export interface Write {
  readonly at: Instant;
  readonly system: string;
  readonly verb: string;
  readonly what: string;
}

/**
 * What can befall a write. The first three end the process that sent it; it finds out nothing.
 *
 * - `before`, `after-effect`, `after-record`: the process ends before it, after the effect landed, after its answer was recorded
 * - `answer-lost`: the effect landed, the sender hears nothing
 * - `late`: the sender hears nothing; it lands when the test says so, unless its token has expired by then
 */
export type Hazard = 'none' | 'before' | 'after-effect' | 'after-record' | 'answer-lost' | 'late';

/** Thrown where a process would have ended: no Fault, so that nothing handles it. */
export function crash(where: string): Error {
  return Object.assign(new Error(where), { name: 'Crash' });
}

/** Whether something thrown is such an end. */
export function isCrash(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'Crash';
}

/** A write on its way. */
export interface Sending {
  readonly system: string;
  readonly verb: string;
  readonly what: string;
  /** Makes the effect and says what the system answers. */
  readonly effect: (at: Instant) => Answer;
  readonly answered: (answer: Answer) => Promise<void>;
  /** After it the write cannot land any more; null: it can for ever. */
  readonly landsUntil: (at: Instant) => Instant | null;
}

/** The network between us and every outside system, and the log of what arrived. */
export interface Network {
  readonly log: readonly Write[];
  readonly send: (sending: Sending) => Promise<void>;
  /** Arms a hazard for the next write whose `<system> <verb> <what>` matches. */
  readonly befall: (pattern: RegExp, hazard: Hazard) => void;
  /** Lets the late writes that match arrive now. Returns how many landed. */
  readonly land: (pattern?: RegExp) => Promise<number>;
  /** Hazards that nothing has met yet. */
  readonly armed: () => number;
  /** Forgets them. */
  readonly disarm: () => void;
}

/** Opens the network; its log's instants are the database's. */
export function openNetwork(clock: Clock): Network {
  const log: Write[] = [];
  const hazards: { pattern: RegExp; hazard: Hazard }[] = [];
  let late: { sending: Sending; until: Instant | null }[] = [];
  const arrive = (sending: Sending, at: Instant): Answer => {
    const { system, verb, what } = sending;
    const answer = sending.effect(at);
    if (answer.type === null) log.push({ at, system, verb, what });
    return answer;
  };
  return {
    log,
    armed: () => hazards.length,
    disarm: () => void hazards.splice(0),
    befall: (pattern, hazard) => void hazards.push({ pattern, hazard }),
    send: async (sending) => {
      const name = nameOf(sending);
      const place = hazards.findIndex(({ pattern }) => pattern.test(name));
      const hazard = place < 0 ? 'none' : (hazards.splice(place, 1)[0]?.hazard ?? 'none');
      const at = await clock();
      if (hazard === 'before') throw crash(`before ${name}`);
      if (hazard === 'late') {
        late.push({ sending, until: sending.landsUntil(at) });
        throw new Fault('Unreachable', `${name}: no answer`);
      }
      const answer = arrive(sending, at);
      if (hazard === 'answer-lost') throw new Fault('Unreachable', `${name}: no answer`);
      if (hazard === 'after-effect') throw crash(`after the effect of ${name}`);
      await sending.answered(answer);
      if (hazard === 'after-record') throw crash(`after the record of ${name}`);
    },
    land: async (pattern = /./) => {
      const at = await clock();
      const landing = late.filter(({ sending }) => pattern.test(nameOf(sending)));
      late = late.filter((waiting) => !landing.includes(waiting));
      const inTime = landing.filter(({ until }) => until === null || at < until);
      return inTime.map(({ sending }) => arrive(sending, at)).filter((answer) => answer.type === null).length;
    },
  };
}

function nameOf({ system, verb, what }: Sending): string {
  return `${system} ${verb} ${what}`;
}

/** A plain answer: done. */
export function done(detail: Readonly<Record<string, string>> = {}): Answer {
  return { status: 200, type: null, detail };
}

/** A refusal by the system's own name for it. */
export function refused(status: number, type: string): Answer {
  return { status, type, detail: {} };
}
