import type { Trouble } from './finding.ts';
import { type SignedByIntel, tcbStatuses } from './intel.ts';

/**
 * Trustee's file backend (since 0.21) reads a document into fixed structures and writes it again before it verifies: members
 * that it does not know fall away, hexadecimal becomes upper case, members come in its own order, and an unknown
 * status is an error of the whole file. So a good document may become one that no signature is over. This is
 * the same passage, told from its source and not run against it.
 */
type Shape = 'text' | 'number' | 'hex' | 'status' | readonly ['list', Shape] | { readonly [member: string]: Shape | { readonly optional: Shape } };

const COMPONENT: Shape = { svn: 'number', category: { optional: 'text' }, type: { optional: 'text' } };
const LEVEL_END = { tcbDate: 'text', tcbStatus: 'status', advisoryIDs: { optional: ['list', 'text'] } } as const;
const ENCLAVE_LEVEL: Shape = { tcb: { isvsvn: 'number' }, ...LEVEL_END };
const HEAD = { id: 'text', version: 'number', issueDate: 'text', nextUpdate: 'text' } as const;
const MODULE = { mrsigner: 'hex', attributes: 'hex', attributesMask: 'hex' } as const;

const SHAPES: Readonly<Record<'tcbInfo' | 'enclaveIdentity', Shape>> = {
  tcbInfo: {
    ...HEAD,
    fmspc: 'hex',
    pceId: 'hex',
    tcbType: 'number',
    tcbEvaluationDataNumber: 'number',
    tdxModule: { optional: MODULE },
    tdxModuleIdentities: { optional: ['list', { id: 'text', ...MODULE, tcbLevels: ['list', ENCLAVE_LEVEL] }] },
    tcbLevels: [
      'list',
      {
        tcb: { sgxtcbcomponents: ['list', COMPONENT], pcesvn: 'number', tdxtcbcomponents: { optional: ['list', COMPONENT] } },
        ...LEVEL_END,
      },
    ],
  },
  enclaveIdentity: {
    ...HEAD,
    tcbEvaluationDataNumber: 'number',
    miscselect: 'hex',
    miscselectMask: 'hex',
    attributes: 'hex',
    attributesMask: 'hex',
    mrsigner: 'hex',
    isvprodid: 'number',
    tcbLevels: ['list', ENCLAVE_LEVEL],
  },
};

/** Whether a document survives Trustee's file backend byte for byte. null: it does. A Trouble names what is lost. */
export function trusteeFileTrouble({ member, text }: Pick<SignedByIntel, 'member' | 'text'>): Trouble | null {
  const lossy = (about: string): Trouble => ({ verdict: 'malformed', reason: 'CollateralLossy', about });
  if (member === 'tcbEvaluationDataNumbers') return lossy('the file has no place for TCB evaluation numbers');
  try {
    const written = JSON.stringify(passed(JSON.parse(text) as unknown, SHAPES[member], member));
    if (written === text) return null;
    const at = [...written].findIndex((character, place) => character !== text[place]);
    return lossy(`${member} is written otherwise from character ${at < 0 ? written.length : at}: ${text.slice(Math.max(0, at - 20), at + 20)}`);
  } catch (thrown) {
    return lossy(thrown instanceof Error ? thrown.message : `${member} is not JSON`);
  }
}

/** A value as it comes out again. Throws Error where the backend refuses the file. */
function passed(value: unknown, shape: Shape, path: string): unknown {
  if (shape === 'text' || shape === 'hex' || shape === 'status') {
    if (typeof value !== 'string') throw new Error(`${path} is no text`);
    if (shape === 'status' && !tcbStatuses.some((one) => one === value)) throw new Error(`${path} ${value.slice(0, 60)} is not known`);
    if (shape === 'hex' && !/^(?:[0-9a-fA-F]{2})+$/.test(value)) throw new Error(`${path} is not hexadecimal`);
    return shape === 'hex' ? value.toUpperCase() : value;
  }
  if (shape === 'number') {
    if (!Number.isInteger(value)) throw new Error(`${path} is no whole number`);
    return value;
  }
  if (isList(shape)) {
    if (!Array.isArray(value)) throw new Error(`${path} is no list`);
    return value.map((one: unknown, place) => passed(one, shape[1], `${path}.${place}`));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${path} is no object`);
  return Object.fromEntries(
    Object.entries(shape).flatMap(([name, inner]) => {
      const own: unknown = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
      const optional = isOptional(inner);
      if (own === undefined && optional === null) throw new Error(`${path}.${name} is missing`);
      return own === undefined ? [] : [[name, passed(own, optional ?? (inner as Shape), `${path}.${name}`)]];
    }),
  );
}

function isList(shape: Shape): shape is readonly ['list', Shape] {
  return Array.isArray(shape);
}

function isOptional(shape: Shape | { readonly optional: Shape }): Shape | null {
  return typeof shape === 'object' && 'optional' in shape && Object.keys(shape).length === 1 ? (shape.optional as Shape) : null;
}
