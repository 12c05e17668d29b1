/**
 * Stories nobody thought of: releases, revocations, undone templates, restarts, lost answers, late
 * writes and ends of the process, in an order that a seed draws. After every round the invariants of
 * the protocol hold (DESIGN §8); in the end the rotation has finished, or the workload is held.
 */
import { expect, it } from 'vitest';
import { keyPath } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import { checkDrift } from '#src/engine/drift.ts';
import { keep } from '#src/engine/keeper.ts';
import { sightAll } from '#src/engine/sight.ts';
import { sweep } from '#src/engine/sweep.ts';
import { isFault } from '#src/errors.ts';
import { knownRevisions } from '#state/revisions.ts';
import { targetOfWorkload } from '#state/targets.ts';
import { hasReceipt } from '../world/engine.ts';
import { type Hazard, isCrash } from '../world/hazards.ts';
import { testRelease } from '../world/release.ts';
import { granted, type Story, stored, tell, templateRotation, testRevocation } from '../world/story.ts';

const SEEDS = [2, 5, 6];
/** Rounds in which things go wrong. */
const ROUNDS = 30;
const HAZARDS: readonly Hazard[] = ['before', 'after-effect', 'after-record', 'answer-lost', 'late'];
const WRITES = [/kms create/, /weights seal/, /main policy/, /main referenceValue/, /main resource/, /main delete/, /east patch/, /kms disable/];

/** Mulberry32: the same seed, the same story. Numbers from 0 to below 1. */
function chanceOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    const mixed = Math.imul(state ^ (state >>> 15), state | 1);
    const more = mixed ^ (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61));
    return ((more ^ (more >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Teller extends Story {
  readonly chance: () => number;
  serial: number;
}

/** What another replica would go on from. */
async function surviving<T>(task: Promise<T>): Promise<T | null> {
  try {
    return await task;
  } catch (thrown) {
    if (isCrash(thrown) || isFault(thrown)) return null;
    throw thrown;
  }
}

function pick<T>(chance: () => number, list: readonly T[]): T {
  const one = list[Math.floor(chance() * list.length)];
  if (one === undefined) throw new Error('nothing to pick from');
  return one;
}

/** A human brings the last template back, where admission (DESIGN §8, step 10) lets it in: what it names is published or serving, and not revoked. */
async function undo(teller: Teller): Promise<void> {
  const revisions = await all(teller);
  teller.test.cluster.undo('chat');
  const rotation = await templateRotation(teller);
  const named = revisions.find((known) => known.rotation === rotation);
  const admitted = named !== undefined && !named.revoked && ['published', 'serving'].includes(named.state);
  if (!admitted) teller.test.cluster.undo('chat');
}

/** Something happens, or nothing does. */
async function happen(teller: Teller): Promise<void> {
  const { test, engine, chance } = teller;
  if (chance() < 0.5) test.network.befall(pick(chance, WRITES), pick(chance, HAZARDS));
  if (chance() < 0.2) await test.network.land(pick(chance, WRITES));
  if (chance() < 0.12) {
    teller.serial += 1;
    await engine.accept(testRelease({ serial: teller.serial, soakSeconds: 2, keepPreviousSeconds: 3 }));
  }
  if (chance() < 0.04) {
    const serial = 1 + Math.floor(chance() * teller.serial);
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial }, `revoke-${teller.serial}-${chance()}`));
  }
  if (chance() < 0.04) await undo(teller);
  const pods = test.cluster.all();
  if (chance() < 0.15 && pods.length > 0) await test.cluster.restart(pick(chance, pods));
  await surviving(sightAll(engine.engine));
}

async function round(teller: Teller): Promise<void> {
  const { test, engine, chance } = teller;
  await surviving(engine.round());
  // As the watch of a cluster does: whoever fetched is told from its address later.
  await surviving(sightAll(engine.engine));
  if (chance() < 0.3) await surviving(keep(engine.engine, 'main'));
  if (chance() < 0.3) await surviving(sweep(engine.engine));
  if (chance() < 0.3) await surviving(checkDrift(engine.engine, 'chat'));
  await test.advance(chance() * 20);
}

async function all({ pool, engine }: Story): Promise<readonly Known[]> {
  return knownRevisions(pool, { all: true }, engine.engine.loaders.release);
}

/** I2 to I5 of the model, over what really stands there. */
async function checkInvariants(story: Story, name: string): Promise<void> {
  const { pool, test } = story;
  const revisions = await all(story);
  const template = await templateRotation(story);
  for (const known of revisions) {
    const path = keyPath(test.kbs.repository, known);
    const guest = { tee: 'sample' as const, svn: String(known.release.serial), initData: known.release.initData.sample ?? null };
    const [answer] = await test.kbs.ask(path, guest, 'proxy');
    const about = `${name}: serial ${known.release.serial}, ${known.state}${known.revoked ? ', revoked' : ''}`;
    const used = template === known.rotation || test.cluster.all().some((pod) => pod.annotations['keyturn.dev/rotation'] === known.rotation);
    if (known.revoked || known.state === 'retired') expect(answer?.status, `${about}: refused`).not.toBe(200);
    else if (used) expect(answer?.status, `${about}: whatever names it can start`).toBe(200);
    if (known.state === 'retired' && !known.revoked) expect(template, `${about}: no template names it`).not.toBe(known.rotation);
    if (await hasReceipt(pool, known.release.serial, 'adopt-revision', 'encrypt-weights')) {
      const key = test.kms.keys().find(({ keyId }) => keyId === known.sealing.facts.keyId);
      expect(key?.state === 'active' || known.sealing.taken, `${about}: its key is there`).toBe(true);
    }
  }
}

async function settle(teller: Teller): Promise<void> {
  const { pool, test, engine } = teller;
  test.network.disarm();
  await test.network.land();
  for (let rounds = 0; rounds < 120; rounds += 1) {
    await engine.round();
    await keep(engine.engine, 'main');
    await sweep(engine.engine);
    await checkDrift(engine.engine, 'chat');
    await test.advance(20);
    const open = await pool.query('select 1 from runs where ended_at is null');
    if (open.rowCount === 0) return;
  }
}

for (const seed of SEEDS) {
  it(`story ${seed} holds to the protocol and comes to its end`, { timeout: 300_000 }, async () => {
    await tell({}, async (story) => {
      const teller: Teller = { ...story, chance: chanceOf(seed), serial: 1 };
      await story.engine.accept(testRelease({ serial: 1, soakSeconds: 2, keepPreviousSeconds: 3 }));
      for (let rounds = 0; rounds < ROUNDS; rounds += 1) {
        await happen(teller);
        await round(teller);
        await checkInvariants(story, `seed ${seed}, round ${rounds}`);
      }
      await settle(teller);
      await checkInvariants(story, `seed ${seed}, at the end`);
      const target = await targetOfWorkload(story.pool, 'chat');
      if (target === null) return;
      expect(target.state, `seed ${seed}`).toBe('serving');
      expect(granted(story)).toEqual([target.release.serial]);
      expect(stored(story)).toEqual([target.release.serial]);
      expect(await templateRotation(story)).toBe(target.rotation);
      const active = story.test.kms.keys().filter(({ state }) => state === 'active');
      expect(active.map(({ rotation }) => rotation)).toEqual([target.rotation]);
    });
  });
}
