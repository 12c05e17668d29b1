/** Who may lift a suspension, of what, and when (DESIGN §6 and §8). */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { takeIn } from '#src/engine/intake.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { type Files, type Person, revocationText, signedBy, yaml } from '../documents/people.ts';
import { ann, type Bench, bob, cid, digestAt, release, revocation, START, verdicts, withBench } from './intake-parts.ts';

function reinstatement(id: string, of: string, people: readonly Person[] = [ann, bob]): Promise<Files> {
  const document = { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Reinstatement', id, revocation: of, justification: 'a false alarm' };
  return signedBy(`reinstatements/${id}.yaml`, yaml(document), people);
}

/** A revocation that may be lifted; `reason`: one that may not. */
function suspension(id: string, subject: Record<string, unknown> = { kind: 'release', workload: 'w', serial: 1 }, reason = 'certificateHold'): Promise<Files> {
  return signedBy(`revocations/${id}.yaml`, revocationText(id, subject, { reason }), [ann]);
}

/** A release that serves, and a suspension of it. */
async function withSuspended(fn: (bench: Bench) => Promise<void>): Promise<void> {
  await withBench(async (bench) => {
    await bench.push({ ...START, ...(await release(1, null)) });
    await bench.push(await suspension('suspected'));
    await fn(bench);
  });
}

async function verdictOf(pool: pg.Pool, id: string): Promise<string | undefined> {
  return (await verdicts(pool))[`reinstatements/${id}.yaml`];
}

async function runs(pool: pg.Pool): Promise<number> {
  return (await pool.query(`select 1 from runs where workflow = 'reinstate'`)).rowCount ?? 0;
}

describe('a reinstatement', () => {
  it('that enough recoverers signed is accepted once, tells so, and has a run of its own', () =>
    withSuspended(async ({ pool, push, intake }) => {
      const files = await reinstatement('again', 'suspected');
      await push(files);
      expect(await verdictOf(pool, 'again')).toBe('accepted');
      const { rows } = await pool.query(`select workload, body from events where event = 'reinstatement-accepted'`);
      const body = { id: 'again', revocation: 'suspected', justification: 'a false alarm', approvedBy: ['ann', 'bob'], workloads: ['w'] };
      expect(rows).toMatchObject([{ workload: 'w', body }]);
      await takeIn(intake);
      expect(await runs(pool)).toBe(1);
      const { reinstatement: load } = documentLoaders({ ...intake, pool });
      expect(await load(digestAt(files, 'reinstatements/again.yaml'))).toMatchObject({ revocation: 'suspected', approvedBy: ['ann', 'bob'] });
    }));

  it('of fewer than the recoverers’ threshold waits, though one revoker was enough to revoke', () =>
    withSuspended(async ({ pool, push }) => {
      await push(await reinstatement('alone', 'suspected', [ann]));
      expect(await verdictOf(pool, 'alone')).toBe('waiting SignaturesMissing');
      expect(await runs(pool)).toBe(0);
      const { 'reinstatements/alone.yaml': _, ...late } = await reinstatement('alone', 'suspected', [cid]);
      await push(late);
      expect(await verdictOf(pool, 'alone')).toBe('accepted');
    }));

  it.each(['keyCompromise', 'superseded', 'unspecified', 'privilegeWithdrawn'])('of a revocation for %s is refused: that is no suspension', (reason) =>
    withSuspended(async ({ pool, push }) => {
      await push(await suspension('for-good', { kind: 'key', workload: 'w', epoch: 1 }, reason));
      await push(await reinstatement('no', 'for-good', [ann, bob, cid]));
      expect(await verdictOf(pool, 'no')).toBe('refused NotASuspension');
      expect(await runs(pool)).toBe(0);
    }),
  );

  it('of a revocation that nobody accepted waits for it', () =>
    withSuspended(async ({ pool, push, intake }) => {
      await push(await reinstatement('early', 'later'));
      expect(await verdictOf(pool, 'early')).toBe('waiting NotFound');
      await push(
        await signedBy('revocations/later.yaml', revocationText('later', { kind: 'release', workload: 'w', serial: 1 }, { reason: 'certificateHold' }), []),
      );
      expect(await verdictOf(pool, 'early'), 'one that nobody signed is none').toBe('waiting NotFound');
      const { 'revocations/later.yaml': _, ...late } = await suspension('later');
      await push(late);
      await takeIn(intake);
      expect(await verdictOf(pool, 'early')).toBe('accepted');
    }));

  it('is the only one of its revocation: a second is refused, also in the same pass', () =>
    withSuspended(async ({ pool, push }) => {
      await push({ ...(await reinstatement('a', 'suspected')), ...(await reinstatement('b', 'suspected')) });
      await push(await reinstatement('c', 'suspected', [bob, cid]));
      expect([await verdictOf(pool, 'a'), await verdictOf(pool, 'b'), await verdictOf(pool, 'c')]).toEqual([
        'accepted',
        'refused AlreadyReinstated',
        'refused AlreadyReinstated',
      ]);
      expect(await runs(pool)).toBe(1);
    }));

  it('is judged after the revocations of its commit, so that both count', () =>
    withBench(async ({ pool, push }) => {
      await push({ ...START, ...(await release(1, null)) });
      await push({
        ...(await suspension('suspected')),
        ...(await reinstatement('again', 'suspected')),
        ...(await revocation('for-good', { kind: 'workload', workload: 'w' })),
      });
      expect(await verdicts(pool)).toMatchObject({
        'revocations/suspected.yaml': 'accepted',
        'revocations/for-good.yaml': 'accepted',
        'reinstatements/again.yaml': 'accepted',
      });
      const { rows } = await pool.query('select revoked_by is not null as revoked from revisions');
      expect(rows).toEqual([{ revoked: true }]);
    }));

  it('lifts no revocation whose file was another one’s too: which was meant nobody can say', () =>
    withSuspended(async ({ pool, push }) => {
      await push(await suspension('suspected', { kind: 'all' }));
      expect((await pool.query(`select 1 from documents where kind = 'Revocation' and verdict = 'accepted'`)).rowCount).toBe(2);
      await push(await reinstatement('which', 'suspected'));
      expect(await verdictOf(pool, 'which')).toBe('refused DocumentChanged');
    }));

  it('is held like a release: by a revoked signer, a rewritten history, an expired trust document', () =>
    withSuspended(async ({ pool, lab, push, intake }) => {
      await push(await revocation('gone', { kind: 'signer', person: 'bob' }));
      await push(await reinstatement('a', 'suspected'));
      expect(await verdictOf(pool, 'a')).toBe('waiting Revoked');
      const base = await push({ 'README.md': 'x' });
      const known = await push(await reinstatement('b', 'suspected', []));
      await lab.rewrite(base.commit, { 'README.md': 'y' }, 'forced');
      await takeIn(intake);
      expect(await verdictOf(pool, 'b')).toBe('waiting HistoryRewritten');
      await lab.git(['update-ref', 'refs/heads/main', known.commit]);
      await pool.query(`update installation set clock_offset = interval '100 years'`);
      await push(await reinstatement('c', 'suspected', [ann, cid]));
      expect(await verdictOf(pool, 'c')).toBe('waiting TrustExpired');
      expect(await runs(pool)).toBe(0);
    }));

  it('of what this version cannot lift waits, and lifts nothing', () =>
    withSuspended(async ({ pool, push }) => {
      await push(await suspension('values', { kind: 'reference-value', name: 'svn', value: '1' }));
      await push(await suspension('person', { kind: 'signer', person: 'cid' }));
      await push(await reinstatement('a', 'values'));
      await push(await reinstatement('b', 'person'));
      expect([await verdictOf(pool, 'a'), await verdictOf(pool, 'b')]).toEqual(['waiting NotSupportedYet', 'waiting NotSupportedYet']);
      expect(await runs(pool)).toBe(0);
    }));
});

describe('the revocations that a release is asked about', () => {
  it('are those of the branch’s tip that are in force: a lifted one is none, where the reinstatement’s own signatures say so', () =>
    withSuspended(async ({ pool, push, documents }) => {
      const ids = async () => (await documents.revocations()).map(({ id }) => id);
      const files = await reinstatement('again', 'suspected');
      await push(files);
      expect(await ids(), 'accepted is not yet lifted').toEqual(['suspected']);
      await pool.query(`update documents set lifted_by = $1 where path = 'revocations/suspected.yaml'`, [digestAt(files, 'reinstatements/again.yaml')]);
      expect(await ids()).toEqual([]);
      await push(await suspension('other'));
      await pool.query(`update documents set lifted_by = $1 where path = 'revocations/other.yaml'`, [digestAt(files, 'reinstatements/again.yaml')]);
      expect(await ids(), 'a row that names the reinstatement of another lifts nothing').toEqual(['other']);
    }));

  it('are all of them where a row says lifted and nobody signed that', () =>
    withSuspended(async ({ pool, documents }) => {
      await pool.query(`update documents set lifted_by = 'sha256:00' where path = 'revocations/suspected.yaml'`);
      await expect(documents.revocations()).rejects.toMatchObject({ reason: 'NotFound' });
    }));
});
