import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { bundlePath } from '#src/domain/documents/places.ts';
import { type Admission, type Judged, verifyBaseline, verifyPlatform, verifyRelease } from '#src/domain/judge.ts';
import { verifyRevocation } from '#src/domain/judge-revocation.ts';
import { countPeople, type Looked, type RepositoryFile } from '#src/domain/signatures.ts';
import { type Trust, verifyTrust } from '#src/domain/trust.ts';
import { parseInstant } from '#src/instant.ts';
import { type Files, INIT_DATA, makePerson, type Person, releaseText, revocationText, signedBy, trustText, yaml } from '../documents/people.ts';

const [ann, bob, cid, eve] = ['ann', 'bob', 'cid', 'eve'].map((id) => makePerson(id)) as [Person, Person, Person, Person];
const NOW = parseInstant('2026-11-23T00:00:00Z');
const D = (text: string): Digest => digestOf(text);

function trustOf(people: readonly Person[] = [ann, bob, cid], change: Record<string, unknown> = {}, roles: Record<string, unknown> = {}): Trust {
  const text = trustText(people, change, roles);
  const judged = verifyTrust({ path: 'trust/1.yaml', bytes: Buffer.from(text) }, digestOf(text));
  if (judged.kind === 'bad') throw new Error(judged.about);
  return judged.trust;
}

function evidence(path: string, files: Files, trust: Trust): Parameters<typeof verifyRelease>[0] {
  const bundles: RepositoryFile[] = Object.entries(files).flatMap(([name, text]) => (name === path ? [] : [{ path: name, bytes: Buffer.from(text) }]));
  return { file: { path, bytes: Buffer.from(files[path] ?? '') }, bundles, trust, verifyBundle };
}

const FIRST: Admission = { kind: 'first', now: NOW, standing: { last: null, others: [] } };
const PATH = 'releases/w/1.yaml';
const files = (_path: string, digest: Digest): Uint8Array | null => (digest === digestOf(INIT_DATA) ? Buffer.from(INIT_DATA) : null);

function judgeRelease(
  signed: Files,
  more: { trust?: Trust; admission?: Admission; path?: string; files?: typeof files; sample?: boolean } = {},
): Judged<{ readonly approvedBy: readonly string[] }> {
  const path = more.path ?? PATH;
  return verifyRelease(evidence(path, signed, more.trust ?? trustOf()), more.admission ?? FIRST, { files: more.files ?? files, sample: more.sample ?? true });
}

function answer(judged: Judged<unknown>): string {
  return judged.kind === 'accepted' ? 'accepted' : `${judged.kind} ${judged.reason}`;
}

const text = releaseText('w', 1, null);
let good: Files;
beforeAll(async () => {
  good = await signedBy(PATH, text, [ann, bob]);
});

describe('a release needs distinct people', () => {
  it('two of three are enough, and are named', () => {
    expect(judgeRelease(good)).toMatchObject({
      kind: 'accepted',
      value: { digest: D(text), path: PATH, approvedBy: ['ann', 'bob'], trustVersion: 1, initData: { cpu: INIT_DATA } },
    });
  });

  it('each shortage has its own reason', async () => {
    const one = await signedBy(PATH, text, [ann]);
    expect(answer(judgeRelease({ [PATH]: text }))).toBe('waiting SignaturesMissing');
    expect(answer(judgeRelease(one))).toBe('waiting SignaturesMissing');
    const again = (await signedBy(PATH, text, [ann]))[bundlePath(PATH, 'ann')] ?? '';
    expect(answer(judgeRelease({ ...one, [bundlePath(PATH, 'ann-2')]: again }))).toBe('waiting SignedTwiceByOne');
    expect(answer(judgeRelease({ ...one, ...(await signedBy(PATH, text, [eve])) }))).toBe('waiting SignerUnknown');
    const other = await signedBy(PATH, `${text}\n`, [bob]);
    expect(answer(judgeRelease({ ...other, ...one }))).toBe('waiting SignatureInvalid');
    expect(answer(judgeRelease({ ...one, [bundlePath(PATH, 'bob')]: '{"base64Signature":"AAAA"}' }))).toBe('waiting BundleUnsupported');
    const trust = trustOf([ann, bob, cid, eve], {}, { approvers: [{ workloads: ['*'], threshold: 2, people: ['ann', 'bob', 'cid'] }] });
    expect(answer(judgeRelease({ ...one, ...(await signedBy(PATH, text, [eve])) }, { trust }))).toBe('waiting SignerNotEntitled');
  });

  it('one person with two keys is one person', async () => {
    const second = makePerson('ann');
    const people = [{ id: 'ann', keys: [ann.publicPem, second.publicPem] }, ...[bob, cid].map(({ id, publicPem }) => ({ id, keys: [publicPem] }))];
    const signed = {
      ...(await signedBy(PATH, text, [ann])),
      [bundlePath(PATH, 'other')]: (await signedBy(PATH, text, [second]))[bundlePath(PATH, 'ann')] ?? '',
    };
    expect(answer(judgeRelease(signed, { trust: trustOf([ann, bob, cid], { people }) }))).toBe('waiting SignedTwiceByOne');
  });

  it('bad bundles never spoil a good quorum', async () => {
    const junk = Object.fromEntries(['a', 'b', 'zz'].map((name) => [bundlePath(PATH, name), '{']));
    expect(answer(judgeRelease({ ...junk, ...good, ...(await signedBy(PATH, text, [eve])), [PATH]: text }))).toBe('accepted');
  });

  it('a signature of another document is none here', async () => {
    const other = releaseText('w', 1, null, { images: { chat: `registry.example/evil@sha256:${'6'.repeat(64)}` } });
    expect(answer(judgeRelease({ ...(await signedBy(PATH, other, [ann, bob])), [PATH]: text }))).toBe('waiting SignatureInvalid');
  });

  it('the first entry that holds the workload decides', async () => {
    const strict = trustOf(
      [ann, bob, cid],
      {},
      {
        approvers: [
          { workloads: ['w'], threshold: 3, people: ['ann', 'bob', 'cid'] },
          { workloads: ['*'], threshold: 1, people: ['ann'] },
        ],
      },
    );
    expect(answer(judgeRelease(good, { trust: strict }))).toBe('waiting SignaturesMissing');
    const elsewhere = trustOf([ann, bob, cid], {}, { approvers: [{ workloads: ['other'], threshold: 1, people: ['ann'] }] });
    expect(answer(judgeRelease(good, { trust: elsewhere }))).toBe('waiting SignerNotEntitled');
  });

  it('whatever the bundles, the count is of distinct entitled people', () => {
    const person = fc.constantFrom('ann', 'bob', 'cid', 'eve');
    const verdict = fc.oneof(
      person.map((who) => ({ kind: 'signed', person: who, by: { kind: 'key', digest: D(who) } }) as const),
      fc.constant({ kind: 'bad', reason: 'SignatureInvalid', about: '' } as const),
    );
    const looked = fc.array(verdict).map((all): Looked[] => all.map((one, index) => ({ path: String(index), verdict: one })));
    fc.assert(
      fc.property(looked, fc.uniqueArray(person), fc.integer({ min: 0, max: 4 }), (all, people, threshold) => {
        const distinct = people.filter((one) => all.some(({ verdict: found }) => found.kind === 'signed' && found.person === one)).sort();
        const count = countPeople(all, { threshold, people });
        expect(count.people).toEqual(distinct);
        expect(count.kind).toBe(threshold > 0 && distinct.length >= threshold ? 'enough' : 'short');
      }),
    );
  });
});

describe('what bounds acceptance', () => {
  const last = { serial: 4, digest: D('4') };
  const judgeAfter = (serial: number, previous: Digest | null, others: readonly { serial: number; digest: Digest; accepted: boolean }[] = []): string => {
    const path = `releases/w/${serial}.yaml`;
    // Order is judged before signatures: what is unsigned but in order waits for them.
    return answer(judgeRelease({ [path]: releaseText('w', serial, previous) }, { path, admission: { kind: 'first', now: NOW, standing: { last, others } } }));
  };

  it('a serial is above the last accepted one', () => {
    expect(judgeAfter(4, last.digest)).toBe('refused SerialReplayed');
    expect(judgeAfter(3, last.digest)).toBe('refused SerialReplayed');
    expect(judgeAfter(5, last.digest)).toBe('waiting SignaturesMissing');
    expect(judgeAfter(9, last.digest)).toBe('waiting SignaturesMissing');
  });

  it('previous is the last accepted one, or a later file that was never accepted', () => {
    const abandoned = { serial: 5, digest: D('5'), accepted: false };
    expect(judgeAfter(6, abandoned.digest, [abandoned])).toBe('waiting SignaturesMissing');
    expect(judgeAfter(6, null)).toBe('refused PreviousWrong');
    expect(judgeAfter(6, D('3'), [{ serial: 3, digest: D('3'), accepted: true }])).toBe('refused PreviousWrong');
    expect(judgeAfter(6, D('2'), [{ serial: 2, digest: D('2'), accepted: false }])).toBe('refused PreviousWrong');
    expect(judgeAfter(6, D('7'), [{ serial: 7, digest: D('7'), accepted: false }])).toBe('refused PreviousWrong');
    // It may be merged yet.
    expect(judgeAfter(6, D('unseen'))).toBe('waiting PreviousWrong');
  });

  it('an expired release, and an expired trust document, accept nothing', () => {
    const at = (now: string): Admission => ({ kind: 'first', now: parseInstant(now), standing: { last: null, others: [] } });
    expect(answer(judgeRelease(good, { admission: at('2089-12-31T23:59:59Z') }))).toBe('accepted');
    expect(answer(judgeRelease(good, { admission: at('2090-01-01T00:00:00Z') }))).toBe('refused Expired');
    const trust = trustOf([ann, bob, cid], { expires: '2026-11-23T00:00:00Z' });
    expect(answer(judgeRelease(good, { trust }))).toBe('waiting TrustExpired');
  });

  it('is not asked again of what was accepted', () => {
    const trust = trustOf([ann, bob, cid], { expires: '2020-01-01T00:00:00Z' });
    expect(answer(judgeRelease(good, { trust, admission: { kind: 'again' } }))).toBe('accepted');
    expect(answer(judgeRelease({ [PATH]: text }, { admission: { kind: 'again' } }))).toBe('waiting SignaturesMissing');
  });

  it('waits for the files that it names, with exactly their bytes', () => {
    expect(answer(judgeRelease(good, { files: () => null }))).toBe('waiting FileMissing');
    expect(answer(judgeRelease(good, { files: () => Buffer.from(`${INIT_DATA}#`) }))).toBe('waiting FileMissing');
  });

  it('TEE sample is good in the lab alone', () => {
    expect(answer(judgeRelease(good, { sample: false }))).toBe('refused NotConfigured');
  });

  it('what does not parse is refused with its reason', () => {
    expect(answer(judgeRelease({ [PATH]: 'a: &x 1' }))).toBe('refused Malformed');
    expect(answer(judgeRelease({ [PATH]: `${text}more: 1\n` }))).toBe('refused UnknownField');
    expect(answer(judgeRelease({ 'releases/w/2.yaml': text }, { path: 'releases/w/2.yaml' }))).toBe('refused WrongPlace');
  });
});

describe('the pinned trust document', () => {
  const judge = (trust: string, digest: Digest = digestOf(trust)): string => {
    const judged = verifyTrust({ path: 'trust/1.yaml', bytes: Buffer.from(trust) }, digest);
    return judged.kind === 'bad' ? judged.reason : 'trusted';
  };
  const people = [ann, bob, cid];

  it('has the digest that the configuration pins', () => {
    expect(judge(trustText(people))).toBe('trusted');
    expect(judge(`${trustText(people)}\n`, digestOf(trustText(people)))).toBe('TrustMissing');
    expect(verifyTrust(null, digestOf(''))).toMatchObject({ kind: 'bad', reason: 'TrustMissing' });
  });

  it('gives each key to one person', () => {
    expect(judge(trustText([ann, bob, { ...cid, publicPem: ann.publicPem }]))).toBe('Malformed');
    expect(
      judge(
        trustText(people, {
          people: [{ id: 'ann', keys: [ann.publicPem, ann.publicPem] }, ...[bob, cid].map(({ id, publicPem }) => ({ id, keys: [publicPem] }))],
        }),
      ),
    ).toBe('Malformed');
  });

  it('takes P-256 and P-384, and nothing else', () => {
    expect(judge(trustText([ann, bob, makePerson('cid', 'P-384')]))).toBe('trusted');
    const ed25519 = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }).toString();
    for (const pem of [ed25519, makePerson('x', 'P-521').publicPem, makePerson('x', 'secp256k1').publicPem])
      expect(judge(trustText([ann, bob, { ...cid, publicPem: pem }]))).toBe('KeyUnsupported');
    for (const pem of ['x', cid.privatePem, `${cid.publicPem}${bob.publicPem}`])
      expect(judge(trustText([ann, bob, { ...cid, publicPem: pem }]))).toBe('Malformed');
  });

  it('fills its roles with people who have keys: without a trusted root identities do not count', () => {
    const keyless = { id: 'cid', keys: [], identities: [{ issuer: 'https://issuer.example', subject: 'cid@provider.example' }] };
    expect(judge(trustText(people, { people: [...[ann, bob].map(({ id, publicPem }) => ({ id, keys: [publicPem] })), keyless] }))).toBe('TrustedRootMissing');
    const nothing = { id: 'cid', keys: [] };
    expect(judge(trustText(people, { people: [...[ann, bob].map(({ id, publicPem }) => ({ id, keys: [publicPem] })), nothing] }))).toBe('Malformed');
    expect(judge(trustText([...people, eve], { people: [...people.map(({ id, publicPem }) => ({ id, keys: [publicPem] })), { ...keyless, id: 'eve' }] }))).toBe(
      'trusted',
    );
  });
});

it('a trusted root is the bytes that the trust document names, whoever hands in others', () => {
  const [named, other] = [Buffer.from('{}'), Buffer.from('{ }')];
  const text = trustText([ann, bob, cid], { trustedRoot: { file: 'trust/sigstore.json', digest: digestOf(named) } });
  const judge = (bytes: Buffer | null): string => {
    const judged = verifyTrust({ path: 'trust/1.yaml', bytes: Buffer.from(text) }, digestOf(text), () => bytes);
    return judged.kind === 'bad' ? judged.reason : judged.kind;
  };
  expect([judge(null), judge(other), judge(named)]).toEqual(['FileMissing', 'FileMissing', 'Malformed']);
});

describe('a revocation', () => {
  const path = 'revocations/x.yaml';
  const judge = async (
    subject: Record<string, unknown>,
    people: readonly Person[],
    change: Record<string, unknown> = {},
    trust = trustOf(),
  ): Promise<ReturnType<typeof verifyRevocation>> =>
    verifyRevocation(evidence(path, await signedBy(path, revocationText('x', subject, change), people), trust));
  const KEY = { kind: 'key', workload: 'w', epoch: 1 };

  it('needs one revoker, and no date', async () => {
    expect(await judge(KEY, [ann])).toMatchObject({ kind: 'accepted', value: { approvedBy: ['ann'] } });
    expect(answer(await judge(KEY, [ann], {}, trustOf([ann, bob, cid], { expires: '2020-01-01T00:00:00Z' })))).toBe('accepted');
  });

  it('without a signature changes nothing, and says whose is missing', async () => {
    expect(answer(await judge(KEY, []))).toBe('waiting UnsignedRevocation');
    expect(answer(await judge(KEY, [eve]))).toBe('waiting SignerUnknown');
    const trust = trustOf([ann, bob, cid], {}, { revokers: { threshold: 1, people: ['bob'] } });
    expect(answer(await judge(KEY, [ann], {}, trust))).toBe('waiting SignerNotEntitled');
  });

  it('evicts one workload on one word, more only with the recoverers', async () => {
    const evict = { evict: true };
    expect(await judge(KEY, [ann], evict)).toMatchObject({ kind: 'accepted', value: { evict: true } });
    expect(await judge({ kind: 'key', path: 'r/w/s1-v1-0-1a2b3c4d' }, [ann], evict)).toMatchObject({ kind: 'accepted', value: { evict: true } });
    for (const subject of [{ kind: 'all' }, { kind: 'device', chipId: 'c' }, { kind: 'key', keyId: 'k' }]) {
      expect(await judge(subject, [ann], evict)).toMatchObject({ kind: 'accepted', value: { evict: false } });
      expect(await judge(subject, [ann, bob], evict)).toMatchObject({ kind: 'accepted', value: { evict: true, approvedBy: ['ann', 'bob'] } });
    }
  });

  it('destroys only with the approvers, and refuses meanwhile', async () => {
    expect(await judge(KEY, [ann], { destroy: true })).toMatchObject({ kind: 'accepted', value: { destroy: false } });
    expect(await judge(KEY, [ann, cid], { destroy: true })).toMatchObject({ kind: 'accepted', value: { destroy: true } });
    const trust = trustOf([ann, bob, cid], {}, { approvers: [{ workloads: ['other'], threshold: 1, people: ['ann'] }] });
    expect(await judge({ kind: 'all' }, [ann, bob], { destroy: true }, trust)).toMatchObject({ kind: 'accepted', value: { destroy: false } });
  });

  it('of every kind is verified', async () => {
    expect(answer(await judge({ kind: 'signer', person: 'bob' }, [ann]))).toBe('accepted');
    expect(answer(await judge({ kind: 'nothing' }, [ann]))).toBe('refused Malformed');
  });
});

describe('platforms and baselines', () => {
  const platform = (serial: number, previous: Digest | null): string =>
    yaml({ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Platform', id: 'p', serial, previous, tee: 'snp', referenceValues: { snp_bootloader: [10] } });
  const baseline = (version: number): string =>
    yaml({ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Baseline', kbs: 'main', version, takeover: true, referenceValues: {}, grants: [] });

  it('a platform follows its predecessor, signed by the platform approvers', async () => {
    const path = 'platforms/p/2.yaml';
    const last = { serial: 1, digest: D('1') };
    const at = (standing: typeof last | null): Admission => ({ kind: 'first', now: NOW, standing: { last: standing, others: [] } });
    const signed = await signedBy(path, platform(2, last.digest), [ann, bob]);
    expect(answer(verifyPlatform(evidence(path, signed, trustOf()), at(last)))).toBe('accepted');
    expect(answer(verifyPlatform(evidence(path, signed, trustOf()), at({ serial: 2, digest: D('2') })))).toBe('refused SerialReplayed');
    expect(answer(verifyPlatform(evidence(path, await signedBy(path, platform(2, last.digest), [ann]), trustOf()), at(last)))).toBe(
      'waiting SignaturesMissing',
    );
    const trust = trustOf([ann, bob, cid], {}, { platformApprovers: { threshold: 1, people: ['cid'] } });
    expect(answer(verifyPlatform(evidence(path, signed, trust), at(last)))).toBe('waiting SignerNotEntitled');
  });

  it('a baseline rises in version, signed by the administrators', async () => {
    const path = 'baseline/main/2.yaml';
    const signed = await signedBy(path, baseline(2), [ann, bob]);
    const at = (serial: number | null): Admission => ({
      kind: 'first',
      now: NOW,
      standing: { last: serial === null ? null : { serial, digest: D('x') }, others: [] },
    });
    expect(answer(verifyBaseline(evidence(path, signed, trustOf()), at(null)))).toBe('accepted');
    expect(answer(verifyBaseline(evidence(path, signed, trustOf()), at(1)))).toBe('accepted');
    expect(answer(verifyBaseline(evidence(path, signed, trustOf()), at(2)))).toBe('refused SerialReplayed');
    const expired = trustOf([ann, bob, cid], { expires: '2020-01-01T00:00:00Z' });
    expect(answer(verifyBaseline(evidence(path, signed, expired), at(null)))).toBe('waiting TrustExpired');
  });
});
