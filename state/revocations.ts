import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { parseKeyPath } from '#src/domain/paths.ts';
import type { Db } from './database.ts';

/** What an accepted revocation touches of ours. */
export interface Touched {
  readonly revisions: readonly number[];
  /** Sealings whose key it names: taken, with the paths of all their revisions. */
  readonly sealings: readonly number[];
  readonly workloads: readonly string[];
}

interface Row {
  readonly id: number;
  readonly sealing: number;
  readonly workload: string;
}

/**
 * The revisions that a revocation touches, retired ones too. A *key* takes its sealing and all
 * revisions of it; a *release*, a *workload* or *all* take revisions.
 */
export async function touchedBy(db: Db, subject: RevocationSubject): Promise<Touched> {
  const rows = await rowsOf(db, subject);
  return {
    revisions: rows.map((row) => row.id),
    sealings: subject.kind === 'key' ? [...new Set(rows.map((row) => row.sealing))].sort((a, b) => a - b) : [],
    workloads: [...new Set(rows.map((row) => row.workload))].sort(),
  };
}

async function rowsOf(db: Db, subject: RevocationSubject): Promise<readonly Row[]> {
  const select = 'select r.id, r.sealing, r.workload from revisions r join sealings s on s.id = r.sealing';
  const query: Query = async (where, values) => (await db.query<Row>(`${select} where ${where} order by r.id`, values)).rows;
  switch (subject.kind) {
    case 'all':
      return query('true', []);
    case 'workload':
      return query('r.workload = $1', [subject.workload]);
    case 'release':
      return query('r.workload = $1 and $2::int = any(r.serials)', [subject.workload, subject.serial]);
    case 'key':
      if ('epoch' in subject) return query('s.workload = $1 and s.epoch = $2', [subject.workload, subject.epoch]);
      if ('keyId' in subject)
        return query(`s.rotation in (select run from receipts where step = 'create-key' and body::jsonb #>> '{facts,keyId}' = $1)`, [subject.keyId]);
      return epochOf(subject.path, query);
    default:
      return [];
  }
}

type Query = (where: string, values: unknown[]) => Promise<readonly Row[]>;

/** A path tells its workload and epoch; one that is not written as ours touches nothing of ours. */
async function epochOf(path: string, query: Query): Promise<readonly Row[]> {
  const parsed = parseKeyPath(path);
  return parsed === null ? [] : query('s.workload = $1 and s.epoch = $2', [parsed.workload, parsed.epoch]);
}

/** The digest of an accepted revocation that forbids a revision before it is made; null where none does. A revocation outlives its file. */
export async function revokedBy(db: Db, revision: { workload: string; serial: number; epoch: number }): Promise<string | null> {
  const { rows } = await db.query<{ digest: string }>(
    `select digest from documents where kind = 'Revocation' and verdict = 'accepted' and subject is not null and lifted_by is null and (
       subject @> '{"kind":"all"}' or
       subject @> jsonb_build_object('kind', 'workload', 'workload', $1::text) or
       subject @> jsonb_build_object('kind', 'release', 'workload', $1::text, 'serial', $2::int) or
       subject @> jsonb_build_object('kind', 'key', 'workload', $1::text, 'epoch', $3::int))
     order by judged_at limit 1`,
    [revision.workload, revision.serial, revision.epoch],
  );
  return rows[0]?.digest ?? null;
}
