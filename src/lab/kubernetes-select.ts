/** Label and field selectors, as they come in a query. */
import { type ApiObject, at, mapAt, textsAt } from './kubernetes-json.ts';
import { badRequest } from './kubernetes-status.ts';

/** Whether an object is meant. */
export type Selector = (object: ApiObject) => boolean;

const KEY = '[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?';
const EQUAL = new RegExp(`^(${KEY})\\s*(==|=|!=)\\s*([A-Za-z0-9._-]*)$`);
const SET = new RegExp(`^(${KEY})\\s+(in|notin)\\s+\\(([A-Za-z0-9._,\\s-]*)\\)$`);
const EXISTS = new RegExp(`^(!?)\\s*(${KEY})$`);

/** Fields that every kind can be selected by, and those of one. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  Pod: ['spec.nodeName', 'spec.restartPolicy', 'spec.schedulerName', 'spec.serviceAccountName', 'status.phase', 'status.podIP'],
  Event: ['involvedObject.kind', 'involvedObject.namespace', 'involvedObject.name', 'involvedObject.uid', 'reason', 'type', 'source'],
};

/** Reads `labelSelector`. Throws a refusal for what is none. */
export function labelSelector(text: string): Selector {
  const terms = split(text).map((term) => labelTerm(term.trim()));
  return (object) => {
    const labels = textsAt(object, 'metadata', 'labels');
    return terms.every((term) => term(labels));
  };
}

type Labels = Readonly<Record<string, string>>;

function labelTerm(term: string): (labels: Labels) => boolean {
  const equal = EQUAL.exec(term);
  if (equal !== null) {
    const [, key = '', , operator, value = ''] = equal;
    return operator === '!=' ? (labels) => labels[key] !== value : (labels) => labels[key] === value;
  }
  const set = SET.exec(term);
  if (set !== null) {
    const [, key = '', , operator, list = ''] = set;
    const values = list.split(',').map((value) => value.trim());
    return operator === 'in' ? (labels) => values.includes(labels[key] ?? '\u0000') : (labels) => !values.includes(labels[key] ?? '\u0000');
  }
  const exists = EXISTS.exec(term);
  if (exists === null) throw badRequest(labelProblem(term));
  const [, not, key = ''] = exists;
  return (labels) => Object.hasOwn(labels, key) === (not === '');
}

/** The two texts that were recorded; others are the lab's. */
function labelProblem(term: string): string {
  if (term.startsWith('=')) return "found '=', expected: !, identifier, or 'end of string'";
  return "unable to parse requirement: found '', expected: ',', ')' or identifier";
}

/** At commas outside of parentheses. */
function split(text: string): readonly string[] {
  return text.trim() === '' ? [] : text.split(/,(?![^(]*\))/);
}

/** Reads `fieldSelector`. Throws a refusal for fields that the kind cannot be selected by. */
export function fieldSelector(text: string, kind: string): Selector {
  const known = ['metadata.name', 'metadata.namespace', ...(FIELDS[kind] ?? [])];
  const terms = split(text).map((term) => {
    const [, field = '', operator, value = ''] = /^([^=!]+)(==|=|!=)(.*)$/.exec(term) ?? [];
    if (operator === undefined) throw badRequest(`invalid selector: '${term}'; can't understand '${term}'`);
    if (!known.includes(field))
      throw badRequest(
        `"${field}" is not a known field selector: only ${known
          .slice(0, 2)
          .map((name) => `"${name}"`)
          .join(', ')}`,
      );
    return (object: ApiObject): boolean => (String(at(object, ...field.split('.')) ?? '') === value) === (operator !== '!=');
  });
  return (object) => terms.every((term) => term(object));
}

/** Whether a workload's own selector means a pod. */
export function selectorOf(selector: unknown): Selector {
  const wanted = Object.entries(textsAt(selector, 'matchLabels'));
  const terms = (at(selector, 'matchExpressions') ?? []) as readonly unknown[];
  return (object) => {
    const labels = mapAt(object, 'metadata', 'labels');
    return wanted.every(([name, value]) => labels[name] === value) && terms.every((term) => expressionHolds(term, labels));
  };
}

function expressionHolds(term: unknown, labels: Readonly<Record<string, unknown>>): boolean {
  const value = labels[String(at(term, 'key'))];
  const values = (at(term, 'values') ?? []) as readonly unknown[];
  switch (at(term, 'operator')) {
    case 'In':
      return values.includes(value);
    case 'NotIn':
      return !values.includes(value);
    case 'Exists':
      return value !== undefined;
    default:
      return value === undefined;
  }
}
