import type pg from 'pg';

import type { KeyVerb, Sent, Want, Wrapped } from '#src/domain/kbs.ts';
import { type KeyPath, keyPath } from '#src/domain/paths.ts';

import type { Run } from '#src/domain/run.ts';

import type { Ledger } from '#src/ledger.ts';
import type { KeyOrder, Permit, Read, Signer } from '#src/world.ts';
import { countBoot, sightBoots, sightingsAt } from './boots.ts';
import { type BrokerRow, brokerRow, rememberNames } from './brokers.ts';
import { type Db, transaction } from './database.ts';
import { fetchesOf } from './fetches.ts';
import { noteAnswer, noteSilence, silentSince, turnToAsk } from './outages.ts';
import { proxiesAlive, proxiesBehind, proxiesBehindEntry } from './proxies.ts';
import { isBeingFreed } from './reinstatements.ts';
import { resourceAt, resourcesOf } from './resources.ts';

import { isWantedRotation, knownRevisions } from './revisions.ts';
import { noteProgress, stillMine } from './runs.ts';
import { madeFrom, sharersOf } from './sealings.ts';
import { answerSend, insertSend, type Sending, sendsOf } from './sends.ts';
import { baselineOf, type WantContext, wantedRevisions, wantFrom } from './want.ts';

/** What a ledger is opened on. */
export interface LedgerParts extends WantContext {
  readonly pool: pg.Pool;
  readonly signer: Signer;
}

/** Our memory of what was sent and seen (`src/world.ts`), on PostgreSQL. */
export function openLedger(parts: LedgerParts): Ledger {
  const { pool, signer } = parts;
  return {
    want: (run, kbs, kind) => readWant(parts, run, kbs, kind),
    wanted: async (kbs) => wantFrom(parts, pool, await existing(pool, kbs)),
    takenOver: (kbs) => takenOver(parts, kbs),
    bytes: (run, kbs, path) => readBytes(parts, run, kbs, path),
    gone: (run, kbs, path) => readGone(parts, run, kbs, path),
    sends: (kbs, verb, path) => sendsOf(pool, kbs, verb, path === undefined ? {} : { path }),
    kept: (path) => resourceAt(pool, path, signer),
    sealed: (rotation) => resourcesOf(pool, rotation, signer),
    key: (run, store, verb, order) => readKey(parts, run, store, verb, order),
    keySends: (store, rotation) => sendsOf(pool, store, null, { rotation }),
    mine: (run) => () => stillMine(pool, run),
    progress: (run) => (progress) => noteProgress(pool, run, progress),
    isWanted: (rotation) => isWantedRotation(pool, rotation),
    sharers: (sealing, except) => sharersOf(pool, sealing, except),
    revisionsOf: (sealing) => knownRevisions(pool, { sealing }, parts.loaders.release),
    madeFrom: (sealing) => madeFrom(pool, sealing),
    fetches: (kbs, path, since) => fetchesOf(pool, kbs, path, since),
    sighted: (boots) => sightBoots(pool, boots),
    sightings: (address) => sightingsAt(pool, address),
    answered: (cluster) => noteAnswer(pool, cluster),
    unanswered: (cluster, reason, about) => noteSilence(pool, cluster, reason, about),
    turnToAsk: (cluster) => turnToAsk(pool, cluster),
    silentSince: (cluster) => silentSince(pool, cluster),
    count: (boot, teeKey) => countBoot(pool, boot, teeKey),
    proxiesBehind: (kbs, path) => proxiesBehind(pool, kbs, path),
    proxiesBehindEntry: (kbs, entry) => proxiesBehindEntry(pool, kbs, entry),
    proxiesAlive: async (kbs) => (await proxiesAlive(pool)).filter((proxy) => proxy.kbs === kbs),
  };
}

/** One transaction: what `value` finds under the broker's lock, the claim, and the row in `sends`. null anywhere: nothing is sent. */
function permit<T>(parts: LedgerParts, run: Run | null, value: (tx: Db) => Promise<{ value: T; sending: Sending } | null>): Read<T> {
  return () =>
    transaction(parts.pool, async (tx): Promise<Permit<T> | null> => {
      const found = await value(tx);
      if (found === null || (run !== null && !(await stillMine(tx, run, 'share')))) return null;
      const id = await insertSend(tx, found.sending);
      return { value: found.value, answered: (answer) => answerSend(parts.pool, id, answer) };
    });
}

function readWant(parts: LedgerParts, run: Run | null, kbs: string, kind: 'policy' | 'referenceValue'): Read<Want> {
  return permit(parts, run, async (tx) => {
    const broker = await existing(tx, kbs, kind === 'policy' ? 'share' : 'update');
    if ((await baselineOf(parts.loaders, broker))?.takeover !== true) return null;
    const want = await wantFrom(parts, tx, broker);
    if (kind === 'referenceValue') await rememberNames(tx, kbs, Object.keys(want.referenceValues));
    return { value: want, sending: sendingOf(run, kbs, kind, null, want.generation) };
  });
}

function readBytes(parts: LedgerParts, run: Run | null, kbs: string, path: KeyPath): Read<Wrapped> {
  return permit(parts, run, async (tx) => {
    const broker = await existing(tx, kbs, 'share');
    if (!(await wantedPaths(parts, tx, broker)).includes(path)) return null;
    const wrapped = await resourceAt(tx, path, parts.signer);
    return wrapped === null ? null : { value: wrapped, sending: sendingOf(run, kbs, 'resource', path, broker.generation) };
  });
}

function readGone(parts: LedgerParts, run: Run | null, kbs: string, path: KeyPath): Read<KeyPath> {
  return permit(parts, run, async (tx) => {
    const broker = await existing(tx, kbs, 'share');
    if ((await wantedPaths(parts, tx, broker)).includes(path)) return null;
    return { value: path, sending: sendingOf(run, kbs, 'delete', path, broker.generation) };
  });
}

/**
 * A key is disabled only where its sealing is taken, or where it is a twin: not the key that the sealing's
 * receipt names. Once a reinstatement is about to free the sealing it counts as free: its key is enabled first.
 */
function readKey(parts: LedgerParts, run: Run | null, store: string, verb: KeyVerb, order: KeyOrder): Read<KeyOrder> {
  return permit(parts, run, async (tx) => {
    const { rows } = await tx.query<{ id: number; taken: boolean; key: string | null }>(
      `select s.id, s.taken, (select body::jsonb #>> '{facts,keyId}' from receipts where run = s.rotation and step = 'create-key' limit 1) as key
       from sealings s where s.rotation = $1 for share of s`,
      [order.rotation],
    );
    const [sealing] = rows;
    if (sealing === undefined) return null;
    const twin = sealing.key !== null && sealing.key !== order.keyId;
    const taken = sealing.taken && !(await isBeingFreed(tx, sealing.id));
    const allowed = { create: !sealing.taken && sealing.key === null, disable: taken || twin, enable: !taken, destroy: taken && !twin };
    if (!allowed[verb] || (verb === 'destroy' && !(await mayBeDestroyed(tx, store, sealing.id, order)))) return null;
    return { value: order, sending: { ...sendingOf(run, store, verb, order.keyId, 0), rotation: order.rotation } };
  });
}

/** Only a key that the store was seen to disable, from which nothing is re-encrypted, and whose destruction it has not taken before: what was called back stays. */
async function mayBeDestroyed(tx: Db, store: string, sealing: number, { rotation, keyId }: KeyOrder): Promise<boolean> {
  const done = (await sendsOf(tx, store, null, { rotation })).filter((sent) => sent.path === keyId && sent.answer?.type === null).map(({ verb }) => verb);
  return done.includes('disable') && !done.includes('destroy') && (await madeFrom(tx, sealing)).length === 0;
}

function sendingOf(run: Run | null, system: string, verb: Sent['verb'], path: string | null, generation: number): Sending {
  return { system, verb, path, generation, run: run?.id ?? null, rotation: null };
}

async function existing(db: Db, kbs: string, lock: 'none' | 'share' | 'update' = 'none'): Promise<BrokerRow> {
  const broker = await brokerRow(db, kbs, lock);
  if (broker === null) throw new Error(`the database has no broker ${kbs}`);
  return broker;
}

async function takenOver(parts: LedgerParts, kbs: string): Promise<boolean> {
  return (await baselineOf(parts.loaders, await existing(parts.pool, kbs)))?.takeover === true;
}

async function wantedPaths(parts: LedgerParts, db: Db, broker: BrokerRow): Promise<readonly KeyPath[]> {
  return (await wantedRevisions(parts.loaders, db, broker.name)).map((known) => keyPath(broker.repository, known));
}
