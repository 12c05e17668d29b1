import type { TokenCredential } from '@azure/identity';
import { KeyClient, type KeyClientOptions, type KeyVaultKey } from '@azure/keyvault-keys';
import type { Answer } from '#src/domain/kbs.ts';
import { Fault, isFault } from '#src/errors.ts';
import { readReference } from '#src/reference.ts';
import type { KeyOrder, Read } from '#src/world.ts';
import type { AzureKeyVaultConfig } from './config.ts';
import { openCredential } from './credential.ts';
import { asFault, codeIn, fieldOf, type Heard, refusalFault } from './faults.ts';

/** A call that takes longer has failed: a vault answers in well under a second, an RSA key of an HSM within a few. Seconds. */
const CALL_TIMEOUT_SECONDS = 10;
/** A listing is hundreds of calls in a full vault. Seconds. */
const LIST_TIMEOUT_SECONDS = 60;

/** The connection to one vault. */
export interface Wire {
  /** `azure-key-vault <name>`: begins every message. */
  readonly title: string;
  /** `https://host`: begins every key's id. */
  readonly origin: string;
  readonly client: KeyClient;
  readonly credential: TokenCredential;
  /** What tokens are for. */
  readonly scope: string;
}

/** What the SDK takes with every call. */
export interface CallOptions {
  readonly abortSignal: AbortSignal;
  readonly onResponse: (response: {
    readonly status: number;
    readonly headers: { readonly get: (name: string) => string | undefined };
    readonly bodyAsText?: string | null;
  }) => void;
}

/** How a call ended: carried out, or refused by the vault; with its last answer. Everything else is thrown. */
export type Outcome<T> = { readonly kind: 'done'; readonly value: T; readonly heard: Heard } | { readonly kind: 'refused'; readonly heard: Heard };

/**
 * Opens the client. No retries: the SDK would send a creation again after a 500 or a lost answer, and make a second version; and a
 * decryption that is to be refused must be asked for exactly once an answer. Throws where the CA's file cannot be read.
 */
export async function openWire(name: string, config: AzureKeyVaultConfig): Promise<Wire> {
  const { origin, hostname } = new URL(config.url);
  const isLoopback = hostname === '127.0.0.1' || hostname === '[::1]' || hostname === 'localhost';
  const credential = openCredential(config.credential);
  const options: KeyClientOptions = {
    retryOptions: { maxRetries: 0 },
    redirectOptions: { maxRetries: 0 },
    // A challenge that names another domain than the vault's would fetch a token for it; this machine's own names have no domain.
    disableChallengeResourceVerification: isLoopback,
    ...(config.certificateAuthority === undefined ? {} : { tlsOptions: { ca: await textIn(config.certificateAuthority) } }),
  };
  const domain = isLoopback ? 'vault.azure.net' : hostname.slice(hostname.indexOf('.') + 1);
  return { title: `azure-key-vault ${name}`, origin, credential, scope: `https://${domain}/.default`, client: new KeyClient(origin, credential, options) };
}

async function textIn(from: NonNullable<AzureKeyVaultConfig['certificateAuthority']>): Promise<string> {
  using pem = await readReference(from);
  return pem.reveal().toString('utf8');
}

/** One call, or the few that the SDK makes of it. Throws Fault where the vault did not answer, or not as one. */
export async function ask<T>(doing: string, send: (options: CallOptions) => Promise<T>, seconds = CALL_TIMEOUT_SECONDS): Promise<Outcome<T>> {
  let heard: Heard | null = null;
  const onResponse: CallOptions['onResponse'] = ({ status, headers, bodyAsText }) => {
    const body = parsed(bodyAsText ?? '');
    const kid = fieldOf(body, 'kid');
    heard = { status, requestId: headers.get('x-ms-request-id'), code: codeIn(body), kid: typeof kid === 'string' ? kid : null };
  };
  // What a callback assigns, the compiler does not see.
  const last = (): Heard | null => heard;
  try {
    const value = await send({ abortSignal: AbortSignal.timeout(seconds * 1000), onResponse });
    const answer = last();
    if (answer === null) throw new Fault('UnexpectedAnswer', `${doing}: no answer was seen`);
    return { kind: 'done', value, heard: answer };
  } catch (error) {
    const answer = last();
    const fault = asFault(error, doing, answer);
    // What was refused is told by its answer, and by nothing that the SDK makes of it.
    if (answer !== null && answer.status >= 300 && isFault(fault) && fault.reason === 'UnexpectedAnswer') return { kind: 'refused', heard: answer };
    throw fault;
  }
}

/** Reads a whole listing, up to `max` items; more are Fault `LimitExceeded`. */
export async function list<T>(doing: string, max: number, pages: (options: CallOptions) => AsyncIterable<readonly T[]>): Promise<readonly T[]> {
  const items: T[] = [];
  const read = async (options: CallOptions): Promise<void> => {
    for await (const page of pages(options)) {
      items.push(...page);
      if (items.length > max) throw new Fault('LimitExceeded', `${doing}: more than ${max}`);
    }
  };
  const outcome = await ask(doing, read, LIST_TIMEOUT_SECONDS);
  if (outcome.kind === 'refused') throw refusalFault(outcome.heard, doing);
  return items;
}

/** A key, however it is asked for; null: the vault says that it has none. */
export async function found(doing: string, send: (options: CallOptions) => Promise<KeyVaultKey>): Promise<KeyVaultKey | null> {
  const outcome = await ask(doing, send);
  if (outcome.kind === 'done') return outcome.value;
  if (outcome.heard.code === 'KeyNotFound') return null;
  throw refusalFault(outcome.heard, doing);
}

/** What is reported of an answer: both details are public, and Azure's log finds the call by the request id. */
export function answerOf({ status, code, requestId }: Heard, keyId: string | null): Answer {
  const detail = { ...(keyId === null ? {} : { keyId }), ...(requestId === undefined ? {} : { requestId }) };
  return { status, type: status < 300 ? null : (code ?? String(status)), detail };
}

/** What is reported where leave was given, and then nothing was sent: no status is HTTP's. */
const NOTHING_SENT = 0;

/**
 * A call that changes something, in the one order that is safe: a token first, so that none is missing later; then leave to send,
 * which journals it; then once onto the wire. What comes back is reported, also a refusal; where nothing comes back, nothing is.
 * `objection`: asked before sending; what it returns is thrown, and reported as the answer, for nothing was sent.
 * Throws Fault for everything but success.
 */
export async function write<T>(
  wire: Wire,
  what: string,
  read: Read<KeyOrder>,
  send: (order: KeyOrder, options: CallOptions) => Promise<T>,
  keyIdOf: (value: T, order: KeyOrder) => string | null,
  objection: (order: KeyOrder) => Promise<Fault | null> = async () => null,
): Promise<void> {
  await haveToken(wire);
  const permit = await read();
  if (permit === null) return;
  const { keyId, rotation } = permit.value;
  const doing = keyId === null ? `${wire.title} ${what} for ${rotation}` : `${wire.title} ${what} ${keyId}`;
  const fault = await objection(permit.value);
  if (fault !== null) {
    await permit.answered({ status: NOTHING_SENT, type: fault.reason, detail: keyId === null ? {} : { keyId } });
    throw fault;
  }
  const outcome = await ask(doing, (options) => send(permit.value, options));
  if (outcome.kind === 'refused') {
    await permit.answered(answerOf(outcome.heard, keyId));
    throw refusalFault(outcome.heard, doing);
  }
  const touched = keyIdOf(outcome.value, permit.value);
  await permit.answered(answerOf(outcome.heard, touched));
  if (touched === null) throw new Fault('UnexpectedAnswer', `${doing}: the answer is not of that key`);
}

async function haveToken({ credential, scope, title }: Wire): Promise<void> {
  const doing = `${title} credentials`;
  const token = await credential.getToken(scope).catch((error: unknown) => {
    throw asFault(error, doing, null);
  });
  if (token === null) throw new Fault('Unauthenticated', `${doing}: there are none`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
