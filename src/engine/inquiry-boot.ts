/** What is known of a pod's boot: whose it is, what it asked for, and how its attestation stands to what it should be. Reads; counts nothing. */
import { isIP } from 'node:net';
import { differencesOf } from '#src/domain/attestation-differences.ts';
import { appraise, type Expectation } from '#src/domain/attestation-result.ts';
import type { TargetDocument } from '#src/domain/documents/release.ts';
import { type Appraised, type AskedFor, type BootInquiry, conclusionOf } from '#src/domain/inquiry.ts';
import { keyPath, parseKeyPath } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import { targetOf } from '#src/domain/target.ts';
import { grantOf } from '#src/domain/want.ts';
import { isFault } from '#src/errors.ts';
import { type Instant, later } from '#src/instant.ts';
import { brokerRows } from '#state/brokers.ts';
import type { Db } from '#state/database.ts';
import { type BootRow, bootsNamed, callsFrom, deniedBecause, type FetchRow, type HandshakeRow, rotationNaming, workloadWaitingFor } from '#state/inquiry.ts';
import { knownRevisions } from '#state/revisions.ts';
import type { Loaders } from '#state/want.ts';

/** What an inquiry asks beside the rows. */
export interface BootParts {
  readonly loaders: Loaders;
  /** PEM of the CAs that a KBS's attestation service signs under; null: they cannot be read from here. */
  readonly signersOf: (kbs: string) => Promise<readonly string[] | null>;
  /** How far a cluster's clocks may stand from the database's. Seconds. */
  readonly clockBoundOf: (cluster: string) => number;
}

/** The boots that a pod's name, uid or address names, the newest first; an address where no pod was sighted is told as one. */
export async function bootInquiries(parts: BootParts, db: Db, name: string): Promise<readonly BootInquiry[]> {
  const sighted = await bootsNamed(db, name);
  const rows = sighted.length === 0 && isIP(name) !== 0 ? await unsighted(db, name) : sighted;
  const boots: BootInquiry[] = [];
  for (const row of rows) boots.push(await bootInquiry(parts, db, row));
  return boots;
}

/** Whoever called from an address that no listing of pods ever showed. */
async function unsighted(db: Db, address: string): Promise<readonly BootRow[]> {
  const { rows } = await db.query<{ first: Instant | null; last: Instant | null }>(
    `select min(at) as first, max(at) as last from (select at from fetches where address = $1 union all select at from handshakes where address = $1) calls`,
    [address],
  );
  const { first = null, last = null } = rows[0] ?? {};
  if (first === null || last === null) return [];
  return [{ cluster: '', uid: '', containerId: '', pod: address, address, startedAt: first, lastSeenAt: last, teeKey: null, nextAt: null }];
}

async function bootInquiry(parts: BootParts, db: Db, row: BootRow): Promise<BootInquiry> {
  const { cluster, pod, uid, containerId, address, startedAt, lastSeenAt } = row;
  const calls = await callsFrom(db, address, later(startedAt, -parts.clockBoundOf(cluster)), row.nextAt);
  const workload = await workloadOf(parts, db, row, calls.fetches);
  const known = workload === null ? [] : await knownRevisions(db, { workload: workload.name }, parts.loaders.release);
  const places = await placesOf(db, known);
  const target = targetOf(known);
  const document = target === null ? null : targetDocument(target, row);
  const fetches: AskedFor[] = [];
  for (const fetch of calls.fetches) fetches.push(await askedFor(db, fetch, places));
  const boot = {
    ...{ cluster, pod, uid, containerId, address, startedAt, lastSeenAt, workload, fetches },
    target: target === null || document === null ? null : { revision: nameOf(target), rotation: target.rotation, path: pathAt(places, target, document.kbs) },
    countedFor: row.teeKey === null ? null : await countedFor(db, row, calls, places, known),
    attestations: await attestationsOf(parts, db, calls, target, document),
  };
  return { ...boot, conclusion: conclusionOf(boot) };
}

/** Whose boot it is: from a receipt that counted it, the key that it asked for, a run that waits for it; else from its name. */
async function workloadOf(parts: BootParts, db: Db, row: BootRow, fetches: readonly FetchRow[]): Promise<BootInquiry['workload']> {
  const rotation = row.uid === '' ? null : await rotationNaming(db, row);
  if (rotation !== null) {
    const { rows } = await db.query<{ workload: string }>('select workload from revisions where rotation = $1', [rotation]);
    if (rows[0] !== undefined) return { name: rows[0].workload, by: 'receipt' };
  }
  const asked = fetches.map(({ path }) => parseKeyPath(path)).find((path) => path !== null);
  if (asked !== undefined && asked !== null) return { name: asked.workload, by: 'fetch' };
  const waiting = await workloadWaitingFor(db, row.pod);
  if (waiting !== null) return { name: waiting, by: 'run' };
  const wanted = await knownRevisions(db, { wanted: true }, parts.loaders.release);
  const named = wanted.find(({ release }) => release.targets.some(({ cluster, name }) => cluster === row.cluster && row.pod.startsWith(`${name}-`)));
  return named === undefined ? null : { name: named.release.workload, by: 'name' };
}

interface Place {
  readonly kbs: string;
  readonly repository: string;
  readonly path: string;
  readonly known: Known;
}

async function placesOf(db: Db, known: readonly Known[]): Promise<readonly Place[]> {
  const brokers = await brokerRows(db);
  return known.flatMap((one) =>
    brokers
      .filter(({ name }) => one.release.targets.some(({ kbs }) => kbs === name))
      .map(({ name, repository }) => ({ kbs: name, repository, path: keyPath(repository, one), known: one })),
  );
}

function pathAt(places: readonly Place[], { id }: Known, kbs: string): string {
  return places.find((place) => place.known.id === id && place.kbs === kbs)?.path ?? '';
}

/** The target that a pod belongs to, by its cluster and name; the first one where neither tells. */
function targetDocument({ release }: Known, { cluster, pod }: BootRow): TargetDocument | null {
  const here = release.targets.filter((target) => target.cluster === cluster);
  return here.find(({ name }) => pod.startsWith(`${name}-`)) ?? here[0] ?? release.targets[0] ?? null;
}

function nameOf({ release, sealing }: Known): string {
  return `s${release.serial}-v${sealing.epoch}`;
}

function revisionAt(path: string, places: readonly Place[]): string | null {
  const place = places.find((one) => one.path === path);
  if (place !== undefined) return nameOf(place.known);
  const parsed = parseKeyPath(path);
  return parsed === null ? null : `s${parsed.serial}-v${parsed.epoch}`;
}

async function askedFor(db: Db, { at, kbs, path, decision, type }: FetchRow, places: readonly Place[]): Promise<AskedFor> {
  const because = decision === 'refused' ? await deniedBecause(db, kbs, path) : null;
  return { at, kbs, path, revision: revisionAt(path, places), decision, type, deniedBecause: because };
}

interface Calls {
  readonly fetches: readonly FetchRow[];
  readonly handshakes: readonly HandshakeRow[];
}

/** The fetch under the TEE key that was counted; where it is too long ago to be listed, the receipt that names the boot. */
async function countedFor(db: Db, row: BootRow, { fetches, handshakes }: Calls, places: readonly Place[], known: readonly Known[]): Promise<string | null> {
  const own = handshakes.filter(({ teeKey }) => teeKey === row.teeKey).map(({ id }) => id);
  const fetch = fetches.find(({ decision, handshake }) => decision === 'released' && handshake !== null && own.includes(handshake));
  if (fetch !== undefined) return revisionAt(fetch.path, places);
  const rotation = await rotationNaming(db, row);
  const counted = known.find((one) => one.rotation === rotation);
  return counted === undefined ? null : nameOf(counted);
}

async function attestationsOf(
  parts: BootParts,
  db: Db,
  { fetches, handshakes }: Calls,
  target: Known | null,
  document: TargetDocument | null,
): Promise<readonly Appraised[]> {
  const expected = target === null || document === null ? null : await expectationOf(db, target, document);
  const appraised = handshakes.map(async ({ id, at, kbs, token }): Promise<Appraised> => {
    const signers = expected === null ? null : await parts.signersOf(kbs);
    // Judged at the fetch, as the look at the pods does.
    const asked = fetches.find((fetch) => fetch.handshake === id)?.at ?? at;
    const appraisal = expected === null || signers === null ? null : await appraise(token, asked, signers, expected);
    const bad = appraisal?.kind === 'bad' ? appraisal : null;
    return { at, kbs, reason: bad?.reason ?? null, about: bad?.about ?? null, differences: expected === null ? [] : differencesOf(token, expected) };
  });
  return Promise.all(appraised);
}

/** What the release that it should run demands of a guest; null: it demands what cannot be said. */
async function expectationOf(db: Db, known: Known, document: TargetDocument): Promise<Expectation | null> {
  const repository = (await brokerRows(db)).find(({ name }) => name === document.kbs)?.repository;
  if (repository === undefined) return null;
  try {
    const { tee, devices, initData, claims } = grantOf(known, document, repository);
    return { tee, devices, initData, claims, maxAgeSeconds: known.release.rollout.attestation.maxAgeSeconds };
  } catch (thrown) {
    if (isFault(thrown)) return null;
    throw thrown;
  }
}
