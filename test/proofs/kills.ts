/**
 * Twelve real SIGKILLs of `serve`, and two of `proxy`, drawn from a seed while two rotations are
 * carried in the lab: the world ends as it does when nobody disturbs it.
 *
 * `node test/proofs/kills.ts [--seed N]`
 */
import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { LabEvent } from '#src/lab/children.ts';
import type { Setting } from '#src/lab/setting.ts';
import { tellStory } from '#src/lab/story.ts';
import { chainOf, compareWorlds, type EndWorld, STORY_END, settledWorld } from './end-world.ts';
import { type Proof, prove, type Stage, seeded } from './proof.ts';

const KILLS = 12;
/** Each kill follows one of the story's 29 receipts, drawn; the last two leave no rotation to be carried on. */
const RECEIPTS = 27;
/** From such a receipt to the kill. Steps take 20 to 400 ms, so this falls between observe, act and commit, mostly soon after the receipt. Milliseconds. */
const DELAY_MAX_MILLISECONDS = 400;
/** One kill in four asks for no receipt: it hits a controller that has just started, or is about to take over. */
const HASTY = 0.25;
const HASTY_MAX_MILLISECONDS = 2500;
/** The proxy's two, after the receipt that is named. */
const PROXY_KILLS = [
  { serial: 1, step: 'confirm-published', maxMilliseconds: 1000 },
  { serial: 2, step: 'patch-template', maxMilliseconds: 600 },
] as const;
/** Both stories take 80 s; on a machine that does much else they were seen to take 240. Seconds. */
const LIMIT_SECONDS = 480;
/** A controller starts in two seconds. */
const RESTART_SECONDS = 60;

const { values } = parseArgs({ options: { seed: { type: 'string' } } });
const seed = values.seed === undefined ? randomInt(1_000_000) : Number(values.seed);

/** When one kill happens: so many milliseconds after the first event from this many receipts on, or (null) after the kill before it. */
interface Moment {
  readonly receipts: number | null;
  readonly delay: number;
}

function drawMoments(chance: () => number): readonly Moment[] {
  const numbers = new Set<number>();
  while (numbers.size < KILLS) numbers.add(1 + Math.floor(chance() * RECEIPTS));
  return [...numbers]
    .sort((a, b) => a - b)
    .map((receipts, place) =>
      place > 0 && chance() < HASTY
        ? { receipts: null, delay: Math.floor(chance() * HASTY_MAX_MILLISECONDS) }
        : { receipts, delay: Math.floor(chance() ** 2 * DELAY_MAX_MILLISECONDS) },
    );
}

interface Counter {
  readonly hear: (event: LabEvent) => void;
  /** Resolves with the next event once so many receipts were told, or with the story's end; says which it was. */
  readonly reach: (receipts: number) => Promise<string>;
  readonly end: () => void;
}

function openCounter(): Counter {
  let receipts = 0;
  let ended = false;
  let waiting: { readonly receipts: number; readonly resolve: (said: string) => void }[] = [];
  const tell = (said: string): void => {
    const due = waiting.filter((each) => ended || each.receipts <= receipts);
    waiting = waiting.filter((each) => !due.includes(each));
    for (const { resolve } of due) resolve(said);
  };
  return {
    hear: ({ event, step, serial, path, number }) => {
      // What the proxy tells has no number.
      if (number === undefined) return;
      if (event === 'receipt') receipts += 1;
      tell([event, step ?? path, serial === undefined ? '' : `of ${serial}`].filter((word) => word !== '' && word !== undefined).join(' '));
    },
    end: () => {
      ended = true;
      tell('the story’s end');
    },
    reach: (number) => (ended ? Promise.resolve('the story’s end') : new Promise((resolve) => waiting.push({ receipts: number, resolve }))),
  };
}

async function kill(proof: Proof, setting: Setting, name: 'serve' | 'proxy', when: string): Promise<void> {
  const pid = await proof.until(`${name} runs`, RESTART_SECONDS, () => setting.pid(name));
  process.kill(pid, 'SIGKILL');
  proof.note(`       SIGKILL ${name} ${when}`);
}

/** Kills at each moment; once the story is told, what is left comes as fast as the controller starts. */
async function killServe(proof: Proof, setting: Setting, moments: readonly Moment[], reach: Counter['reach']): Promise<void> {
  for (const { receipts, delay } of moments) {
    const what = receipts === null ? 'the kill before' : await proof.inTime(reach(receipts));
    await pause(delay, null, { signal: proof.signal });
    await kill(proof, setting, 'serve', `${delay} ms after ${what}`);
  }
}

async function killProxy(proof: Proof, setting: Setting, chance: () => number): Promise<void> {
  for (const { serial, step, maxMilliseconds } of PROXY_KILLS) {
    const delay = Math.floor(chance() * maxMilliseconds);
    await setting.watch.next((event) => event.event === 'receipt' && event.step === step && event.serial === serial, LIMIT_SECONDS, proof.signal);
    await pause(delay, null, { signal: proof.signal });
    await kill(proof, setting, 'proxy', `${delay} ms after receipt ${step} of ${serial}`);
  }
}

/** A step that a `reopened` let count anew may stand twice; nothing else may. */
function compareReceipts(proof: Proof, seen: EndWorld['receipts'], expected: EndWorld['receipts']): void {
  for (const name of new Set([...Object.keys(seen), ...Object.keys(expected)])) {
    const steps = seen[name] ?? [];
    const reopened = steps.filter((step) => step === 'reopened').length;
    const once = reopened === 0 ? steps : [...new Set(steps)].filter((step) => step !== 'reopened');
    proof.same(
      `${name}: ${steps.length} receipts, the steps of an undisturbed run${reopened === 0 ? ', each once' : `, reopened ${reopened} times`}`,
      once,
      expected[name],
    );
  }
}

await prove(LIMIT_SECONDS, async (proof) => {
  proof.note(`seed ${seed}: node test/proofs/kills.ts --seed ${seed}`);
  let undisturbed: EndWorld | null = null;
  await proof.stage(async ({ setting }) => {
    await tellStory(setting, proof.signal);
    undisturbed = await settledWorld(proof, setting);
  });
  const expected: EndWorld = undisturbed ?? (await Promise.reject(new Error('no undisturbed world')));
  const { receipts: _, twins: __, ...rest } = expected;
  proof.same('an undisturbed story ends as it should', rest, STORY_END);
  const chance = seeded(seed);
  const moments = drawMoments(chance);
  const counter = openCounter();
  const disturbed = async ({ setting, events }: Stage): Promise<void> => {
    const startedAt = performance.now();
    const told = tellStory(setting, proof.signal).then(() => counter.end());
    await Promise.all([told, killServe(proof, setting, moments, counter.reach), killProxy(proof, setting, chance)]);
    const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
    proof.note(`       ${KILLS} kills of serve, ${PROXY_KILLS.length} of the proxy, in a story of ${seconds} s`);
    const numbers = events.flatMap(({ number }) => (typeof number === 'number' ? [number] : []));
    proof.same(
      'every event was told once, in order',
      numbers,
      [...new Set(numbers)].sort((a, b) => a - b),
    );
    const { receipts, twins, ...world } = await settledWorld(proof, setting);
    compareReceipts(proof, receipts, expected.receipts);
    compareWorlds(proof, world, expected);
    proof.fact(`no twin key is enabled; ${twins.disabled} were swept`, twins.enabled === 0);
    await setting.endChildren();
    const { chain, ...counts } = await chainOf(setting);
    proof.fact(`the export verifies: ${counts.receipts} receipts, ${counts.rotations} rotations`, chain === 'ok' && counts.rotations === 2, {
      chain,
      ...counts,
    });
  };
  await proof.stage(disturbed, { onEvent: counter.hear });
});
