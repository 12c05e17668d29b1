import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { type Digest, digestOf, hexOf } from '../digest.ts';
import type { Instant } from '../instant.ts';
import { canonicalJson, type Json } from './json.ts';
import type { Facts, RevisionState } from './release.ts';

/** A verdict that a step relied on. */
export interface ReceiptVerdict {
  readonly gate: string;
  readonly evidence: Json;
  readonly goodUntil: Instant | null;
}

/** What a run was about, in words that mean something outside our database. */
export type ReceiptSubject =
  | { readonly kind: 'revision'; readonly release: string; readonly serial: number; readonly epoch: number; readonly pathNumber: number }
  | { readonly kind: 'revocation'; readonly revocation: string }
  | { readonly kind: 'other' };

/** Proof that a step's effect was observed, or that a decision was made: one link in its run's chain. Kept for ever; nothing in it is secret. */
export interface Receipt {
  /** `<run>/<number>`. */
  readonly id: string;
  readonly installation: string;
  readonly run: string;
  /** From 1 in its run, without a gap. */
  readonly number: number;
  /** The run that caused this one; null for one that Git caused. */
  readonly cause: string | null;
  /** Digest of the run's receipt before; null in its first. */
  readonly previous: Digest | null;
  readonly workload: string;
  readonly workflow: string;
  readonly subject: ReceiptSubject;
  readonly step: string;
  /** The database's clock, never earlier than the receipt before. */
  readonly at: Instant;
  /** The claim under which it was written. */
  readonly claim: number;
  readonly facts: Facts;
  readonly evidence: Json;
  /** `accepted`: only the answer of a system that cannot be read back. */
  readonly proof: 'observed' | 'accepted';
  readonly verdicts: readonly ReceiptVerdict[];
  /** Digests of the rows for `resources` that were committed with it. */
  readonly kept: readonly Digest[];
  /** The state that the subject entered with it. */
  readonly moves: RevisionState | null;
  /** The generation that its run gave each KBS so far. */
  readonly generations: Readonly<Record<string, number>>;
}

/** Evidence of some hundred guests with eight devices each fits; what does not is no evidence but a mistake. */
export const RECEIPT_MAX_BYTES = 16 * 1024 * 1024;

/** A receipt's text, RFC 8785: what is hashed, stored and exported. */
export function receiptText(receipt: Receipt): string {
  return canonicalJson(receipt as unknown as Json);
}

/** A receipt's digest: SHA-256 of its text. */
export function receiptDigest(receipt: Receipt): Digest {
  return digestOf(receiptText(receipt));
}

/** Names a state of the whole log: how many receipts it has, and the root of the tree over them. */
export interface HeadBody {
  readonly installation: string;
  readonly treeSize: number;
  /** Root of the RFC 9162 tree whose entries are the 32 bytes of each receipt's digest, in the log's order. */
  readonly rootHash: Digest;
  readonly at: Instant;
}

/** A state of the log, signed. */
export interface Head {
  readonly head: HeadBody;
  /** Base64, over the RFC 8785 text of `head`: Ed25519, or ECDSA (DER) with the curve's own hash. */
  readonly signature: string;
}

/** The bytes that a head's signature is over. */
export function headBytes(head: HeadBody): Buffer {
  return Buffer.from(canonicalJson(head as unknown as Json));
}

/** What the tree is built over: the digest's 32 bytes. */
export function treeEntry(digest: Digest): Buffer {
  return Buffer.from(hexOf(digest), 'hex');
}

/** A line of an export for a receipt whose text is there already, without its end. */
export function receiptLine(digest: Digest, text: string): string {
  return `{"digest":"${digest}","receipt":${text}}`;
}

/** A line of an export for a head, without its end. */
export function headLine(head: Head): string {
  return canonicalJson(head as unknown as Json);
}

/** A public key for `verifySignature`. Throws Error where the PEM holds none, or one of another kind than Ed25519, P-256, P-384. */
export function readPublicKey(pem: string): KeyObject {
  const key = createPublicKey(pem);
  hashFor(key);
  return key;
}

/** Whether a base64 signature is this key's over these bytes, and is base64 as it would be written (RFC 4648 §4), byte for byte. */
export function verifySignature(key: KeyObject, bytes: Buffer, signature: string): boolean {
  const raw = Buffer.from(signature, 'base64');
  // The decoder passes over what is no base64, and over bits that say nothing.
  if (raw.toString('base64') !== signature) return false;
  return verify(hashFor(key), bytes, key, raw);
}

function hashFor(key: KeyObject): string | null {
  if (key.asymmetricKeyType === 'ed25519') return null;
  if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return 'sha256';
  if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'secp384r1') return 'sha384';
  throw new Error('expected a public key of Ed25519, P-256 or P-384');
}
