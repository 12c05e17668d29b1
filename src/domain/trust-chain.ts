/**
 * Versions of the trust document, one after the other (DESIGN §6): the first is pinned by its digest, each
 * later one is signed by the administrators of the one before and by its own. After a lost quorum another
 * one is pinned: the chain goes on from there, and what was judged under the earlier ones still stands.
 */
import { type Digest, digestOf } from '../digest.ts';
import type { Instant } from '../instant.ts';
import type { Evidence, Judged } from './judge.ts';
import {
  type Count,
  countPeople,
  type Looked,
  lookAt,
  type Quorum,
  type RepositoryFile,
  type Signature,
  signaturesOf,
  type VerifyBundle,
} from './signatures.ts';
import { type NamedFiles, NO_FILES, readTrust, type Trust, type TrustVerdict, verifyTrust } from './trust.ts';

/** What the configuration says of trust. */
export interface TrustPins {
  /** Of the document that the chain in use begins with: `trust.initialDigest`. */
  readonly initialDigest: Digest;
  /** Of those that were pinned before it: `trust.formerDigests`. What was accepted under them is verified from there. */
  readonly formerDigests?: readonly Digest[];
}

/** A trust document as it is stored. */
export interface StoredTrust extends RepositoryFile {
  readonly digest: Digest;
  readonly accepted: boolean;
  readonly bundles: readonly RepositoryFile[];
  /** What it names by digest. */
  readonly files: NamedFiles;
}

/** Every version that counts; `trust` is the one in force. */
export type TrustChain =
  | { readonly kind: 'trusted'; readonly trust: Trust; readonly versions: ReadonlyMap<number, Trust> }
  | Extract<TrustVerdict, { kind: 'bad' }>;

/** A successor that was approved. */
export interface Succession {
  readonly trust: Trust;
  readonly approvedBy: readonly string[];
  readonly signatures: readonly Signature[];
}

/**
 * Judges the next version: exactly one above `evidence.trust`, and signed by enough administrators of both.
 * Whoever is `revoked` does not count. That the one before has expired does not matter: its successor is the
 * way out. `now` null: a second judgement, of which only the signatures are asked. `files`: what it names.
 */
export function verifySuccession(
  evidence: Evidence,
  more: { readonly now: Instant | null; readonly revoked: readonly string[]; readonly files: NamedFiles },
): Judged<Succession> {
  const { file, trust: before } = evidence;
  const read = readTrust(file, more.files);
  if (read.kind === 'bad') return { ...read, kind: read.reason === 'FileMissing' ? 'waiting' : 'refused' };
  const { trust } = read;
  if (trust.version !== before.version + 1) {
    const about = `${file.path}: version ${before.version} is in force: expected ${before.version + 1}`;
    return { kind: 'waiting', reason: 'TrustOutOfTurn', about };
  }
  if (more.now !== null && more.now >= trust.expires) return { kind: 'refused', reason: 'Expired', about: `${file.path}: expires: ${trust.expires} is past` };
  const people: string[] = [];
  const looked: Looked[] = [];
  for (const one of [before, trust]) {
    const own = lookAt(file, evidence.bundles, one, evidence.verifyBundle);
    const count = administratorsIn(own, one, more.revoked);
    if (count.kind === 'short')
      return { kind: 'waiting', reason: count.reason, about: `${file.path}: by the administrators of version ${one.version}: ${count.about}` };
    people.push(...count.people);
    looked.push(...own);
  }
  const approvedBy = [...new Set(people)].sort();
  return { kind: 'accepted', value: { trust, approvedBy, signatures: signaturesOf(looked, approvedBy) } };
}

function administratorsIn(looked: readonly Looked[], trust: Trust, revoked: readonly string[]): Count {
  const { threshold, people } = trust.roles.administrators;
  const quorum: Quorum = { threshold, people: people.filter((person) => !revoked.includes(person)) };
  return countPeople(looked, quorum);
}

/**
 * Builds the chain from stored documents, every one of which is verified again: rows are not trusted.
 * Fails closed where an accepted one is not reached from what is pinned, or where what is pinned is older
 * than the one in force.
 */
export function trustChainOf(stored: readonly StoredTrust[], pins: TrustPins, verifyBundle: VerifyBundle): TrustChain {
  const anchors = new Set([...(pins.formerDigests ?? []), pins.initialDigest]);
  const versions = new Map<number, Trust>();
  let last: Trust | null = null;
  for (const anchor of anchors) {
    const first = stored.find(({ digest }) => digest === anchor) ?? null;
    // Of one that was pinned before and never seen here, nothing was judged.
    if (first === null && anchor !== pins.initialDigest) continue;
    const pinned = verifyTrust(first, anchor, first?.files ?? NO_FILES);
    if (pinned.kind === 'bad') return pinned;
    const line = lineFrom(pinned.trust, stored, anchors, verifyBundle);
    if (line.kind === 'bad') return line;
    for (const trust of line.trusts) {
      const other = versions.get(trust.version);
      if (other !== undefined && other.digest !== trust.digest)
        return bad('TrustMissing', `version ${trust.version} is pinned as ${other.digest} and as ${trust.digest}`);
      versions.set(trust.version, trust);
    }
    if (anchor === pins.initialDigest) last = line.trusts.at(-1) ?? null;
  }
  return last === null ? bad('TrustMissing', 'nothing is pinned') : (unreached(stored, versions, last) ?? { kind: 'trusted', trust: last, versions });
}

/** A pinned document and its accepted successors, up to the next one that is pinned. */
function lineFrom(
  first: Trust,
  stored: readonly StoredTrust[],
  anchors: ReadonlySet<Digest>,
  verifyBundle: VerifyBundle,
): { readonly kind: 'line'; readonly trusts: readonly Trust[] } | Extract<TrustVerdict, { kind: 'bad' }> {
  const trusts = [first];
  let trust = first;
  for (;;) {
    const path = `trust/${trust.version + 1}.yaml`;
    const file = stored.find((one) => one.path === path && one.accepted && !anchors.has(one.digest));
    if (file === undefined) return { kind: 'line', trusts };
    if (digestOf(file.bytes) !== file.digest) return bad('Tampered', `documents: ${path} does not hash to ${file.digest}`);
    const judged = verifySuccession({ file, bundles: file.bundles, trust, verifyBundle }, { now: null, revoked: [], files: file.files });
    // Pinned once and not any more, or written by somebody else: it is not reached, and that stops all.
    if (judged.kind !== 'accepted') return { kind: 'line', trusts };
    trust = judged.value.trust;
    trusts.push(trust);
  }
}

/** What was accepted and is on no line: another quorum's word, or an older one's. */
function unreached(stored: readonly StoredTrust[], versions: ReadonlyMap<number, Trust>, last: Trust): Extract<TrustVerdict, { kind: 'bad' }> | null {
  const highest = Math.max(...versions.keys());
  if (last.version < highest) return bad('TrustDowngraded', `version ${highest} was in force before; the one that is pinned leads to version ${last.version}`);
  const reached = new Set([...versions.values()].map(({ digest }) => digest));
  const [lost] = stored
    .filter(({ accepted, digest }) => accepted && !reached.has(digest))
    .map(({ path, digest }) => ({ path, digest, version: Number(/^trust\/(\d+)\.yaml$/.exec(path)?.[1] ?? 0) }))
    .sort((a, b) => b.version - a.version);
  if (lost === undefined) return null;
  if (lost.version >= last.version)
    return bad('TrustDowngraded', `${lost.path} (${lost.digest}) was in force before; the one that is pinned leads to version ${last.version}`);
  return bad('TrustMissing', `${lost.path} (${lost.digest}) was accepted, and nothing that is pinned leads to it`);
}

function bad(reason: Extract<TrustVerdict, { kind: 'bad' }>['reason'], about: string): Extract<TrustVerdict, { kind: 'bad' }> {
  return { kind: 'bad', reason, about };
}
