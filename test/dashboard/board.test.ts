import type pg from 'pg';
import { expect, it } from 'vitest';
import { withDatabase } from '../postgres.ts';
import { testRelease } from '../world/release.ts';
import { type Story, tell, testRevocation } from '../world/story.ts';
import { all, byId, type Element, section, textOf } from './html.ts';
import { addDocument, withDashboard } from './stand.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

async function board(pool: pg.Pool): Promise<Element> {
  return withDashboard(pool, async ({ get }) => {
    const { status, root } = await get('/');
    expect(status).toBe(200);
    return root;
  });
}

/** One rotation served, the next stands at its pods. */
async function inMotion({ engine }: Story): Promise<void> {
  await engine.accept(testRelease({ serial: 1, ...QUICK }));
  await engine.drive();
  await engine.accept(testRelease({ serial: 2 }));
  await engine.driveTo(2, 'patch-template');
  await engine.round();
}

function attention(root: Element): readonly string[] {
  const part = section(root, 'attention');
  return part === null ? [] : all(part, 'li').map(textOf);
}

it('a workload in motion: what serves, its target, and what each open run waits for', async () => {
  await tell({}, async (story) => {
    await inMotion(story);
    const root = await board(story.pool);
    const { rows } = await story.pool.query<{
      id: string;
      workflow: string;
      waiting_for: string;
      about: string;
      since: string;
      next_retry_at: string;
      deadline: string | null;
    }>('select * from runs where ended_at is null order by workflow');
    expect(textOf(all(root, 'h1')[0] ?? null)).toBe('Nothing needs a person');
    expect(textOf(all(root, 'p', 'standing')[0] ?? null)).toContain('in service s1-v1 → target s2-v2');
    const items = all(root, 'li', 'run');
    expect(items.map((item) => textOf(all(item, 'a')[0] ?? null))).toEqual(['adopt-revision s2-v2', 'retire-revision s1-v1']);
    expect(items.map((item) => all(item, 'a')[0]?.attributes.href)).toEqual(rows.map(({ id }) => `/rotations/${id}`));
    expect(textOf(all(items[0] ?? root, 'p', 'what')[0] ?? null)).toContain('at move-pods, 11 of 12');
    for (const [index, row] of rows.entries()) {
      const item = items[index] ?? root;
      expect(textOf(all(item, 'strong', 'reason')[0] ?? null)).toBe(row.waiting_for);
      expect(textOf(item)).toContain(row.about);
      expect(textOf(all(item, 'p', 'help')[0] ?? null)).not.toBe('');
      const shown = all(item, 'time').map(({ attributes }) => attributes.datetime);
      expect(shown).toEqual([row.since, row.next_retry_at, ...(row.deadline === null ? [] : [row.deadline])]);
    }
  });
});

it('asks for itself again while something is open, and not when it was told to pause, or when all rests', async () => {
  await tell({}, async (story) => {
    await inMotion(story);
    const refreshes = (root: Element): boolean => all(root, 'meta').some(({ attributes }) => attributes['http-equiv'] === 'refresh');
    await withDashboard(story.pool, async ({ get }) => {
      const going = (await get('/')).root;
      expect(refreshes(going)).toBe(true);
      expect(all(going, 'a').map(({ attributes }) => attributes.href)).toContain('/?refresh=off');
      expect(refreshes((await get('/?refresh=off')).root)).toBe(false);
      await story.engine.drive();
      const resting = (await get('/')).root;
      expect(refreshes(resting)).toBe(false);
      expect(textOf(section(resting, 'resting'))).toContain('in service s2-v2');
      expect(section(resting, 'moving')).toBeNull();
    });
  });
});

it('what needs a person comes first: a run whose reason says so, or whose time is over, or that retries for minutes', async () => {
  await tell({}, async (story) => {
    await inMotion(story);
    const { pool, test } = story;
    const set = (change: string) => pool.query(`update runs set ${change} where ended_at is null and workflow = 'adopt-revision'`);
    expect(attention(await board(pool))).toEqual([]);
    await set(`waiting_for = 'Unreachable', about = 'kms: no answer', since = instant()`);
    expect(attention(await board(pool))).toEqual([]);
    await test.advance(301);
    const [retried] = attention(await board(pool)).filter((text) => text.includes('Unreachable'));
    expect(retried).toContain('chat adopt-revision stands at move-pods');
    await set(`waiting_for = 'Soaking', deadline = instant()`);
    expect(attention(await board(pool)).filter((text) => text.includes('Soaking'))).toHaveLength(1);
    await set(`waiting_for = 'PermissionDenied', deadline = null, since = instant()`);
    const root = await board(pool);
    expect(textOf(all(root, 'h1', 'urgent')[0] ?? null)).toMatch(/^\d things? needs? a person$|^\d things need a person$/);
    expect(all(root, 'article', 'urgent')).toHaveLength(1);
    // The order of the page: needs a person, then what moves.
    expect(all(root, 'h2').map(textOf).slice(0, 2)).toEqual(['Needs a person', 'In motion']);
  });
});

it('a held workload is named, with the document that holds it', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1, ...QUICK }));
    await story.engine.drive();
    const revocation = testRevocation({ kind: 'release', workload: 'chat', serial: 1 });
    await story.engine.revoke(revocation);
    const [item] = attention(await board(story.pool));
    expect(item).toContain('chat Held');
    expect(item).toContain(revocation.path);
    expect(item).toContain('Approve a release.');
  });
});

it('a refused document needs a person, until a newer one of its series is accepted; waiting ones are told apart', async () => {
  await withDatabase(async (pool) => {
    await addDocument(pool, { path: 'releases/chat/2.yaml', reason: 'Malformed', about: 'images.chat: expected a digest' });
    await addDocument(pool, { path: 'releases/chat/3.yaml', verdict: 'waiting', reason: 'SignaturesMissing', about: '1 of 2' });
    const before = await board(pool);
    expect(attention(before)).toHaveLength(1);
    expect(attention(before)[0]).toContain('releases/chat/2.yaml Refused');
    expect(attention(before)[0]).toContain('images.chat: expected a digest');
    expect(textOf(byId(before, 'waiting'))).toBe('Documents that wait');
    expect(textOf(section(before, 'waiting'))).toContain('SignaturesMissing 1 of 2');
    await pool.query(`update documents set verdict = 'accepted', reason = null where path = 'releases/chat/3.yaml'`);
    expect(attention(await board(pool))).toEqual([]);
    await withDashboard(pool, async ({ get }) => {
      const { root } = await get('/documents');
      expect(textOf(section(root, 'settled'))).toContain('releases/chat/2.yaml');
      expect(section(root, 'refused')).toBeNull();
      expect(textOf(section(root, 'accepted'))).toContain('releases/chat/3.yaml');
    });
    await addDocument(pool, { path: 'revocations/leaked.yaml', kind: 'Revocation', reason: 'UnsignedRevocation', about: 'nobody signed' });
    await addDocument(pool, { path: 'releases/chat/4.yaml', reason: 'SerialReplayed', about: '4' });
    expect(attention(await board(pool)).map((text) => text.split(' ')[0])).toEqual(['revocations/leaked.yaml', 'releases/chat/4.yaml']);
  });
});

it('says when the branch is not read, or cannot be, and when nobody looks at what is due', async () => {
  await tell({}, async ({ pool, test, engine }) => {
    await pool.query(`insert into polls (branch, read_at) values ('main', instant())`);
    await engine.accept(testRelease({ serial: 1 }));
    await engine.round();
    expect(attention(await board(pool))).toEqual([]);
    await test.advance(125);
    const silent = attention(await board(pool));
    expect(silent[0]).toContain('main The branch has not been read');
    expect(silent[0]).toContain('Revocations are not seen meanwhile.');
    expect(silent[1]).toContain('nobody has looked at it');
    await pool.query(`update polls set failing_since = instant(), reason = 'Unauthenticated', about = 'git: 401'`);
    expect(attention(await board(pool))[0]).toContain('The branch cannot be read Unauthenticated git: 401');
  });
});

it('shows what somebody holds, and long work as far as it is', async () => {
  await tell({}, async (story) => {
    await inMotion(story);
    const { pool } = story;
    await pool.query(`insert into runs (id, workflow, workload, ended_at) values ('r-0000000000000001', 'hold', 'chat', instant())`);
    await pool.query(`insert into holds (kind, subject, chain, why, held_by) values ('workload', 'chat', 'r-0000000000000001', 'a demonstration', 'ada')`);
    await pool.query(
      `update runs set waiting_for = null, progress = jsonb_build_object('doneBytes', 312000000000, 'totalBytes', 700000000000, 'since', instant(), 'at', instant())
       where workflow = 'adopt-revision' and ended_at is null`,
    );
    const root = await board(pool);
    expect(textOf(section(root, 'holds'))).toMatch(/chat a demonstration ada/);
    expect(textOf(all(root, 'p', 'progress')[0] ?? null)).toContain('312 GB of 700 GB (44 %)');
  });
});

it('stays small and quick with a thousand rotations open', async () => {
  await withDatabase(async (pool) => {
    await pool.query(`insert into sealings (workload, epoch, rotation) select 'w-' || n, 1, 'r-' || lpad(to_hex(n), 16, '0') from generate_series(1, 1000) n`);
    await pool.query(
      `insert into revisions (workload, serial, release, serials, releases, sealing, rotation, kbs) select workload, 1, 'sha256:' || id, '{1}', array['sha256:' || id], id, rotation, '{}' from sealings`,
    );
    await pool.query(
      `insert into runs (id, workflow, revision, workload, waiting_for, about, since, step) select rotation, 'adopt-revision', id, workload,
         case when id % 10 = 0 then 'PermissionDenied' else 'PodNotReady' end, 'about', instant(), 'move-pods' from revisions`,
    );
    await withDashboard(pool, async ({ get }) => {
      const { text, root } = await get('/');
      expect(text.length).toBeLessThan(200_000);
      expect(textOf(all(root, 'h1')[0] ?? null)).toBe('100 things need a person');
      expect(all(root, 'article')).toHaveLength(100);
      expect(all(root, 'article', 'urgent'), 'those that need a person are not the ones left out').toHaveLength(100);
      expect(all(root, 'p', 'more').map(textOf)).toEqual(['… and 50 more: keyturn status tells them all.', '… and 900 more: keyturn status tells them all.']);
    });
  });
});
