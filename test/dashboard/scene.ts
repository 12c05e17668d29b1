import type pg from 'pg';
import { testRelease } from '../world/release.ts';
import { type Story, testRevocation } from '../world/story.ts';
import { asIntakeWrites } from './revocation-rows.ts';
import { addDocument } from './stand.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

/**
 * A night with something of everything: `rerank` rests, `summarize` is held by a revocation, `chat` stands in the middle of its
 * second rotation and cannot go on, a person holds `translate`; documents are refused and wait, and a proxy is silent.
 * Returns the rotation that `chat` is in.
 */
export async function setScene({ pool, engine, test }: Story): Promise<string> {
  for (const workload of ['rerank', 'summarize', 'translate']) {
    test.cluster.add({ name: workload });
    await engine.accept(testRelease({ workload, serial: workload === 'translate' ? 7 : workload === 'rerank' ? 11 : 12, ...QUICK }));
  }
  await engine.accept(testRelease({ serial: 1, ...QUICK }));
  await engine.drive();
  const revocation = {
    ...testRevocation({ kind: 'release', workload: 'summarize', serial: 12 }, 'leaked-prompt'),
    why: 'the prompt of a customer was found in a log',
  };
  await engine.revoke(revocation);
  await asIntakeWrites(pool, revocation);
  await engine.accept(testRelease({ serial: 2 }));
  await engine.accept(testRelease({ workload: 'translate', serial: 8 }));
  await engine.driveTo(2, 'patch-template');
  await engine.round();
  await beside(pool);
  const { rotation } = await engine.known(2);
  await pool.query(
    `update runs set waiting_for = 'FieldOwnedByOther', about = 'east/inference/chat: argocd applies /spec/template/spec/containers/name=chat/image',
       since = instant() - interval '14 minutes', next_retry_at = instant() + interval '40 seconds' where id = $1`,
    [rotation],
  );
  return rotation;
}

/** Documents, polls, proxies and a hold, as their own rooms write them. */
async function beside(pool: pg.Pool): Promise<void> {
  await pool.query(
    `update documents set approved_by = '{ada,bo}', trust_version = 1, commit_id = '4f0c1d2e9a7b4f0c1d2e9a7b4f0c1d2e9a7b4f0c' where kind = 'Release'`,
  );
  await addDocument(pool, { path: 'releases/chat/3.yaml', reason: 'Malformed', about: 'line 14: targets.0.minimumAttested: expected a number above 0' });
  await addDocument(pool, { path: 'releases/rerank/9.yaml', reason: 'SignerUnknown', about: 'releases/rerank/9.yaml.mallory.sigstore.json' });
  await addDocument(pool, {
    path: 'releases/rerank/12.yaml',
    verdict: 'waiting',
    reason: 'SignaturesMissing',
    about: 'release-approver: 1 of 2',
    approvedBy: ['ada'],
  });
  await pool.query(`insert into branches (name, commit_id, unread) values ('main', '4f0c1d2e9a7b4f0c1d2e9a7b4f0c1d2e9a7b4f0c', $1)`, [
    JSON.stringify([{ path: 'releases/chat/latest.yaml', reason: 'NotPlainFile', about: 'a symlink' }]),
  ]);
  await pool.query(`insert into polls (branch, read_at) values ('main', instant())`);
  await pool.query(
    `insert into proxies (id, kbs, stale_seconds, seen_at) values ('proxy-7d9c-1', 'main', 300, instant()), ('proxy-7d9c-2', 'main', 300, instant() - interval '1 hour')`,
  );
  await pool.query(`insert into runs (id, workflow, workload, ended_at) values ('r-00000000000000f1', 'hold', 'translate', instant())`);
  await pool.query(
    `insert into holds (kind, subject, chain, why, held_by) values ('workload', 'translate', 'r-00000000000000f1', 'a customer demonstration until noon', 'ada')`,
  );
}
