/**
 * What one KBS should hold, whole, over all workloads: a pure function of the revisions that are
 * wanted, the accepted baseline and the accepted platforms (DESIGN §8).
 */
import { Fault } from '../errors.ts';
import type { Tee } from './documents/fields.ts';
import type { BaselineDocument, ForeignGrant, PlatformDocument, ReleaseDocument, TargetDocument } from './documents/release.ts';
import type { RevocationSubject } from './documents/trust.ts';
import { initDataClaim } from './init-data.ts';
import { canonicalJson, type Json } from './json.ts';
import type { Denied, Grant, Want } from './kbs.ts';
import { type KeyPath, keyPath } from './paths.ts';
import { renderPolicy } from './policy.ts';
import type { Reason } from './reasons.ts';
import type { Placed, Release } from './release.ts';
import { type IsRevokedValue, initDataOfTargets, revokedValues, withoutRevoked } from './revoked.ts';

/** The name whose value tells whether a KBS was wiped or restored. Nobody else may use it. */
export const GENERATION_NAME = 'keyturn.generation';
/** First segment of the paths that the prober asks for: nothing is stored there and nothing is granted there. */
const PROBE_REPOSITORY = 'keyturn';

/** Which reference value stands for which claim of `cpu0`'s annotated evidence. A grant is written on nothing else. */
const CLAIMS: Readonly<Record<Tee, Readonly<Record<string, string>>>> = {
  snp: { snp_launch_measurement: 'snp.measurement' },
  tdx: { mr_td: 'tdx.quote.body.mr_td', rtmr_1: 'tdx.quote.body.rtmr_1', rtmr_2: 'tdx.quote.body.rtmr_2' },
  sample: { svn: 'sample.svn' },
  'az-snp-vtpm': {},
  'az-tdx-vtpm': {},
};

/** Whether grants of this TEE are written on the claim of this reference value: then only what a release itself lists is good for its guests. */
export function isGrantClaim(tee: Tee, name: string): boolean {
  return grantClaim(tee, name) !== null;
}

/** The claim of `cpu0`'s annotated evidence that this reference value stands for, written with dots; null: no grant is written on it. */
export function grantClaim(tee: Tee, name: string): string | null {
  return Object.hasOwn(CLAIMS[tee], name) ? (CLAIMS[tee][name] ?? null) : null;
}

/** Why something cannot be wanted, for whoever accepts documents. */
export interface Refusal {
  readonly reason: Reason;
  readonly about: string;
}

/** All that a Want is made of. */
export interface WantParts {
  readonly installation: string;
  readonly kbs: string;
  /** First segment of every path that we write there. */
  readonly repository: string;
  readonly generation: number;
  /** Those in state live, published, serving or closing that are not revoked, of every workload. */
  readonly revisions: readonly Placed[];
  readonly baseline: BaselineDocument | null;
  /** Accepted platforms, without what was let go of them; those count that a guest of these revisions names. */
  readonly platforms: readonly PlatformDocument[];
  /** Every reference value name ever sent to this KBS. */
  readonly namesSent: readonly string[];
  /** This KBS's deny-list, whatever is on it: our own paths are left out here. */
  readonly denied: Denied;
  /** What accepted revocations that stand are about. */
  readonly revoked: readonly RevocationSubject[];
}

/**
 * What the KBS should hold. The same parts in any order give the same Want, member for member. Throws
 * Fault('NotSupportedYet') for a guest without a claim, Fault('Malformed') where one reference value is
 * a list here and a scalar there, or two scalars: `wantRefusal` asks the same before acceptance.
 */
export function wantOf(parts: WantParts): Want {
  const grants = new Map<string, Grant>();
  const isRevoked = revokedValues(parts.revoked);
  for (const known of parts.revisions) {
    for (const target of targetsOn(known, parts.kbs)) {
      const { text, grant } = writtenGrant(known, target, parts.repository);
      const left = isRevoked === null ? grant : narrowed(grant, isRevoked);
      if (left !== null) grants.set(left === grant ? text : canonicalJson(left as unknown as Json), left);
    }
  }
  return {
    kbs: parts.kbs,
    installation: parts.installation,
    generation: parts.generation,
    grants: inOrder(grants),
    foreign: foreignOf(parts, isRevoked),
    denied: deniedOf(parts),
    referenceValues: referenceValuesOf(parts, isRevoked),
  };
}

/** A grant without values that were revoked. null: a claim has none left, so nobody is good any more; a claim that was left out would let in more. */
function narrowed(grant: Grant, isRevoked: IsRevokedValue): Grant | null {
  const claims: Record<string, readonly Json[]> = {};
  for (const [name, path] of Object.entries(CLAIMS[grant.tee])) {
    const good = grant.claims[path];
    if (good === undefined) continue;
    const left = good.filter((value) => !isRevoked(name, value));
    if (left.length === 0) return null;
    claims[path] = left;
  }
  return Object.keys(claims).some((path) => claims[path]?.length !== grant.claims[path]?.length) ? { ...grant, claims } : grant;
}

/** What is on the deny-list, and the init-data of every wanted target that a revocation names, whether or not it is on the list already. */
function deniedOf({ denied, revisions, revoked, repository }: WantParts): Denied {
  return {
    paths: sortedSet(denied.paths.filter((path) => isForeign(path, repository))),
    initData: sortedSet([
      ...denied.initData,
      ...initDataOfTargets(
        revisions.map(({ release }) => release),
        revoked,
      ),
    ]),
    devices: sortedSet(denied.devices),
  };
}

/**
 * What `wantOf` and the policy made of it would throw for these parts, and what would be left out of a
 * baseline: asked before a document is accepted. A policy that its engine would not take (LimitExceeded)
 * would hold up every workload's, and every revocation. null: nothing.
 */
export function wantRefusal(parts: WantParts): Refusal | null {
  const refused = parts.baseline?.grants.flatMap((grant) => grant.paths).find((pattern) => !isForeign(pattern, parts.repository));
  if (refused !== undefined) return { reason: 'Malformed', about: `${refused}: a baseline may not grant ${parts.repository}/ or ${PROBE_REPOSITORY}/` };
  try {
    renderPolicy(wantOf(parts));
    return null;
  } catch (thrown) {
    if (thrown instanceof Fault) return { reason: thrown.reason, about: thrown.message };
    throw thrown;
  }
}

/**
 * What a target's guest must be to fetch this revision's key, and the release's further paths. Throws
 * Fault('NotSupportedYet') for a guest without a claim of the table, Fault('Malformed') for `kbsResources`
 * inside our own repository (they would hand out another workload's key) or under `keyturn/`.
 */
export function grantOf(known: Placed, target: TargetDocument, repository: string): Grant {
  const { workload, serial, guests, initData } = known.release;
  const guest = guests[target.guest];
  const toml = initData[target.guest];
  const about = `release ${workload}/${serial}, guest ${target.guest}`;
  if (guest === undefined || toml === undefined) throw new Fault('FileMissing', `${about}: its init-data is not there`);
  const own = guest.kbsResources.find((path) => !isForeign(path, repository));
  if (own !== undefined) throw new Fault('Malformed', `${about}: kbsResources may not name ${own}`);
  const claims = claimsOf(guest.tee, guest.referenceValues);
  if (Object.keys(claims).length === 0) throw new Fault('NotSupportedYet', `${about}: no reference value of tee ${guest.tee} that a grant can be written on`);
  return {
    paths: [keyPath(repository, known), ...sortedSet(guest.kbsResources)],
    tee: guest.tee,
    initData: initDataClaim(toml, guest.tee),
    devices: { gpu: guest.devices.gpu, switch: guest.devices.switch },
    claims,
  };
}

interface WrittenGrant {
  readonly text: string;
  readonly grant: Grant;
}

/** A fleet's grants are asked for at every change of one of them: each is written once, as long as its release is remembered. */
const written = new WeakMap<Release, Map<string, WrittenGrant>>();

function writtenGrant(known: Placed, target: TargetDocument, repository: string): WrittenGrant {
  const ofRelease = written.get(known.release) ?? new Map<string, WrittenGrant>();
  written.set(known.release, ofRelease);
  const name = `${keyPath(repository, known)} ${target.guest}`;
  const before = ofRelease.get(name);
  if (before !== undefined) return before;
  const grant = grantOf(known, target, repository);
  const made = { text: canonicalJson(grant as unknown as Json), grant };
  ofRelease.set(name, made);
  return made;
}

function claimsOf(tee: Tee, values: Readonly<Record<string, readonly Json[]>>): Readonly<Record<string, readonly Json[]>> {
  const claims: Record<string, readonly Json[]> = {};
  for (const [name, path] of Object.entries(CLAIMS[tee])) {
    const good = values[name];
    if (good !== undefined && good.length > 0) claims[path] = union(good);
  }
  return claims;
}

/** A baseline speaks for others' paths alone: a pattern that could match ours or the prober's is left out, whatever accepted it. */
function foreignOf({ baseline, repository }: WantParts, isRevoked: IsRevokedValue | null): readonly ForeignGrant[] {
  const foreign = new Map<string, ForeignGrant>();
  for (const grant of baseline?.grants ?? []) {
    const paths = sortedSet(grant.paths.filter((pattern) => isForeign(pattern, repository)));
    if (isRevoked !== null && restsOnRevoked(grant, isRevoked)) continue;
    if (paths.length > 0) foreign.set(canonicalJson({ ...grant, paths }), { ...grant, paths });
  }
  return inOrder(foreign);
}

/** Where the annotated evidence of `cpu0` stands in a token. */
const EVIDENCE = '/submods/cpu0/ear.veraison.annotated-evidence/';

/** Whether a grant of others asks for a measurement that was revoked, wherever its TEE writes it. */
function restsOnRevoked({ claims }: ForeignGrant, isRevoked: IsRevokedValue): boolean {
  const names = Object.values(CLAIMS).flatMap((ofTee) => Object.entries(ofTee));
  return names.some(([name, path]) => {
    const value = claims[EVIDENCE + path.replaceAll('.', '/')];
    return value !== undefined && isRevoked(name, value);
  });
}

function isForeign(pattern: KeyPath, repository: string): boolean {
  const first = pattern.split('/')[0] ?? '';
  return first !== '*' && first !== repository && first !== PROBE_REPOSITORY;
}

/** Where a reference value comes from, for messages. */
interface Source {
  readonly from: string;
  readonly values: Readonly<Record<string, Json>>;
}

/** The union over all: a list is merged, a scalar (for names that the verifier compares with `==`) stands alone. What is no longer wanted is `[]`. */
function referenceValuesOf(parts: WantParts, isRevoked: IsRevokedValue | null): Readonly<Record<string, Json>> {
  const merged = new Map<string, Merged>();
  for (const { from, values } of sourcesOf(parts)) {
    for (const [name, value] of Object.entries(isRevoked === null ? values : withoutRevoked(values, isRevoked))) {
      const before = merged.get(name) ?? { from, isList: Array.isArray(value), values: new Map() };
      merged.set(name, before);
      join(name, before, from, value);
    }
  }
  const wanted: Record<string, Json> = {};
  for (const name of sortedSet([...merged.keys(), ...parts.namesSent, GENERATION_NAME])) wanted[name] = wantedValue(merged.get(name));
  wanted[GENERATION_NAME] = { installation: parts.installation, generation: parts.generation };
  return wanted;
}

function sourcesOf({ kbs, revisions, platforms, baseline }: WantParts): readonly Source[] {
  const guests = revisions.flatMap((known) =>
    targetsOn(known, kbs).flatMap((target) => {
      const guest = known.release.guests[target.guest];
      return guest === undefined ? [] : [{ from: `release ${known.release.workload}/${known.release.serial}`, guest }];
    }),
  );
  const named = platforms.filter((platform) => guests.some(({ guest }) => guest.platform === platform.id && guest.tee === platform.tee));
  return [
    ...(baseline === null ? [] : [{ from: `baseline ${baseline.kbs}/${baseline.version}`, values: baseline.referenceValues }]),
    ...named.map((platform) => ({ from: `platform ${platform.id}/${platform.serial}`, values: platform.referenceValues })),
    ...guests.map(({ from, guest }) => ({ from, values: guest.referenceValues })),
  ];
}

/** The values of one name, each once, by their canonical JSON. */
interface Merged {
  readonly from: string;
  readonly isList: boolean;
  readonly values: Map<string, Json>;
}

function join(name: string, merged: Merged, from: string, value: Json): void {
  for (const one of Array.isArray(value) ? value : [value]) merged.values.set(canonicalJson(one), one);
  if (merged.isList === Array.isArray(value) && (merged.isList || merged.values.size === 1)) return;
  throw new Fault('Malformed', `reference value ${name}: ${from} and ${merged.from} do not fit together; a scalar stands alone`);
}

function wantedValue(merged: Merged | undefined): Json {
  if (merged === undefined) return [];
  const values = inOrder(merged.values);
  return merged.isList ? values : (values[0] ?? []);
}

/** Every value once, in the order of their canonical JSON. */
function union(values: readonly Json[]): readonly Json[] {
  return inOrder(new Map(values.map((value) => [canonicalJson(value), value])));
}

function targetsOn(known: Pick<Placed, 'release'>, kbs: string): readonly ReleaseDocument['targets'][number][] {
  return known.release.targets.filter((target) => target.kbs === kbs);
}

function inOrder<T>(byText: ReadonlyMap<string, T>): readonly T[] {
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value);
}

function sortedSet(names: readonly string[]): string[] {
  return [...new Set(names)].sort();
}
