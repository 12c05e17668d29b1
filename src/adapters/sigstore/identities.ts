/**
 * Bundles by an identity: a certificate of minutes, which the trusted root's authority gave to whoever an
 * issuer vouched for, and the proof that it was used while it lived. No network, and no clock: what is asked
 * is whether it was valid when the log or the timestamp service saw it.
 */
import { bundleFromJSON } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { type SignedEntity, type TrustMaterial, toSignedEntity, toTrustMaterial, VerificationError, Verifier } from '@sigstore/verify';
import type { Reason } from '#src/domain/reasons.ts';
import type { BundleVerdict, TrustedSigners } from '#src/domain/signatures.ts';
import { readCertificate } from './certificate.ts';
import { isEntryOf } from './log-entry.ts';
import type { CertificateMaterial } from './wire.ts';

type Bad = Extract<BundleVerdict, { kind: 'bad' }>;

/** Roots that were read: every bundle of a document asks for the same one. */
const materials = new WeakMap<Uint8Array, TrustMaterial>();

/** Verifies a bundle by a certificate, and finds whose identity it names. Throws where the bundle is not what its media type says. */
export function verifyByIdentity(bundle: object, wire: CertificateMaterial, document: Uint8Array, signers: TrustedSigners): BundleVerdict {
  const { trustedRoot, identities } = signers;
  if (trustedRoot === null) return bad('TrustedRootMissing', 'it is signed with an identity, and the trust document names no trusted root');
  const root = materialOf(trustedRoot);
  const entity = toSignedEntity(bundleFromJSON(bundle), Buffer.from(document));
  if (entity.key.$case !== 'certificate') return bad('BundleUnsupported', 'verificationMaterial: expected a certificate');
  const certified = readCertificate(entity.key.certificate);
  if (certified.kind === 'bad') return certified;
  const unproven = missingIn(wire, root) ?? refusalOf(entity, root) ?? entriesBar(wire, entity, root);
  if (unproven !== null) return unproven;
  const { issuer, subject } = certified;
  // Bytes, not text: no case, no form of Unicode, no beginning is as good as the whole.
  const own = identities.find((identity) => Buffer.from(identity.issuer).equals(issuer) && Buffer.from(identity.subject).equals(subject));
  if (own === undefined) return bad('SignerUnknown', `nobody in the trust document is ${shown(subject)} of ${shown(issuer)}`);
  return { kind: 'signed', person: own.person, by: { kind: 'identity', issuer: own.issuer, subject: own.subject } };
}

function materialOf(trustedRoot: Uint8Array): TrustMaterial {
  const before = materials.get(trustedRoot);
  if (before !== undefined) return before;
  const material = toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(Buffer.from(trustedRoot).toString('utf8'))));
  materials.set(trustedRoot, material);
  return material;
}

/** What the root asks for and the bundle does not have. Only an entry that a log promised says when it was made. */
function missingIn({ tlogEntries, timestampVerificationData }: CertificateMaterial, { tlogs }: TrustMaterial): Bad | null {
  if (tlogs.length > 0 && tlogEntries.length === 0) return bad('LogEntryMissing', 'no log entry: the trusted root names a transparency log');
  const times = (timestampVerificationData?.rfc3161Timestamps.length ?? 0) + tlogEntries.filter((entry) => isThere(entry.inclusionPromise)).length;
  return times > 0 ? null : bad('TimestampMissing', 'neither a timestamp nor a log’s promise: nothing says when the certificate was used');
}

/** What the verifier has against it: at least one proven time, and a log entry and a certificate log's word where the root names any. */
function refusalOf(entity: SignedEntity, root: TrustMaterial): Bad | null {
  const [tlogThreshold, ctlogThreshold] = [Math.min(1, root.tlogs.length), Math.min(1, root.ctlogs.length)];
  try {
    new Verifier(root, { tlogThreshold, ctlogThreshold, timestampThreshold: 1 }).verify(entity);
    return null;
  } catch (thrown) {
    return bad(reasonOf(thrown, entity), thrown instanceof Error ? thrown.message.slice(0, 200) : 'it does not verify');
  }
}

function reasonOf(thrown: unknown, entity: SignedEntity): Reason {
  const code = thrown instanceof VerificationError ? thrown.code : '';
  if (code.startsWith('TLOG_')) return 'LogEntryInvalid';
  if (code === 'TIMESTAMP_ERROR') return 'TimestampInvalid';
  if (code !== 'CERTIFICATE_ERROR') return 'SignatureInvalid';
  return isOutlived(entity) ? 'CertificateExpired' : 'CertificateUntrusted';
}

/** Whether one of the times that the bundle claims lies outside the certificate's life: for the reason alone, they need not be proven. */
function isOutlived({ key, timestamps }: SignedEntity): boolean {
  const certificate = key.$case === 'certificate' ? key.certificate : null;
  const times = timestamps.map((one) =>
    one.$case === 'timestamp-authority' ? one.timestamp.signingTime : new Date(Number(one.tlogEntry.integratedTime) * 1000),
  );
  return certificate !== null && times.some((time) => !certificate.validForDate(time));
}

/** What the verifier does not ask of a log entry: that it is this certificate's; and, where no promise dates it, that the log's key was good at the proven time. */
function entriesBar({ tlogEntries, certificate }: CertificateMaterial, { timestamps }: SignedEntity, { tlogs }: TrustMaterial): Bad | null {
  const own = Buffer.from(certificate.rawBytes, 'base64');
  if (!tlogEntries.every((entry) => isEntryOf(entry, own))) return bad('LogEntryInvalid', 'the log entry was made for another certificate');
  const stamped = timestamps.flatMap((one) => (one.$case === 'timestamp-authority' ? [one.timestamp.signingTime] : []));
  for (const { logId, inclusionPromise } of tlogEntries) {
    if (isThere(inclusionPromise)) continue;
    const logs = tlogs.filter(({ logID }) => logID.equals(Buffer.from(logId.keyId, 'base64')));
    const isGood = logs.some(({ validFor }) => stamped.every((time) => validFor.start <= time && time <= validFor.end));
    if (!isGood) return bad('LogEntryInvalid', 'the log’s key was not in use when the signature was stamped');
  }
  return null;
}

function isThere(value: object | null | undefined): boolean {
  return value !== null && value !== undefined;
}

/** A certificate's own words, as far as they are plain. */
function shown(bytes: Buffer): string {
  const plain = bytes.toString('latin1').replaceAll(/[^\x20-\x7e]/g, '?');
  return plain.length > 200 ? `${plain.slice(0, 200)}…` : plain;
}

function bad(reason: Reason, about: string): Bad {
  return { kind: 'bad', reason, about };
}
