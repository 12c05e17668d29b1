import { parseDocument } from '#src/domain/documents/parse.ts';
import { placeOf } from '#src/domain/documents/places.ts';
import type { BaselineDocument, PlatformDocument, ReleaseDocument } from '#src/domain/documents/release.ts';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Reason } from '#src/domain/reasons.ts';
import { isGrantClaim } from '#src/domain/want.ts';
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
 * were first seen, while the branch shows the new ones (`DocumentChanged`), a revocation that an older
 * version accepted and could not carry out (`NotSupportedYet`), and a baseline in force that a revoked
 * signer signed (`Revoked`). Three queries where nothing is held.
 */
export async function heldWorkloads(db: Db): Promise<ReadonlyMap<string, Hold>> {
  const held = new Map<string, Hold>();
  const { rows: changed } = await db.query<{ path: string; versions: Buffer[] }>(
    `select d.path, array(select v.bytes from documents v where v.path = d.path and v.kind <> 'File') as versions from documents d where d.present and d.verdict <> 'accepted' and d.kind not in ('File', 'Revocation')
       and exists (select 1 from documents first where first.path = d.path and first.seen < d.seen and first.kind <> 'File') order by d.path collate "C"`,
  );
  const beyond = await revocationsBeyond(db);
  const unsigned = await baselinesOfRevoked(db);
  if (changed.length === 0 && beyond.length === 0 && unsigned.length === 0) return held;
  const releases = await acceptedByWorkload(db);
  const shared = beyond.length === 0 ? [] : await sharedDocuments(db);
  const hold = (workloads: readonly string[], reason: Reason, about: string): void => {
    for (const workload of workloads) if (!held.has(workload)) held.set(workload, { reason, about });
  };
  for (const { path, versions } of changed)
    hold(reachOfDocument(path, versions, releases), 'DocumentChanged', `${path}: put back the bytes that were first seen`);
  for (const { path, subject } of beyond) {
    const kind = subject?.kind ?? 'what it says';
    hold(reachOfRevocation(subject, releases, shared), 'NotSupportedYet', `${path}: subject.kind: ${kind} was accepted by an older version: commit it again`);
  }
  for (const { kbs, about } of unsigned)
    hold(
      workloadsWhere(releases, ({ document }) => document.targets.some((target) => target.kbs === kbs)),
      'Revoked',
      about,
    );
  return held;
}

/** Accepted revocations that nobody carried out; `subject` null: one that cannot even be read. */
async function revocationsBeyond(db: Db): Promise<readonly { readonly path: string; readonly subject: RevocationSubject | null }[]> {
  const { rows } = await db.query<Holding>(
    `select path, kind, bytes from documents where kind = 'Revocation' and verdict = 'accepted' and reason = 'NotSupportedYet' order by seen`,
  );
  return rows.map(({ path, bytes }) => {
    const parsed = parseDocument(path, bytes);
    return { path, subject: parsed.kind === 'parsed' && parsed.document.kind === 'Revocation' ? parsed.document.subject : null };
  });
}

/** Baselines in force that a revoked signer signed, each with the revocation: a KBS is not written without one, so what rests on it is held. */
async function baselinesOfRevoked(db: Db): Promise<readonly { readonly kbs: string; readonly about: string }[]> {
  const { rows } = await db.query<{ kbs: string; path: string; revocation: string }>(
    `select b.name as kbs, d.path, r.path as revocation from brokers b
     join documents d on d.digest = b.baseline and d.kind = 'Baseline' and d.verdict = 'accepted'
     join documents r on r.kind = 'Revocation' and r.verdict = 'accepted' and r.lifted_by is null and r.subject ->> 'kind' = 'signer' and r.subject ->> 'person' = any(d.approved_by)
       and d.judged_at >= coalesce((r.subject ->> 'since')::timestamptz, '-infinity')
     order by b.name, r.path collate "C"`,
  );
  return rows.map(({ kbs, path, revocation }) => ({ kbs, about: `${path} was signed by whom ${revocation} names: have its next version signed by others` }));
}

/** An accepted document that several workloads rest on: a platform, or a baseline in force. */
interface Shared {
  readonly approvedBy: readonly string[];
  readonly document: PlatformDocument | BaselineDocument;
}

async function sharedDocuments(db: Db): Promise<readonly Shared[]> {
  const { rows } = await db.query<{ path: string; bytes: Buffer; approved_by: string[] }>(
    `select path, bytes, approved_by from documents where verdict = 'accepted'
       and (kind = 'Platform' or (kind = 'Baseline' and digest in (select baseline from brokers where baseline is not null))) order by path collate "C"`,
  );
  return rows.flatMap(({ path, bytes, approved_by: approvedBy }) => {
    const parsed = parseDocument(path, bytes);
    const document = parsed.kind === 'parsed' ? parsed.document : null;
    return document?.kind === 'Platform' || document?.kind === 'Baseline' ? [{ approvedBy, document }] : [];
  });
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
       and (not exists (select 1 from revisions r where d.digest = any(r.releases)) or exists (select 1 from revisions r where r.release = d.digest and r.state <> 'retired'))
     order by d.workload, d.serial`,
  );
  return rows.flatMap(({ path, bytes, workload, approved_by: approvedBy }) => {
    const parsed = parseDocument(path, bytes);
    return parsed.kind === 'parsed' && parsed.document.kind === 'Release' ? [{ workload, approvedBy, document: parsed.document }] : [];
  });
}

/** The workloads that rest on the document at a path, all of whose versions are given. Trust, and what has no workload of its own, is everybody's. */
function reachOfDocument(path: string, versions: readonly Uint8Array[], releases: readonly Accepted[]): readonly string[] {
  const place = placeOf(path);
  if (place === null) return [];
  switch (place.kind) {
    case 'Release':
      return [place.workload];
    case 'Platform':
      return workloadsWhere(releases, ({ document }) => Object.values(document.guests).some((guest) => guest.platform === place.id));
    case 'Baseline':
      return workloadsWhere(releases, ({ document }) => document.targets.some((target) => target.kbs === place.kbs));
    case 'Withdrawal':
      // Nothing rests on it but what it names; what cannot be read names nobody.
      return versions.flatMap((bytes) => {
        const parsed = parseDocument(path, bytes);
        return parsed.kind === 'parsed' && parsed.document.kind === 'Withdrawal' ? [parsed.document.workload] : [];
      });
    case 'Trust':
    case 'Reinstatement':
      return workloadsWhere(releases, () => true);
    case 'Revocation':
      return [];
  }
}

/** The workloads that a revocation could touch: where its text does not say, all of them. */
function reachOfRevocation(subject: RevocationSubject | null, releases: readonly Accepted[], shared: readonly Shared[]): readonly string[] {
  switch (subject?.kind) {
    case 'target':
      return workloadsWhere(releases, ({ document }) =>
        document.targets.some((target) => target.cluster === subject.cluster && target.namespace === subject.namespace && target.name === subject.name),
      );
    case 'reference-value':
      // Platforms add values too, and which machine runs which is not in the release: whoever names a platform could be touched.
      return workloadsWhere(
        releases,
        ({ document }) =>
          Object.values(document.guests).some(({ platform }) => platform !== undefined) ||
          listsValue(document, subject, releases) ||
          restsOn(document, shared, (other) => hasValue(other, subject)),
      );
    case 'signer':
      return workloadsWhere(
        releases,
        ({ document, approvedBy }) => approvedBy.includes(subject.person) || restsOn(document, shared, (_, by) => by.includes(subject.person)),
      );
    default:
      return workloadsWhere(releases, () => true);
  }
}

type RevokedValue = Extract<RevocationSubject, { kind: 'reference-value' }>;

/**
 * Whether a release lists the value, or another release on one of its KBSs does: a KBS holds the union, and a
 * name that no grant is written on is good for every guest there as soon as one release lists it.
 */
function listsValue(document: ReleaseDocument, value: RevokedValue, releases: readonly Accepted[]): boolean {
  if (hasValueOf(document, value)) return true;
  if (Object.values(document.guests).every(({ tee }) => isGrantClaim(tee, value.name))) return false;
  const brokers = new Set(document.targets.map(({ kbs }) => kbs));
  return releases.some((other) => other.document.targets.some(({ kbs }) => brokers.has(kbs)) && hasValueOf(other.document, value));
}

function hasValueOf({ guests }: ReleaseDocument, { name, value }: RevokedValue): boolean {
  return Object.values(guests).some(
    ({ referenceValues }) => Object.hasOwn(referenceValues, name) && [value].flat().some((one) => referenceValues[name]?.includes(one)),
  );
}

function hasValue({ referenceValues }: Shared['document'], { name, value }: RevokedValue): boolean {
  const listed = Object.hasOwn(referenceValues, name) ? referenceValues[name] : undefined;
  return [value].flat().some((one) => (Array.isArray(listed) ? listed.includes(one) : listed === one));
}

/** Whether a release rests on a shared document of which this is true. */
function restsOn(
  release: ReleaseDocument,
  shared: readonly Shared[],
  isTrue: (document: Shared['document'], approvedBy: readonly string[]) => boolean,
): boolean {
  return shared.some(({ document, approvedBy }) => {
    const concerns =
      document.kind === 'Platform'
        ? Object.values(release.guests).some(({ platform }) => platform === document.id)
        : release.targets.some(({ kbs }) => kbs === document.kbs);
    return concerns && isTrue(document, approvedBy);
  });
}

function workloadsWhere(releases: readonly Accepted[], touches: (accepted: Accepted) => boolean): readonly string[] {
  return [...new Set(releases.filter(touches).map(({ workload }) => workload))];
}
