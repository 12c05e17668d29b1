/** The port `KeyBroker` on a Trustee KBS. What it promises, and what a KBS cannot, is in the README beside. */
import type { Json } from '#src/domain/json.ts';
import { canonicalJson } from '#src/domain/json.ts';
import type { Answer, Want, WriteKind } from '#src/domain/kbs.ts';
import type { KeyPath } from '#src/domain/paths.ts';
import { renderPolicy } from '#src/domain/policy.ts';
import { Fault } from '#src/errors.ts';
import { type Reference, readReference } from '#src/reference.ts';
import { Secret } from '#src/secret.ts';
import type { Clock, KeyBroker, ProberEvidence, Read } from '#src/world.ts';
import { mintToken } from './admin.ts';
import type { TrusteeConfig } from './config.ts';
import { askFor } from './prober.ts';
import { answerOf, isItsOwn, jsonOf, type Line, openLine, type Reply, reasonOf } from './wire.ts';

/** A token is made anew this often where the database or the key store took too long; then it is they who are down. */
const ATTEMPTS_MAX = 5;
/** As Trustee reads a path (`ResourceDesc`): three segments. What it would not read is not sent. */
const PATH_FORM = /^[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9_.-]*){2}$/;

/** What a broker is opened with. */
export interface TrusteeParts {
  readonly installation: string;
  /** The database's. */
  readonly clock: Clock;
  /** Keeps the RFC 7638 thumbprint of a key that our own prober is about to use: gates skip its fetches. */
  readonly proberKeySeen: (teeKeyThumbprint: string) => Promise<void>;
}

/** Everything that the functions below share. */
interface Broker extends TrusteeParts {
  readonly name: string;
  readonly config: TrusteeConfig;
}

/** What is sent. `sealed` bodies are keys: wiped when the answer is there. */
interface Message {
  readonly method: 'POST' | 'DELETE';
  readonly path: string;
  readonly contentType: string;
  readonly body: Secret | null;
}

/** Opens a KBS of the configuration. Reads the attestation signers once; nothing is sent. Throws Fault('NotConfigured') where they cannot be read. */
export async function openTrustee(name: string, config: TrusteeConfig, parts: TrusteeParts): Promise<KeyBroker> {
  const broker: Broker = { ...parts, name, config };
  return {
    name,
    repository: config.repository,
    publicUrl: config.publicUrl,
    attestationSigners: await readSigners(name, config),
    lateWriteSeconds: lateWrites(config),
    publishPolicy: (read) => writeOnce(broker, 'policy', read, async (want) => policyMessage(want)),
    publishReferenceValues: (read) => writeOnce(broker, 'referenceValue', read, async (want) => referenceValueMessage(want)),
    putResource: (read, unwrap) => writeOnce(broker, 'resource', read, async (wrapped) => resourceMessage(name, wrapped.path, 'POST', await unwrap(wrapped))),
    deleteResource: (read) => writeOnce(broker, 'resource', read, async (path) => resourceMessage(name, path, 'DELETE', null)),
    referenceValue: (id) => referenceValue(broker, id),
    ask: (path, as, at) => ask(broker, path, as, at),
  };
}

/** W (DESIGN §8): the KBS compares whole seconds, hence the one. */
function lateWrites({ tokenSeconds, leewaySeconds, clockBoundSeconds, handlingBoundSeconds }: TrusteeConfig): Readonly<Record<WriteKind, number>> {
  const token = tokenSeconds + leewaySeconds + clockBoundSeconds + 1;
  return {
    policy: token + handlingBoundSeconds.policy,
    resource: token + handlingBoundSeconds.resource,
    referenceValue: token + handlingBoundSeconds.referenceValue,
  };
}

/**
 * The one way to write: clock, token, read, send once. A permit that was read too late stays
 * unanswered, as one whose answer was lost does, and it starts again with a new token. With replicas
 * of their own storage one permit covers the sending to each.
 */
async function writeOnce<T>(broker: Broker, kind: WriteKind, read: Read<T>, prepare: (value: T) => Promise<Message>): Promise<void> {
  const { name, config } = broker;
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    const lines = await openLines(broker);
    try {
      using token = await mintToken(name, config, broker.installation, kind, broker.clock);
      const permit = await read();
      if (permit === null) return;
      const message = await prepare(permit.value);
      using body = message.body ?? new Secret(Buffer.alloc(0));
      if (!token.fresh()) continue;
      const headers = { authorization: token.header(), 'content-type': message.contentType };
      const call = { method: message.method, path: message.path, headers, body: message.body === null ? null : body.reveal() };
      const replies = await all(lines.map((line) => line.send(call)));
      const answer = worst(lines, replies);
      if (replies.every((reply) => isItsOwn(answerOf(reply)))) await permit.answered(answer);
      refuse(name, message, answer);
      return;
    } finally {
      await closeAll(lines);
    }
  }
  throw new Fault('Unreachable', `trustee ${name}: the database or the key store took longer than an admin token lives, ${ATTEMPTS_MAX} times`);
}

/** What the absent path of a deletion is answered with is no failure: whether it is gone is not for us to say. */
function refuse(name: string, message: Message, answer: Answer): void {
  if (answer.type === null || (message.method === 'DELETE' && answer.type === 'PluginInternalError')) return;
  throw new Fault(reasonOf(answer), `trustee ${name} ${message.method} ${message.path}: ${answer.status} ${answer.type}`);
}

function policyMessage(want: Want): Message {
  const policy = Buffer.from(renderPolicy(want)).toString('base64url');
  return { method: 'POST', path: 'resource-policy', contentType: 'application/json', body: new Secret(Buffer.from(JSON.stringify({ policy }))) };
}

/** The `sample` extractor takes any JSON under any name, and signs nothing: the admin token is what is trusted (`rvps/src/extractors`). */
function referenceValueMessage(want: Want): Message {
  const payload = Buffer.from(canonicalJson(want.referenceValues)).toString('base64');
  const body = JSON.stringify({ version: '0.1.0', type: 'sample', payload });
  return { method: 'POST', path: 'reference-value', contentType: 'application/json', body: new Secret(Buffer.from(body)) };
}

function resourceMessage(name: string, path: KeyPath, method: 'POST' | 'DELETE', body: Secret | null): Message {
  const empty = body !== null && body.reveal().length === 0;
  if (empty) throw new Fault('InvalidRequest', `trustee ${name}: no bytes to store at ${path}; the KBS would store and release an empty key`);
  if (!PATH_FORM.test(path) || path.startsWith('keyturn/')) {
    body?.[Symbol.dispose]();
    throw new Fault('InvalidRequest', `trustee ${name}: ${path} is not a path that may be written`);
  }
  return { method, path: `resource/${path}`, contentType: 'application/octet-stream', body };
}

/** Of several replicas: what all hold; where they differ an object that names each, which equals nothing that was ever wanted. */
async function referenceValue(broker: Broker, id: string): Promise<Json | null> {
  const { name, config } = broker;
  // A URL does not keep such segments, however they are written: the answer would be another name's value.
  if (id.split('/').some((segment) => segment === '.' || segment === '..')) throw new Fault('InvalidRequest', `trustee ${name}: ${id} cannot be asked for`);
  const lines = await openLines(broker);
  try {
    using token = await mintToken(name, config, broker.installation, 'referenceValue', broker.clock);
    const headers = { authorization: token.header() };
    const path = `reference-value/${id.split('/').map(encodeURIComponent).join('/')}`;
    const replies = await all(lines.map((line) => line.send({ method: 'GET', path, headers, body: null })));
    const values = replies.map((reply) => storedValue(name, id, reply));
    const texts = new Set(values.map((value) => canonicalJson(value)));
    return texts.size === 1 ? (values[0] ?? null) : { replicas: values };
  } finally {
    await closeAll(lines);
  }
}

function storedValue(name: string, id: string, reply: Reply): Json | null {
  const answer = answerOf(reply);
  if (answer.type === null) {
    const value = jsonOf(reply.body);
    if (value === undefined) throw new Fault('UnexpectedAnswer', `trustee ${name} GET reference-value/${id}: the value is not JSON`);
    return value as Json;
  }
  // The one error of the reference value service whose cause is told.
  const absent = answer.type === 'RvpsError' && (answer.detail.detail ?? '').includes(`No reference value found for the given id: ${id}`);
  if (absent) return null;
  throw new Fault(reasonOf(answer), `trustee ${name} GET reference-value/${id}: ${answer.status} ${answer.type}`);
}

async function ask(broker: Broker, path: KeyPath, as: ProberEvidence, at: 'broker' | 'proxy'): Promise<readonly Answer[]> {
  if (!PATH_FORM.test(path)) throw new Fault('InvalidRequest', `trustee ${broker.name}: ${path} is not a path of a KBS`);
  const lines = at === 'broker' ? await openLines(broker) : [await openLine(broker.name, broker.config.publicUrl, authorityOf(broker), true)];
  try {
    return await all(lines.map((line) => askFor(line, path, as, broker.proberKeySeen)));
  } finally {
    await closeAll(lines);
  }
}

function openLines(broker: Broker): Promise<readonly Line[]> {
  const { replicas, url } = broker.config;
  return Promise.all((replicas.length > 0 ? replicas : [url]).map((base) => openLine(broker.name, base, authorityOf(broker), false)));
}

function authorityOf({ config }: Broker): Reference | null {
  return config.certificateAuthority ?? null;
}

async function closeAll(lines: readonly Line[]): Promise<void> {
  await Promise.all(lines.map((line) => line.close()));
}

/** All of them, and only when each has ended: nothing is still on its way when the first failure is told. */
async function all<T>(promises: readonly Promise<T>[]): Promise<readonly T[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}

/** One answer for all replicas: the first that is no success, else the first. */
function worst(lines: readonly Line[], replies: readonly Reply[]): Answer {
  const answers = replies.map((reply, index) => answerOf(reply, lines.length > 1 ? { replica: lines[index]?.base ?? '' } : {}));
  const answer = answers.find(({ type }) => type !== null) ?? answers[0];
  if (answer === undefined) throw new Error('a KBS without an address');
  return answer;
}

async function readSigners(name: string, { attestationSigners }: TrusteeConfig): Promise<readonly string[]> {
  try {
    using pem = await readReference(attestationSigners);
    const certificates =
      pem
        .reveal()
        .toString('utf8')
        .match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    if (certificates.length === 0) throw new Error('no certificate in it');
    return certificates;
  } catch (cause) {
    throw new Fault('NotConfigured', `trustee ${name}: attestationSigners cannot be read`, { cause });
  }
}
