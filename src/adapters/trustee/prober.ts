/**
 * Our own client of a KBS: a whole handshake (RCAR, `kbs/docs/kbs_attestation_protocol.md`) with sample
 * evidence and a TEE key of its own each time, then one GET with the session's cookie, as the stock
 * client does.
 */
import { createHash } from 'node:crypto';
import { calculateJwkThumbprint, exportJWK, type FlattenedJWE, flattenedDecrypt, generateKeyPair } from 'jose';
import { z } from 'zod';
import { canonicalJson, type Json } from '#src/domain/json.ts';
import type { Answer } from '#src/domain/kbs.ts';
import type { KeyPath } from '#src/domain/paths.ts';
import { Fault } from '#src/errors.ts';
import type { ProberEvidence } from '#src/world.ts';
import { answerOf, type Call, jsonOf, type Line, type Reply } from './wire.ts';

/** KBS demands exactly this one. */
const PROTOCOL_VERSION = '0.4.0';
const KEY_ALGORITHM = 'ECDH-ES+A256KW';
const SESSION_COOKIE = /^kbs-session-id=([^;\s]{1,200})/;

const challenge = z.object({ nonce: z.string().min(1).max(1000) });
const released = z.object({
  protected: z.string(),
  encrypted_key: z.string(),
  iv: z.string(),
  ciphertext: z.string(),
  tag: z.string(),
});

/** A TEE key that is used for one handshake. */
interface TeeKey {
  readonly privateKey: CryptoKey;
  readonly publicJwk: { readonly kty: 'EC'; readonly crv: 'P-256'; readonly alg: string; readonly x: string; readonly y: string };
}

/**
 * Asks for one path. The TEE key's RFC 7638 thumbprint is told to `keySeen`, and kept there, before
 * the first request. An error of any step is the answer; where 200 came the key's bytes were opened,
 * found not empty, and wiped. `EmptyResource` is a 200 without bytes (local files, half written). Throws
 * Fault('Unreachable'), and Fault('UnexpectedAnswer') for what is not the protocol.
 */
export async function askFor(line: Line, path: KeyPath, as: ProberEvidence, keySeen: (thumbprint: string) => Promise<void>): Promise<Answer> {
  const key = await newTeeKey();
  await keySeen(await calculateJwkThumbprint(key.publicJwk));
  const replica = { replica: line.base };
  const greeting = await line.send(post('auth', { version: PROTOCOL_VERSION, tee: as.tee, 'extra-params': {} }, {}));
  if (greeting.status !== 200) return answerOf(greeting, { ...replica, step: 'auth' });
  const cookie = cookieOf(greeting, line);
  const { nonce } = parsed(challenge, greeting, line, 'auth');
  const attested = await line.send(post('attest', attestation(nonce, key, as), { cookie }));
  if (attested.status !== 200) return answerOf(attested, { ...replica, step: 'attest' });
  const fetched = await line.send({ method: 'GET', path: `resource/${path}`, headers: { cookie }, body: null });
  const answer = answerOf(fetched, replica);
  if (fetched.status !== 200) return answer;
  const sizeBytes = await openedBytes(parsed(released, fetched, line, 'resource'), key, line);
  return sizeBytes === 0 ? { ...answer, type: 'EmptyResource' } : answer;
}

async function newTeeKey(): Promise<TeeKey> {
  const { privateKey, publicKey } = await generateKeyPair(KEY_ALGORITHM, { crv: 'P-256' });
  const { x, y } = await exportJWK(publicKey);
  if (x === undefined || y === undefined) throw new Error('a P-256 key without coordinates');
  return { privateKey, publicJwk: { kty: 'EC', crv: 'P-256', alg: KEY_ALGORITHM, x, y } };
}

/** What the KBS hashes is the JCS of nonce, key and further evidence, under SHA-384; sample evidence carries that digest. */
function attestation(nonce: string, key: TeeKey, as: ProberEvidence): Json {
  const bound = { 'additional-evidence': '', nonce, 'tee-pubkey': key.publicJwk };
  const reportData = createHash('sha384').update(canonicalJson(bound)).digest('base64');
  return {
    'init-data': as.initData === null ? null : { format: 'toml', body: as.initData },
    'runtime-data': { nonce, 'tee-pubkey': key.publicJwk },
    'tee-evidence': { primary_evidence: { svn: as.svn, report_data: reportData }, additional_evidence: '' },
  };
}

function post(path: string, body: Json, headers: Readonly<Record<string, string>>): Call {
  return { method: 'POST', path, headers: { ...headers, 'content-type': 'application/json' }, body: Buffer.from(JSON.stringify(body)) };
}

function cookieOf(reply: Reply, line: Line): string {
  const session = reply.cookies.map((cookie) => SESSION_COOKIE.exec(cookie)?.[1]).find((value) => value !== undefined);
  if (session === undefined) throw new Fault('UnexpectedAnswer', `trustee at ${line.base}: auth answered without a session`);
  return `kbs-session-id=${session}`;
}

function parsed<T>(schema: z.ZodType<T>, reply: Reply, line: Line, step: string): T {
  const result = schema.safeParse(jsonOf(reply.body));
  if (!result.success) throw new Fault('UnexpectedAnswer', `trustee at ${line.base}: the answer of ${step} is not one of the protocol`);
  return result.data;
}

async function openedBytes(jwe: FlattenedJWE, key: TeeKey, line: Line): Promise<number> {
  try {
    const { plaintext } = await flattenedDecrypt(jwe, key.privateKey);
    plaintext.fill(0);
    return plaintext.length;
  } catch (cause) {
    throw new Fault('UnexpectedAnswer', `trustee at ${line.base}: the released key does not open with the TEE key of the handshake`, { cause });
  }
}
