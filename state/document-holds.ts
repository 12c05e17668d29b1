import { parseDocument } from '#src/domain/documents/parse.ts';
import { placeOf } from '#src/domain/documents/places.ts';
import type { ReleaseDocument } from '#src/domain/documents/release.ts';
import { isCarriedOut } from '#src/domain/documents/rules.ts';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Db } from './database.ts';

/** Why nothing moves for a workload, beside what its own runs wait for. */
export interface Hold {
  readonly reason: Reason;
  readonly about: string;
}

interface Holding {
  readonly path: string;
  readonly kind: string;
  readonly bytes: Buffer;
}

/**
 * The workloads that documents hold, each with its first reason: a document whose bytes changed after they
 * were first seen, while the branch shows the new ones (`DocumentChanged`), and a verified revocation of a
 * kind that this version cannot carry out (`NotSupportedYet`). Two queries where nothing is held.
 */
export async function heldWorkloads(db: Db): Promise<ReadonlyMap<string, Hold>> {
  const held = new Map<string, Hold>();
  const { rows: changed } = await db.query<Holding>(
    `select d.path, d.kind, d.bytes from documents d where d.present and d.verdict <> 'accepted' and d.kind not in ('File', 'Revocation')
       and exists (select 1 from documents first where first.path = d.path and first.seen < d.seen and first.kind <> 'File') order by d.path collate "C"`,
  );
  const { rows: beyond } = await db.query<Holding>(
    `select path, kind, bytes from documents where kind = 'Revocation' and verdict = 'accepted' and reason = 'NotSupportedYet' order by seen`,
  );
  if (changed.length === 0 && beyond.length === 0) return held;
  const releases = await acceptedByWorkload(db);
  const hold = (workloads: readonly string[], reason: Reason, about: string): void => {
    for (const workload of workloads) if (!held.has(workload)) held.set(workload, { reason, about });
  };
  for (const { path } of changed) hold(reachOfDocument(path, releases), 'DocumentChanged', `${path}: put back the bytes that were first seen`);
  for (const { path, bytes } of beyond) {
    const parsed = parseDocument(path, bytes);
    if (parsed.kind === 'bad' || parsed.document.kind !== 'Revocation') continue;
    const { subject } = parsed.document;
    hold(reachOfRevocation(subject, releases), 'NotSupportedYet', `${path}: subject.kind: ${subject.kind} cannot be carried out by this version`);
  }
  return held;
}

/** Accepted releases of a workload that are not all behind it, with those who approved them. */
interface Accepted {
  readonly workload: string;
  readonly approvedBy: readonly string[];
  readonly document: ReleaseDocument;
}

/** What a release of a retired revision says holds nobody any more. */
async function acceptedByWorkload(db: Db): Promise<readonly Accepted[]> {
  const { rows } = await db.query<{ path: string; bytes: Buffer; workload: string; approved_by: string[] }>(
    `select d.path, d.bytes, d.workload, d.approved_by from documents d where d.kind = 'Release' and d.verdict = 'accepted'
       and (not exists (select 1 from revisions r where r.release = d.digest) or exists (select 1 from revisions r where r.release = d.digest and r.state <> 'retired'))
     order by d.workload, d.serial`,
  );
  return rows.flatMap(({ path, bytes, workload, approved_by: approvedBy }) => {
    const parsed = parseDocument(path, bytes);
    return parsed.kind === 'parsed' && parsed.document.kind === 'Release' ? [{ workload, approvedBy, document: parsed.document }] : [];
  });
}

/** The workloads that rest on the document at a path. Trust, and what has no workload of its own, is everybody's. */
function reachOfDocument(path: string, releases: readonly Accepted[]): readonly string[] {
  const place = placeOf(path);
  if (place === null) return [];
  switch (place.kind) {
    case 'Release':
      return [place.workload];
    case 'Platform':
      return workloadsWhere(releases, ({ document }) => Object.values(document.guests).some((guest) => guest.platform === place.id));
    case 'Baseline':
      return workloadsWhere(releases, ({ document }) => document.targets.some((target) => target.kbs === place.kbs));
    case 'Trust':
    case 'Withdrawal':
    case 'Reinstatement':
      return workloadsWhere(releases, () => true);
    case 'Revocation':
      return [];
  }
}

/** The workloads that a revocation could touch: where its text does not say, all of them. */
function reachOfRevocation(subject: RevocationSubject, releases: readonly Accepted[]): readonly string[] {
  if (isCarriedOut(subject)) return [];
  switch (subject.kind) {
    case 'target':
      return workloadsWhere(releases, ({ document }) =>
        document.targets.some((target) => target.cluster === subject.cluster && target.namespace === subject.namespace && target.name === subject.name),
      );
    case 'reference-value':
      // Platforms add values too, and which machine runs which is not in the release: whoever names a platform could be touched.
      return workloadsWhere(releases, ({ document }) =>
        Object.values(document.guests).some((guest) => guest.platform !== undefined || (guest.referenceValues[subject.name] ?? []).includes(subject.value)),
      );
    case 'signer':
      return workloadsWhere(releases, ({ approvedBy }) => approvedBy.includes(subject.person));
    case 'device':
    case 'key':
    case 'release':
    case 'workload':
    case 'all':
      return workloadsWhere(releases, () => true);
  }
}

function workloadsWhere(releases: readonly Accepted[], touches: (accepted: Accepted) => boolean): readonly string[] {
  return [...new Set(releases.filter(touches).map(({ workload }) => workload))];
}
