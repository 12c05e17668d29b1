import pg from 'pg';

/** The lab's far sides ask often; the clock is moved seldom. Between looks at how far it was moved: seconds. */
const LOOK_SECONDS = 0.25;

/** The database's clock, as the far sides follow it. */
export interface LabClock {
  /** Milliseconds since 1970. */
  readonly now: () => Promise<number>;
  readonly close: () => Promise<void>;
}

/**
 * Opens the lab's clock: this machine's, moved by what `installation.clock_offset` says, because PostgreSQL runs on this machine
 * too. Before the database has that table, and while it does not answer, the offset is the last one known: zero at first.
 */
export async function openClock(databaseUrl: string): Promise<LabClock> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 1, application_name: 'keyturn lab clock', query_timeout: 1000 });
  pool.on('error', () => undefined);
  let offset = 0;
  let lookedAt = Number.NEGATIVE_INFINITY;
  const look = async () => {
    lookedAt = performance.now();
    const sql = 'select (extract(epoch from clock_offset) * 1000)::float8 as milliseconds from installation';
    const { rows } = await pool.query<{ milliseconds: number }>(sql).catch(() => ({ rows: [{ milliseconds: offset }] }));
    offset = rows[0]?.milliseconds ?? 0;
  };
  return {
    now: async () => {
      if (performance.now() - lookedAt > LOOK_SECONDS * 1000) await look();
      return Date.now() + offset;
    },
    close: () => pool.end(),
  };
}

/**
 * Moves the database's clock on by so many seconds, and tells who waits by it. What is measured by it, and
 * not dated, moves along: a proxy that was heard of a second ago was still heard of a second ago.
 */
export async function moveClock(databaseUrl: string, seconds: number): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'keyturn lab clock', query_timeout: 10_000 });
  await client.connect();
  try {
    await client.query('begin');
    await client.query("update installation set clock_offset = clock_offset + $1 * interval '1 second'", [seconds]);
    await client.query("update proxies set seen_at = seen_at + $1 * interval '1 second'", [seconds]);
    await client.query("select pg_notify('keyturn_clock', '')");
    await client.query('commit');
  } finally {
    await client.end();
  }
}
