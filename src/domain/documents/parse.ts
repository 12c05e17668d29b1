import type { z } from 'zod';
import type { Json } from '../json.ts';
import type { Reason } from '../reasons.ts';
import { type DocumentKind, type Place, placeOf } from './places.ts';
import { type BaselineDocument, baselineSchema, type PlatformDocument, platformSchema, type ReleaseDocument, releaseSchema } from './release.ts';
import { baselineUnsupported, type Mistake, platformUnsupported, releaseMistake, releaseUnsupported, trustMistake } from './rules.ts';
import {
  type ReinstatementDocument,
  type RevocationDocument,
  reinstatementSchema,
  revocationSchema,
  type TrustDocument,
  trustSchema,
  type WithdrawalDocument,
  withdrawalSchema,
} from './trust.ts';
import { readYaml } from './yaml.ts';

/** A document as its bytes say: parsed, its signatures not looked at. */
export type ParsedDocument =
  | ReleaseDocument
  | PlatformDocument
  | BaselineDocument
  | TrustDocument
  | RevocationDocument
  | WithdrawalDocument
  | ReinstatementDocument;

/** A document, or its first mistake: the file, the field, and what was expected there. */
export type Parsed = { readonly kind: 'parsed'; readonly document: ParsedDocument } | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string };

/** The schema of each kind. */
export const schemas = {
  Release: releaseSchema,
  Platform: platformSchema,
  Baseline: baselineSchema,
  Trust: trustSchema,
  Revocation: revocationSchema,
  Withdrawal: withdrawalSchema,
  Reinstatement: reinstatementSchema,
} as const satisfies Record<DocumentKind, z.ZodType>;

/**
 * Parses a document of the watched repository: strict YAML, the schema of the kind that its path
 * says, ids that agree with the path, the rules that reach over several fields, and what this version
 * can carry out (`NotSupportedYet`). Every revocation that fits its schema can be. Never throws.
 */
export function parseDocument(path: string, bytes: Uint8Array): Parsed {
  const place = placeOf(path);
  if (place === null) return { kind: 'bad', reason: 'WrongPlace', about: `${path}: no document lives at this path` };
  const yaml = readYaml(bytes);
  if (yaml.kind === 'bad') return { kind: 'bad', reason: yaml.limit ? 'LimitExceeded' : 'Malformed', about: `${path}: ${yaml.about}` };
  const kind = kindIn(yaml.value);
  if (kind !== null && kind !== place.kind) return mistaken('WrongPlace', path, { field: 'kind', expected: `${place.kind}, as the file’s name says` });
  const read = schemas[place.kind].safeParse(yaml.value);
  if (!read.success) return schemaMistake(path, read.error.issues, yaml.value);
  const document: ParsedDocument = read.data;
  const misplaced = placeMistake(place, document);
  if (misplaced !== null) return mistaken('WrongPlace', path, misplaced);
  const wrong = ruleMistake(document);
  if (wrong !== null) return mistaken('Malformed', path, wrong);
  const unsupported = unsupportedField(document);
  if (unsupported !== null) return mistaken('NotSupportedYet', path, unsupported);
  return { kind: 'parsed', document };
}

/** The kind that a document says it is of; null: none of ours. */
function kindIn(value: Json): DocumentKind | null {
  const entry = value !== null && typeof value === 'object' ? Object.entries(value).find(([name]) => name === 'kind')?.[1] : null;
  return Object.keys(schemas).find((name): name is DocumentKind => name === entry) ?? null;
}

/** The files that a document covers by their digests: init-data of a release's guests, a trust document's root. Nothing for what does not parse. */
export function namedBy(file: { readonly path: string; readonly bytes: Uint8Array }): readonly { readonly file: string; readonly digest: string }[] {
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return [];
  if (parsed.document.kind === 'Trust')
    return parsed.document.trustedRoot === undefined || parsed.document.trustedRoot === null ? [] : [parsed.document.trustedRoot];
  if (parsed.document.kind !== 'Release') return [];
  return Object.values(parsed.document.guests).map(({ initData }) => initData);
}

function mistaken(reason: Reason, path: string, { field, expected }: Mistake): Parsed {
  return { kind: 'bad', reason, about: `${path}: ${field}: expected ${expected}` };
}

/** Names of unknown fields are quoted, and may be long. */
const FIELD_MAX = 100;
const MESSAGE_MAX = 300;

/** Whether the ids inside are those of the path. */
function placeMistake(place: Place, document: ParsedDocument): Mistake | null {
  for (const [field, expected] of Object.entries(place)) {
    const found = Object.entries(document).find(([name]) => name === field)?.[1];
    if (found !== expected) return { field, expected: `${expected}, as the file’s name says` };
  }
  return null;
}

function ruleMistake(document: ParsedDocument): Mistake | null {
  switch (document.kind) {
    case 'Release':
      return releaseMistake(document);
    case 'Trust':
      return trustMistake(document);
    case 'Platform':
    case 'Baseline':
    case 'Revocation':
    case 'Withdrawal':
    case 'Reinstatement':
      return null;
  }
}

function unsupportedField(document: ParsedDocument): Mistake | null {
  switch (document.kind) {
    case 'Release':
      return releaseUnsupported(document);
    case 'Baseline':
      return baselineUnsupported(document);
    case 'Platform':
      return platformUnsupported(document);
    case 'Trust':
    case 'Revocation':
    case 'Withdrawal':
    case 'Reinstatement':
      return null;
  }
}

/** The first mistake that a person can act on: an unknown field anywhere wins, since it explains the missing one beside it. */
function schemaMistake(path: string, issues: readonly z.core.$ZodIssue[], value: Json): Parsed {
  const flat = issues.flatMap((issue) => flatten(issue, value));
  const unknown = flat.find((issue) => issue.code === 'unrecognized_keys');
  if (unknown?.code === 'unrecognized_keys') {
    const field = [...unknown.path, unknown.keys[0]?.slice(0, FIELD_MAX)].join('.');
    return { kind: 'bad', reason: 'UnknownField', about: `${path}: ${field}: expected no such field` };
  }
  const first = flat[0];
  const field = first === undefined || first.path.length === 0 ? 'the document' : first.path.join('.');
  return { kind: 'bad', reason: 'Malformed', about: `${path}: ${field}: ${messageOf(first)}` };
}

/** The schema library's own words, without the class of mistake that it puts before `expected`. */
function messageOf(issue: z.core.$ZodIssue | undefined): string {
  return issue?.message.replace(/^[A-Z][a-z ]+: (?=expected)/, '').slice(0, MESSAGE_MAX) ?? 'expected something else';
}

/** Issues of a union are those of its likeliest branch: the one whose `kind` fits, else the one with the fewest. */
function flatten(issue: z.core.$ZodIssue, value: Json): readonly z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return [issue];
  const offKind = (branch: readonly z.core.$ZodIssue[]): number => (branch.some((one) => one.path[0] === 'kind') ? 1000 : 0);
  const branches = [...issue.errors].sort((a, b) => offKind(a) + a.length - offKind(b) - b.length);
  return (branches[0] ?? []).flatMap((one) => flatten({ ...one, path: [...issue.path, ...one.path] }, value));
}
