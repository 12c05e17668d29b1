import { expect, it } from 'vitest';
import { sentenceOf } from '#src/dashboard/sentences.ts';
import { revoke } from '#workflows/revoke.ts';
import { testRelease } from '../world/release.ts';
import { type Story, tell, testReinstatement, testRevocation, testSuspension } from '../world/story.ts';
import { all, byId, type Element, section, textOf } from './html.ts';
import { ACCEPTED_AFTER, asIntakeWrites } from './revocation-rows.ts';
import { addDocument, type Stand, withDashboard } from './stand.ts';

const KEY_1 = {
  ...testRevocation({ kind: 'key', workload: 'chat', epoch: 1 }, 'leaked-key'),
  evict: true,
  why: 'found in a log',
  recovery: 'a new key, by the approvers',
};

/** Release 1 serves, and its key is revoked. */
async function revoked(story: Story, revocation = KEY_1): Promise<void> {
  await story.engine.accept(testRelease({ serial: 1, keepPreviousSeconds: 3600 }));
  await story.engine.driveTo(1, 'confirm-serving');
  await story.engine.revoke(revocation);
  await asIntakeWrites(story.pool, revocation);
}

async function ended({ pool }: Story, workflow: string): Promise<boolean> {
  const { rowCount } = await pool.query('select 1 from runs where workflow = $1 and ended_at is not null', [workflow]);
  return rowCount !== 0;
}

async function page(stand: Stand, path: string): Promise<Element> {
  const { status, root } = await stand.get(path);
  expect(status).toBe(200);
  return byId(root, 'main');
}

/** The rows of a section's tables, as texts, heads left out. */
function rowsOf(root: Element, id: string): readonly string[] {
  return all(section(root, id) ?? { name: '', attributes: {}, children: [] }, 'tbody').flatMap((body) => all(body, 'tr').map((row) => textOf(row)));
}

const links = (root: Element): readonly (string | undefined)[] => all(root, 'a').map(({ attributes }) => attributes.href);

it('a revocation that was carried out tells who, why, what it took, and each refusal with its receipt and its time since the webhook', async () => {
  await tell({}, async (story) => {
    await revoked(story);
    const held = story.test.cluster.all().map(({ name }) => name);
    await story.engine.drive(() => ended(story, 'revoke'));
    const { rows: receipts } = await story.pool.query<{ step: string; at: string; digest: string; number: number; run: string; ms: number }>(
      `select c.step, c.at, c.digest, c.number, c.run, (extract(epoch from c.at - d.hinted_at) * 1000)::int as ms
       from receipts c join runs u on u.id = c.run and u.workflow = 'revoke' join documents d on d.digest = u.revocation order by c.at, c.number`,
    );
    const { rows: keys } = await story.pool.query<{ id: string }>(
      `select body::jsonb #>> '{facts,keyId}' as id from receipts where step = 'create-key' order by id limit 1`,
    );
    await withDashboard(story.pool, async (stand) => {
      const root = await page(stand, '/revocations/leaked-key');
      expect(textOf(all(root, 'h1')[0] ?? null)).toBe('leaked-key carried out');
      const text = textOf(root);
      for (const part of ['key 1 of chat', 'by rex', 'keyCompromise', 'found in a log', KEY_1.digest, KEY_1.path]) expect(text).toContain(part);
      // Every step of the workflow has its line, in words, and no line stands for nothing.
      const line = rowsOf(root, 'time-line');
      expect(line.slice(0, 3).map((row) => row.replace(/ \d\d:.*? (\d+ ms).*/, ' $1'))).toEqual([
        'A webhook said that something is new. 0 ms',
        `Its document was seen. ${ACCEPTED_AFTER} ms`,
        `It was accepted: from here on nothing grants it any more. ${ACCEPTED_AFTER} ms`,
      ]);
      expect(line).toHaveLength(3 + revoke.steps.length);
      expect(new Set(receipts.map(({ step }) => step))).toEqual(new Set(revoke.steps.map(({ name }) => name)));
      for (const { step, digest, number, run, ms, at } of receipts) {
        const row = line.find((one) => one.includes(` ${step} `)) ?? '';
        for (const part of [sentenceOf('revoke', step), `${run}/${number}`, digest, ` ${ms} ms`]) expect(row, step).toContain(part);
        expect(all(root, 'time').map(({ attributes }) => attributes.datetime)).toContain(at);
      }
      expect(line.find((row) => row.includes('publish-policy'))).toMatch(/main: generation \d+ at 1 replica/);
      expect(line.find((row) => row.includes('find-holders'))).toContain('chat: 3 pods');
      expect(rowsOf(root, 'affected')).toEqual(['chat s1-v2', expect.stringMatching(new RegExp(`^chat s1-v1 .*revoked ${keys[0]?.id} r-`))]);
      const pods = rowsOf(root, 'pods');
      expect(pods.map((row) => row.split(' ')[0]).sort()).toEqual([...held].sort());
      for (const pod of pods) expect(pod).toContain('gone: none that held it is left');
      expect(textOf(section(root, 'recovery'))).toContain('approved how a new key, by the approvers');
      expect(textOf(section(root, 'recovery'))).toContain('can be lifted never: keyCompromise');
      // It is over: the board goes on with other things.
      expect(section(await page(stand, '/'), 'emergencies')).toBeNull();
      expect(rowsOf(root, 'denied')).toEqual([expect.stringMatching(/^the path \S+\/s1-v1-0-\S+ main /)]);
    });
  });
});

it('where the signature came later, its webhook is what counts, and what was before says so', async () => {
  await tell({}, async (story) => {
    await revoked(story);
    await story.pool.query(`update documents set first_seen_at = instant() - interval '3 days', hinted_at = instant() - interval '3 days' where path = $1`, [
      KEY_1.path,
    ]);
    await story.pool.query(
      `insert into bundles (path, digest, document_path, bytes, counted, first_seen_at, hinted_at) select path || '.sig' || n, 'd', path, '', n < 3,
         judged_at - interval '10 ms' * n, judged_at - interval '200 ms' * n from documents, generate_series(1, 3) n where path = $1`,
      [KEY_1.path],
    );
    await withDashboard(story.pool, async (stand) => {
      const line = rowsOf(await page(stand, '/revocations/leaked-key'), 'time-line');
      expect(line.map((row) => row.replace(/ (\d+ \w+ )?\d\d:\d\d:\d\d /, ' ').replace(/ (its delivery|our row)$/, ''))).toEqual([
        'A webhook said that something is new. before',
        'Its document was seen. before',
        'A webhook said that something is new. 0 ms',
        'The signature that it lacked was seen. 190 ms',
        'It was accepted: from here on nothing grants it any more. 200 ms',
      ]);
    });
  });
});

it('the receipt says only accepted where nothing can be read back, and the page says so', async () => {
  await tell({}, async (story) => {
    await revoked(story, { ...testRevocation({ kind: 'device', chipId: 'c1' }, 'machine'), evict: false });
    await story.engine.drive(() => ended(story, 'revoke'));
    await withDashboard(story.pool, async (stand) => {
      const root = await page(stand, '/revocations/machine');
      const line = rowsOf(root, 'time-line');
      expect(line.find((row) => row.includes('confirm-refused'))).toContain('accepted nothing of it can be read back');
      expect(line.find((row) => row.includes('publish-policy'))).toContain('observed');
      expect(textOf(section(root, 'affected'))).toContain('No revision of ours');
      expect(rowsOf(root, 'denied')).toEqual([expect.stringMatching(/^the device c1 main \S+$/)]);
      await story.pool.query(`insert into deny_list (kbs, because, lifts) select 'main', 'a reinstatement', id from deny_list where device = 'c1'`);
      expect(rowsOf(await page(stand, '/revocations/machine'), 'denied')).toEqual([expect.stringMatching(/^the device c1 main \S+ lifted$/)]);
    });
  });
});

it('what is under way stands above all else on the board, with what is undone and since when; its workload says what holds it', async () => {
  await tell({}, async (story) => {
    await revoked(story, { ...testRevocation({ kind: 'workload', workload: 'chat' }, 'stop-chat'), why: 'a test' });
    await story.engine.drive((looks) => looks.some((look) => look.kind === 'resting' && look.waitingFor === 'Held'));
    await addDocument(story.pool, { path: 'releases/chat/3.yaml', reason: 'Malformed', about: 'line 14' });
    await withDashboard(story.pool, async (stand) => {
      const board = await page(stand, '/');
      const sections = all(board, 'section').map(({ attributes }) => attributes['aria-labelledby']);
      expect(sections[0]).toBe('emergencies');
      expect(textOf(all(board, 'h1')[0] ?? null)).toMatch(/^1 revocation under way, \d things? needs? a person$/);
      const [item] = all(section(board, 'emergencies') ?? board, 'li');
      const told = textOf(item ?? null);
      for (const part of ['Revocation stop-chat refused', 'Of all of chat', 'It touches chat', '8 of 9 are done', sentenceOf('revoke', 'disable-keys'), 'Held'])
        expect(told).toContain(part);
      expect(links(section(board, 'emergencies') ?? board)).toEqual(['/revocations/stop-chat']);
      expect(textOf(section(board, 'attention'))).toContain('Held by the revocation stop-chat');
      expect(links(section(board, 'attention') ?? board)).toContain('/revocations/stop-chat');
      // Nowhere does the name of a workflow stand for a sentence.
      expect(all(board, 'a').map((link) => textOf(link))).not.toContainEqual(expect.stringMatching(/^(revoke|reinstate)\b/));
      const root = await page(stand, '/revocations/stop-chat');
      const run = (await story.pool.query<{ id: string }>(`select id from runs where workflow = 'revoke'`)).rows[0]?.id ?? '';
      expect(rowsOf(root, `run-${run}`)).toEqual([expect.stringMatching(/disable-keys Held .* since .* next look .* ago|now/)]);
      expect(rowsOf(root, 'affected')[0]).toBe('chat held nothing is left to run');
      expect(textOf(section(root, 'pods'))).toContain('not told to go');
      expect(await stand.get(`/rotations/${run}`)).toMatchObject({ status: 302, headers: { location: `/revocations/stop-chat#run-${run}` } });
      const rotation = (await story.engine.known(1)).rotation;
      expect(links(await page(stand, `/rotations/${rotation}`))).toContain('/revocations/stop-chat');
    });
  });
});

it('a revocation that touches many workloads, or none of ours, is on the board as well', async () => {
  await tell({}, async (story) => {
    story.test.cluster.add({ name: 'rerank' });
    await story.engine.accept(testRelease({ workload: 'rerank', serial: 2 }));
    await revoked(story, testRevocation({ kind: 'all' }, 'everything'));
    const machine = testRevocation({ kind: 'device', chipId: 'c1' }, 'machine');
    await story.engine.revoke(machine);
    await asIntakeWrites(story.pool, machine);
    await withDashboard(story.pool, async (stand) => {
      const items = all(section(await page(stand, '/'), 'emergencies') ?? { name: '', attributes: {}, children: [] }, 'li').map((item) => textOf(item));
      expect(items).toEqual([
        expect.stringMatching(
          /^Revocation everything being refused Of everything\. It touches chat, rerank\. 0 of 9 are done\. Not yet: Every proxy refuses it\./,
        ),
        expect.stringMatching(/^Revocation machine being refused Of the machine c1\. It touches no workload of ours\./),
      ]);
      // However long one waits, it stands there, and not a second time below.
      await story.pool.query(`update runs set waiting_for = 'Unreachable', about = 'kbs', since = instant() - interval '1 hour' where workflow = 'revoke'`);
      const board = await page(stand, '/');
      expect(textOf(section(board, 'emergencies')).match(/Unreachable kbs/g)).toHaveLength(2);
      expect(textOf(section(board, 'attention'))).not.toContain('Unreachable');
      expect(rowsOf(await page(stand, '/revocations/everything'), 'affected').slice(0, 2)).toEqual([
        'chat held nothing is left to run',
        'rerank held nothing is left to run',
      ]);
    });
  });
});

it('a suspension that was lifted says by what, who approved it and what came back; before that, that recoverers may', async () => {
  await tell({}, async (story) => {
    const suspension = testSuspension({ kind: 'release', workload: 'chat', serial: 1 }, 'doubt');
    await revoked(story, suspension);
    await story.engine.drive((looks) => looks.some((look) => look.kind === 'resting' && look.waitingFor === 'Held'));
    await withDashboard(story.pool, async (stand) => {
      const before = await page(stand, '/revocations/doubt');
      expect(textOf(section(before, 'recovery'))).toContain('it is a suspension: a reinstatement, signed by the recoverers, lifts it');
      expect(textOf(section(before, 'recovery'))).toContain('No reinstatement names it.');
      const lift = testReinstatement(suspension);
      await story.engine.reinstate(lift, suspension);
      await asIntakeWrites(story.pool, lift);
      const [item] = all(section(await page(stand, '/'), 'emergencies') ?? before, 'li').slice(1);
      expect(textOf(item ?? null)).toMatch(/^Lifting of the revocation doubt still refused .* 0 of 6 are done\. Not yet: The keys of what comes back/);
      await story.engine.drive(() => ended(story, 'reinstate'));
      const after = await page(stand, '/revocations/doubt');
      expect(textOf(all(after, 'h1')[0] ?? null)).toBe('doubt lifted');
      expect(rowsOf(after, 'recovery')).toEqual([expect.stringMatching(/^reinstatements\/lift-doubt\.yaml accepted .* a false alarm ada, bo$/)]);
      const line = rowsOf(after, 'time-line');
      expect(line.find((row) => row.includes(' lift-revocation '))).toContain('chat/1 v1 may run again');
      expect(line.find((row) => row.includes(' reinstated '))).toContain(
        'It was lifted: what was left to do is not done any more. reinstated revocations/doubt.yaml was lifted by',
      );
      expect(rowsOf(await page(stand, '/revocations'), 'none')).toEqual([]);
      expect(textOf(await page(stand, '/revocations'))).toContain('lifted by reinstatements/lift-doubt.yaml');
      const rotation = (await story.engine.known(1)).rotation;
      expect(textOf(await page(stand, `/rotations/${rotation}`))).toContain('it has a path of its own again, and is published anew.');
    });
  });
});

it('one that waits or was refused revokes nothing, and says so; of changed bytes each has its page', async () => {
  await tell({}, async ({ pool }) => {
    await addDocument(pool, { path: 'revocations/early.yaml', kind: 'Revocation', verdict: 'waiting', reason: 'SignaturesMissing', about: 'revoker: 0 of 1' });
    await pool.query(`insert into documents (path, digest, kind, bytes, commit_id) values ('revocations/early.yaml', $1, 'Revocation', 'other', 'c')`, [
      `sha256:${'b'.repeat(64)}`,
    ]);
    await withDashboard(pool, async (stand) => {
      const root = await page(stand, '/revocations/early');
      expect(textOf(all(root, 'h1')[0] ?? null)).toBe('early not accepted yet');
      expect(textOf(section(root, 'stands'))).toContain('It revokes nothing SignaturesMissing revoker: 0 of 1');
      expect(links(root)).toContain(`/revocations/early?digest=sha256%3A${'b'.repeat(64)}`);
      expect(textOf(await page(stand, `/revocations/early?digest=sha256:${'b'.repeat(64)}`))).toContain(`this is sha256:${'b'.repeat(64)}`);
      for (const path of ['/revocations/nobody', '/revocations/NO', '/revocations/early?digest=x', '/revocations?page=0', '/revocations?page=x'])
        expect((await stand.get(path)).status, path).toBe(404);
    });
  });
});

it('many revocations are paged, and no page is large', async () => {
  await tell({}, async (story) => {
    await revoked(story);
    await story.pool.query(
      `insert into documents (path, digest, kind, bytes, commit_id, verdict, approved_by, judged_at, subject)
       select 'revocations/many-' || n || '.yaml', 'sha256:' || lpad(n::text, 64, '0'), 'Revocation', convert_to(repeat('x', 10000), 'UTF8'), 'c', 'accepted', array[repeat('p', 10000)], instant(),
         jsonb_build_object('kind', 'workload', 'workload', repeat('w', 10000)) from generate_series(1, 1000) n`,
    );
    await story.pool.query(
      `insert into runs (id, workflow, revocation, workload, ended_at) select 'r-' || lpad(n::text, 16, '0'), 'revoke', 'sha256:' || lpad(n::text, 64, '0'), '*', instant() from generate_series(1, 1000) n`,
    );
    await withDashboard(story.pool, async (stand) => {
      const first = await page(stand, '/revocations');
      expect(rowsOfAll(first)[0]).toMatch(/^leaked-key key 1 of chat/);
      expect(rowsOfAll(first)).toHaveLength(50);
      expect(textOf(first)).toContain('1001 accepted, 1 under way.');
      expect(links(first)).toContain('/revocations?page=2');
      const last = await page(stand, '/revocations?page=21');
      expect(rowsOfAll(last)).toHaveLength(1);
      expect(textOf(last)).toContain('page 21 of 21');
      const { text, headers } = await stand.get('/revocations');
      expect(text.length).toBeLessThan(100_000);
      expect(headers['content-type']).toContain('text/html');
    });
  });
});

function rowsOfAll(root: Element): readonly string[] {
  return all(root, 'tbody').flatMap((body) => all(body, 'tr').map((row) => textOf(row)));
}
