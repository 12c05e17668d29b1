import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { NOT_FOUND, openService, type Service } from './sigstore-http.ts';

/** A running transparency log. */
export interface LabRekor extends Service {
  readonly publicKey: KeyObject;
}

/** Of one log, in memory. */
const ENTRIES_MAX = 10_000;
/** Of its one tree: by such a number behind the host’s name, without its port, verifiers in Go know a checkpoint of Rekor v1. */
const TREE_ID = 1;

/**
 * A Rekor, version 1 of its API (`POST /api/v1/log/entries`; kinds hashedrekord and dsse, 0.0.1): every entry with
 * a signed promise, and a proof of inclusion under a signed checkpoint. It does not verify what it logs.
 */
export async function openLabRekor(clock: () => Promise<number>): Promise<LabRekor> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const logId = sha256(publicKey.export({ format: 'der', type: 'spki' }));
  const leaves: Buffer[] = [];
  const service = await openService(async ({ route, body }, url) => {
    if (route === 'GET /api/v1/log/publicKey')
      return { status: 200, type: 'application/x-pem-file', body: Buffer.from(publicKey.export({ format: 'pem', type: 'spki' })) };
    if (route !== 'POST /api/v1/log/entries') return NOT_FOUND;
    if (leaves.length >= ENTRIES_MAX) throw new Error('the log is full');
    const entry = Buffer.from(JSON.stringify(entryOf(JSON.parse(body.toString()) as Proposed)));
    const integratedTime = Math.floor((await clock()) / 1000);
    const logIndex = leaves.push(sha256(Buffer.from([0]), entry)) - 1;
    const promised = { body: entry.toString('base64'), integratedTime, logID: logId.toString('hex'), logIndex };
    const verification = {
      // Over the members in the order of their names (RFC 8785).
      signedEntryTimestamp: sign('sha256', Buffer.from(JSON.stringify(promised)), privateKey).toString('base64'),
      inclusionProof: proofOf(leaves, logIndex, new URL(url).hostname, logId, privateKey),
    };
    const uuid = leaves[logIndex]?.toString('hex') ?? '';
    return { status: 201, body: { [uuid]: { ...promised, verification } } };
  });
  return { ...service, publicKey };
}

interface Proposed {
  readonly kind: string;
  readonly apiVersion: string;
  readonly spec: {
    readonly data?: { readonly hash: { readonly algorithm: string; readonly value: string } };
    readonly signature?: { readonly content: string; readonly publicKey: { readonly content: string } };
    readonly proposedContent?: { readonly envelope: string; readonly verifiers: readonly string[] };
  };
}

/** The entry as it is logged, its members in the order of their names. */
function entryOf({ kind, apiVersion, spec: { data, signature, proposedContent } }: Proposed): object {
  if (apiVersion !== '0.0.1') throw new Error(`version ${apiVersion} is not known`);
  if (kind === 'hashedrekord' && data !== undefined && signature !== undefined) {
    const { algorithm, value } = data.hash;
    const signed = { content: signature.content, publicKey: { content: signature.publicKey.content } };
    return { apiVersion, kind, spec: { data: { hash: { algorithm, value } }, signature: signed } };
  }
  if (kind !== 'dsse' || proposedContent === undefined) throw new Error(`kind ${kind} is not known`);
  const { payload, signatures } = JSON.parse(proposedContent.envelope) as { payload: string; signatures: readonly { sig: string }[] };
  const spec = {
    envelopeHash: hashOf(Buffer.from(proposedContent.envelope)),
    payloadHash: hashOf(Buffer.from(payload, 'base64')),
    signatures: signatures.map(({ sig }, index) => ({ signature: sig, verifier: proposedContent.verifiers[index] ?? '' })),
  };
  return { apiVersion, kind, spec };
}

function hashOf(bytes: Buffer): object {
  return { algorithm: 'sha256', value: sha256(bytes).toString('hex') };
}

function proofOf(leaves: readonly Buffer[], logIndex: number, origin: string, logId: Buffer, key: KeyObject): object {
  const root = rootOf(leaves);
  const note = `${origin} - ${TREE_ID}\n${leaves.length}\n${root.toString('base64')}\n`;
  const signature = Buffer.concat([logId.subarray(0, 4), sign('sha256', Buffer.from(note), key)]);
  return {
    checkpoint: `${note}\n\u2014 ${origin} ${signature.toString('base64')}\n`,
    hashes: pathOf(leaves, logIndex).map((hash) => hash.toString('hex')),
    logIndex,
    rootHash: root.toString('hex'),
    treeSize: leaves.length,
  };
}

/** Merkle Tree Hash and audit path of RFC 6962 §2.1, over leaves that are hashed already. */
function rootOf(leaves: readonly Buffer[]): Buffer {
  const [only] = leaves;
  if (leaves.length <= 1) return only ?? sha256();
  const half = splitOf(leaves.length);
  return sha256(Buffer.from([1]), rootOf(leaves.slice(0, half)), rootOf(leaves.slice(half)));
}

function pathOf(leaves: readonly Buffer[], index: number): readonly Buffer[] {
  if (leaves.length <= 1) return [];
  const half = splitOf(leaves.length);
  const [left, right] = [leaves.slice(0, half), leaves.slice(half)];
  return index < half ? [...pathOf(left, index), rootOf(right)] : [...pathOf(right, index - half), rootOf(left)];
}

/** The largest power of two below. */
function splitOf(count: number): number {
  let half = 1;
  while (half * 2 < count) half *= 2;
  return half;
}

function sha256(...parts: readonly Buffer[]): Buffer {
  return createHash('sha256').update(Buffer.concat(parts)).digest();
}
