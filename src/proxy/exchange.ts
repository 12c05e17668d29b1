import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Json } from '#src/domain/json.ts';
import { isFault } from '#src/errors.ts';
import type { Log } from '#src/log.ts';
import type { Metrics } from '#src/metrics.ts';
import type { FetchRecord } from '#state/fetches.ts';
import { type Answer, errorTypeOf, nowhereAnswer, type OwnRefusal, refusalAnswer, send } from './answer.ts';
import { type Attested, attestedBy, type Guests } from './attested.ts';
import { openBodies, type ReadBody } from './body.ts';
import { type Credential, credentialOf, sessionOf } from './credential.ts';
import type { DenyList } from './deny-list.ts';
import type { Recorder } from './recorder.ts';
import { openRoom } from './room.ts';
import { isReserved, type Route, routeOf } from './route.ts';
import type { Upstream } from './upstream.ts';

/** What one exchange needs. */
export interface Parts {
  readonly kbs: string;
  /** Of this process. */
  readonly proxy: string;
  readonly upstream: Upstream;
  readonly denyList: DenyList;
  readonly recorder: Recorder;
  readonly guests: Guests;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Beyond this many open exchanges a new one is turned away, so that memory has an end. A body that is still read is none yet. */
const OPEN_MAX = 1024;

/** Lets one exchange with the KBS in, or turns it away. */
type Admit = (address: string, exchange: () => Promise<Answer>) => Promise<Answer>;

interface Serving extends Parts {
  readonly admit: Admit;
  readonly readBody: ReadBody;
}

/** Answers every request with an answer of the KBS's form, whatever happens; rejects never. */
export function exchanging(parts: Parts): (request: IncomingMessage, response: ServerResponse, address: string) => Promise<void> {
  const serving: Serving = { ...parts, admit: admitting(), readBody: openBodies() };
  return async (request, response, address) => {
    try {
      const route = routeOf(request.method ?? '', request.url ?? '');
      const answer = await answerTo(serving, route, request, address);
      if (answer === null) return;
      send(response, answer);
      // What a client still sends of a body that nobody reads would be taken for its next request.
      if (!request.complete) request.socket.destroySoon();
    } catch (thrown) {
      parts.log.error({ error: thrown, kbs: parts.kbs }, 'an exchange failed');
      response.destroy();
    }
  };
}

function admitting(): Admit {
  const room = openRoom(OPEN_MAX);
  return async (address, exchange) => {
    if (!room.take(address, 1)) return refusalAnswer('TooManyRequests');
    try {
      return await exchange();
    } finally {
      room.give(address, 1);
    }
  };
}

/** null: the guest has gone. */
async function answerTo(parts: Serving, route: Route, request: IncomingMessage, address: string): Promise<Answer | null> {
  switch (route.kind) {
    case 'nowhere':
      return nowhereAnswer(route.plugin);
    case 'auth':
    case 'attest':
      return handshake(parts, route.kind, request, address);
    case 'resource':
      return parts.admit(address, () => fetchResource(parts, route.path, request, address));
  }
}

// ---------------------------------------------------------------- the handshake

async function handshake(parts: Serving, kind: 'auth' | 'attest', request: IncomingMessage, address: string): Promise<Answer | null> {
  const body = await parts.readBody(request, address);
  if (body.kind === 'gone') return null;
  if (body.kind === 'refused') return body.answer;
  const session = sessionOf(request.headers);
  const headers = { ...named(request, 'content-type'), ...named(request, 'user-agent'), ...session?.header };
  const ask = () => parts.upstream.ask({ kind, path: `/kbs/v0/${kind}`, headers, body: body.bytes, address });
  try {
    const answer = await parts.admit(address, () => asked(parts, ask));
    return kind === 'attest' ? await attested(parts, address, session, answer) : answer;
  } finally {
    body.release();
  }
}

/** An attestation that is not on record would leave its pod unaccounted for; the guest asks again, and the KBS gives the same token. */
async function attested(parts: Parts, address: string, session: Credential | null, answer: Answer): Promise<Answer> {
  const token = answer.status === 200 ? tokenIn(answer.body) : null;
  const guest = token === null ? null : attestedBy(token);
  const details = { kbs: parts.kbs, address, status: answer.status, sessionDigest: session?.digest ?? null };
  if (token === null || guest === null || guest.teeKey === null || session === null) {
    if (answer.status === 200) parts.log.warn(details, 'an attestation was granted whose token has no TEE key: it is not on record');
    else parts.log.info({ ...details, type: errorTypeOf(answer.body) }, 'an attestation was not granted');
    return answer;
  }
  const { tokenDigest, teeKey } = guest;
  try {
    await parts.recorder.handshake({ kbs: parts.kbs, proxy: parts.proxy, address, sessionDigest: session.digest, tokenDigest, token, teeKey });
  } catch (thrown) {
    parts.log.error({ ...details, error: thrown }, 'an attestation could not be recorded and was not answered');
    return refusalAnswer('NotRecorded');
  }
  parts.guests.add(session.digest, guest);
  parts.log.info({ ...details, ...guest.summary }, 'a guest has attested');
  return answer;
}

function tokenIn(body: Buffer): string | null {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return typeof value === 'object' && value !== null && 'token' in value && typeof value.token === 'string' ? value.token : null;
  } catch {
    return null;
  }
}

function named(request: IncomingMessage, name: 'content-type' | 'user-agent' | 'accept'): Readonly<Record<string, string>> {
  const value = request.headers[name];
  return value === undefined ? {} : { [name]: value };
}

/** The KBS's answer, or ours where it gave none. */
async function asked(parts: Parts, ask: () => Promise<Answer>): Promise<Answer & { readonly refusal?: OwnRefusal }> {
  try {
    return await ask();
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    parts.metrics.faults.inc({ reason: thrown.reason, system: parts.kbs });
    parts.log.warn({ kbs: parts.kbs, reason: thrown.reason, fault: thrown.message }, 'the key broker did not answer');
    return { ...refusalAnswer('BrokerUnreachable'), refusal: 'BrokerUnreachable' };
  }
}

// ---------------------------------------------------------------- the key

/** One GET, and what is known of it. */
interface Asking {
  readonly path: string;
  readonly address: string;
  readonly credential: Credential | null;
  /** null: nobody that this proxy knows, or no credential at all. */
  readonly guest: Attested | null;
  readonly requestId: string;
}

async function fetchResource(parts: Parts, path: string, request: IncomingMessage, address: string): Promise<Answer> {
  const began = performance.now();
  const credential = credentialOf(request.headers);
  const guest = credential === null ? null : await guestOf(parts, credential);
  const asking = { path, address, credential, guest, requestId: randomBytes(8).toString('hex') };
  const before = refusalOf(parts, asking);
  if (before !== null) return refuse(parts, asking, refusalAnswer(before), before);
  const headers = { ...named(request, 'accept'), ...named(request, 'user-agent'), ...credential?.header };
  const sent = performance.now();
  const answer = await asked(parts, () => parts.upstream.ask({ kind: 'resource', path: `/kbs/v0/resource/${path}`, headers, body: null, address }));
  const back = performance.now();
  // Whatever is no error may hold a key.
  const result = answer.status < 400 ? await release(parts, asking, answer) : refuse(parts, asking, answer, answer.refusal ?? errorTypeOf(answer.body));
  parts.metrics.proxySeconds.observe({ kbs: parts.kbs }, (performance.now() - back + sent - began) / 1000);
  return result;
}

/** Another proxy's session is looked up only where the deny-list asks who a guest is; where that fails, nobody knows. */
async function guestOf({ denyList, guests }: Parts, credential: Credential): Promise<Attested | null> {
  return denyList.namesGuests() ? guests.find(credential).catch(() => null) : guests.seen(credential);
}

/** Why this GET is refused whatever the KBS would say; null: nothing is known against it. In one turn, so that nothing is denied between its lines. */
function refusalOf({ denyList }: Parts, { path, credential, guest }: Asking): OwnRefusal | null {
  if (isReserved(path)) return 'Reserved';
  if (!denyList.isConfirmed()) return 'DenyListStale';
  if (denyList.entryFor(path) !== null) return 'DenyList';
  // Without a credential the KBS releases nothing; with one that nobody knows, it cannot be told from a guest that is denied.
  if (!denyList.namesGuests() || credential === null) return null;
  return guest === null || denyList.entryForGuest(guest.names) !== null ? 'DenyList' : null;
}

/**
 * The KBS has released a key. It goes out only once that is on record, and only if nothing was denied
 * while the KBS and the database were busy: what this proxy has acknowledged as refused is never sent
 * afterwards. Whoever is refused after the record stands there as served, which can only make a
 * retirement wait.
 */
async function release(parts: Parts, asking: Asking, answer: Answer): Promise<Answer> {
  const denied = refusalOf(parts, asking);
  if (denied !== null) return refuse(parts, asking, refusalAnswer(denied), denied);
  try {
    await parts.recorder.released({ ...recordOf(parts, asking), decision: 'released', status: answer.status, type: null });
  } catch (thrown) {
    parts.log.error({ ...shown(parts, asking), error: thrown }, 'a release could not be recorded and was not given');
    return refuse(parts, asking, refusalAnswer('NotRecorded'), 'NotRecorded');
  }
  const deniedSince = refusalOf(parts, asking);
  if (deniedSince !== null) return refuse(parts, asking, refusalAnswer(deniedSince), deniedSince);
  parts.metrics.fetches.inc({ kbs: parts.kbs, decision: 'released', by: 'broker' });
  parts.log.info({ ...shown(parts, asking), decision: 'released', status: answer.status }, 'a key was released');
  return answer;
}

/** `by`: the KBS's error name, or the proxy's own refusal; null: an answer that is no error of a KBS. */
function refuse(parts: Parts, asking: Asking, answer: Answer, by: string | null): Answer {
  const type = by ?? `Status${answer.status}`;
  // A cookie client asks once before it attests: without a credential there is nothing to tell.
  const kept = asking.credential === null || parts.recorder.refused({ ...recordOf(parts, asking), decision: 'refused', status: answer.status, type });
  parts.metrics.fetches.inc({ kbs: parts.kbs, decision: 'refused', by: type });
  parts.log.info({ ...shown(parts, asking), decision: 'refused', status: answer.status, type, kept }, 'a key was refused');
  return answer;
}

function recordOf(parts: Parts, { path, address, credential, requestId }: Asking): Omit<FetchRecord, 'decision' | 'status' | 'type'> {
  const digest = (kind: Credential['kind']): string | null => (credential?.kind === kind ? credential.digest : null);
  return { kbs: parts.kbs, proxy: parts.proxy, path, address, sessionDigest: digest('session'), tokenDigest: digest('token'), requestId };
}

/** For the log: who asked for what, under which version of the policy, and what is known of the guest. */
function shown({ kbs, denyList }: Parts, { path, address, credential, guest, requestId }: Asking): Readonly<Record<string, Json>> {
  const because = denyList.entryFor(path)?.because ?? null;
  const known = guest === null ? {} : guest.summary;
  return { kbs, path, address, requestId, policyGeneration: denyList.generation(), credential: credential?.digest ?? null, because, ...known };
}
