import { createHash } from 'node:crypto';
import pg from 'pg';
import { Fault } from '#src/errors.ts';
import { type Instant, parseInstant } from '#src/instant.ts';
import type { Clock } from '#src/world.ts';

/** A pool, or one session of it with a transaction open. */
export type Db = pg.Pool | pg.PoolClient;

/** How the database is reached. */
export interface DatabaseOptions {
  /** `postgresql://…`: a direct session, since advisory locks and LISTEN do not survive a pooler. */
  readonly url: string;
  /** Sessions at most. */
  readonly poolSize: number;
  /** Hears of sessions that broke while nobody used them; the next query opens another. */
  readonly onError?: (error: Error) => void;
}

/** No statement of ours takes a second on a healthy database; one that takes this long holds up others. */
const STATEMENT_TIMEOUT_SECONDS = 30;
/** Row locks are held for milliseconds: who waits longer waits for a process that is frozen, and asks again later. */
const LOCK_TIMEOUT_SECONDS = 10;
/** No transaction of ours waits for anything but the database: a frozen process must let go of its rows before another replica needs them (15 s). */
const IDLE_IN_TRANSACTION_SECONDS = 5;
/** A failover takes longer, and is asked about again. */
const CONNECT_TIMEOUT_SECONDS = 10;

/**
 * Opens a pool. Instants come back as `Instant`, `bigint` as a number (RangeError above 2^53),
 * `numeric` as text. Nothing is connected yet. Queries of the pool and `transaction` throw
 * Fault('Unreachable') and its kin for what is the database's trouble, not the statement's.
 */
export function openDatabase({ url, poolSize, onError = () => undefined }: DatabaseOptions): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    application_name: 'keyturn',
    // Whatever the server's defaults are: text that a parser below reads.
    options: '-c DateStyle=ISO -c TimeZone=UTC',
    statement_timeout: STATEMENT_TIMEOUT_SECONDS * 1000,
    lock_timeout: LOCK_TIMEOUT_SECONDS * 1000,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_SECONDS * 1000,
    connectionTimeoutMillis: CONNECT_TIMEOUT_SECONDS * 1000,
    keepAlive: true,
    types: { getTypeParser: parserOf },
  });
  // Without a listener, the first session that the server ends would end this process.
  pool.on('error', onError);
  pool.on('connect', (client) => {
    client.on('error', onError);
    planOnce(client);
  });
  return withFaults(pool);
}

const names = new Map<string, string>();

function nameOf(text: string): string {
  const name = names.get(text) ?? createHash('sha256').update(text).digest('hex').slice(0, 24);
  names.set(text, name);
  return name;
}

/** Names every statement that has values after its text, so that a session plans it once: to plan most of ours takes as long as to run them. */
function planOnce(client: pg.PoolClient): void {
  const query = client.query.bind(client) as (...given: readonly unknown[]) => unknown;
  const named = (text: unknown, values: unknown, ...more: readonly unknown[]): unknown =>
    typeof text === 'string' && Array.isArray(values) ? query({ name: nameOf(text), text }, values, ...more) : query(text, values, ...more);
  Object.assign(client, { query: named });
}

/** The database's clock, as every port takes it. */
export function clockOf(db: Db): Clock {
  return async () => {
    const { rows } = await db.query<{ at: Instant }>('select instant() as at');
    const [row] = rows;
    if (row === undefined) throw new Error('instant() gave no row');
    return row.at;
  };
}

/**
 * Runs `fn` in one transaction (read committed) and gives what it gives; what it throws rolls back.
 *
 * Where the answer to the commit is lost, nobody knows whether it took: what is thrown then is a
 * Fault('Unreachable') for which `isCommitUnknown` is true, and the caller looks again.
 */
export async function transaction<T>(pool: pg.Pool, fn: (tx: pg.PoolClient) => Promise<T>): Promise<T> {
  const tx = await pool.connect();
  let broken: Error | undefined;
  try {
    const value = await run(tx, fn);
    await commit(tx);
    return value;
  } catch (thrown) {
    if (isCommitUnknown(thrown)) broken = thrown;
    else broken = await rollback(tx);
    throw asFault(thrown);
  } finally {
    // A session in an unknown state is closed, never used again.
    tx.release(broken);
  }
}

async function run<T>(tx: pg.PoolClient, fn: (tx: pg.PoolClient) => Promise<T>): Promise<T> {
  await tx.query('begin');
  return fn(tx);
}

async function commit(tx: pg.PoolClient): Promise<void> {
  const answer = await tx.query('commit').catch((cause: unknown) => {
    if (!isConnectionLoss(cause)) throw cause;
    throw Object.assign(new Fault('Unreachable', 'postgres commit: no answer, unknown whether it took', { cause }), { commit: 'unknown' as const });
  });
  // PostgreSQL answers the commit of a failed transaction with ROLLBACK, and calls that a success.
  if (answer.command !== 'COMMIT') throw new Error('a transaction whose statement had failed was committed: it was rolled back');
}

async function rollback(tx: pg.PoolClient): Promise<Error | undefined> {
  return tx.query('rollback').then(
    () => undefined,
    (thrown: Error) => thrown,
  );
}

/** Whether a commit's answer was lost: the transaction may have taken or not. */
export function isCommitUnknown(thrown: unknown): thrown is Fault {
  return thrown instanceof Error && 'commit' in thrown && thrown.commit === 'unknown';
}

// ---------------------------------------------------------------- what went wrong

/** Of Node's network, where no answer came or the session broke. */
const NETWORK_CODES = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ECONNABORTED']);
/** `pg` gives these no code. */
const CONNECTION_TEXT =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed|timeout expired)/;
/** 08: connection; 57P01–57P05: shutdown, crash, starting up, idle; 53300: no session left; 25P03, 25P04: the session was ended; 25006: failed over to a standby. */
const CONNECTION_STATES = /^(08...|57P0[1-5]|53300|25P0[34]|25006)$/;

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : '';
}

function isConnectionLoss(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  const code = codeOf(thrown);
  return NETWORK_CODES.has(code) || CONNECTION_STATES.test(code) || CONNECTION_TEXT.test(thrown.message);
}

/**
 * What is thrown by `pg`, as a Fault where the database's state is to blame (no session, a failover, a
 * lock not had, a disk full) and asking again helps; anything else, a mistake of ours, as it is.
 */
export function asFault(thrown: unknown): unknown {
  if (!(thrown instanceof Error) || thrown.name === 'Fault') return thrown;
  const code = codeOf(thrown);
  const said = `postgres: ${code === '' ? thrown.message : `${code} ${thrown.message}`}`;
  if (isConnectionLoss(thrown)) return new Fault('Unreachable', said, { cause: thrown });
  if (/^(40001|40P01|55P03)$/.test(code)) return new Fault('Conflict', said, { cause: thrown });
  if (/^(53...|57014|58...)$/.test(code)) return new Fault('ServerError', said, { cause: thrown });
  if (/^28...$/.test(code)) return new Fault('Unauthenticated', said, { cause: thrown });
  // Text of ours is storable; what is not came from somebody else's answer, and must not end the process.
  if (isUnstorableText(code, thrown.message)) return new Fault('UnexpectedAnswer', said, { cause: thrown });
  return thrown;
}

/** U+0000, or half a surrogate pair, where a text or a `jsonb` was to be written. */
function isUnstorableText(code: string, message: string): boolean {
  return code === '22021' || code === '22P05' || (code === '22P02' && message.includes('for type json'));
}

function rethrow(thrown: unknown): never {
  throw asFault(thrown);
}

/** The pool itself, whose promises reject with Faults. Calls with a callback are pg's own and pass through. */
function withFaults(pool: pg.Pool): pg.Pool {
  const connect = pool.connect.bind(pool) as (...given: readonly unknown[]) => unknown;
  const query = pool.query.bind(pool) as (...given: readonly unknown[]) => unknown;
  const faulting =
    (call: typeof query) =>
    (...given: readonly unknown[]) => {
      const answer = call(...given);
      return answer instanceof Promise ? answer.catch(rethrow) : answer;
    };
  return Object.assign(pool, { connect: faulting(connect) as typeof pool.connect, query: faulting(query) as typeof pool.query });
}

// ---------------------------------------------------------------- types

const { builtins } = pg.types;
type TypeId = Parameters<typeof pg.types.getTypeParser>[0];

/** Arrays of the types below; `pg` names only the elements. */
const INT8_ARRAY = 1016;
const TIMESTAMPTZ_ARRAY = 1185;
const TEXT_ARRAY = 1009 as number as TypeId;

/** PostgreSQL's ISO style: a space for the T, and an offset that may lack its minutes. */
function instantIn(text: string): Instant {
  return parseInstant(text.replace(' ', 'T').replace(/([+-]\d\d)$/, '$1:00'));
}

function wholeIn(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`a bigint that no number holds: ${text}`);
  return value;
}

type Parser = (text: string) => unknown;

function eachOf(parse: Parser): Parser {
  const texts: Parser = pg.types.getTypeParser(TEXT_ARRAY, 'text');
  return (text) => {
    const list = texts(text);
    return Array.isArray(list) ? list.map((item) => (item === null ? null : parse(String(item)))) : list;
  };
}

const PARSERS = new Map<number, Parser>([
  [builtins.TIMESTAMPTZ, instantIn],
  [builtins.INT8, wholeIn],
  [TIMESTAMPTZ_ARRAY, eachOf(instantIn)],
  [INT8_ARRAY, eachOf(wholeIn)],
]);

/** This pool's alone: pg-boss, in the same process, relies on pg's own. */
function parserOf(...[oid, format]: Parameters<typeof pg.types.getTypeParser>): ReturnType<typeof pg.types.getTypeParser> {
  const own = format === 'binary' ? undefined : PARSERS.get(oid);
  return own ?? pg.types.getTypeParser(oid, format);
}
