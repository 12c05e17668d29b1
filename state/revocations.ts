import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Denied } from '#src/domain/kbs.ts';
import { guestWithoutValue } from '#src/domain/lost-value.ts';
import { parseKeyPath } from '#src/domain/paths.ts';
import { withoutLetGo } from '#src/domain/predecessors.ts';
import { type Release, targetName } from '#src/domain/release.ts';
import {
  initDataOfTarget,
  initDataOfTargets,
  isRefusedWhole,
  isTargetRevoked,
  type RevocationAt,
  revokedSigners,
  revokedValues,
  signersSince,
} from '#src/domain/revoked.ts';
import { isFault } from '#src/errors.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';
import { letGoValues } from './predecessors.ts';
import type { Loaders } from './want.ts';

/** An accepted revocation. */
export interface StandingRevocation extends RevocationAt {
  readonly path: string;
  readonly digest: string;
}

/** Every accepted revocation, in the order of their acceptance. A revocation outlives its file. */
export async function standingRevocations(db: Db): Promise<readonly StandingRevocation[]> {
  const { rows } = await db.query<StandingRevocation>(
    `select path, digest, subject, judged_at as at from documents where kind = 'Revocation' and verdict = 'accepted' and subject is not null and lifted_by is null order by judged_at, digest`,
  );
  return rows;
}

/**
 * Has those judged again that an older version accepted and could only hold for: this one carries them out.
 * Whose file and bundle are gone from the branch holds on (`document-holds.ts`).
 */
export async function judgeAgainWhatWasBeyond(db: Db): Promise<void> {
  await db.query(
    `update documents d set verdict = 'waiting', reason = null, about = null where kind = 'Revocation' and verdict = 'accepted' and reason = 'NotSupportedYet' and present
       and exists (select 1 from bundles b where b.document_path = d.path and b.present and b.counted)
       and not exists (select 1 from runs r where r.revocation = d.digest)`,
  );
}

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
 * The revisions that an accepted revocation touches. A *key* takes its sealing and all revisions of it; a
 * *release*, a *workload* or *all* take revisions, retired ones too: these are asked anew, since another may
 * have come. Of the others it is what its acceptance found.
 */
export async function touchedBy(db: Db, revocation: Pick<StandingRevocation, 'digest' | 'subject'>): Promise<Touched> {
  const { digest, subject } = revocation;
  const found = await rowsOf(db, subject);
  return touchedOf(subject, found ?? (await where(db, 'r.id in (select revision from denials where revocation = $1)', [digest])));
}

function touchedOf(subject: RevocationSubject, rows: readonly Row[]): Touched {
  return {
    revisions: rows.map((row) => row.id),
    sealings: subject.kind === 'key' ? [...new Set(rows.map((row) => row.sealing))].sort((a, b) => a - b) : [],
    workloads: [...new Set(rows.map((row) => row.workload))].sort(),
  };
}

async function where(db: Db, condition: string, values: unknown[]): Promise<readonly Row[]> {
  const select = 'select r.id, r.sealing, r.workload from revisions r join sealings s on s.id = r.sealing';
  return (await db.query<Row>(`${select} where ${condition} order by r.id`, values)).rows;
}

/** null: the rows alone do not tell. */
async function rowsOf(db: Db, subject: RevocationSubject): Promise<readonly Row[] | null> {
  switch (subject.kind) {
    case 'all':
      return where(db, 'true', []);
    case 'workload':
      return where(db, 'r.workload = $1', [subject.workload]);
    case 'release':
      return where(db, 'r.workload = $1 and $2::int = any(r.serials)', [subject.workload, subject.serial]);
    case 'key':
      if ('epoch' in subject) return where(db, 's.workload = $1 and s.epoch = $2', [subject.workload, subject.epoch]);
      if ('keyId' in subject)
        return where(db, `s.rotation in (select run from receipts where step = 'create-key' and body::jsonb #>> '{facts,keyId}' = $1)`, [subject.keyId]);
      return epochOf(db, subject.path);
    case 'device':
      return [];
    case 'target':
    case 'reference-value':
    case 'signer':
      return null;
  }
}

/** A path tells its workload and epoch; one that is not written as ours touches nothing of ours. */
async function epochOf(db: Db, path: string): Promise<readonly Row[]> {
  const parsed = parseKeyPath(path);
  return parsed === null ? [] : where(db, 's.workload = $1 and s.epoch = $2', [parsed.workload, parsed.epoch]);
}

// ---------------------------------------------------------------- what one would touch

/** What a revocation would bring about, asked before it is accepted. */
export interface Reach extends Touched {
  /** Refused by every KBS beside the paths of these revisions. */
  readonly denied: Denied;
  /** Targets that cannot be told apart from those that it names, as `<workload> s<serial> <target>`: they are refused with them. */
  readonly sharing: readonly string[];
}

interface StandingRow extends Row {
  readonly release: string;
  readonly at: Instant;
}

interface Standing extends Row {
  readonly document: Release;
  readonly at: Instant;
}

/**
 * What a revocation would touch and refuse, as things stand. Of what is not known yet nothing: it is
 * refused when it appears. `before`: others that are taken to be accepted already, though no row says so.
 */
export async function reachOf(db: Db, subject: RevocationSubject, loaders: Loaders, before: readonly RevocationSubject[] = []): Promise<Reach> {
  const found = await rowsOf(db, subject);
  const none = { denied: { paths: [], initData: [], devices: [] }, sharing: [] };
  if (found !== null) return { ...none, ...touchedOf(subject, found), denied: { ...none.denied, ...namedBy(subject) } };
  const standing = await standingOf(db, loaders);
  const revocations = [...(await standingRevocations(db)), ...[...before, subject].map((one) => ({ subject: one, at: null }))];
  const subjects = revocations.map((one) => one.subject);
  if (subject.kind !== 'target') return { ...none, ...touchedOf(subject, await fallenOf(db, standing, subject, revocations, loaders)) };
  const initData = initDataOfTargets(
    standing.map(({ document }) => document),
    [subject],
  );
  const refused = new Set([
    ...initData,
    ...initDataOfTargets(
      standing.map(({ document }) => document),
      subjects,
    ),
  ]);
  const whole = standing.filter(({ document }) => document.targets.some((target) => isNamed(document, target, initData)) && isRefusedWhole(document, refused));
  return { ...touchedOf(subject, whole), denied: { ...none.denied, initData }, sharing: sharingOf(standing, subject, initData) };
}

function isNamed(document: Release, target: Release['targets'][number], initData: readonly string[]): boolean {
  return initData.includes(initDataOfTarget(document, target) ?? '');
}

/** A path by its name, and a device as reports write it and as verifiers do: hexadecimal digits in lower case. */
function namedBy(subject: RevocationSubject): Partial<Denied> {
  if (subject.kind === 'key' && 'path' in subject) return { paths: [subject.path] };
  if (subject.kind !== 'device') return {};
  const name = 'chipId' in subject ? subject.chipId : subject.ueid;
  return { devices: [...new Set([name, name.toLowerCase()])] };
}

function sharingOf(standing: readonly Standing[], subject: RevocationSubject, initData: readonly string[]): readonly string[] {
  const names = standing.flatMap(({ document }) =>
    document.targets
      .filter((target) => isNamed(document, target, initData) && !isTargetRevoked(target, [subject]))
      .map((target) => `${document.workload} s${document.serial} ${targetName(target)}`),
  );
  return [...new Set(names)].sort();
}

/** Revisions that a reference value or a signer, with all that were revoked before, leaves without what they rest on. */
async function fallenOf(
  db: Db,
  standing: readonly Standing[],
  subject: RevocationSubject,
  revocations: readonly RevocationAt[],
  loaders: Loaders,
): Promise<readonly Row[]> {
  const isRevoked = revokedValues(revocations.map((one) => one.subject));
  if (subject.kind === 'reference-value' && isRevoked !== null) {
    const platforms = withoutLetGo((await ifReadable(loaders.platforms())) ?? [], await letGoValues(db));
    return standing.filter(({ document }) => guestWithoutValue(document, platforms, isRevoked) !== null);
  }
  const signers = revokedSigners(revocations);
  const fallen: Row[] = [];
  for (const one of standing) {
    const counting = signersSince(signers, one.at).filter(({ person }) => one.document.approvedBy.includes(person));
    if (counting.length > 0 && (await ifReadable(loaders.stands(one.document.digest, counting))) !== true) fallen.push(one);
  }
  return fallen;
}

/** Every revision that is not retired, with its release and that one's acceptance. */
async function standingOf(db: Db, loaders: Loaders): Promise<readonly Standing[]> {
  const { rows } = await db.query<StandingRow>(
    `select r.id, r.sealing, r.workload, r.release, coalesce(d.judged_at, r.accepted_at) as at from revisions r
     left join documents d on d.digest = r.release and d.kind = 'Release' and d.verdict = 'accepted' where r.state <> 'retired' order by r.id`,
  );
  const standing = rows.map(async ({ release, ...row }) => {
    const document = await ifReadable(loaders.release(release));
    return document === null ? [] : [{ ...row, document }];
  });
  return (await Promise.all(standing)).flat();
}

/** One document that was tampered with must not keep a revocation out; nothing of it is acted on before it verifies again. */
async function ifReadable<T>(loading: Promise<T>): Promise<T | null> {
  try {
    return await loading;
  } catch (thrown) {
    if (isFault(thrown)) return null;
    throw thrown;
  }
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
