import { z } from 'zod';
import { type Digest, hexOf } from '#src/digest.ts';
import { readYaml } from '#src/domain/documents/yaml.ts';
import type { Content } from './wire.ts';

/** in-toto's own payload type: what a DSSE envelope of a bundle holds. */
const PAYLOAD_TYPE = 'application/vnd.in-toto+json';

/**
 * What an approval says it is. An approver may sign many statements about a document with the same key: that
 * it was scanned, built, or found wanting. Only this one approves it.
 */
export const APPROVAL_TYPE = 'https://keyturn.dev/approval/v1';

/** in-toto Statement, v1 and v0.1: about exactly one thing, by exactly its SHA-256. The predicate is the signer's own note. */
const statement = z.strictObject({
  _type: z.enum(['https://in-toto.io/Statement/v1', 'https://in-toto.io/Statement/v0.1']),
  predicateType: z.literal(APPROVAL_TYPE),
  subject: z.tuple([z.strictObject({ name: z.string().optional(), digest: z.strictObject({ sha256: z.string() }) })]),
  predicate: z.unknown().optional(),
});

/** What keeps a DSSE envelope from approving the document of this digest, by its field; null: nothing but its signature, which is not looked at. */
export function statementMistake({ envelope }: Extract<Content, { kind: 'statement' }>, digest: Digest): string | null {
  if (envelope.payloadType !== PAYLOAD_TYPE) return `dsseEnvelope.payloadType: expected ${PAYLOAD_TYPE}`;
  if (envelope.signatures.length !== 1) return `dsseEnvelope.signatures: expected one, found ${envelope.signatures.length}`;
  const read = statement.safeParse(jsonIn(Buffer.from(envelope.payload, 'base64')));
  if (!read.success) return `dsseEnvelope.payload.${read.error.issues[0]?.path.join('.') ?? ''}: expected ${expectedAt(read.error.issues[0]?.path ?? [])}`;
  return read.data.subject[0].digest.sha256 === hexOf(digest) ? null : 'dsseEnvelope.payload.subject.0.digest.sha256: expected that of the document';
}

function expectedAt([first]: readonly PropertyKey[]): string {
  if (first === 'predicateType') return APPROVAL_TYPE;
  return first === 'subject' ? 'the document alone, by its SHA-256' : 'an in-toto statement, v1 or v0.1';
}

/** JSON that reads one way only: a parser of documents, which refuses a key that comes twice, has to take it as well. null: it is none. */
function jsonIn(payload: Buffer): unknown {
  try {
    return readYaml(payload).kind === 'read' ? JSON.parse(payload.toString('utf8')) : null;
  } catch {
    return null;
  }
}
