/**
 * Resource policies, as far as this KBS can be sure of them: it has no engine for Rego. It knows
 * Trustee's shipped policies and Keyturn's constant program by their digests, decides as they were seen
 * to decide in a real engine, and refuses any other text aloud.
 */
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { z } from 'zod';
import { isObject, type Json, member } from './kbs-wire.ts';

/** What Trustee's own policy engine is told of a request. */
export interface LabQuestion {
  readonly plugin: string;
  readonly path: readonly string[];
  /** The claims of the attestation token. */
  readonly claims: Json;
}

/** A policy that can be decided. */
export type LabPolicy = (question: LabQuestion) => boolean;

/** Trustee 78962cd…, `kbs/sample_policies/default.rego`, without its comments: what a KBS installs where it finds no policy. */
export const DEFAULT_POLICY = `package policy

default allow = false

plugin = data.plugin

allow if {
	plugin == "resource"
	not input["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["sample"]
}
`;

/** The SHA-256 of Keyturn's program, with the data taken out. A test holds it equal to what Keyturn installs. */
const KEYTURN_PROGRAM = '8ff1c65c9a8f52650cc04ea46413495ccd83ac37fa681a56b2ebbcd756a157f8';
/** Its data stand between these words and the first empty line after them. */
const DATA_START = '\nwant := ';
const DATA_END = '\n\n';

const EVIDENCE = 'ear.veraison.annotated-evidence';

/** By SHA-256 of the text without comments, empty lines and indentation: none of these texts holds a string of several lines. */
const SHIPPED: Readonly<Record<string, LabPolicy>> = {
  // default.rego. `not` of what is undefined is true: a token without cpu0 passes too.
  '2ff6577d0c01b77089c534b592c907f66389899ab436f30755be29df84afa3c4': ({ plugin, claims }) => plugin === 'resource' && !isTrue(member(cpuOf(claims), 'sample')),
  // affirming.rego. A submod without a status is none that is "not affirming".
  e21d01e35997371ea19de636df1e01ecbb2dbeb150b7abeeb0d4800f62445857: ({ claims }) =>
    submodsOf(claims).length > 0 && submodsOf(claims).every(([, part]) => [undefined, 'affirming'].includes(member(part, 'ear.status') as string | undefined)),
  // allow_all.rego
  a75309a80b5633dd9bb47ace0cdb750d026209b5d9b95f5b361482db57a583f4: ({ plugin }) => plugin === 'resource',
  // The same in one line, `default allow = true`, as the recordings have it.
  '2f6f9a523d921e4f69ec8306927bf9ee46809338faf3a2955a5d02dc27334c17': () => true,
  // deny_all.rego
  deb22d553f3cf292b37f824963596ea7148ac83412ce9050a8ba3b55b50921be: () => false,
};

/** Reads a policy; null: this KBS cannot evaluate it. */
export function readPolicy(text: string): LabPolicy | null {
  return SHIPPED[sha256(normal(text))] ?? keyturnPolicy(text);
}

function normal(text: string): string {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .join('\n');
}

const segments = z.array(z.string());
const scalar = z.union([z.string(), z.number(), z.boolean()]);
const keyturnData = z.strictObject({
  generation: z.number(),
  installation: z.string(),
  kbs: z.string(),
  probe: z.string(),
  denied: z.strictObject({ paths: segments, initData: segments, devices: segments }),
  grants: z.array(
    z.strictObject({
      paths: segments,
      tee: z.string(),
      initData: z.string(),
      gpu: z.number(),
      switch: z.number(),
      claims: z.array(z.strictObject({ at: segments, among: z.array(z.json()) })),
    }),
  ),
  foreign: z.array(
    z.strictObject({
      paths: z.array(segments),
      tee: z.string(),
      status: z.enum(['affirming', 'any']),
      initData: z.array(z.string()),
      claims: z.array(z.strictObject({ at: segments, is: scalar })),
    }),
  ),
});
type KeyturnData = z.infer<typeof keyturnData>;

function keyturnPolicy(text: string): LabPolicy | null {
  const start = text.indexOf(DATA_START) + DATA_START.length;
  const end = text.indexOf(DATA_END, start);
  if (start < DATA_START.length || end < 0 || sha256(text.slice(0, start) + text.slice(end)) !== KEYTURN_PROGRAM) return null;
  try {
    const data = keyturnData.parse(JSON.parse(text.slice(start, end)));
    return (question) =>
      question.plugin === 'resource' && ((!isDenied(data, question) && (ownGrant(data, question) || foreignGrant(data, question))) || probe(data, question));
  } catch {
    return null;
  }
}

/** Where machines and devices are named in their evidence. */
const DEVICE_CLAIMS = ['chip_id', 'ueid', 'uuid'];

/** Evidence that is neither an object nor a list is an error to the engine, which answers none of these questions then. */
function isDenied({ denied }: KeyturnData, { path, claims }: LabQuestion): boolean {
  const parts = submodsOf(claims)
    .map(([, part]) => member(part, EVIDENCE))
    .filter((part) => part !== undefined);
  if (parts.some((part) => part === null || typeof part !== 'object')) return true;
  const devices = parts.flatMap((part) => Object.values(part ?? {}).flatMap((named) => DEVICE_CLAIMS.map((name) => member(named, name))));
  return (
    denied.paths.includes(path.join('/')) ||
    parts.some((part) => denied.initData.some((digest) => member(part, 'init_data') === digest)) ||
    denied.devices.some((device) => devices.includes(device))
  );
}

function ownGrant(data: KeyturnData, { path, claims }: LabQuestion): boolean {
  const submods = submodsOf(claims);
  const cpu = cpuOf(claims);
  const countOf = (kind: string): number => submods.filter(([name]) => name.startsWith(kind)).length;
  if (isReserved(path) || !isAffirming(claims)) return false;
  return data.grants.some(
    (grant) =>
      grant.paths.includes(path.join('/')) &&
      isTrue(member(cpu, grant.tee)) &&
      member(cpu, 'init_data') === grant.initData &&
      countOf('cpu') === 1 &&
      countOf('gpu') === grant.gpu &&
      countOf('switch') === grant.switch &&
      submods.length === 1 + grant.gpu + grant.switch + countOf('ppcie') &&
      grant.claims.length > 0 &&
      grant.claims.every(({ at, among }) => among.some((good) => equal(good as Json, at.reduce(member, cpu) ?? null))),
  );
}

function foreignGrant(data: KeyturnData, { path, claims }: LabQuestion): boolean {
  if (isReserved(path) || path.length !== 3) return false;
  const cpu = cpuOf(claims);
  const initData = member(cpu, 'init_data');
  return data.foreign.some(
    (grant) =>
      grant.paths.some((pattern) => pattern.every((segment, index) => segment === '*' || segment === path[index])) &&
      (isTrue(member(cpu, grant.tee)) || (grant.tee === 'any' && isTrue(cpu) && !isTrue(member(cpu, 'sample')))) &&
      (isAffirming(claims) || (grant.status === 'any' && isTrue(cpu))) &&
      (grant.initData.length === 0 || (typeof initData === 'string' && grant.initData.includes(initData))) &&
      grant.claims.every(({ at, is }) => equal(is, at.reduce(member, claims as Json | undefined) ?? null)),
  );
}

function probe(data: KeyturnData, { path, claims }: LabQuestion): boolean {
  const name = path.join('/');
  const submods = submodsOf(claims);
  const isAllSample = submods.length > 0 && submods.every(([, part]) => isTrue(member(member(part, EVIDENCE), 'sample')));
  return /^keyturn\/probe\/g[0-9]{12}$/.test(name) && name <= data.probe && isAllSample;
}

function isReserved(path: readonly string[]): boolean {
  return path[0] === undefined || path[0] === 'keyturn';
}

function isAffirming(claims: Json): boolean {
  const submods = submodsOf(claims);
  return submods.length > 0 && submods.every(([, part]) => member(part, 'ear.status') === 'affirming');
}

function cpuOf(claims: Json): Json | undefined {
  return member(member(member(claims, 'submods'), 'cpu0'), EVIDENCE);
}

function submodsOf(claims: Json): readonly [string, Json][] {
  const submods = member(claims, 'submods');
  return isObject(submods) ? Object.entries(submods) : [];
}

/** As a statement of Rego counts: defined, and not false. */
function isTrue(value: Json | undefined): boolean {
  return value !== undefined && value !== false;
}

function equal(a: Json, b: Json): boolean {
  return canonicalize(a) === canonicalize(b);
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
