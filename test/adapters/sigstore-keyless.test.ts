import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signBundleKeyless, verifyBundle } from '#src/adapters/sigstore/index.ts';
import { digestOf, hexOf } from '#src/digest.ts';
import type { TrustedSigners } from '#src/domain/signatures.ts';
import { DIGITAL_SIGNATURE, EXTENSION, extension, keyIdentifier, makeAuthority, signedCertificate } from '#src/lab/certificates.ts';
import { BITS, der, INTEGER, OCTETS, oid, SEQUENCE, SHA256, TRUE, UTF8 } from '#src/lab/der.ts';
import { type LabSigstore, openLabSigstore } from '#src/lab/sigstore.ts';
import { Secret } from '#src/secret.ts';
import { makePerson } from '../documents/people.ts';

const SUBJECT = 'ann@provider.example';
const DOCUMENT = Buffer.from('a document\n');

let lab: LabSigstore;
let other: LabSigstore;
let now = Date.now();
beforeAll(async () => {
  lab = await openLabSigstore({ clock: async () => now });
  other = await openLabSigstore({ clock: async () => now });
});
afterAll(async () => {
  await lab.close();
  await other.close();
});

type Services = Parameters<typeof signBundleKeyless>[2];
/** A bundle is taken apart here in every way that there is. */
type Loose = ReturnType<typeof JSON.parse>;

async function signed({ document = DOCUMENT, subject = SUBJECT, from = lab, ...change }: Change = {}): Promise<Loose> {
  using token = new Secret(Buffer.from(await from.identityToken(subject)));
  return JSON.parse(await signBundleKeyless(document, token, { ...lab, ...change }));
}
type Change = Partial<Services> & { readonly document?: Buffer; readonly subject?: string; readonly from?: LabSigstore };

function signers(change: Loose = {}): TrustedSigners {
  const { issuer = lab.issuerUrl, subject = SUBJECT, root = lab.trustedRoot } = change;
  return { keys: [], identities: [{ person: 'ann', issuer, subject }], trustedRoot: root === null ? null : Buffer.from(root) };
}

function reasonOf(bundle: Loose, trusted: TrustedSigners = signers(), document = DOCUMENT): string {
  const verdict = verifyBundle(Buffer.from(JSON.stringify(bundle)), document, trusted);
  return verdict.kind === 'signed' ? verdict.person : verdict.reason;
}

/** A copy that was changed. */
function changed<T>(value: T, change: (copy: T) => unknown): T {
  const copy = structuredClone(value);
  change(copy);
  return copy;
}

/** The trusted root of the lab, changed. */
const rootWith = (change: (root: Loose) => unknown): string => JSON.stringify(changed(JSON.parse(lab.trustedRoot), change));
const material = (bundle: Loose): Loose => bundle.verificationMaterial;
const entryOf = (bundle: Loose): Loose => material(bundle).tlogEntries[0];

/** One bit of these bytes turned. */
function flipped(base64: string, at: number): string {
  const bytes = Buffer.from(base64, 'base64');
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes.toString('base64');
}

describe('a bundle by an identity', () => {
  it('is its person’s, and says which issuer and subject it names', async () => {
    const bundle = await signed();
    expect(verifyBundle(Buffer.from(JSON.stringify(bundle)), DOCUMENT, signers())).toEqual({
      kind: 'signed',
      person: 'ann',
      by: { kind: 'identity', issuer: lab.issuerUrl, subject: SUBJECT },
    });
    expect(bundle.mediaType).toBe('application/vnd.dev.sigstore.bundle.v0.3+json');
    expect(Object.keys(material(bundle))).toEqual(['certificate', 'tlogEntries', 'timestampVerificationData']);
  });

  it('stands whatever the clock says afterwards: what counts is when it was made', async () => {
    const bundle = await signed();
    now += 400 * 86_400_000;
    expect(reasonOf(bundle)).toBe('ann');
    expect(reasonOf(await signed())).toBe('ann');
  });

  it('may name a URI', async () => {
    const subject = 'https://ci.example/releases/workflow.yml#refs/heads/main';
    expect(reasonOf(await signed({ subject }), signers({ subject }))).toBe('ann');
  });

  it('is proven by the log alone, or by a timestamp alone where the root names no log', async () => {
    expect(reasonOf(await signed({ timestampUrl: null }))).toBe('ann');
    const root = rootWith((one) => Object.assign(one, { tlogs: [] }));
    expect(reasonOf(await signed({ rekorUrl: null }), signers({ root }))).toBe('ann');
    const noCertificateLog = rootWith((one) => Object.assign(one, { ctlogs: [] }));
    expect(reasonOf(await signed(), signers({ root: noCertificateLog }))).toBe('CertificateUntrusted');
  });

  it.each([
    ['another subject', { subject: 'bob@provider.example' }],
    ['a subject in capitals', { subject: 'Ann@provider.example' }],
    ['the beginning of its subject', { subject: 'ann@provider.exampl' }],
    ['the end of its subject', { subject: 'nn@provider.example' }],
    ['a pattern that its subject fits', { subject: 'ann@provider.exampl.' }],
    ['another issuer', { issuer: 'https://issuer.example' }],
    ['its issuer with a slash', { issuer: 'SLASH' }],
  ])('is nobody’s where the trust document has %s', async (_name, change: Loose) => {
    const issuer = change.issuer === 'SLASH' ? `${lab.issuerUrl}/` : change.issuer;
    expect(reasonOf(await signed(), signers({ ...change, ...(issuer === undefined ? {} : { issuer }) }))).toBe('SignerUnknown');
  });

  it('is refused over other bytes, and without a trusted root', async () => {
    const bundle = await signed();
    expect(reasonOf(bundle, signers(), Buffer.from('other'))).toBe('SignatureInvalid');
    const digest = createHash('sha256').update('other').digest('base64');
    const relabelled = changed(bundle, (one) => Object.assign(one.messageSignature.messageDigest, { digest }));
    expect(['SignatureInvalid', 'LogEntryInvalid']).toContain(reasonOf(relabelled, signers(), Buffer.from('other')));
    expect(reasonOf(bundle, signers({ root: null }))).toBe('TrustedRootMissing');
  });
});

describe('a certificate', () => {
  it('of another authority is refused', async () => {
    const bundle = await signed({ from: other, fulcioUrl: other.fulcioUrl });
    expect(reasonOf(bundle, signers({ issuer: other.issuerUrl }))).toBe('CertificateUntrusted');
  });

  it('that another log vouches for is refused', async () => {
    const root = rootWith((one) => Object.assign(one, { ctlogs: JSON.parse(other.trustedRoot).ctlogs }));
    expect(reasonOf(await signed(), signers({ root }))).toBe('CertificateUntrusted');
  });

  it('that no log vouches for is refused where the root names one', async () => {
    lab.trouble('unlogged');
    const bundle = await signed();
    expect(reasonOf(bundle)).toBe('CertificateUntrusted');
    expect(reasonOf(bundle, signers({ root: rootWith((one) => Object.assign(one, { ctlogs: [] })) }))).toBe('ann');
  });

  it.each([
    ['expired', 'CertificateExpired'],
    ['no-code-signing', 'CertificateUnfit'],
    ['two-names', 'CertificateUnfit'],
  ] as const)('%s is refused', async (trouble, reason) => {
    lab.trouble(trouble);
    expect(reasonOf(await signed())).toBe(reason);
  });

  it('counts in every bit', async () => {
    const bundle = await signed();
    const { rawBytes } = material(bundle).certificate;
    for (let at = 0; at < Buffer.from(rawBytes, 'base64').length; at += 3) {
      const one = changed(bundle, (copy) => Object.assign(material(copy).certificate, { rawBytes: flipped(rawBytes, at) }));
      expect(reasonOf(one), `byte ${at}`).not.toBe('ann');
    }
  });

  it('in a chain is refused', async () => {
    const bundle = await signed();
    const { certificate, ...rest } = material(bundle);
    expect(reasonOf({ ...bundle, verificationMaterial: { ...rest, x509CertificateChain: { certificates: [certificate] } } })).toBe('BundleUnsupported');
    expect(reasonOf({ ...bundle, verificationMaterial: { ...material(bundle), publicKey: { hint: '' } } })).toBe('BundleUnsupported');
  });
});

describe('a log entry', () => {
  it('is needed where the root names a log', async () => {
    expect(reasonOf(await signed({ rekorUrl: null }))).toBe('LogEntryMissing');
  });

  it('of other bytes, of another log or of another certificate is refused', async () => {
    const [bundle, twin] = [await signed(), await signed({ document: Buffer.from('other') })];
    const elsewhere = await signed({ rekorUrl: other.rekorUrl });
    expect(reasonOf(changed(bundle, (one) => Object.assign(material(one), { tlogEntries: [entryOf(twin)] })))).toBe('LogEntryInvalid');
    expect(reasonOf(elsewhere)).toBe('LogEntryInvalid');
    const stolen = await logged(lab, bundle, material(twin).certificate.rawBytes);
    expect(reasonOf(changed(bundle, (one) => Object.assign(material(one), { tlogEntries: [stolen] })))).toBe('LogEntryInvalid');
    const own = await logged(lab, bundle, material(bundle).certificate.rawBytes);
    expect(reasonOf(changed(bundle, (one) => Object.assign(material(one), { tlogEntries: [own] })))).toBe('ann');
  });

  it('with a promise or a proof that was tampered with is refused', async () => {
    await signed();
    const bundle = await signed();
    const tampered: readonly ((entry: Loose) => unknown)[] = [
      (entry) => Object.assign(entry, { integratedTime: String(Number(entry.integratedTime) + 1) }),
      (entry) => Object.assign(entry.inclusionPromise, { signedEntryTimestamp: flipped(entry.inclusionPromise.signedEntryTimestamp, 20) }),
      (entry) => Object.assign(entry.inclusionProof, { hashes: entry.inclusionProof.hashes.map((hash: string) => flipped(hash, 5)) }),
      (entry) => Object.assign(entry.inclusionProof, { hashes: entry.inclusionProof.hashes.slice(1) }),
      (entry) => Object.assign(entry.inclusionProof, { logIndex: '0' }),
      (entry) => Object.assign(entry.inclusionProof.checkpoint, { envelope: entry.inclusionProof.checkpoint.envelope.replace(/\n\d+\n/, '\n1\n') }),
      (entry) => Object.assign(entry, { canonicalizedBody: flipped(entry.canonicalizedBody, 30) }),
      (entry) => Object.assign(entry.kindVersion, { kind: 'intoto' }),
    ];
    for (const [index, change] of tampered.entries())
      expect(reasonOf(changed(bundle, (one) => change(entryOf(one)))), `tampering ${index}`).toBe('LogEntryInvalid');
  });

  it('without a promise proves no time', async () => {
    const bundle = changed(await signed({ timestampUrl: null }), (one) => delete entryOf(one).inclusionPromise);
    expect(reasonOf(bundle)).toBe('TimestampMissing');
    const stamped = changed(await signed(), (one) => delete entryOf(one).inclusionPromise);
    expect(reasonOf(stamped)).toBe('ann');
    const retired = rootWith((one) => Object.assign(one.tlogs[0].publicKey.validFor, { end: '2021-01-01T00:00:00Z' }));
    expect(reasonOf(stamped, signers({ root: retired }))).toBe('LogEntryInvalid');
  });
});

describe('a timestamp', () => {
  it('of another service, or over another signature, is refused', async () => {
    expect(reasonOf(await signed({ timestampUrl: other.timestampUrl }))).toBe('TimestampInvalid');
    const [bundle, twin] = [await signed(), await signed()];
    const { timestampVerificationData } = material(twin);
    expect(reasonOf(changed(bundle, (one) => Object.assign(material(one), { timestampVerificationData })))).toBe('TimestampInvalid');
  });
});

describe('a certificate of a trusted authority', () => {
  type Extensions = Readonly<Record<string, readonly [oid: string, value: Buffer, critical?: boolean]>>;
  const PLAIN: Extensions = {
    usage: [EXTENSION.keyUsage, DIGITAL_SIGNATURE, true],
    purpose: [EXTENSION.extendedKeyUsage, der(SEQUENCE, oid('1.3.6.1.5.5.7.3.3'))],
    name: [EXTENSION.names, der(SEQUENCE, der(0x81, SUBJECT)), true],
    issuer: ['1.3.6.1.4.1.57264.1.8', der(UTF8, 'https://issuer.example')],
  };

  /** Whose a bundle is whose certificate has these extensions, by an authority that the root names, stamped by the lab. */
  async function verdictOn(change: Extensions, { namedCurve = 'P-256' } = {}): Promise<string> {
    const authority = await makeAuthority('own');
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
    const all: Extensions = { ...PLAIN, ...change };
    const extensions = [
      extension(EXTENSION.authorityKey, der(SEQUENCE, der(0x80, keyIdentifier(createPublicKey(authority.keyPem))))),
      ...Object.values(all).flatMap(([name, value, critical]) => (value.length === 0 ? [] : [extension(name, value, critical)])),
    ];
    const issuerKey = createPrivateKey(authority.keyPem);
    const rawBytes = signedCertificate({ issuer: 'own', issuerKey, subject: '', publicKey, extensions }).toString('base64');
    const signature = sign('sha256', DOCUMENT, privateKey);
    const query = der(SEQUENCE, der(INTEGER, Buffer.from([1])), der(SEQUENCE, SHA256, der(OCTETS, createHash('sha256').update(signature).digest())));
    const stamp = await (await fetch(lab.timestampUrl, { method: 'POST', body: new Uint8Array(query) })).bytes();
    const root = rootWith((one) => {
      one.certificateAuthorities[0].certChain.certificates = [{ rawBytes: new X509Certificate(authority.certificatePem).raw.toString('base64') }];
      Object.assign(one, { tlogs: [], ctlogs: [] });
    });
    const bundle = {
      mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
      verificationMaterial: {
        certificate: { rawBytes },
        timestampVerificationData: { rfc3161Timestamps: [{ signedTimestamp: Buffer.from(stamp).toString('base64') }] },
      },
      messageSignature: {
        messageDigest: { algorithm: 'SHA2_256', digest: createHash('sha256').update(DOCUMENT).digest('base64') },
        signature: signature.toString('base64'),
      },
    };
    return reasonOf(bundle, signers({ issuer: 'https://issuer.example', root }));
  }

  const none = Buffer.alloc(0);
  const older = ['1.3.6.1.4.1.57264.1.1', Buffer.from('https://issuer.example')] as const;
  it.each<[string, string, Extensions]>([
    ['as Fulcio makes it', 'ann', {}],
    ['with the issuer in both forms', 'ann', { older }],
    ['with the issuer in the older form alone', 'ann', { issuer: ['1.3.6.1.4.1.57264.1.8', none], older }],
    ['with two issuers', 'CertificateUnfit', { older: ['1.3.6.1.4.1.57264.1.1', Buffer.from('https://another.example')] }],
    ['with no issuer', 'CertificateUnfit', { issuer: ['1.3.6.1.4.1.57264.1.8', none] }],
    ['with an issuer that is no text', 'CertificateUnfit', { issuer: ['1.3.6.1.4.1.57264.1.8', der(OCTETS, 'https://issuer.example')] }],
    ['with a name of a host', 'CertificateUnfit', { name: [EXTENSION.names, der(SEQUENCE, der(0x82, SUBJECT)), true] }],
    ['with no name', 'CertificateUnfit', { name: [EXTENSION.names, none] }],
    [
      'with a name that only looks like it',
      'SignerUnknown',
      { name: [EXTENSION.names, der(SEQUENCE, der(0x81, Buffer.from(SUBJECT.replace('a', '\u00e1'), 'latin1'))), true] },
    ],
    ['with a name that goes on behind a zero', 'SignerUnknown', { name: [EXTENSION.names, der(SEQUENCE, der(0x81, `${SUBJECT}\0.example`)), true] }],
    ['of an authority', 'CertificateUnfit', { basic: [EXTENSION.basicConstraints, der(SEQUENCE, TRUE), true] }],
    ['for no signatures', 'CertificateUnfit', { usage: [EXTENSION.keyUsage, der(BITS, Buffer.from([0x05, 0x20])), true] }],
    ['for servers', 'CertificateUnfit', { purpose: [EXTENSION.extendedKeyUsage, der(SEQUENCE, oid('1.3.6.1.5.5.7.3.1'))] }],
    ['for whatever one likes', 'CertificateUnfit', { purpose: [EXTENSION.extendedKeyUsage, der(SEQUENCE, oid('2.5.29.37.0'))] }],
    ['with something critical that nobody knows', 'CertificateUnfit', { more: ['1.2.3.4', der(OCTETS, 'x'), true] }],
    ['with an extension twice', 'CertificateUnfit', { more: [EXTENSION.names, der(SEQUENCE, der(0x81, 'bob@provider.example'))] }],
  ])('%s: %s', async (_name, expected, change) => {
    expect(await verdictOn(change)).toBe(expected);
  });

  it('takes keys on P-256 and P-384', async () => {
    expect(await verdictOn({}, { namedCurve: 'P-384' })).toBe('ann');
    expect(await verdictOn({}, { namedCurve: 'P-521' })).toBe('KeyUnsupported');
  });
});

/** Logs a bundle's signature under a certificate of one's choice, which a real Rekor would refuse unless it verified. */
async function logged(at: LabSigstore, bundle: Loose, certificate: string, content: Loose = null): Promise<Loose> {
  const pem = Buffer.from(`-----BEGIN CERTIFICATE-----\n${certificate}\n-----END CERTIFICATE-----\n`).toString('base64');
  const hash = { algorithm: 'sha256', value: createHash('sha256').update(DOCUMENT).digest('hex') };
  const record = { kind: 'hashedrekord', spec: { data: { hash }, signature: { content: bundle.messageSignature?.signature, publicKey: { content: pem } } } };
  const proposed = content === null ? record : { kind: 'dsse', spec: { proposedContent: { envelope: JSON.stringify(content), verifiers: [pem] } } };
  const body = JSON.stringify({ apiVersion: '0.0.1', ...proposed });
  const answer: Loose = await (await fetch(`${at.rekorUrl}/api/v1/log/entries`, { method: 'POST', body })).json();
  const [one] = Object.values(answer) as Loose[];
  const { signedEntryTimestamp, inclusionProof: proof } = one.verification;
  const base64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64');
  return {
    logIndex: String(one.logIndex),
    logId: { keyId: base64(one.logID) },
    kindVersion: { kind: proposed.kind, version: '0.0.1' },
    integratedTime: String(one.integratedTime),
    inclusionPromise: { signedEntryTimestamp },
    inclusionProof: {
      ...{ logIndex: String(proof.logIndex), treeSize: String(proof.treeSize), rootHash: base64(proof.rootHash) },
      ...{ hashes: proof.hashes.map(base64), checkpoint: { envelope: proof.checkpoint } },
    },
    canonicalizedBody: one.body,
  };
}

// ---------------------------------------------------------------- DSSE

const STATEMENT = {
  _type: 'https://in-toto.io/Statement/v1',
  predicateType: 'https://keyturn.dev/approval/v1',
  subject: [{ name: '1.yaml', digest: { sha256: hexOf(digestOf(DOCUMENT)) } }],
  predicate: { note: 'approved' },
};
const TYPE = 'application/vnd.in-toto+json';
const ann = makePerson('ann');
const byKey: TrustedSigners = { keys: [{ person: 'ann', pem: ann.publicPem }], identities: [], trustedRoot: null };

function preAuthentication(payload: Buffer, type: string): Buffer {
  return Buffer.concat([Buffer.from(`DSSEv1 ${type.length} ${type} ${payload.length} `), payload]);
}

function envelopeOf(statement: object | string, type = TYPE, privatePem = ann.privatePem): Loose {
  const payload = Buffer.from(typeof statement === 'string' ? statement : JSON.stringify(statement));
  const sig = sign('sha256', preAuthentication(payload, type), privatePem).toString('base64');
  return { payloadType: type, payload: payload.toString('base64'), signatures: [{ sig, keyid: 'whatever' }] };
}

const bundleOf = (dsseEnvelope: Loose): Loose => ({
  mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
  verificationMaterial: { publicKey: { hint: '' } },
  dsseEnvelope,
});

describe('a DSSE bundle', () => {
  it('by a key approves the document that its statement names', () => {
    expect(reasonOf(bundleOf(envelopeOf(STATEMENT)), byKey)).toBe('ann');
    expect(reasonOf(bundleOf(envelopeOf({ ...STATEMENT, _type: 'https://in-toto.io/Statement/v0.1' })), byKey)).toBe('ann');
    const stranger = makePerson('eve');
    expect(reasonOf(bundleOf(envelopeOf(STATEMENT, TYPE, stranger.privatePem)), byKey)).toBe('SignerUnknown');
  });

  it('by an identity does, with a log entry of either kind', async () => {
    const envelope = envelopeOf(STATEMENT);
    const payload = Buffer.from(envelope.payload, 'base64');
    const { messageSignature, ...rest } = await signed({ document: preAuthentication(payload, TYPE) });
    const dsseEnvelope = { ...envelope, signatures: [{ sig: messageSignature.signature }] };
    const bundle = { ...rest, dsseEnvelope };
    expect(reasonOf(bundle)).toBe('ann');
    const entry = await logged(lab, bundle, material(bundle).certificate.rawBytes, dsseEnvelope);
    expect(reasonOf(changed(bundle, (one) => Object.assign(material(one), { tlogEntries: [entry] })))).toBe('ann');
    const { certificate } = material(await signed());
    const stolen = await logged(lab, bundle, certificate.rawBytes, dsseEnvelope);
    expect(reasonOf(changed(bundle, (one) => Object.assign(material(one), { tlogEntries: [stolen] })))).toBe('LogEntryInvalid');
  });

  const subject = STATEMENT.subject[0] ?? { name: '', digest: { sha256: '' } };
  it.each([
    ['another document', { ...STATEMENT, subject: [{ ...subject, digest: { sha256: hexOf(digestOf('other')) } }] }],
    ['two documents', { ...STATEMENT, subject: [subject, { ...subject, name: 'other' }] }],
    ['nothing', { ...STATEMENT, subject: [] }],
    ['it by another hash as well', { ...STATEMENT, subject: [{ ...subject, digest: { ...subject.digest, sha1: '00' } }] }],
    ['it, without approving', { ...STATEMENT, predicateType: 'https://slsa.dev/provenance/v1' }],
    ['it, as no statement', { ...STATEMENT, _type: 'https://in-toto.io/Statement/v2' }],
    ['it twice over', `${JSON.stringify({ ...STATEMENT, subject: [] }).slice(0, -1)},"subject":${JSON.stringify(STATEMENT.subject)}}`],
    ['nobody knows what', 'approved'],
  ])('about %s is refused', (_name, statement) => {
    expect(reasonOf(bundleOf(envelopeOf(statement)), byKey)).toBe('StatementUnfit');
  });

  it('of another payload type, with no signature or with two is refused', () => {
    expect(reasonOf(bundleOf(envelopeOf(STATEMENT, 'application/json')), byKey)).toBe('StatementUnfit');
    const envelope = envelopeOf(STATEMENT);
    const twice = { ...envelope, signatures: [...envelope.signatures, ...envelopeOf(STATEMENT, TYPE, makePerson('eve').privatePem).signatures] };
    expect(reasonOf(bundleOf(twice), byKey)).toBe('StatementUnfit');
    expect(reasonOf(bundleOf({ ...envelope, signatures: [] }), byKey)).toBe('StatementUnfit');
    expect(reasonOf({ ...bundleOf(envelope), messageSignature: { messageDigest: { algorithm: 'SHA2_256', digest: 'AAAA' }, signature: 'AAAA' } }, byKey)).toBe(
      'BundleUnsupported',
    );
  });

  it('that cosign made counts with our predicate type, and is refused for another', () => {
    const vector = (name: string): Buffer => readFileSync(join(import.meta.dirname, '../vectors/cosign', name));
    const trusted = { keys: [{ person: 'a', pem: vector('approver-a.pub').toString() }], identities: [], trustedRoot: null };
    const verdict = verifyBundle(vector('release.a.dsse.sigstore.json'), vector('release.yaml'), trusted);
    expect(verdict).toMatchObject({ kind: 'bad', reason: 'StatementUnfit', about: expect.stringContaining('predicateType') });
    const approving = { ...trusted, keys: [{ person: 'd', pem: vector('approver-d.pub').toString() }] };
    const approval = vector('release.d.approval.sigstore.json');
    expect(verifyBundle(approval, vector('release.yaml'), approving)).toMatchObject({ kind: 'signed', person: 'd' });
    expect(verifyBundle(approval, DOCUMENT, approving)).toMatchObject({ kind: 'bad', reason: 'StatementUnfit' });
  });
});

describe('signing', () => {
  const reasonOfSigning = async (token: string, services: Services): Promise<string> => {
    using secret = new Secret(Buffer.from(token));
    return signBundleKeyless(DOCUMENT, secret, services).then(
      () => 'signed',
      (thrown: Loose) => `${thrown.reason}${JSON.stringify([thrown.message, thrown.stack, String(thrown.cause)]).includes(token.slice(0, 20)) ? ' TOLD' : ''}`,
    );
  };

  it('refuses what is no token, services in the clear, and a life that nobody proves', async () => {
    const token = await lab.identityToken(SUBJECT);
    expect(await reasonOfSigning('nonsense-nonsense-nonsense', lab)).toBe('InvalidRequest');
    expect(await reasonOfSigning(token, { ...lab, fulcioUrl: 'http://fulcio.example' })).toBe('InvalidRequest');
    expect(await reasonOfSigning(token, { ...lab, fulcioUrl: 'fulcio' })).toBe('InvalidRequest');
    expect(await reasonOfSigning(token, { ...lab, rekorUrl: null, timestampUrl: null })).toBe('InvalidRequest');
  });

  it('tells the token to nobody, whatever goes wrong', async () => {
    const [token, strange] = [await lab.identityToken(SUBJECT), await other.identityToken(SUBJECT)];
    expect(await reasonOfSigning(strange, lab)).toBe('Unauthenticated');
    expect(await reasonOfSigning(token, { ...lab, fulcioUrl: 'http://127.0.0.1:1' })).toBe('Unreachable');
    expect(await reasonOfSigning(token, { ...lab, fulcioUrl: lab.issuerUrl })).toBe('NotFound');
    expect(await reasonOfSigning(token, { ...lab, rekorUrl: lab.issuerUrl })).toBe('NotFound');
    expect(await reasonOfSigning(token, { ...lab, timestampUrl: lab.issuerUrl })).toBe('NotFound');
  });

  it('asks for a proof that the key is its own', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const content = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const ask = async (over: string): Promise<number> => {
      const proofOfPossession = sign('sha256', Buffer.from(over), privateKey).toString('base64');
      const credentials = { oidcIdentityToken: await lab.identityToken(SUBJECT) };
      const body = JSON.stringify({ credentials, publicKeyRequest: { publicKey: { algorithm: 'ECDSA', content }, proofOfPossession } });
      return (await fetch(`${lab.fulcioUrl}/api/v2/signingCert`, { method: 'POST', body })).status;
    };
    expect([await ask(SUBJECT), await ask('bob@provider.example')]).toEqual([200, 400]);
  });
});
