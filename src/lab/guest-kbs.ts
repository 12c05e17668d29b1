/**
 * A guest's KBS client, as the stock one behaves: RCAR with sample evidence, then the resource with the token as bearer, and a
 * JWE that only the key made for this attestation opens. From the guest's own address, so that who called can be told from it.
 */
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import canonicalize from 'canonicalize';
import { type FlattenedJWE, flattenedDecrypt } from 'jose';
import { Agent, request } from 'undici';
import { Secret } from '../secret.ts';

/** `KBS_GET_RESOURCE_MAX_ATTEMPT`: a refused fetch costs three of these, and four attestations. */
const FETCH_ATTEMPTS = 3;

/** `RCAR_MAX_ATTEMPT` of the stock client. */
const HANDSHAKE_ATTEMPTS = 5;

/** The stock client's protocol, which a KBS compares exactly. */
const PROTOCOL = '0.4.0';

/** One request of a guest. Seconds. */
const REQUEST_TIMEOUT_SECONDS = 30;

/** A token of a host with eight GPUs is about 100 KiB; a resource is a key. Bytes. */
const ANSWER_MAX_BYTES = 1024 * 1024;

/** What a guest asks for, and as whom. */
export interface FetchOrder {
  /** The KBS's address, out of the init-data. */
  readonly kbsUrl: string;
  /** PEM of the CA that the KBS's certificate chains to, out of the init-data; null: the system's. */
  readonly kbsCertificate: string | null;
  /** `repository/type/tag`. */
  readonly path: string;
  /** The pod's address: calls come from it. */
  readonly address: string;
  /** The sample verifier's one measurement. */
  readonly svn: string;
  /** TOML. */
  readonly initData: string;
  /** Between handshakes that failed: 1 s in the stock client. */
  readonly pauseSeconds: number;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly cookie: string;
}

type Send = (method: 'GET' | 'POST', path: string, headers: Record<string, string>, body: unknown) => Promise<Answer>;

/** Attests and fetches. Throws Error with the stock client's words where the key is not to be had. */
export async function fetchKey(order: FetchOrder): Promise<Secret> {
  const connect = order.kbsCertificate === null ? {} : { connect: { ca: order.kbsCertificate } };
  await using agent = closing(new Agent({ localAddress: order.address, ...connect }));
  const send = sender(order, agent.agent);
  let attested = await handshake(order, send);
  for (let attempt = 1; attempt <= FETCH_ATTEMPTS; attempt += 1) {
    const answer = await send('GET', `/kbs/v0/resource/${order.path}`, { authorization: `Bearer ${attested.token}` }, null);
    if (answer.status === 200) return open(answer.text, attested.key);
    if (answer.status === 404) throw new Error(`KBS resource not found: ${order.path}: ${answer.text}`);
    if (answer.status !== 401) throw new Error(`http request failed: get failed: ${answer.status} ${answer.text}`);
    order.log(`Authenticating with KBS failed. Perform a new RCAR handshake: ${answer.text}`);
    attested = await handshake(order, send);
  }
  throw new Error('request unauthorized');
}

/** A guest that has attested, and asks for its key again and again with what it got for that. */
export interface Asker {
  /** `released`, or how it was refused: the last segment of the error's `type`, or the status. */
  readonly ask: () => Promise<string>;
  readonly close: () => Promise<void>;
}

/** Attests once. Its token outlives a story: what it is told later is about its key. Throws Error where it does not attest. */
export async function openAsker(order: FetchOrder): Promise<Asker> {
  const agent = new Agent({ localAddress: order.address });
  const send = sender(order, agent);
  const { token } = await handshake(order, send).catch(async (thrown: unknown) => {
    await agent.destroy();
    throw thrown;
  });
  return {
    ask: async () => {
      const { status, text } = await send('GET', `/kbs/v0/resource/${order.path}`, { authorization: `Bearer ${token}` }, null);
      return status === 200 ? 'released' : (/"type":\s*"[^"]*\/([A-Za-z]+)"/.exec(text)?.[1] ?? String(status));
    },
    close: () => agent.destroy(),
  };
}

function closing(agent: Agent): { readonly agent: Agent } & AsyncDisposable {
  return { agent, [Symbol.asyncDispose]: () => agent.destroy() };
}

function sender(order: FetchOrder, dispatcher: Agent): Send {
  return async (method, path, headers, body) => {
    const signal = AbortSignal.any([order.signal, AbortSignal.timeout(REQUEST_TIMEOUT_SECONDS * 1000)]);
    const sent = body === null ? {} : { body: JSON.stringify(body), headers: { ...headers, 'content-type': 'application/json' } };
    const answer = await request(new URL(path, order.kbsUrl), { dispatcher, method, headers, ...sent, signal });
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      sizeBytes += chunk.length;
      if (sizeBytes > ANSWER_MAX_BYTES) throw new Error('the answer of the KBS is too long');
      chunks.push(chunk);
    }
    const cookies = [answer.headers['set-cookie'] ?? []].flat().map((cookie) => cookie.split(';')[0] ?? '');
    return { status: answer.statusCode, text: Buffer.concat(chunks).toString('utf8'), cookie: cookies.join('; ') };
  };
}

interface Attested {
  readonly token: string;
  readonly key: KeyObject;
}

async function handshake(order: FetchOrder, send: Send): Promise<Attested> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await attest(order, send);
    } catch (error) {
      const told = error instanceof Error ? error.message : 'unknown';
      order.signal.throwIfAborted();
      if (attempt >= HANDSHAKE_ATTEMPTS)
        throw new Error(`RCAR handshake failed: Unable to get token. RCAR handshake retried ${attempt} times. Final attempt failed with: ${told}`);
      order.log(`RCAR handshake failed: ${told}, retry ${attempt}…`);
      await pause(order.pauseSeconds * 1000, undefined, { signal: order.signal });
    }
  }
}

/** Request, challenge, attestation, response: with a key of its own each time, as the stock agent makes one. */
async function attest(order: FetchOrder, send: Send): Promise<Attested> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x, y } = publicKey.export({ format: 'jwk' });
  const teePublicKey = { kty: 'EC', crv: 'P-256', alg: 'ECDH-ES+A256KW', x: x ?? '', y: y ?? '' };
  const challenge = await send('POST', '/kbs/v0/auth', {}, { version: PROTOCOL, tee: 'sample', 'extra-params': {} });
  if (challenge.status !== 200) throw new Error(`KBS request unauthorized: ${challenge.status} ${challenge.text}`);
  const { nonce } = JSON.parse(challenge.text) as { nonce: string };
  const body = {
    'init-data': { format: 'toml', body: order.initData },
    'runtime-data': { nonce, 'tee-pubkey': teePublicKey },
    'tee-evidence': { primary_evidence: { svn: order.svn, report_data: reportData(nonce, teePublicKey) }, additional_evidence: '' },
  };
  const answer = await send('POST', '/kbs/v0/attest', { cookie: challenge.cookie }, body);
  if (answer.status !== 200) throw new Error(`KBS attest unauthorized: ${answer.status} ${answer.text}`);
  return { token: (JSON.parse(answer.text) as { token: string }).token, key: privateKey };
}

/** SHA-384 over the JCS of what the evidence has to be bound to. Base64. */
export function reportData(nonce: string, teePublicKey: Readonly<Record<string, string>>): string {
  const text = canonicalize({ 'additional-evidence': '', nonce, 'tee-pubkey': teePublicKey }) ?? '';
  return createHash('sha384').update(text).digest('base64');
}

async function open(text: string, key: KeyObject): Promise<Secret> {
  const { plaintext } = await flattenedDecrypt(JSON.parse(text) as FlattenedJWE, key, {
    keyManagementAlgorithms: ['ECDH-ES+A256KW'],
    contentEncryptionAlgorithms: ['A256GCM'],
  });
  // A KBS on plain files was seen to answer 200 with nothing in it while the file was written.
  if (plaintext.length === 0) throw new Error('the KBS answered with an empty key');
  return new Secret(Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.length));
}
