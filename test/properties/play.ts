import { digestOf } from '#src/digest.ts';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Known } from '#src/domain/release.ts';
import { newestFirst, targetOf } from '#src/domain/target.ts';
import { checkDrift } from '#src/engine/drift.ts';
import { keep } from '#src/engine/keeper.ts';
import { sweep } from '#src/engine/sweep.ts';
import { transaction } from '#state/database.ts';
import { changeTarget, startEpoch } from '#state/targets.ts';
import { testRelease } from '../world/release.ts';
import { testReinstatement, testSuspension } from '../world/story.ts';
import type { Action, Subject } from './actions.ts';
import { drivenUntil, ended, keepsAsleep, looksAsleep, round, rounds, type Stage, surviving, woken } from './stage.ts';
import { svnOf, templateOf, violation } from './watch.ts';

/** As short as can be: what is replaced goes as soon as it may. */
const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };
/** What is replaced stays until the story is nearly over. */
const SLOW = { soakSeconds: 30, keepPreviousSeconds: 300 };
/** More rounds than any end takes. */
const END_ROUNDS = 70;

/** A story begins with a release that serves. */
export async function begin(stage: Stage): Promise<void> {
  await play(stage, { do: 'release', source: 'plaintext', back: 0, slow: false });
  await rounds(stage, 30);
}

/** One action, and a look at the world after it. Throws a violation. */
export async function play(stage: Stage, action: Action): Promise<void> {
  await ACTS[action.do](stage, action as never);
  await stage.watch.check();
}

type Acts = { readonly [K in Action['do']]: (stage: Stage, action: Extract<Action, { readonly do: K }>) => Promise<void> };

const ACTS: Acts = {
  release: accept,
  epoch: fallDue,
  withdraw: (stage, { back }) => withdraw(stage, back),
  revoke: (stage, { back }) => revoke(stage, back, false),
  'revoke-key': (stage, { back }) => revoke(stage, back, true),
  'revoke-other': (stage, { subject, back }) => revokeOther(stage, subject, back),
  reinstate: (stage, { back }) => reinstate(stage, back),
  undo: (stage) => undo(stage),
  edit: async ({ test, watch }) => {
    watch.human();
    test.cluster.edit('chat', { '/spec/template/spec/containers/name=chat/image': 'registry.test/other' });
  },
  stray: async ({ test, strays }) => {
    const [pod] = test.cluster.all();
    if (pod === undefined || strays.length > 0) return;
    const down = { phase: 'Pending', ready: false, terminating: false, containerId: null, startedAt: null, address: null };
    strays.push(test.cluster.inject({ ...pod, ...down, uid: 'uid-stray', name: 'stray' }));
  },
  wake: woken,
  die: ended,
  land: async ({ test }) => void (await test.network.land()),
  upkeep,
  restart: async ({ test }, { pod }) => {
    const found = test.cluster.all()[pod];
    // A kubelet starts nothing again in a pod that is on its way out.
    if (found !== undefined && !found.terminating) await test.cluster.restart(found);
  },
  befall: async ({ test }, { write, hazard }) => test.network.befall(new RegExp(`^${write}`), hazard),
  go: (stage, action) => rounds(stage, action.rounds, undefined, action.steps),
  until: (stage, { workflow, step }) => drivenUntil(stage, workflow, step),
  sleep: (stage, { workflow, at }) => looksAsleep(stage, workflow, at),
  'sleep-keeper': keepsAsleep,
  wait: ({ test }, { seconds }) => test.advance(seconds),
};

async function newest(stage: Stage): Promise<readonly Known[]> {
  return [...(await stage.watch.revisions())].sort(newestFirst);
}

async function accept(stage: Stage, { source, back, slow }: Extract<Action, { do: 'release' }>): Promise<void> {
  const { last, accepting } = stage;
  const serial = last.serial + 1;
  const from = (await newest(stage))[back]?.release.serial ?? null;
  const kept = { plaintext: {}, amend: { keep: null, svn: last.svn, image: last.image }, keep: { keep: from }, reencrypt: { reencrypt: from } }[source];
  const release = testRelease({ serial, minimumAttested: 2, ...(slow ? SLOW : QUICK), ...kept } as Parameters<typeof testRelease>[0]);
  Object.assign(last, { serial });
  if (await isForbidden(stage, String(release.guests.sample?.referenceValues.svn?.[0]))) return;
  if ((await accepting.accept(release)) !== null) return;
  Object.assign(last, { svn: String(release.guests.sample?.referenceValues.svn?.[0]), image: release.images.chat });
}

/** Git's acceptance refuses a release whose target, signer or reference value is revoked, before anything is made of it. */
async function isForbidden({ pool }: Stage, svn: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    `select 1 from documents where kind = 'Revocation' and verdict = 'accepted' and lifted_by is null
       and (subject ->> 'kind' in ('target', 'signer') or (subject ->> 'kind' = 'reference-value' and subject ->> 'value' = $1))`,
    [svn],
  );
  return rowCount !== 0;
}

async function fallDue({ accepting, watch }: Stage): Promise<void> {
  const target = targetOf(await watch.revisions());
  if (target !== null) await transaction(accepting.engine.pool, (tx) => startEpoch(tx, 'chat', target.id, async () => {}));
}

async function withdraw(stage: Stage, back: number): Promise<void> {
  const { accepting, copy, watch } = stage;
  const known = (await newest(stage))[back];
  if (known === undefined) return;
  const { digest: release } = known.release;
  stage.last.withdrawals += 1;
  const head = { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Withdrawal', id: `take-back-${stage.last.withdrawals}` } as const;
  const document = { ...head, workload: 'chat', release, why: 'a test' };
  const before = targetOf(await watch.revisions());
  if (copy.unaskedWithdrawals === true) {
    const { pool } = accepting.engine;
    const take = 'update revisions set withdrawn_by = $2 where id = $1 and withdrawn_by is null';
    await transaction(pool, (tx) =>
      changeTarget(
        tx,
        'chat',
        async () => {},
        async () => void (await tx.query(take, [known.id, 'unasked'])),
      ),
    );
  } else {
    const digest = digestOf(JSON.stringify(document));
    await accepting.withdraw({ ...document, digest, path: `withdrawals/${document.id}.yaml`, approvedBy: ['ada', 'bo'], signatures: [] });
  }
  if (before !== null && targetOf(await watch.revisions()) === null) throw violation('L: an accepted withdrawal leaves nothing to run');
}

async function revoke(stage: Stage, back: number, key: boolean): Promise<void> {
  const known = (await newest(stage))[back];
  if (known === undefined) return;
  stage.last.revocations += 1;
  const { serial } = known.release;
  const subject = key ? ({ kind: 'key', workload: 'chat', epoch: known.sealing.epoch } as const) : ({ kind: 'release', workload: 'chat', serial } as const);
  await stage.accepting.revoke(testSuspension(subject, `revoke-${stage.last.revocations}`));
}

/** Each as people write it; `since` nothing: whatever that signer approved. */
function otherSubject(subject: Subject, svn: string): RevocationSubject {
  switch (subject) {
    case 'reference-value':
      return { kind: subject, name: 'svn', value: svn };
    case 'target':
      return { kind: subject, cluster: 'east', namespace: 'inference', name: 'chat' };
    case 'device':
      return { kind: subject, chipId: 'ab'.repeat(32) };
    case 'signer':
      return { kind: subject, person: 'ada' };
    case 'workload':
      return { kind: subject, workload: 'chat' };
    case 'all':
      return { kind: subject };
  }
}

async function revokeOther(stage: Stage, subject: Subject, back: number): Promise<void> {
  const known = (await newest(stage))[back];
  if (known === undefined) return;
  stage.last.revocations += 1;
  await stage.accepting.revoke(testSuspension(otherSubject(subject, svnOf(known)), `revoke-${stage.last.revocations}`));
}

async function reinstate({ accepting, test, pool }: Stage, back: number): Promise<void> {
  const revocation = test.git.revocations.at(-1 - back);
  if (revocation === undefined) return;
  const { rowCount } = await pool.query(`select 1 from runs where workflow = 'reinstate' and revocation = $1`, [revocation.digest]);
  if (rowCount === 0) await accepting.reinstate(testReinstatement(revocation), revocation);
}

/** A human brings the last template back, where admission (DESIGN §8, step 10) lets it in. */
async function undo({ test, watch }: Stage): Promise<void> {
  const revisions = await watch.revisions();
  test.cluster.undo('chat');
  const now = await templateOf(test);
  const named = revisions.find(({ rotation }) => rotation === now);
  const admitted = named !== undefined && !named.revoked && ['published', 'serving'].includes(named.state);
  if (admitted) watch.human();
  else test.cluster.undo('chat');
}

async function upkeep({ engine, copy }: Stage): Promise<void> {
  await surviving(keep(engine, 'main'));
  if (copy.sweeps !== false) await surviving(sweep(engine));
  await surviving(checkDrift(engine, 'chat'));
}

/** No more faults: who slept wakes, what was late lands, and all comes to its end. Throws a violation where it does not. */
export async function settle(stage: Stage): Promise<void> {
  const { test, strays, sleepers, watch, pool } = stage;
  while (sleepers.length > 0) await woken(stage);
  test.network.disarm();
  await test.network.land();
  await watch.check();
  for (const remove of strays.splice(0)) remove();
  let [quiet, enough] = [0, 1];
  for (let done = 0; done < END_ROUNDS && quiet < enough; done += 1) {
    const looked = await round(stage);
    if (looked === 'on') continue;
    await test.advance(20);
    const before = await watch.written();
    const writes = test.network.log.length;
    await upkeep(stage);
    const { rowCount: open } = await pool.query('select 1 from runs where ended_at is null');
    const held = targetOf(await watch.revisions()) === null;
    // Nobody but the sweeper works for a workload that is held, and it waits for what is late.
    enough = held ? 3 : 1;
    quiet = (open === 0 || held) && before === (await watch.written()) && writes === test.network.log.length ? quiet + 1 : 0;
  }
  await watch.checkEnd();
}
