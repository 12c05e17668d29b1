import type pg from 'pg';
import { reading } from './dashboard.ts';
import type { Db } from './database.ts';

/** It holds nobody up, and between two statements files may be looked at: a folder of weights on a network. Seconds. */
const IDLE_SECONDS = 60;
/** A row lock at the end of a statement. */
const ROW_LOCK = /\s+for (?:no key update|update|share)\s*$/;
/** A statement that only waits. */
const ADVISORY_LOCK = /^\s*select pg_advisory_xact_lock/;

/**
 * Runs `fn` in a transaction that can only read and sees one state of the database throughout. What asks
 * before it writes asks under locks; here nothing is written and nothing moves, so they are left out of its
 * statements: the same functions answer, and nobody waits for this.
 */
export function readOnly<T>(pool: pg.Pool, fn: (db: Db) => Promise<T>): Promise<T> {
  return reading(pool, async (tx) => {
    await tx.query(`set local idle_in_transaction_session_timeout = ${IDLE_SECONDS * 1000}`);
    return fn(unlocked(tx));
  });
}

function unlocked(tx: Db): Db {
  const query = tx.query.bind(tx) as (...given: readonly unknown[]) => unknown;
  const ask = (text: unknown, ...more: readonly unknown[]): unknown => {
    if (typeof text !== 'string') return query(text, ...more);
    return ADVISORY_LOCK.test(text) ? Promise.resolve({ rows: [], rowCount: 0 }) : query(text.replace(ROW_LOCK, ''), ...more);
  };
  return new Proxy(tx, { get: (target, name) => (name === 'query' ? ask : Reflect.get(target, name)) });
}
