import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testRelease } from '../world/release.ts';
import { type Story, tell, testRevocation } from '../world/story.ts';
import { all, byId, type Element, section, textOf } from './html.ts';
import { type Stand, withDashboard } from './stand.ts';

const QUICK = { soakSeconds: 0, keepPreviousSeconds: 0 };

async function page(stand: Stand, path: string): Promise<Element> {
  const { status, root } = await stand.get(path);
  expect(status).toBe(200);
  return root;
}

function rungs(root: Element, run: string): readonly Element[] {
  return all(section(root, `run-${run}`) ?? root, 'li', 'rung');
}

/** The steps of a run's ladder, with their states. */
function ladder(root: Element, run: string): readonly (readonly [string, string])[] {
  return rungs(root, run).map((rung) => [textOf(all(rung, 'strong', 'rung-name')[0] ?? null), textOf(all(rung, 'span', 'badge')[0] ?? null)] as const);
}

describe('after two rotations', () => {
  let stage: { readonly story: Story; readonly stand: Stand };
  const over = Promise.withResolvers<void>();
  let told: Promise<void>;

  beforeAll(async () => {
    const begun = Promise.withResolvers<void>();
    told = tell({}, async (story) => {
      for (const serial of [1, 2]) {
        await story.engine.accept(testRelease({ serial, ...QUICK }));
        await story.engine.drive();
      }
      await story.pool.query(`update documents set approved_by = '{ada,bo}', trust_version = 1 where path = 'releases/chat/2.yaml'`);
      await withDashboard(story.pool, async (stand) => {
        stage = { story, stand };
        begun.resolve();
        await over.promise;
      });
    });
    await Promise.race([begun.promise, told]);
  });

  afterAll(async () => {
    over.resolve();
    await told;
  });

  it('every step is done, with its receipt, and so is the retirement that it caused', async () => {
    const { story, stand } = stage;
    const { rotation } = await story.engine.known(2);
    const { rows: runs } = await story.pool.query<{ id: string }>('select id from runs where cause = $1', [rotation]);
    const retire = runs[0]?.id ?? '';
    const { rows: receipts } = await story.pool.query<{ number: number; step: string; at: string; digest: string }>(
      'select number, step, at, digest from receipts where run = any($1) order by run <> $2, number',
      [[rotation, retire], rotation],
    );
    const root = await page(stand, `/rotations/${rotation}`);
    expect(textOf(all(root, 'h1')[0] ?? null)).toBe('chat s2-v2 serving');
    expect(ladder(root, rotation)).toHaveLength(12);
    expect(ladder(root, retire)).toHaveLength(7);
    const names = [...ladder(root, rotation), ...ladder(root, retire)];
    expect(names).toEqual(receipts.map(({ step }) => [step, 'done']));
    for (const [index, rung] of [...rungs(root, rotation), ...rungs(root, retire)].entries()) {
      expect(textOf(rung)).toContain(`receipt ${receipts[index]?.number}, ${receipts[index]?.digest}`);
      expect(all(rung, 'time')[0]?.attributes.datetime).toBe(receipts[index]?.at);
    }
    const { rows: made } = await story.pool.query<{ key: string }>(
      `select body::jsonb #>> '{facts,keyId}' as key from receipts where run = $1 and number = 1`,
      [rotation],
    );
    expect(textOf(rungs(root, rotation)[0] ?? null)).toContain(`keyId ${made[0]?.key}`);
  });

  it('the release: who approved it, its digest and path, serial and epoch', async () => {
    const { story, stand } = stage;
    const { rotation, release } = await story.engine.known(2);
    const text = textOf(section(await page(stand, `/rotations/${rotation}`), 'release'));
    for (const part of ['approved by ada, bo', `digest ${release.digest}`, `document ${release.path}`, 'trust version 1', 'serial 2', 'key epoch 2'])
      expect(text).toContain(part);
  });

  it('a run of a rotation leads to it, the retired one says by what, and the history lists both', async () => {
    const { story, stand } = stage;
    const [first, second] = [(await story.engine.known(1)).rotation, (await story.engine.known(2)).rotation];
    const { rows: runs } = await story.pool.query<{ id: string }>('select id from runs where cause = $1', [second]);
    const retire = runs[0]?.id ?? '';
    expect(await stand.get(`/rotations/${retire}`)).toMatchObject({ status: 302, headers: { location: `/rotations/${second}#run-${retire}` } });
    const old = byId(await page(stand, `/rotations/${first}`), 'main');
    expect(textOf(old)).toContain(`Taken away by retire-revision ${retire}`);
    expect(all(old, 'a').map(({ attributes }) => attributes.href)).toContain(`/rotations/${retire}`);
    const [, ...rows] = all(await page(stand, '/workloads/chat'), 'tr');
    expect(rows.map((row) => textOf(row))).toEqual([expect.stringContaining('s2-v2 serving'), expect.stringContaining('s1-v1 retired')]);
  });

  it('the pods that were counted, with the times and decisions of the proxy’s rows', async () => {
    const { story, stand } = stage;
    const { rotation } = await story.engine.known(2);
    const root = await page(stand, `/rotations/${rotation}`);
    const [, ...rows] = all(section(root, 'pods') ?? root, 'tr');
    expect(rows).toHaveLength(3);
    for (const row of rows) {
      const text = textOf(row);
      const pod = story.test.cluster.all().find(({ name }) => text.startsWith(`${name} `));
      for (const part of [pod?.uid, pod?.containerId, pod?.address]) expect(text).toContain(part ?? 'no such pod');
      const { rows: fetches } = await story.pool.query<{ at: string; attested: string; path: string }>(
        `select f.at, h.at as attested, f.path from fetches f join handshakes h on h.id = f.handshake where f.address = $1 and f.path like '%/s2-%'`,
        [pod?.address],
      );
      expect(all(row, 'time').map(({ attributes }) => attributes.datetime)).toEqual([fetches[0]?.attested, fetches[0]?.at]);
      expect(text).toContain(`released ${fetches[0]?.path}`);
    }
    const [, ...requests] = all(section(root, 'requests') ?? root, 'tr');
    expect(requests.map((row) => textOf(row))).toEqual([1, 2, 3].map(() => expect.stringMatching(/chat-\d+ released/)));
  });

  it('nothing that is secret reaches a page: no wrapped key, no token, no digest of a session or token', async () => {
    const { story, stand } = stage;
    const { rows } = await story.pool.query<{ secret: string }>(
      `select unnest(array[wrapped, canary, signature]) as secret from resources
       union select unnest(array[token, token_digest, session_digest]) from handshakes
       union select unnest(array[token_digest, session_digest]) from fetches`,
    );
    const secrets = rows.map(({ secret }) => secret).filter((secret) => secret !== null && secret.length >= 8);
    expect(secrets.length).toBeGreaterThan(10);
    const rotations = [1, 2].map(async (serial) => `/rotations/${(await story.engine.known(serial)).rotation}`);
    for (const path of ['/', '/documents', '/workloads/chat', ...(await Promise.all(rotations))]) {
      const { text } = await stand.get(path);
      expect(secrets.filter((secret) => text.includes(secret))).toEqual([]);
    }
  });
});

it('a rotation on its way: done, now with what it waits for, and to come', async () => {
  await tell({}, async (story) => {
    await story.engine.accept(testRelease({ serial: 1 }));
    await story.engine.driveTo(1, 'patch-template');
    await story.engine.round();
    const { rotation } = await story.engine.known(1);
    await withDashboard(story.pool, async (stand) => {
      const root = await page(stand, `/rotations/${rotation}`);
      expect(ladder(root, rotation).slice(8)).toEqual([
        ['patch-template', 'done'],
        ['try-first-pods', 'done'],
        ['move-pods', 'now'],
        ['confirm-serving', 'to come'],
      ]);
      const present = rungs(root, rotation).filter(({ attributes }) => attributes['aria-current'] === 'step');
      const { rows } = await story.pool.query<{ waiting_for: string; about: string }>('select waiting_for, about from runs where id = $1', [rotation]);
      expect(present.map((rung) => textOf(all(rung, 'strong', 'reason')[0] ?? null))).toEqual([rows[0]?.waiting_for]);
      expect(textOf(section(root, `waits-${rotation}`))).toContain(rows[0]?.about);
      expect(textOf(rungs(root, rotation)[11] ?? null)).toContain('Gates: workload-is-attested, fields-are-ours.');
      expect(textOf(section(root, 'pods'))).toContain('No receipt has counted a pod of it yet.');
    });
  });
});

it('a reopened rotation: the mark, what has to come about again, and the receipts that count no more', async () => {
  await tell({}, async ({ engine, pool }) => {
    await engine.accept(testRelease({ serial: 1, ...QUICK }));
    await engine.drive();
    await engine.accept(testRelease({ serial: 2, ...QUICK }));
    await engine.driveTo(2, 'confirm-published');
    await engine.revoke(testRevocation({ kind: 'release', workload: 'chat', serial: 2 }));
    const { rotation } = await engine.known(1);
    await withDashboard(pool, async (stand) => {
      const root = await page(stand, `/rotations/${rotation}`);
      expect(ladder(root, rotation).slice(7)).toEqual([
        ['confirm-published', 'done'],
        ['reopened', ''],
        ['patch-template', 'now'],
        ['try-first-pods', 'to come'],
        ['move-pods', 'to come'],
        ['confirm-serving', 'to come'],
      ]);
      expect(textOf(rungs(root, rotation)[8] ?? null)).toContain('it is the target again');
      expect(textOf(rungs(root, rotation)[9] ?? null)).toMatch(/Receipt 9 of .* counts no more/);
      const revoked = await page(stand, `/rotations/${(await engine.known(2)).rotation}`);
      expect(textOf(byId(revoked, 'main'))).toMatch(/revoked by revocations\//);
      await engine.drive();
      const again = ladder(await page(stand, `/rotations/${rotation}`), rotation);
      expect(again.map(([name]) => name)).toHaveLength(13);
      expect(again.filter(([, state]) => state === 'done')).toHaveLength(12);
    });
  });
});

it('steps and workflows that this version does not know are shown for what their receipts say', async () => {
  await tell({}, async ({ engine, pool }) => {
    await engine.accept(testRelease({ serial: 1 }));
    await engine.driveTo(1, 'create-key');
    const { rotation } = await engine.known(1);
    await pool.query(`update receipts set step = 'forge-key' where run = $1`, [rotation]);
    await pool.query(
      `insert into runs (id, workflow, workload, cause, step, waiting_for, about) values ('r-00000000000000aa', 'dance', 'chat', $1, 'turn', 'Held', 'x')`,
      [rotation],
    );
    await withDashboard(pool, async (stand) => {
      const root = await page(stand, `/rotations/${rotation}`);
      expect(ladder(root, rotation).slice(0, 2)).toEqual([
        ['forge-key', 'done'],
        ['create-key', 'now'],
      ]);
      expect(ladder(root, 'r-00000000000000aa')).toEqual([['turn', 'now']]);
    });
  });
});

it('what is not there is a page with a way on', async () => {
  await tell({}, async ({ pool }) => {
    await withDashboard(pool, async (stand) => {
      for (const path of [
        '/rotations/r-0000000000000000',
        '/rotations/x',
        '/rotations/%00',
        '/workloads/nobody',
        '/workloads/%3Cscript%3E',
        '/nothing',
        '//',
      ]) {
        const { status, root } = await stand.get(path);
        expect(status).toBe(404);
        const links = all(root, 'main').flatMap((main) => all(main, 'a'));
        expect(links.map(({ attributes }) => attributes.href)).toEqual(['/']);
      }
    });
  });
});
