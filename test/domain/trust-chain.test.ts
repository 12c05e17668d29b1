import { describe, expect, it } from 'vitest';
import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { NO_FILES } from '#src/domain/trust.ts';
import { type StoredTrust, type TrustChain, trustChainOf, verifySuccession } from '#src/domain/trust-chain.ts';
import { parseInstant } from '#src/instant.ts';
import { type Files, makePerson, type Person, signedBy, trustText } from '../documents/people.ts';

const [ann, bob, cid, dot, eve, fay] = ['ann', 'bob', 'cid', 'dot', 'eve', 'fay'].map((id) => makePerson(id)) as [
  Person,
  Person,
  Person,
  Person,
  Person,
  Person,
];
const OLD = [ann, bob, cid];
const NEW = [cid, dot, eve];
const NOW = parseInstant('2026-01-01T00:00:00Z');

/** A trust document's file and bundles, as they are stored. */
async function version(number: number, people: readonly Person[], signers: readonly Person[], change: Record<string, unknown> = {}): Promise<StoredTrust> {
  const path = `trust/${number}.yaml`;
  const text = trustText(people, { version: number, ...change });
  const files: Files = await signedBy(path, text, signers);
  const bundles = Object.entries(files).flatMap(([name, bytes]) => (name === path ? [] : [{ path: name, bytes: Buffer.from(bytes) }]));
  return { path, bytes: Buffer.from(text), digest: digestOf(text), accepted: true, bundles, files: NO_FILES };
}

function chain(stored: readonly StoredTrust[], initialDigest: Digest, formerDigests: readonly Digest[] = []): TrustChain {
  return trustChainOf(stored, { initialDigest, formerDigests }, verifyBundle);
}

function told(found: TrustChain): string {
  return found.kind === 'bad' ? found.reason : `${found.trust.version} of ${[...found.versions.keys()].sort((a, b) => a - b).join(' ')}`;
}

describe('the next version', () => {
  const judge = async (next: StoredTrust, { expires = '2099-01-01T00:00:00Z', revoked = [] as string[] } = {}): Promise<string> => {
    const first = await version(1, OLD, [], { expires });
    const before = chain([first], first.digest);
    if (before.kind === 'bad') throw new Error(before.about);
    const judged = verifySuccession({ file: next, bundles: next.bundles, trust: before.trust, verifyBundle }, { now: NOW, revoked, files: NO_FILES });
    return judged.kind === 'accepted' ? `accepted by ${judged.value.approvedBy.join(' ')}` : `${judged.kind} ${judged.reason}`;
  };

  it('needs enough administrators of the one before and of its own', async () => {
    expect(await judge(await version(2, NEW, [ann, bob, dot, eve]))).toBe('accepted by ann bob dot eve');
    expect(await judge(await version(2, NEW, [ann, cid, dot]))).toBe('accepted by ann cid dot');
    expect(await judge(await version(2, NEW, [cid, dot, eve]))).toBe('waiting SignerUnknown');
    expect(await judge(await version(2, NEW, [ann, bob]))).toBe('waiting SignerUnknown');
    expect(await judge(await version(2, NEW, [ann, bob, cid]))).toBe('waiting SignerUnknown');
    expect(await judge(await version(2, OLD, []))).toBe('waiting SignaturesMissing');
  });

  it('is exactly one above', async () => {
    for (const number of [1, 3]) expect(await judge(await version(number, OLD, OLD))).toBe('waiting TrustOutOfTurn');
  });

  it('follows one that has expired, and has not expired itself', async () => {
    expect(await judge(await version(2, OLD, OLD), { expires: '2020-01-01T00:00:00Z' })).toMatch('accepted');
    expect(await judge(await version(2, OLD, OLD, { expires: '2020-01-01T00:00:00Z' }))).toBe('refused Expired');
  });

  it('is not carried by somebody who is revoked, nor kept out by their signature', async () => {
    expect(await judge(await version(2, OLD, [ann, bob]), { revoked: ['bob'] })).toMatch('waiting');
    expect(await judge(await version(2, OLD, OLD), { revoked: ['bob'] })).toBe('accepted by ann cid');
  });

  it('is held to the same rules as the first', async () => {
    expect(await judge(await version(2, [ann, bob, { ...cid, publicPem: ann.publicPem }], OLD))).toBe('refused Malformed');
  });
});

describe('the chain', () => {
  it('leads from what is pinned to the newest that was accepted, and keeps every version', async () => {
    const [first, second, third] = [await version(1, OLD, []), await version(2, NEW, [ann, cid, dot]), await version(3, NEW, [dot, eve])];
    expect(told(chain([first, second, third], first.digest))).toBe('3 of 1 2 3');
    expect(told(chain([first, second, { ...third, accepted: false }], first.digest))).toBe('2 of 1 2');
    expect(told(chain([second, third], first.digest))).toBe('TrustMissing');
  });

  it('takes no row’s word: an accepted one whose signatures do not hold stops all', async () => {
    const first = await version(1, OLD, []);
    expect(told(chain([first, await version(2, [dot, eve, fay], [dot, eve, fay])], first.digest))).toBe('TrustDowngraded');
    const second = await version(2, OLD, OLD);
    expect(told(chain([first, { ...second, bytes: Buffer.from(`${second.bytes}\n`) }], first.digest))).toBe('Tampered');
  });

  it('goes on from a newer document that is pinned after a lost quorum, and what was accepted before stands', async () => {
    const [first, second] = [await version(1, OLD, []), await version(2, NEW, [ann, cid, dot])];
    const pinned = { ...(await version(3, [dot, eve, fay], [])), accepted: false };
    expect(told(chain([first, second, pinned], pinned.digest, [first.digest]))).toBe('3 of 1 2 3');
    const fourth = await version(4, [dot, eve, fay], [dot, fay]);
    expect(told(chain([first, second, { ...pinned, accepted: true }, fourth], pinned.digest, [first.digest]))).toBe('4 of 1 2 3 4');
  });

  it('forgets nothing silently: an accepted one that nothing pinned leads to stops all', async () => {
    const [first, second, pinned] = [await version(1, OLD, []), await version(2, NEW, [ann, cid, dot]), await version(3, [dot, eve, fay], [])];
    expect(told(chain([first, second, pinned], pinned.digest))).toBe('TrustMissing');
  });

  it('never goes back', async () => {
    const [first, second, third] = [await version(1, OLD, []), await version(2, NEW, [ann, cid, dot]), await version(3, [dot, eve, fay], [])];
    expect(told(chain([first, second, third], first.digest, [third.digest]))).toBe('TrustDowngraded');
    expect(told(chain([first, second, third], first.digest))).toBe('TrustDowngraded');
    const other = { ...(await version(2, [dot, eve, fay], [])), accepted: false };
    expect(told(chain([first, second, other], other.digest, [first.digest]))).toBe('TrustMissing');
    expect(told(chain([first, second, other], other.digest))).toBe('TrustDowngraded');
    // Pinning what is in force, or leads to it, changes nothing.
    expect(told(chain([first, second], second.digest, [first.digest]))).toBe('2 of 1 2');
  });
});
