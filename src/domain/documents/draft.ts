/** Drafts a release from the text of another one. Pure: what is computed from files (digests, manifests) is told. */
import type { Digest } from '../../digest.ts';
import type { Json } from '../json.ts';
import { canonicalJson } from '../json.ts';
import type { Reason } from '../reasons.ts';
import { type Edit, editYaml } from './edit.ts';
import { parseDocument } from './parse.ts';
import type { ReleaseDocument } from './release.ts';
import { FILL_IN } from './template.ts';
import { readYaml } from './yaml.ts';

/** Where the weights of a draft come from. */
export type DraftArtifact =
  | { readonly kind: 'plaintext'; readonly address: string; readonly manifest: Digest }
  | { readonly kind: 'keep' | 'reencrypt'; readonly from: number | null };

/** What a draft is told; everything else is as in the text that it is made from. */
export interface DraftOrder {
  /** Where the draft will lie: `releases/<workload>/<serial>.yaml`. */
  readonly path: string;
  readonly serial: number;
  /** Digest of the workload's newest file; null for its first. */
  readonly previous: Digest | null;
  readonly expires: string;
  /** null: as in the text. */
  readonly artifact: DraftArtifact | null;
  readonly images: Readonly<Record<string, string>>;
  /** By guest. */
  readonly initData: Readonly<Record<string, { readonly file: string; readonly digest: Digest }>>;
  readonly referenceValues: readonly { readonly guest: string; readonly name: string; readonly values: readonly string[] }[];
  /** Any other field, by its name with dots (`key.rotateAfterDays`, `targets.0.minimumAttested`), and its value as text. */
  readonly settings: readonly { readonly field: string; readonly text: string }[];
}

/** A field that a draft has otherwise; null: it is not there. */
export interface Difference {
  readonly field: string;
  readonly before: Json | null;
  readonly after: Json | null;
}

/** A draft, or why there is none. */
export type Draft =
  | { readonly kind: 'drafted'; readonly text: string; readonly document: ReleaseDocument; readonly differences: readonly Difference[] }
  | { readonly kind: 'incomplete'; readonly text: string; readonly fillIn: readonly string[] }
  | { readonly kind: 'bad'; readonly reason: Reason; readonly about: string };

/** Fields that are computed, or that make a file what it is. */
const COMPUTED = ['apiVersion', 'kind', 'workload', 'serial', 'previous', 'expires'];

/**
 * Drafts a release from `text`, comments and all, and checks it as it will be checked where it is
 * merged. `incomplete`: a template in which fields are still to be filled in, named in their order.
 */
export function draftRelease(text: string, order: DraftOrder): Draft {
  const before = readYaml(Buffer.from(text));
  if (before.kind === 'bad') return { kind: 'bad', reason: 'Malformed', about: before.about };
  const strange = strangerIn(before.value, order);
  if (strange !== null) return { kind: 'bad', reason: 'InvalidRequest', about: strange };
  const edited = editYaml(text, editsOf(before.value, order));
  if (edited === null)
    return { kind: 'bad', reason: 'InvalidRequest', about: 'a field that was named is not there, or is written in a way that cannot be changed in place' };
  const after = readYaml(Buffer.from(edited));
  const fillIn = after.kind === 'read' ? unfilled(after.value) : [];
  if (fillIn.length > 0) return { kind: 'incomplete', text: edited, fillIn };
  const parsed = parseDocument(order.path, Buffer.from(edited));
  if (parsed.kind === 'bad') return parsed;
  if (parsed.document.kind !== 'Release') return { kind: 'bad', reason: 'WrongPlace', about: `${order.path}: kind: expected Release` };
  return { kind: 'drafted', text: edited, document: parsed.document, differences: after.kind === 'read' ? differencesOf(before.value, after.value) : [] };
}

/** What was named and is not in the text: a slip that would else become a field of its own. */
function strangerIn(release: Json, { initData, referenceValues, settings }: DraftOrder): string | null {
  const guests = Object.keys(membersOf(memberAt(release, ['guests']) ?? null));
  const guest = [...Object.keys(initData), ...referenceValues.map((one) => one.guest)].find((name) => !guests.includes(name));
  if (guest !== undefined) return `guest ${guest}: there is none of this name; there are ${guests.join(', ')}`;
  const setting = settings.find(({ field }) => COMPUTED.includes(field.split('.')[0] ?? ''));
  if (setting !== undefined) return `${setting.field}: is filled in, or has an option of its own`;
  const unknown = settings.find(({ field }) => memberAt(release, field.split('.').slice(0, -1)) === undefined);
  return unknown === undefined ? null : `${unknown.field}: there is no such field`;
}

function editsOf(release: Json, order: DraftOrder): readonly Edit[] {
  const { serial, previous, expires, artifact, images, initData, referenceValues, settings } = order;
  return [
    { path: ['serial'], value: serial },
    { path: ['previous'], value: previous },
    { path: ['expires'], value: expires },
    ...(artifact === null ? [] : artifactEdits(release, artifact)),
    ...Object.entries(images).map(([name, image]): Edit => ({ path: ['images', name], value: image })),
    ...Object.entries(initData).flatMap(([guest, { file, digest }]): Edit[] => [
      { path: ['guests', guest, 'initData', 'file'], value: file },
      { path: ['guests', guest, 'initData', 'digest'], value: digest },
    ]),
    ...referenceValues.map(({ guest, name, values }): Edit => {
      const path = ['guests', guest, 'referenceValues', name] as const;
      return { path, value: values.map((text) => measurementOf(text, memberAt(release, path))) };
    }),
    ...settings.map(({ field, text }): Edit => {
      const [first = '', ...rest] = field.split('.');
      return { path: [first, ...rest], value: settingOf(text, memberAt(release, [first, ...rest])) };
    }),
  ];
}

function artifactEdits(release: Json, artifact: DraftArtifact): readonly Edit[] {
  const set = (name: string, value: Json): Edit => ({ path: ['artifact', name], value });
  if (artifact.kind === 'plaintext') {
    const { address, manifest } = artifact;
    return [set('source', 'plaintext'), set('from', null), set('address', address), set('keyPath', null), set('plaintextManifest', manifest)];
  }
  // Of an older serial this text does not say what its weights are; null asks for whatever was sealed.
  const isSame = artifact.from === null || artifact.from === memberAt(release, ['serial']);
  const sealed = isSame ? (memberAt(release, ['artifact', 'plaintextManifest']) ?? null) : null;
  return [
    set('source', artifact.kind),
    set('from', artifact.from),
    set('address', null),
    set('keyPath', null),
    ...(sealed === null ? [set('plaintextManifest', null)] : []),
  ];
}

/** In the type of the values that stand there. Of a new name: `"1"` in quotes is text, 1, true and false are what they are, all else is text. */
function measurementOf(text: string, before: Json | undefined): Json {
  const [first] = isList(before) ? before : [];
  if (typeof first === 'string') return unquoted(text) ?? text;
  return unquoted(text) ?? scalarOf(text);
}

/** In the type of the value that stands there. */
function settingOf(text: string, before: Json | undefined): Json {
  return typeof before === 'string' && text !== 'null' ? (unquoted(text) ?? text) : (unquoted(text) ?? scalarOf(text));
}

function unquoted(text: string): string | null {
  return /^"[^"\\]*"$/.test(text) ? text.slice(1, -1) : null;
}

function scalarOf(text: string): Json {
  if (text === 'null') return null;
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?(?:0|[1-9][0-9]{0,14})$/.test(text) ? Number(text) : text;
}

/** The fields that nobody has filled in, in their order. */
function unfilled(release: Json): readonly string[] {
  const left = leavesOf(release).flatMap(([field, value]) => (typeof value === 'string' && value.includes(FILL_IN) ? [field] : []));
  const guests = Object.entries(membersOf(memberAt(release, ['guests']) ?? null));
  // A guest without a measurement can have no key; what a grant needs of it is the judge's to say.
  const unmeasured = guests.flatMap(([name, guest]) =>
    Object.keys(membersOf(memberAt(guest, ['referenceValues']) ?? null)).length === 0 ? [`guests.${name}.referenceValues`] : [],
  );
  return [...left, ...unmeasured];
}

/** The fields in which two documents differ. */
export function differencesOf(before: Json, after: Json): readonly Difference[] {
  const [old, now] = [new Map(leavesOf(before)), new Map(leavesOf(after))];
  return [...new Set([...old.keys(), ...now.keys()])].flatMap((field) => {
    const difference = { field, before: old.get(field) ?? null, after: now.get(field) ?? null };
    return canonicalJson(difference.before) === canonicalJson(difference.after) ? [] : [difference];
  });
}

/** Every scalar with its field's name; a list of scalars is one value. */
function leavesOf(value: Json, field = ''): readonly (readonly [string, Json])[] {
  const isLeaf = value === null || typeof value !== 'object' || (isList(value) && value.every((item) => item === null || typeof item !== 'object'));
  if (isLeaf) return [[field, value]];
  return Object.entries(value).flatMap(([name, inner]: [string, Json]) => leavesOf(inner, field === '' ? name : `${field}.${name}`));
}

function memberAt(value: Json | undefined, path: readonly string[]): Json | undefined {
  const [first, ...rest] = path;
  if (first === undefined) return value;
  const inner = value !== null && typeof value === 'object' ? Object.entries(value).find(([name]) => name === first)?.[1] : undefined;
  return inner === undefined ? undefined : memberAt(inner as Json, rest);
}

function membersOf(value: Json): Readonly<Record<string, Json>> {
  return value !== null && typeof value === 'object' && !isList(value) ? value : {};
}

function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}
