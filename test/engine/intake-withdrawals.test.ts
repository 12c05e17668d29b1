/** Who may take a release back, when, and what becomes of it (DESIGN §6 and §8). */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { openGit } from '#src/adapters/git/index.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { takeIn } from '#src/engine/intake.ts';
import { heldWorkloads } from '#state/document-holds.ts';
import { readStatus } from '#state/status.ts';
import { targetOfWorkload } from '#state/targets.ts';
import { type Files, type Person, signedBy, trustText, yaml } from '../documents/people.ts';
import { ann, type Bench, bob, cid, digestAt, release, revocation, START, serials, verdicts, withBench } from './intake-parts.ts';

/** A withdrawal, signed. */
function withdrawal(id: string, digest: Digest, people: readonly Person[] = [ann, bob], workload = 'w'): Promise<Files> {
  const document = { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Withdrawal', id, workload, release: digest, why: 'a test' };
  return signedBy(`withdrawals/${id}.yaml`, yaml(document), people);
}

interface Two extends Bench {
  /** Digests of the releases 1, which serves, and 2, which was accepted after it. */
  readonly one: Digest;
  readonly two: Digest;
}

async function withTwo(fn: (two: Two) => Promise<void>, trust?: string): Promise<void> {
  await withBench(async (bench) => {
    const first = await release(1, null);
    const one = digestAt(first, 'releases/w/1.yaml');
    const second = await release(2, one);
    await bench.push({ ...START, ...(trust === undefined ? {} : { 'trust/1.yaml': trust }), ...first });
    await setState(bench.pool, 1, 'serving');
    await bench.push(second);
    await fn({ ...bench, one, two: digestAt(second, 'releases/w/2.yaml') });
  });
}

async function setState(pool: pg.Pool, serial: number, state: string): Promise<void> {
  await pool.query('update revisions set state = $2, went_live = true where serial = $1', [serial, state]);
}

async function targetSerial(pool: pg.Pool): Promise<number | null> {
  return (await targetOfWorkload(pool, 'w'))?.release.serial ?? null;
}

/** Reason and verdict of one document. */
async function verdictOf(pool: pg.Pool, id: string): Promise<string | undefined> {
  return (await verdicts(pool))[`withdrawals/${id}.yaml`];
}

describe('a withdrawal', () => {
  it('takes the target back to the release before it, tells so, and is shown', () =>
    withTwo(async ({ pool, push, two }) => {
      expect(await targetSerial(pool)).toBe(2);
      await push(await withdrawal('worse', two));
      expect(await verdictOf(pool, 'worse')).toBe('accepted');
      expect(await targetSerial(pool)).toBe(1);
      const { rows } = await pool.query(`select workload, body from events where event = 'withdrawal-accepted'`);
      expect(rows).toMatchObject([{ workload: 'w', body: { id: 'worse', release: two, serials: [2], approvedBy: ['ann', 'bob'], targetSerial: 1 } }]);
      const [workload] = (await readStatus(pool)).workloads;
      expect(workload).toMatchObject({
        target: 's1-v1',
        revisions: [
          { serial: 2, withdrawn: true },
          { serial: 1, withdrawn: false },
        ],
      });
      const { rows: runs } = await pool.query(
        `select r.serial, u.workflow from runs u join revisions r on r.id = u.revision where u.ended_at is null order by u.id`,
      );
      expect(runs).toContainEqual({ serial: 2, workflow: 'retire-revision' });
      expect(runs, 'nobody retires what is the target again').not.toContainEqual({ serial: 1, workflow: 'retire-revision' });
    }));

  it('is signed by as many approvers of that workload as a release of it', async () => {
    const roles = {
      approvers: [
        { workloads: ['w'], threshold: 2, people: ['ann', 'bob'] },
        { workloads: ['*'], threshold: 1, people: ['cid'] },
      ],
    };
    await withBench(async (bench) => {
      const trust = trustText([ann, bob, cid], {}, roles);
      const intake = { ...bench.intake, initialDigest: digestOf(trust) };
      const push = async (files: Files) => {
        await bench.lab.commit(files, 'a commit');
        await takeIn(intake);
      };
      const first = await release(1, null);
      await push({ ...START, 'trust/1.yaml': trust, ...first });
      await setState(bench.pool, 1, 'serving');
      const second = await release(2, digestAt(first, 'releases/w/1.yaml'));
      await push(second);
      const two = digestAt(second, 'releases/w/2.yaml');
      await push(await withdrawal('a', two, [ann]));
      expect(await verdictOf(bench.pool, 'a')).toBe('waiting SignaturesMissing');
      await push(await withdrawal('b', two, [ann, cid]));
      expect(await verdictOf(bench.pool, 'b'), 'who approves other workloads does not count').toBe('waiting SignerNotEntitled');
      expect(await targetSerial(bench.pool)).toBe(2);
      const { 'withdrawals/a.yaml': _, ...late } = await withdrawal('a', two, [bob]);
      await push(late);
      expect(await verdictOf(bench.pool, 'a'), 'signatures may come in a later commit').toBe('accepted');
    });
  });

  it('is held like a release: under an expired trust document, by a rewritten history, by a signer who was revoked', async () => {
    await withTwo(async ({ pool, lab, push, intake, two }) => {
      await push(await revocation('gone', { kind: 'signer', person: 'bob', since: '2090-01-01T00:00:00Z' }));
      await push(await withdrawal('a', two));
      expect(await verdictOf(pool, 'a')).toBe('waiting Revoked');
      const base = await push({ 'README.md': 'x' });
      const known = await push(await withdrawal('b', two, []));
      await lab.rewrite(base.commit, { 'README.md': 'y' }, 'forced');
      await takeIn(intake);
      expect(await verdictOf(pool, 'b')).toBe('waiting HistoryRewritten');
      await lab.git(['update-ref', 'refs/heads/main', known.commit]);
      await pool.query(`update installation set clock_offset = interval '100 years'`);
      await push(await withdrawal('c', two, [ann, cid]));
      expect(await verdictOf(pool, 'c')).toBe('waiting TrustExpired');
      expect(await targetSerial(pool)).toBe(2);
    });
  });

  it('of a release with nothing to fall back to is refused, and stays so when another release comes', () =>
    withTwo(async ({ pool, push, two, intake }) => {
      await setState(pool, 1, 'retired');
      await push(await withdrawal('late', two));
      expect(await verdictOf(pool, 'late')).toBe('refused NothingToFallBackTo');
      expect(await targetSerial(pool)).toBe(2);
      await setState(pool, 2, 'serving');
      await push(await release(3, two));
      await takeIn(intake);
      expect(await serials(pool)).toEqual([3, 2, 1]);
      const { rows } = await pool.query('select serial from revisions where withdrawn_by is not null');
      expect(rows, 'what was refused then takes nothing away now').toEqual([]);
    }));

  it('of one that was never live beside one that was never live is refused: neither could be fallen back to', () =>
    withBench(async ({ pool, push }) => {
      const first = await release(1, null);
      const second = await release(2, digestAt(first, 'releases/w/1.yaml'));
      await push({ ...START, ...first, ...second });
      await push(await withdrawal('a', digestAt(second, 'releases/w/2.yaml')));
      expect(await verdictOf(pool, 'a')).toBe('refused NothingToFallBackTo');
    }));

  it('of one that is not the target takes away what could be fallen back to, so that the next withdrawal is refused', () =>
    withTwo(async ({ pool, push, one, two }) => {
      await push(await withdrawal('old', one));
      expect(await verdictOf(pool, 'old')).toBe('accepted');
      expect(await targetSerial(pool)).toBe(2);
      await push(await withdrawal('new', two));
      expect(await verdictOf(pool, 'new')).toBe('refused NothingToFallBackTo');
    }));

  it('of one that was retired is refused, since nothing of it is left to take back', () =>
    withTwo(async ({ pool, push, one }) => {
      await setState(pool, 2, 'serving');
      await setState(pool, 1, 'retired');
      await push(await withdrawal('old', one));
      expect(await verdictOf(pool, 'old')).toBe('refused AlreadyRetired');
    }));

  it('of a release that nobody has accepted yet waits for it, and is judged after it in one pass', () =>
    withTwo(async ({ pool, push, two }) => {
      const third = await release(3, two, [ann]);
      await push({ ...third, ...(await withdrawal('third', digestAt(third, 'releases/w/3.yaml'))) });
      expect(await verdictOf(pool, 'third')).toBe('waiting NotFound');
      const signed = await release(3, two, [bob]);
      const { 'releases/w/3.yaml': _, ...late } = signed;
      await push(late);
      expect(await serials(pool)).toEqual([3, 2, 1]);
      expect(await verdictOf(pool, 'third')).toBe('accepted');
      expect(await targetSerial(pool)).toBe(1);
    }));

  it('names a release of its own workload alone', () =>
    withTwo(async ({ pool, push, two }) => {
      await push(await withdrawal('other', two, [ann, bob], 'v'));
      expect(await verdictOf(pool, 'other')).toBe('waiting NotFound');
      expect(await targetSerial(pool)).toBe(2);
    }));

  it('twice is once, and every revision of a release goes that a schedule gave another key', () =>
    withTwo(async ({ pool, push, two }) => {
      await pool.query(
        `with sealing as (insert into sealings (workload, epoch, rotation) values ('w', 3, 'r-0000000000000003') returning id)
         insert into revisions (workload, serial, release, serials, releases, sealing, rotation, kbs, state, went_live)
           select 'w', 2, $1, array[2], array[$1], id, 'r-0000000000000003', array['main'], 'live', true from sealing`,
        [two],
      );
      await push({ ...(await withdrawal('a', two)), ...(await withdrawal('b', two)) });
      expect([await verdictOf(pool, 'a'), await verdictOf(pool, 'b')]).toEqual(['accepted', 'accepted']);
      const { rows } = await pool.query('select serial, withdrawn_by is not null as withdrawn from revisions order by id');
      expect(rows).toEqual([
        { serial: 1, withdrawn: false },
        { serial: 2, withdrawn: true },
        { serial: 2, withdrawn: true },
      ]);
      expect(await targetSerial(pool)).toBe(1);
    }));

  it('of a revision that was amended takes it back whole, whichever of its releases is named', () =>
    withTwo(async ({ pool, push, two }) => {
      const made: Digest = `sha256:${'a'.repeat(64)}`;
      await pool.query('update revisions set releases = array[$1, $2] where serial = 2', [made, two]);
      await push(await withdrawal('first', made));
      expect(await verdictOf(pool, 'first')).toBe('accepted');
      expect(await targetSerial(pool)).toBe(1);
    }));

  it('is accepted once, also by two replicas that take it in at once', () =>
    withTwo(async ({ pool, lab, intake, two }) => {
      await lab.commit(await withdrawal('a', two), 'a commit');
      const other = openGit({ url: lab.url, branch: 'main' });
      await Promise.all([takeIn(intake), takeIn({ ...intake, git: other })]);
      await takeIn(intake);
      await other.close();
      expect(await verdictOf(pool, 'a')).toBe('accepted');
      expect((await pool.query(`select 1 from events where event = 'withdrawal-accepted'`)).rowCount).toBe(1);
    }));

  it('whose bytes change holds the workload that it names, and no other', () =>
    withTwo(async ({ pool, push, two }) => {
      await push({ ...START, ...(await release(1, null, [ann, bob], 'v')), ...(await withdrawal('a', two)) });
      const changed = yaml({ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Withdrawal', id: 'a', workload: 'w', release: two, why: 'another' });
      await push({ 'withdrawals/a.yaml': changed });
      expect([...(await heldWorkloads(pool)).keys()]).toEqual(['w']);
      await push({ 'withdrawals/a.yaml': 'no document' });
      expect([...(await heldWorkloads(pool)).keys()]).toEqual(['w']);
    }));
});
