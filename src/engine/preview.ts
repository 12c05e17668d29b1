/**
 * What would become of the documents that a checkout or a ref holds, were they merged now: the intake's
 * own judgement over what they show and what is stored, in one transaction that only reads.
 */
import type pg from 'pg';
import { type Digest, digestOf, isDigest } from '#src/digest.ts';
import { namedBy, parseDocument } from '#src/domain/documents/parse.ts';
import { bundlePath, documentOfBundle } from '#src/domain/documents/places.ts';
import type { Forecast } from '#src/domain/forecast.ts';
import { type Reason, reasons } from '#src/domain/reasons.ts';
import type { Release } from '#src/domain/release.ts';
import type { Snapshot, Unread } from '#src/domain/repository.ts';
import { type RepositoryFile, SIGNATURE_REASONS, type Signature, signersIn } from '#src/domain/signatures.ts';
import { type NamedFiles, verifyTrust } from '#src/domain/trust.ts';
import type { Refusal } from '#src/domain/want.ts';
import type { Instant } from '#src/instant.ts';
import { basisOf, type Resting } from '#state/basis.ts';
import { clockOf, type Db } from '#state/database.ts';
import type { Verifying } from '#state/document-loaders.ts';
import { branchOf, columnsOf, isChanged, type Standee, type StoredDocument, seriesOf, storedBytes } from '#state/documents.ts';
import { readOnly } from '#state/read-only.ts';
import { liftingOf } from '#state/reinstatements.ts';
import { standingRevocations } from '#state/revocations.ts';
import { helpFor } from '#state/status.ts';
import { trustInForce } from '#state/trust-chain.ts';
import type { Arriving, Loaders } from '#state/want.ts';
import { withdrawalBar } from '#state/withdrawals.ts';
import { type Acceptable, type Finding, findingOf, type Judgeable, type Judging, type Shelf, type Standing } from './finding.ts';
import { type ForecastParts, forecastOf } from './forecast.ts';
import { ORDER } from './intake.ts';

/** What a preview needs. A command opens the parts and puts them in this record. */
export interface Preview extends Verifying, ForecastParts {
  readonly pool: pg.Pool;
  readonly loaders: Loaders;
  /** The watched branch's name. */
  readonly branch: string;
  /** Whether it is that branch's own tip that is looked at: then what stood there before counts too. */
  readonly isBranch: boolean;
  /** Whether a document fits what is configured and what every KBS would hold, with those before it accepted; null: it does. */
  readonly misfit: (db: Db, arriving: Arriving, before: readonly Arriving[]) => Promise<Refusal | null>;
  /** What is there to be merged. */
  readonly snapshot: Snapshot;
  /** Files of the same tree, by their paths. */
  readonly read: (paths: readonly string[]) => Promise<readonly RepositoryFile[]>;
}

/** A pull request has a handful of documents: more than this is an attack, or a new installation's first look at an old repository. */
const DOCUMENTS_MAX = 1000;

/** A verdict, and what a person can do about it. */
export interface Told {
  readonly verdict: StoredDocument['verdict'];
  /** null: accepted, and all of it can be carried out. */
  readonly reason: Reason | null;
  readonly about: string | null;
  readonly help: string | null;
}

/** A document that nobody accepted yet. */
export interface Previewed extends Told {
  readonly path: string;
  readonly kind: string;
  readonly digest: Digest;
  readonly approvedBy: readonly string[];
  readonly signatures: readonly Signature[];
  /** false: the branch shows it already, and it waits there for the same. */
  readonly isNew: boolean;
  /** Where signatures are missing: its verdict once it has them; null: they are not what it waits for. */
  readonly onceSigned: Told | null;
  /** What it would bring about, as it is or once it is signed; null: nothing, or it would not be accepted. */
  readonly forecast: Forecast | null;
}

/** What would happen. */
export interface Foreseen {
  /** On the database's clock. */
  readonly at: Instant;
  readonly documents: readonly Previewed[];
  /** Documents that the database refused before: they stay refused. */
  readonly refusedBefore: readonly Stored[];
  /** Entries of the watched folders that would not be read. */
  readonly unread: readonly (Unread & { readonly help: string; readonly isNew: boolean })[];
  /**
   * Whether something would be refused, would stop, or waits for what only a person can mend (signatures
   * apart). What stood on the branch before is told and does not count, but where that is what was asked about.
   */
  readonly refused: boolean;
}

/** Judges everything that is not settled yet. Writes nothing. Throws Fault. */
export async function foresee(preview: Preview): Promise<Foreseen> {
  const { snapshot } = preview;
  const files = snapshot.files.filter(({ path }) => documentOfBundle(path) === null).map(judgeable);
  // Before the transaction: another system may be asked.
  const named = await preview.read([...new Set(files.flatMap((file) => namedBy(file).map((one) => one.file)))]);
  return readOnly(preview.pool, async (db) => {
    const stored = await storedOf(db, files);
    const open = files.filter((file) => (stored.get(nameOf(file))?.verdict ?? 'waiting') === 'waiting');
    const waiting = chosen(snapshot, open).sort(inOrder);
    let judging = await judgingOf(preview, db, files, named);
    const room: Room = { preview, db, files, named, stored, merged: [] };
    const documents: Previewed[] = [];
    for (const file of waiting) {
      documents.push(await previewOf(room, judging, file));
      judging = succeeded(judging, room.merged.at(-1));
    }
    const refusedBefore = [...stored.values()].filter(({ verdict }) => verdict === 'refused');
    const unread = [...(await unreadOf(preview, db)), ...(open.length > waiting.length ? [beyondLimit(open.length - waiting.length)] : [])];
    const counts = ({ isNew }: { readonly isNew: boolean }): boolean => isNew || preview.isBranch;
    const refused = unread.some(counts) || documents.filter(counts).some(isStopped) || (preview.isBranch && refusedBefore.length > 0);
    return { at: await clockOf(db)(), documents, refusedBefore, unread, refused };
  });
}

/** Of too many, those that somebody signed: what nobody signed cannot be accepted. */
function chosen({ files }: Snapshot, open: readonly Judgeable[]): Judgeable[] {
  const signed = new Set(files.map(({ path }) => documentOfBundle(path)));
  return open.toSorted((a, b) => Number(signed.has(b.path)) - Number(signed.has(a.path))).slice(0, DOCUMENTS_MAX);
}

function beyondLimit(count: number): Foreseen['unread'][number] {
  const reason = 'LimitExceeded';
  return { path: '', reason, about: `${count} documents more than ${DOCUMENTS_MAX} were not judged`, help: reasons[reason].help, isNew: true };
}

/** As a pass would judge them. */
function inOrder(a: Judgeable, b: Judgeable): number {
  return ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || a.path.localeCompare(b.path, 'en', { numeric: true });
}

function judgeable(file: RepositoryFile): Judgeable {
  return { ...file, digest: digestOf(file.bytes), kind: columnsOf(file.path, file.bytes).kind };
}

/** Waiting for signatures is what a pull request is for; what else a person has to mend is not. */
function isStopped({ verdict, reason, onceSigned, forecast }: Previewed): boolean {
  if (forecast?.stops.length !== undefined && forecast.stops.length > 0) return true;
  const last = onceSigned ?? { verdict, reason };
  if (last.verdict === 'refused') return true;
  return last.verdict === 'waiting' && last.reason !== null && reasons[last.reason].next === 'stop';
}

/** A document that was seen before, and what became of it. */
interface Stored extends Told {
  readonly path: string;
  /** Whether the branch's tip shows it. */
  readonly present: boolean;
}

function nameOf({ path, digest }: { readonly path: string; readonly digest: string }): string {
  return `${path} ${digest}`;
}

async function storedOf(db: Db, files: readonly Judgeable[]): Promise<ReadonlyMap<string, Stored>> {
  const { rows } = await db.query<Omit<Stored, 'help'> & { readonly digest: string }>(
    `select path, digest, present, verdict, reason, about from documents where path = any($1) and kind <> 'File' order by path collate "C"`,
    [files.map(({ path }) => path)],
  );
  const there = new Set(files.map(nameOf));
  return new Map(rows.filter((row) => there.has(nameOf(row))).map(({ digest, ...row }) => [nameOf({ ...row, digest }), { ...row, help: helpFor(row.reason) }]));
}

async function unreadOf({ snapshot, branch }: Preview, db: Db): Promise<Foreseen['unread']> {
  const { rows } = await db.query<{ unread: readonly Unread[] }>('select unread from branches where name = $1', [branch]);
  const known = new Set(rows.flatMap((row) => row.unread.map(({ path, reason }) => `${path} ${reason}`)));
  return snapshot.unread.map((entry) => ({ ...entry, help: reasons[entry.reason].help, isNew: !known.has(`${entry.path} ${entry.reason}`) }));
}

async function judgingOf(preview: Preview, db: Db, files: readonly Judgeable[], named: readonly RepositoryFile[]): Promise<Judging> {
  const { verifyBundle, initialDigest, sample, branch } = preview;
  const stored = await trustInForce(db, preview);
  const brought = files.find(({ kind, digest }) => kind === 'Trust' && digest === initialDigest);
  const isBrought = stored.kind === 'bad' && (stored.reason === 'TrustMissing' || stored.reason === 'FileMissing') && brought !== undefined;
  const trust = isBrought ? verifyTrust(brought, initialDigest, await filesWith(db, named, brought)) : stored;
  return { verifyBundle, initialDigest, sample, trust, branch, rewrittenTo: (await branchOf(db, branch))?.rewrittenTo ?? null };
}

/** A trust document that would be accepted is in force for what comes after it. */
function succeeded(judging: Judging, last: Room['merged'][number] | undefined): Judging {
  return last?.acceptable.kind === 'trust' ? { ...judging, trust: { kind: 'trusted', trust: last.acceptable.succession.trust } } : judging;
}

/** What the documents of one preview share. */
interface Room {
  readonly preview: Preview;
  readonly db: Db;
  readonly files: readonly Judgeable[];
  readonly named: readonly RepositoryFile[];
  readonly stored: ReadonlyMap<string, Stored>;
  /** What would be accepted before the next one. */
  readonly merged: { readonly file: Judgeable; readonly acceptable: Acceptable }[];
}

async function previewOf(room: Room, judging: Judging, file: Judgeable): Promise<Previewed> {
  const shelf = shelfOf(room);
  const finding = await findingOf(shelf, judging, file);
  const { judged } = finding;
  const before = room.stored.get(nameOf(file));
  const isUnsigned = judged.kind === 'waiting' && SIGNATURE_REASONS.includes(judged.reason);
  const signed = isUnsigned ? await findingOf(...signedByAll(shelf, judging, file), file) : null;
  const { acceptable } = signed ?? finding;
  const forecast = acceptable === null ? null : await forecastOf(room.preview, room.db, acceptable, mergedBefore(room));
  if (finding.acceptable !== null) room.merged.push({ file, acceptable: finding.acceptable });
  return {
    ...{ path: file.path, kind: file.kind, digest: file.digest, ...toldOf(finding) },
    approvedBy: judged.kind === 'accepted' ? judged.value.approvedBy : [],
    signatures: judged.kind === 'accepted' ? judged.value.signatures : [],
    isNew: !(before?.present === true && judged.kind === 'waiting' && judged.reason === before.reason),
    onceSigned: signed === null ? null : toldOf(signed),
    forecast,
  };
}

function mergedBefore({ merged }: Room): readonly Acceptable[] {
  return merged.map(({ acceptable }) => acceptable);
}

function toldOf({ judged }: Finding): Told {
  if (judged.kind === 'accepted') return { verdict: 'accepted', reason: null, about: null, help: null };
  return { verdict: judged.kind, reason: judged.reason, about: judged.about, help: helpFor(judged.reason) };
}

/** As if everybody whom the trust document names had signed, and of its successor whomever that one names. */
function signedByAll(shelf: Shelf, judging: Judging, file: Judgeable): [Shelf, Judging] {
  const trust = judging.trust.kind === 'trusted' ? judging.trust.trust : null;
  const parsed = file.kind === 'Trust' ? parseDocument(file.path, file.bytes) : null;
  const own = parsed?.kind === 'parsed' && parsed.document.kind === 'Trust' ? parsed.document.people.map(({ id }) => id) : [];
  const people = [...new Set([...(trust === null ? [] : signersIn(trust)), ...own])];
  const bundles = async (path: string): Promise<readonly RepositoryFile[]> =>
    people.map((person) => ({ path: bundlePath(path, person), bytes: Buffer.from(person) }));
  const by = { kind: 'key', digest: judging.initialDigest } as const;
  const verifyBundle: Judging['verifyBundle'] = (bundle) => ({ kind: 'signed', person: Buffer.from(bundle).toString('utf8'), by });
  return [
    { ...shelf, bundles },
    { ...judging, verifyBundle },
  ];
}

// ---------------------------------------------------------------- what is there, with what would be merged over it

function shelfOf({ preview, db, files, named, merged }: Room): Shelf {
  const arriving = merged.flatMap(({ acceptable }) => (isArriving(acceptable) ? [acceptable] : []));
  return {
    now: clockOf(db),
    isChanged: (path, digest) => isChanged(db, path, digest),
    bundles: async (path) => preview.snapshot.files.filter((file) => documentOfBundle(file.path) === path),
    series: async (path, digest) => seriesWith(await seriesOf(db, path, digest), files, merged, path, digest),
    files: (file) => filesWith(db, named, file),
    hold: async () => undefined,
    revocations: async () => [...(await standingRevocations(db)), ...merged.flatMap(({ file, acceptable }) => revocationIn(file, acceptable))],
    misfit: (one) => preview.misfit(db, one, arriving),
    basis: (release) => basisWith(preview, db, merged, release),
    withdrawalBar: (withdrawal) => withdrawalBar(db, withdrawal),
    lifting: (reinstatement) => liftingOf(db, reinstatement),
  };
}

function isArriving(acceptable: Acceptable): acceptable is Acceptable & Arriving {
  return acceptable.kind === 'release' || acceptable.kind === 'baseline' || acceptable.kind === 'platform';
}

function revocationIn({ path }: Judgeable, acceptable: Acceptable): readonly Standing[] {
  return acceptable.kind === 'revocation' ? [{ path, subject: acceptable.revocation.subject, at: null }] : [];
}

/** The stored series, with the files of the same folder that were never seen, and those marked that would be accepted before. */
function seriesWith(stored: readonly Standee[], files: readonly Judgeable[], merged: Room['merged'], path: string, digest: Digest): readonly Standee[] {
  const folder = path.slice(0, path.lastIndexOf('/') + 1);
  const accepted = new Set(merged.map(({ file }) => file.digest));
  const fresh = files.filter((file) => file.path.startsWith(folder) && file.digest !== digest && !stored.some((row) => row.digest === file.digest));
  const rows = fresh.flatMap((file): Standee[] => {
    const { serial } = columnsOf(file.path, file.bytes);
    return serial === null ? [] : [{ serial, digest: file.digest, accepted: false }];
  });
  return [...stored, ...rows].map((row) => (accepted.has(row.digest) ? { ...row, accepted: true } : row)).sort((a, b) => b.serial - a.serial);
}

async function filesWith(db: Db, named: readonly RepositoryFile[], file: RepositoryFile): Promise<NamedFiles> {
  const found = new Map<string, Uint8Array>();
  for (const { file: path, digest } of namedBy(file)) {
    if (!isDigest(digest)) continue;
    const brought = named.find((one) => one.path === path && digestOf(one.bytes) === digest)?.bytes;
    const bytes = brought ?? (await storedBytes(db, path, digest));
    if (bytes !== null) found.set(`${path} ${digest}`, bytes);
  }
  return (path, digest) => found.get(`${path} ${digest}`) ?? null;
}

/** A release that is accepted in the same pass has no ciphertext yet: what keeps it, or starts from it, waits. */
async function basisWith({ loaders }: Preview, db: Db, merged: Room['merged'], release: Release): Promise<Resting> {
  const { source, from } = release.artifact;
  const own = merged.flatMap(({ acceptable }) => (acceptable.kind === 'release' && acceptable.release.workload === release.workload ? [acceptable] : []));
  const named = source === 'keep' || source === 'reencrypt' ? own.findLast((one) => from === null || one.release.serial === from) : undefined;
  if (named === undefined) return basisOf(db, loaders.release, release);
  if (named.resting.basis.kind === 'keep') return { kind: 'found', basis: named.resting.basis, amended: null };
  return { kind: 'waiting', reason: 'CiphertextMissing', about: `${release.path}: artifact.from: serial ${named.release.serial} is not sealed yet` };
}
