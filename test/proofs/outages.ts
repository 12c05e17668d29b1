/**
 * Each far side in turn falls out in the middle of a rotation: it carries out a write whose answer is lost,
 * answers 500, then nothing at all, then refuses connections; PostgreSQL freezes, and crashes.
 * `status` names what is waited for, and the story ends as it always does.
 *
 * `node test/proofs/outages.ts`
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { LabEvent } from '#src/lab/children.ts';
import type { FarSides } from '#src/lab/far-sides.ts';
import { openPostgres, type Postgres } from '#src/lab/postgres.ts';
import type { Setting } from '#src/lab/setting.ts';
import { merge, propose } from '#src/lab/story.ts';
import { accessOf } from '#src/lab/workload.ts';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { retireRevision } from '#workflows/retire-revision.ts';
import { chainOf, compareWorlds, STORY_END, settledWorld, statusOf } from './end-world.ts';
import { type DatabaseGate, type Gate, openDatabaseGate, openHttpGate, openKubernetesGate } from './gate.ts';
import { type Proof, prove } from './proof.ts';

/** All of them, one behind the other, take some 170 s, most of it in silence; a machine that does much else gets more. Seconds. */
const LIMIT_SECONDS = 600;
/** How long a far side stays in each kind of trouble once `status` has named it. Milliseconds. */
const TROUBLE_MILLISECONDS = 2000;
/** From a trouble's begin to a status that names it: the longest pause between two looks after some failures. Seconds. */
const NAMED_SECONDS = 40;
/** From a far side's return to the next receipt. Seconds. */
const RECOVERY_SECONDS = 40;
/** A crashed PostgreSQL replays its log at the start. Seconds. */
const STOP_SECONDS = 20;

interface Gates {
  readonly kms: Gate;
  readonly kbs: Gate;
  readonly git: Gate;
  readonly kubernetes: Gate;
  readonly database: DatabaseGate;
}

/** Puts a gate in front of every far side. */
async function openGates(farSides: FarSides): Promise<{ readonly gates: Gates; readonly gated: FarSides }> {
  const [kms, kbs, git, database, kubernetes] = await Promise.all([
    openHttpGate(farSides.kmsUrl),
    openHttpGate(farSides.kbsUrl),
    openHttpGate(farSides.git.url),
    openDatabaseGate(farSides.databaseUrl),
    openKubernetesGate(accessOf(farSides.kubeconfig), farSides.kubeconfig),
  ]);
  return {
    gates: { kms, kbs, git, kubernetes: kubernetes.gate, database },
    gated: {
      ...farSides,
      kmsUrl: kms.url,
      kbsUrl: kbs.url,
      git: { ...farSides.git, url: git.url },
      databaseUrl: database.url,
      kubeconfig: kubernetes.kubeconfig,
    },
  };
}

/** One far side's trouble. */
interface Outage {
  readonly name: string;
  readonly gate: Gate;
  /** What `about` must say of whom is waited for. */
  readonly about: RegExp;
  /** The request in the middle of which it breaks down; null: between two. */
  readonly breaksAt: RegExp | null;
  /** What the adapter gives a call, in seconds, where this proof waits it out; null: too long, and silence is suffered without a claim. */
  readonly silenceSeconds: number | null;
}

interface Waiting {
  readonly step: string | null;
  readonly reason: string;
  readonly about: string;
}

/** The open run that waits for this system, with all that a person has to know; null: none says so. */
async function waitingFor(setting: Setting, about: readonly RegExp[], reason: string): Promise<Waiting | null> {
  const { runs, at } = await statusOf(setting);
  for (const run of runs) {
    const told = run.about;
    if (run.waitingFor !== reason || told === null || !about.every((one) => one.test(told))) continue;
    if (run.since === null || run.nextRetryAt === null || run.since > at || run.help === null) continue;
    return { step: run.step, reason, about: told };
  }
  return null;
}

async function suffer(proof: Proof, setting: Setting, { name, gate, about, breaksAt, silenceSeconds }: Outage, events: readonly LabEvent[]): Promise<void> {
  const named = (what: string, reason: string, words: RegExp, seconds = NAMED_SECONDS): Promise<Waiting> =>
    proof.until(`status says that ${name} ${what}`, seconds, () => waitingFor(setting, [about, words], reason));
  const tell = (what: string, { step, reason, about: told }: Waiting): void =>
    proof.fact(`${name} ${what}: status says ${step} waits for ${reason}: ${told}`, true);
  if (breaksAt === null) await gate.set('failing');
  else await proof.inTime(gate.breakAt(breaksAt));
  tell('answers 500', await named('answers 500', 'ServerError', /./));
  await pause(TROUBLE_MILLISECONDS, null, { signal: proof.signal });
  await gate.set('silent');
  await pause(TROUBLE_MILLISECONDS, null, { signal: proof.signal });
  // Words that only this trouble gives: what `status` said of the one before must not pass for it.
  if (silenceSeconds === null) proof.note(`       ${name} does not answer: a call is given longer than this proof`);
  else tell('does not answer', await named('does not answer', 'Unreachable', /^(?!.*ECONNREFUSED)/, silenceSeconds + NAMED_SECONDS));
  await gate.set('gone');
  tell('refuses connections', await named('refuses connections', 'Unreachable', /ECONNREFUSED/));
  await pause(TROUBLE_MILLISECONDS, null, { signal: proof.signal });
  const heard = events.length;
  const backAt = performance.now();
  await gate.set('open');
  await proof.until('the next receipt', RECOVERY_SECONDS, () => (events.slice(heard).some(({ event }) => event === 'receipt') ? true : null));
  proof.note(`       ${name} is back: the next receipt after ${Math.round(performance.now() - backAt)} ms`);
}

/** Freezes every session of the database, then lets its first process crash (SIGQUIT), and starts it again on another port. */
async function crash(proof: Proof, setting: Setting, gate: DatabaseGate, events: readonly LabEvent[]): Promise<Postgres> {
  const before = { serve: setting.pid('serve'), proxy: setting.pid('proxy') };
  gate.set('silent');
  await pause(TROUBLE_MILLISECONDS, null, { signal: proof.signal });
  gate.set('open');
  await pause(TROUBLE_MILLISECONDS / 4, null, { signal: proof.signal });
  const folder = join(setting.folder, 'postgres');
  const lockFile = join(folder, 'data', 'postmaster.pid');
  process.kill(Number((await readFile(lockFile, 'utf8')).split('\n')[0]), 'SIGQUIT');
  gate.set('gone');
  // It is the last thing that it removes.
  await proof.until('PostgreSQL has crashed', STOP_SECONDS, () => (existsSync(lockFile) ? null : true));
  await pause(TROUBLE_MILLISECONDS * 2, null, { signal: proof.signal });
  const postgres = await openPostgres({ folder });
  const heard = events.length;
  const backAt = performance.now();
  gate.set('open', postgres.url);
  await proof.until('the next receipt', RECOVERY_SECONDS, () => (events.slice(heard).some(({ event }) => event === 'receipt') ? true : null));
  const lived = (['serve', 'proxy'] as const).map((name) => `${name} ${setting.pid(name) === before[name] ? 'lived on' : 'was started again'}`);
  proof.fact(`PostgreSQL froze, crashed and came back: ${lived.join(', ')}; the next receipt after ${Math.round(performance.now() - backAt)} ms`, true);
  return postgres;
}

/** The next event of a step of a rotation. */
function next(setting: Setting, proof: Proof, event: 'step' | 'receipt', step: string, serial: number): Promise<LabEvent> {
  const heard = setting.watch.next((each) => each.event === event && each.step === step && each.serial === serial, LIMIT_SECONDS, proof.signal);
  // Nobody may await it any more when the proof is over.
  heard.catch(() => undefined);
  return heard;
}

await prove(LIMIT_SECONDS, async (proof) => {
  let gates: Gates | null = null;
  const between = async (farSides: FarSides): Promise<FarSides> => {
    const opened = await openGates(farSides);
    gates = opened.gates;
    return opened.gated;
  };
  await using stack = new AsyncDisposableStack();
  await proof.stage(
    async ({ setting, events }) => {
      const { kms, kbs, git, kubernetes, database }: Gates = gates ?? (await Promise.reject(new Error('no gates')));
      for (const gate of [kms, kbs, git, kubernetes, database]) stack.defer(gate.close);
      const first = await propose(setting, 1, null);
      const sealing = next(setting, proof, 'step', 'encrypt-weights', 1);
      const one = await merge(setting, first, proof.signal);
      await suffer(
        proof,
        setting,
        { name: 'the KMS', gate: kms, about: /aws-kms provider-kms/, breaksAt: / TrentService\.CreateKey$/, silenceSeconds: 10 },
        events,
      );
      await sealing;
      await suffer(proof, setting, { name: 'the KBS', gate: kbs, about: /trustee main/, breaksAt: /^POST \/kbs\/v0\/resource\//, silenceSeconds: 60 }, events);
      const [second] = await Promise.all([propose(setting, 2, first.digest), one.ended]);
      const [accepted, published, patched] = [
        next(setting, proof, 'step', 'create-key', 2),
        next(setting, proof, 'receipt', 'go-live', 2),
        next(setting, proof, 'receipt', 'patch-template', 2),
      ];
      const two = await merge(setting, second, proof.signal);
      await accepted;
      await suffer(proof, setting, { name: 'Git', gate: git, about: /^git /, breaksAt: null, silenceSeconds: null }, events);
      await published;
      await suffer(
        proof,
        setting,
        { name: 'Kubernetes', gate: kubernetes, about: /^kubernetes lab /, breaksAt: /^PATCH (?!.*dryRun)/, silenceSeconds: 30 },
        events,
      );
      await patched;
      stack.defer((await crash(proof, setting, database, events)).close);
      await two.ended;
      const { receipts, twins, ...world } = await settledWorld(proof, setting);
      for (const { name, serial, steps } of [
        { name: 'adopt-revision', serial: 1, steps: adoptRevision.steps },
        { name: 'adopt-revision', serial: 2, steps: adoptRevision.steps },
        { name: 'retire-revision', serial: 1, steps: retireRevision.steps },
      ]) {
        proof.same(
          `${name} ${serial}: every step has one receipt`,
          receipts[`${name} ${serial}`],
          steps.map((step) => step.name),
        );
      }
      compareWorlds(proof, world, STORY_END);
      proof.fact(`no twin key is enabled; ${twins.disabled} were swept`, twins.enabled === 0, twins);
      await setting.endChildren();
      const { chain, ...counts } = await chainOf(setting);
      proof.fact(`the export verifies: ${counts.receipts} receipts, ${counts.rotations} rotations`, chain === 'ok' && counts.rotations === 2, {
        chain,
        ...counts,
      });
    },
    { between },
  );
});
