import { z } from 'zod';
import { referenceScalar } from '#src/domain/documents/fields.ts';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';

/** The words of `keyturn revoke` that say what is not trusted any more. */
export interface SubjectOptions {
  readonly path?: string;
  readonly keyId?: string;
  readonly workload?: string;
  readonly epoch?: number;
  readonly serial?: number;
  readonly all?: true;
  readonly chipId?: string;
  readonly ueid?: string;
  readonly target?: string;
  readonly referenceValue?: string;
  readonly signer?: string;
  readonly key?: string;
  readonly since?: string;
}

const EXPECTED = 'one of --path, --key-id, --workload, --all, --chip-id, --ueid, --target, --reference-value, --signer';

/** What is revoked; a text: what is wrong with the words. What a field may hold is the document's to say. */
export function revokedIn(options: SubjectOptions): RevocationSubject | string {
  const { path, keyId, workload, epoch, serial, all, chipId, ueid, target, referenceValue, signer, key, since } = options;
  if ((epoch !== undefined || serial !== undefined) && workload === undefined) return '--epoch and --serial are of a --workload: name it';
  if (epoch !== undefined && serial !== undefined) return '--epoch names a key, --serial a release: give one';
  if ((key !== undefined || since !== undefined) && signer === undefined) return '--key and --since are of a --signer: name the person';
  const given: readonly (RevocationSubject | string | null)[] = [
    path === undefined ? null : { kind: 'key', path },
    keyId === undefined ? null : { kind: 'key', keyId },
    workload === undefined ? null : ofWorkload(workload, epoch, serial),
    all === true ? { kind: 'all' } : null,
    chipId === undefined ? null : { kind: 'device', chipId },
    ueid === undefined ? null : { kind: 'device', ueid },
    target === undefined ? null : ofTarget(target),
    referenceValue === undefined ? null : ofReferenceValue(referenceValue),
    signer === undefined ? null : { kind: 'signer', person: signer, ...(key === undefined ? {} : { key }), ...(since === undefined ? {} : { since }) },
  ];
  const [subject, ...more] = given.filter((one) => one !== null);
  if (subject === undefined) return `what is revoked? expected ${EXPECTED}`;
  return more.length === 0 ? subject : `one revocation is of one thing: expected ${EXPECTED}`;
}

function ofWorkload(workload: string, epoch: number | undefined, serial: number | undefined): RevocationSubject {
  if (epoch !== undefined) return { kind: 'key', workload, epoch };
  return serial === undefined ? { kind: 'workload', workload } : { kind: 'release', workload, serial };
}

function ofTarget(text: string): RevocationSubject | string {
  const [cluster = '', namespace = '', name = '', ...more] = text.split('/');
  if (name === '' || more.length > 0) return '--target: expected cluster/namespace/name';
  return { kind: 'target', cluster, namespace, name };
}

const VALUE_FORMS = '--reference-value: expected name=text, or name:=JSON: a text in quotes, a number, true, false, or a list of these';

/** Names have no `:` and no `=`, so the first of them ends the name and tells the form. */
function ofReferenceValue(text: string): RevocationSubject | string {
  const [, name, form, written] = /^([^:=]+)(:?=)(.+)$/s.exec(text) ?? [];
  if (name === undefined || written === undefined) return VALUE_FORMS;
  if (form === '=') return { kind: 'reference-value', name, value: scalarIn(written) };
  const value = jsonIn(written);
  return value === null ? `${VALUE_FORMS}; ${written} is none of these` : { kind: 'reference-value', name, value };
}

type ReferenceValue = Extract<RevocationSubject, { kind: 'reference-value' }>['value'];

/** null: it is no JSON, or of a kind that no reference value has. A number that JavaScript would round is another number, and none of these. */
function jsonIn(text: string): ReferenceValue | null {
  const read = z.union([referenceScalar, z.array(referenceScalar).min(1)]).safeParse(parsedIn(text));
  return read.success && [read.data].flat().every((one) => typeof one !== 'number' || Number.isSafeInteger(one) || !Number.isInteger(one)) ? read.data : null;
}

function parsedIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A measurement is a text, also where it has digits alone (`svn: ["2"]`); `true` and `false` are not, unless they are quoted. All else says `:=`. */
function scalarIn(text: string): string | boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^"(.*)"$/.exec(text)?.[1] ?? text;
}
