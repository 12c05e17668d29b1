import type pg from 'pg';
import { expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Facts } from '#src/domain/release.ts';
import { transaction } from '#state/database.ts';
import { appendReceipt } from '#state/receipts.ts';
import { withDatabase } from '../postgres.ts';
import { byId, elements, textOf } from './html.ts';
import { addDocument, withDashboard } from './stand.ts';

/** What an attacker would write, wherever somebody lets them write anything. */
const HOSTILE = [
  `<script>alert(1)</script>`,
  `"><img src=x onerror=alert(1)>`,
  `' onmouseover='alert(1)`,
  `javascript:alert(1)//`,
  `</style><script>alert(1)</script>`,
  `</title><svg onload=alert(1)>`,
  `&lt;script&gt;&#x3c;`,
  `<!--`,
  `]]>`,
  `\u202e gnp.exe`,
  `\u2028\u0007\u001b[31m`,
] as const;
const ROTATION = 'r-00000000000000e1';
const REVOKE = 'r-00000000000000e3';

/** Every row that a page reads, with hostile text in each column that holds one. */
async function fill(pool: pg.Pool, evil: string): Promise<void> {
  const path = `releases/${evil}/1.yaml`;
  await addDocument(pool, { path, kind: evil, reason: evil as Reason, about: evil, approvedBy: [evil] });
  await addDocument(pool, { path: `${evil}.yaml`, verdict: 'waiting', reason: 'SignaturesMissing', about: evil });
  await addDocument(pool, { path: `baseline/${evil}`, kind: 'Baseline', verdict: 'accepted', approvedBy: [evil] });
  await addDocument(pool, { path: `withdrawals/${evil}.yaml`, kind: 'Withdrawal', verdict: 'accepted' });
  await pool.query(`insert into branches (name, commit_id, rewritten_to, unread) values ($1, $1, $1, $2)`, [
    evil,
    JSON.stringify([{ path: evil, reason: 'Malformed', about: evil }]),
  ]);
  await pool.query(`insert into polls (branch, read_at, failing_since, reason, about) values ($1, instant(), instant(), $1, $1)`, [evil]);
  await pool.query(`insert into brokers (name, repository, generation) values ($1, $1, 1)`, [evil]);
  await pool.query(`insert into proxies (id, kbs, stale_seconds) values ($1, $1, 300)`, [evil]);
  await pool.query(`insert into sealings (workload, epoch, rotation) values ($1, 1, $2)`, [evil, ROTATION]);
  const withdrawal = digestOf(`withdrawals/${evil}.yaml`);
  await pool.query(
    `insert into revisions (workload, serial, release, serials, releases, sealing, rotation, kbs, withdrawn_by, revoked_by)
     select $1, 1, $3, '{1}', array[$3], id, rotation, array[$1], $4, $1 from sealings where rotation = $2`,
    [evil, ROTATION, digestOf(path), withdrawal],
  );
  await pool.query(`update documents set kind = 'Release', verdict = 'accepted' where path = $1`, [path]);
  await addDocument(pool, { path: `again ${path}`, kind: evil, reason: evil as Reason, about: evil });
  await pool.query(
    `insert into runs (id, workflow, revision, workload, step, waiting_for, about, since, progress) select $2, $1, id, $1, $1, $1, $1, instant(),
       jsonb_build_object('doneBytes', 1, 'totalBytes', 2, 'since', instant(), 'at', instant()) from revisions`,
    [evil, ROTATION],
  );
  await pool.query(`insert into runs (id, workflow, workload, ended_at) values ('r-00000000000000e2', 'hold', $1, instant())`, [evil]);
  await pool.query(`insert into holds (kind, subject, chain, why, held_by) values ('workload', $1, 'r-00000000000000e2', $1, $1)`, [evil]);
  await pods(pool, evil);
  await revocation(pool, evil);
}

/** A revocation, and what lifts it, whose every word an attacker wrote: ids, why, recovery, people, and what receipts quote. */
async function revocation(pool: pg.Pool, evil: string): Promise<void> {
  const said = {
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Revocation',
    id: 'evil',
    subject: { kind: 'key', keyId: evil },
    reason: 'certificateHold',
    why: evil,
  };
  const bytes = Buffer.from(JSON.stringify({ ...said, evict: true, destroy: true, recovery: evil }));
  await addDocument(pool, { path: 'revocations/evil.yaml', kind: 'Revocation', verdict: 'accepted', approvedBy: [evil] });
  const digest = digestOf('revocations/evil.yaml');
  await pool.query(
    `update documents set bytes = $1, commit_id = $2, judged_at = instant(), subject = jsonb_build_object('kind', 'all') where path = 'revocations/evil.yaml'`,
    [bytes, evil],
  );
  // Bytes that cannot be read, and a path that is none.
  await addDocument(pool, { path: 'revocations/junk.yaml', kind: 'Revocation', verdict: 'waiting', reason: evil as Reason, about: evil, approvedBy: [evil] });
  await addDocument(pool, { path: `revocations/${evil}`, kind: 'Revocation', verdict: 'accepted', approvedBy: [evil] });
  const lift = Buffer.from(JSON.stringify({ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Reinstatement', id: 'calm', revocation: 'evil', justification: evil }));
  await addDocument(pool, {
    path: 'reinstatements/calm.yaml',
    kind: 'Reinstatement',
    verdict: 'waiting',
    reason: evil as Reason,
    about: evil,
    approvedBy: [evil],
  });
  await pool.query(`update documents set bytes = $1 where path = 'reinstatements/calm.yaml'`, [lift]);
  await pool.query(
    `insert into runs (id, workflow, revocation, workload, step, waiting_for, about, since) values ($1, 'revoke', $2, '*', $3, $3, $3, instant())`,
    [REVOKE, digest, evil],
  );
  await pool.query('insert into denials (revocation, revision) select $1, id from revisions', [digest]);
  await pool.query(`insert into deny_list (kbs, path, because) values ($1, $1, $2)`, [evil, digest]);
  await pool.query(`insert into deny_list (kbs, device, because) values ($1, $1, $2)`, [evil, digest]);
  const more = { run: REVOKE, proof: 'observed', verdicts: [], kept: [], moves: null } as const;
  await transaction(pool, async (tx) => {
    const brokers = { [evil]: { entry: evil, generation: evil, replicas: evil, acknowledged: [{ proxy: evil }] } };
    await appendReceipt(tx, { ...more, step: 'refuse-at-proxies', facts: {}, evidence: { brokers } });
    await appendReceipt(tx, { ...more, step: 'publish-policy', facts: {}, evidence: { brokers } });
    await appendReceipt(tx, { ...more, step: 'touch-objects', facts: {}, evidence: { objects: { [evil]: evil } } });
    await appendReceipt(tx, {
      ...more,
      step: 'find-holders',
      facts: { holders: { [evil]: [evil] } } as unknown as Facts,
      evidence: { holders: { [evil]: [evil] } },
    });
    await appendReceipt(tx, { ...more, step: 'disable-keys', facts: {}, evidence: { keys: [{ keyId: evil, refusedSince: evil }] } });
    await appendReceipt(tx, { ...more, step: evil, facts: {}, evidence: { because: evil } });
  });
}

async function pods(pool: pg.Pool, evil: string): Promise<void> {
  await pool.query(`insert into boots (cluster, pod_uid, container_id, pod, address, started_at) values ($1, $1, $1, $1, $1, instant() - interval '1 hour')`, [
    evil,
  ]);
  const { rows: brokers } = await pool.query<{ key: string }>(
    `select $1 || '/' || $1 || '/s1-v1-0-' || substr(encode(sha256(convert_to($2, 'UTF8')), 'hex'), 1, 8) as key`,
    [evil, ROTATION],
  );
  const { rows } = await pool.query<{ id: number }>(
    `insert into fetches (kbs, proxy, path, address, decision, status, type, request_id) values ($1, $1, $2, $1, 'refused', 404, $1, $1) returning id`,
    [evil, brokers[0]?.key],
  );
  const boots = { [evil]: [{ uid: evil, containerId: evil, address: evil, fetch: rows[0]?.id ?? 0 }] };
  const facts = { [evil]: evil, list: [evil, { [evil]: [evil, { deep: { deeper: evil } }] }] };
  const verdicts = [{ gate: evil, evidence: null, goodUntil: null }];
  const more = { run: ROTATION, facts: facts as unknown as Facts, proof: 'observed', verdicts, kept: [], moves: null } as const;
  await transaction(pool, async (tx) => {
    await appendReceipt(tx, { ...more, step: evil, evidence: { rotation: ROTATION, boots } });
    await appendReceipt(tx, { ...more, step: 'reopened', facts: {}, evidence: { because: evil } });
  });
}

it.each(HOSTILE)('%j is text wherever it comes from, and nothing else', async (evil) => {
  // U+0000 and the like never get past `storable`; what a row can hold is what is tried here.
  await withDatabase(async (pool) => {
    await fill(pool, evil);
    await withDashboard(pool, async ({ get }) => {
      for (const path of ['/', '/documents', '/revocations', '/revocations/evil', '/revocations/junk', `/rotations/${ROTATION}`]) {
        const { status, text, root } = await get(path);
        expect(status).toBe(200);
        // The strict parser has seen every `<`, `>`, `"` and `&` in its place; so nothing of it became an element or an attribute.
        const names = new Set(elements(root).map(({ name }) => name));
        expect(['script', 'img', 'svg', 'iframe', 'object', 'form', 'input'].filter((name) => names.has(name))).toEqual([]);
        const attributes = elements(root).flatMap(({ attributes: own }) => Object.entries(own));
        expect(attributes.filter(([name]) => /^on|^style$|^src/.test(name))).toEqual([]);
        const links = attributes.filter(([name]) => name === 'href').map(([, value]) => value);
        expect(links.filter((link) => !/^[/#]/.test(link) || link.startsWith('//'))).toEqual([]);
        expect(text.replace(/[\n\t]/g, '')).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u);
        const shown = textOf(byId(root, 'main'));
        expect(shown).toContain(evil.replace(/[^\P{C}\t\n]|[\u2028\u2029]/gu, '\ufffd').trim());
      }
    });
  });
});

it('a revocation of long words and a thousand pods stays a page that opens at once', async () => {
  await withDatabase(async (pool) => {
    await fill(pool, 'x'.repeat(10_000));
    const holders = Object.fromEntries(
      ['a', 'b'].map((target) => [target.repeat(10_000), Array.from({ length: 500 }, (_, index) => `${index}`.repeat(2_000))]),
    );
    const more = { run: REVOKE, proof: 'observed', verdicts: [], kept: [], moves: null } as const;
    await transaction(pool, (tx) => appendReceipt(tx, { ...more, step: 'find-holders', facts: { holders } as unknown as Facts, evidence: { holders } }));
    await pool.query(`insert into deny_list (kbs, path, because) select repeat('k', 10000), repeat('p', 10000) || n, $1 from generate_series(1, 500) n`, [
      digestOf('revocations/evil.yaml'),
    ]);
    await withDashboard(pool, async ({ get }) => {
      const { status, text, root } = await get('/revocations/evil');
      expect(status).toBe(200);
      expect(text.length).toBeLessThan(100_000);
      expect(textOf(byId(root, 'main'))).toContain('1000 pods that may have had it');
      expect((await get('/revocations')).text.length).toBeLessThan(100_000);
    });
  });
});

it('a text of any length stays a line or two, and says how long it was', async () => {
  await withDatabase(async (pool) => {
    await addDocument(pool, { path: 'releases/chat/1.yaml', reason: 'Malformed', about: 'x'.repeat(100_000) });
    await withDashboard(pool, async ({ get }) => {
      for (const path of ['/', '/documents']) {
        const { text, root } = await get(path);
        expect(text.length).toBeLessThan(40_000);
        expect(textOf(byId(root, 'main'))).toContain('… (100000 characters)');
      }
    });
  });
});
