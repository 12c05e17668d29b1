import { KMSClient } from '@aws-sdk/client-kms';
import type { Answer } from '#src/domain/kbs.ts';
import { Fault } from '#src/errors.ts';
import type { KeyOrder, Read } from '#src/world.ts';
import type { AwsKmsConfig } from './config.ts';
import { answerOf, asFault, detailOf } from './faults.ts';

/** A call that takes longer has failed: AWS answers in well under a second, and a run's claim should not hang on one call. Seconds. */
const CALL_TIMEOUT_SECONDS = 10;
/** A host that is there accepts a connection at once. Seconds. */
const CONNECT_TIMEOUT_SECONDS = 3;

/** The connection to one KMS. */
export interface Wire {
  /** `aws-kms <name>`: begins every message. */
  readonly title: string;
  readonly client: KMSClient;
}

/** What every answer of the SDK carries. */
interface Output {
  readonly $metadata: { readonly httpStatusCode?: number; readonly requestId?: string };
}

/**
 * Opens the client. `maxAttempts: 1`: the SDK would retry CreateKey after a 500 or a lost answer, and make a second key; and a
 * decryption that is to be refused must be asked for exactly once an answer.
 */
export function openWire(name: string, config: AwsKmsConfig): Wire {
  const client = new KMSClient({
    region: config.region,
    ...(config.endpoint === undefined ? {} : { endpoint: config.endpoint }),
    maxAttempts: 1,
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_SECONDS * 1000 },
  });
  return { title: `aws-kms ${name}`, client };
}

/** Calls that change nothing. Throws what the SDK throws. */
export function ask<O extends Output>(send: (options: { abortSignal: AbortSignal }) => Promise<O>): Promise<O> {
  return send({ abortSignal: AbortSignal.timeout(CALL_TIMEOUT_SECONDS * 1000) });
}

/**
 * A call that changes something, in the one order that is safe: credentials first, so that none are missing later; then leave to send,
 * which journals it; then once onto the wire. What comes back is reported, also a refusal; where nothing comes back, nothing is.
 * Throws Fault for everything but success.
 */
export async function write<O extends Output>(
  { title, client }: Wire,
  what: string,
  read: Read<KeyOrder>,
  send: (order: KeyOrder, options: { abortSignal: AbortSignal }) => Promise<O>,
  keyIdOf: (output: O, order: KeyOrder) => string | null | undefined,
): Promise<void> {
  await client.config.credentials().catch((error: unknown) => {
    throw asFault(error, `${title} credentials`);
  });
  const permit = await read();
  if (permit === null) return;
  const { keyId } = permit.value;
  const doing = keyId === null ? `${title} ${what} for ${permit.value.rotation}` : `${title} ${what} ${keyId}`;
  let output: O;
  try {
    output = await ask((options) => send(permit.value, options));
  } catch (error) {
    const answer = answerOf(error, keyId);
    if (answer !== null) await permit.answered(answer);
    throw asFault(error, doing);
  }
  const touched = keyIdOf(output, permit.value) ?? null;
  const answer: Answer = { status: output.$metadata.httpStatusCode ?? 0, type: null, detail: detailOf(touched, output.$metadata.requestId) };
  await permit.answered(answer);
  if (touched === null) throw new Fault('UnexpectedAnswer', `${doing}: the answer names no key`);
}
