import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

import { type Config, loadConfig } from '#src/config.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { type Difference, type DraftArtifact, type DraftOrder, draftRelease } from '#src/domain/documents/draft.ts';
import { parseDocument } from '#src/domain/documents/parse.ts';
import { placeOf } from '#src/domain/documents/places.ts';
import type { ReleaseDocument } from '#src/domain/documents/release.ts';
import { releaseTemplate } from '#src/domain/documents/template.ts';
import { DOCUMENT_MAX_BYTES } from '#src/domain/documents/yaml.ts';
import { imageBinding } from '#src/domain/image-binding.ts';
import { Fault } from '#src/errors.ts';
import { type HashedWeights, hashWeights, type OnHashed } from './weights-manifest.ts';
import { openWorkTree, type WorkTree } from './work-tree.ts';

/** What `keyturn release new` is told. */
export interface NewRelease {
  readonly workload: string;
  /** A checkout of the releases' repository. */
  readonly repository: string;
  /** A folder, or its `file://` address. */
  readonly weights: string | null;
  /** Where the weights lie as the controller sees it; null: where they lie here. */
  readonly address: string | null;
  readonly artifact: 'keep' | 'reencrypt' | null;
  readonly from: number | null;
  readonly images: Readonly<Record<string, string>>;
  /** Files, by guest. */
  readonly initData: Readonly<Record<string, string>>;
  readonly referenceValues: DraftOrder['referenceValues'];
  readonly settings: DraftOrder['settings'];
  readonly expires: string;
  /** Draft from this serial's file; null: from the newest. */
  readonly base: number | null;
  /** Begin a workload's first release. */
  readonly template: boolean;
  /** A keyturn.yaml to check names and addresses with. */
  readonly config: string | null;
}

/** A file that was written beside the release. */
interface Beside {
  readonly path: string;
  readonly digest: Digest;
  /** `copied` from a file that was named; `made` from the one before, its images replaced. */
  readonly how: 'copied' | 'made';
}

/** What was written. */
export interface Written {
  readonly path: string;
  readonly serial: number;
  /** null: fields are still to be filled in. */
  readonly digest: Digest | null;
  readonly previous: { readonly path: string; readonly digest: Digest } | null;
  /** The file that it was drafted from; null: the template. */
  readonly base: string | null;
  readonly artifact: ReleaseDocument['artifact'] | null;
  readonly weights: Omit<HashedWeights, 'manifest'> | null;
  readonly differences: readonly Difference[];
  readonly files: readonly Beside[];
  /** Fields that a person has to fill in. */
  readonly fillIn: readonly string[];
}

/** The file that a draft is made from. */
interface Base {
  readonly path: string | null;
  readonly text: string;
  /** null: of a template. */
  readonly document: ReleaseDocument | null;
}

/**
 * Drafts a workload's next release in a checkout, checks it as it will be checked where it is merged,
 * and writes it with its guests' init-data. Nothing is overwritten. Throws Fault, and then nothing was written.
 */
export async function newRelease(told: NewRelease, onHashed: OnHashed): Promise<Written> {
  if (!/^[a-z0-9-]{1,60}$/.test(told.workload)) throw new Fault('InvalidRequest', `${told.workload}: a workload has 1 to 60 of a-z, 0-9 and -`);
  const root = resolve(told.repository);
  const tree = await openWorkTree(root);
  const config = told.config === null ? null : await loadConfig(told.config, process.env);
  const serials = await serialsOf(root, told.workload);
  const newest = serials.at(-1) ?? null;
  const base = await baseOf(tree, told, newest);
  const serial = (newest ?? 0) + 1;
  const path = placeIn(told.workload, serial);
  const previous = newest === null ? null : { path: placeIn(told.workload, newest), digest: digestOf(await bytesAt(tree, placeIn(told.workload, newest))) };
  const beside = await initDataFiles(tree, told, base.document, serial);
  const hashed = told.weights === null ? null : await hashWeights(told.weights, onHashed);
  const draft = draftRelease(base.text, {
    ...{ path, serial, previous: previous?.digest ?? null, expires: told.expires, artifact: artifactOf(told, hashed) },
    ...{ images: told.images, referenceValues: told.referenceValues },
    initData: Object.fromEntries(beside.map((one) => [one.guest, { file: one.path, digest: one.digest }])),
    settings: [...(told.template && config !== null ? namesOf(config) : []), ...told.settings],
  });
  if (draft.kind === 'bad') throw new Fault(draft.reason, draft.about);
  if (draft.kind === 'incomplete' && base.path !== null) throw new Fault('Malformed', `${base.path}: still to be filled in: ${draft.fillIn.join(', ')}`);
  if (draft.kind === 'drafted') await checkImages(tree, draft.document, beside, config);
  await writeAll(root, [...beside, { path, bytes: Buffer.from(draft.text) }]);
  return {
    ...{ path, serial, previous, base: base.path },
    digest: draft.kind === 'drafted' ? digestOf(draft.text) : null,
    artifact: draft.kind === 'drafted' ? draft.document.artifact : null,
    weights: hashed === null ? null : { address: hashed.address, files: hashed.files, sizeBytes: hashed.sizeBytes },
    differences: draft.kind === 'drafted' && base.path !== null ? draft.differences : [],
    files: beside.map(({ path: file, digest, how }) => ({ path: file, digest, how })),
    fillIn: draft.kind === 'incomplete' ? draft.fillIn : [],
  };
}

function placeIn(workload: string, serial: number): string {
  return `releases/${workload}/${serial}.yaml`;
}

/** The serials of a workload's files, lowest first. */
async function serialsOf(root: string, workload: string): Promise<readonly number[]> {
  const names = await readdir(join(root, 'releases', workload)).catch(() => []);
  const places = names.map((name) => placeOf(`releases/${workload}/${name}`));
  return places.flatMap((place) => (place?.kind === 'Release' ? [place.serial] : [])).sort((a, b) => a - b);
}

async function bytesAt(tree: WorkTree, path: string): Promise<Uint8Array> {
  const [file] = await tree.read([path]);
  if (file === undefined) throw new Fault('NotFound', `${path}: expected a plain file of at most ${DOCUMENT_MAX_BYTES} bytes`);
  return file.bytes;
}

async function baseOf(tree: WorkTree, told: NewRelease, newest: number | null): Promise<Base> {
  const { workload, template } = told;
  if (newest === null) {
    if (!template) throw new Fault('NotFound', `releases/${workload} holds no release yet: --template begins the first one`);
    return { path: null, text: templateFor(told), document: null };
  }
  if (template) throw new Fault('InvalidRequest', `releases/${workload} holds releases: the next one is drafted from the newest, without --template`);
  const path = placeIn(workload, told.base ?? newest);
  const bytes = await bytesAt(tree, path);
  const parsed = parseDocument(path, bytes);
  if (parsed.kind === 'bad') throw new Fault(parsed.reason, `${parsed.about} (--base SERIAL drafts from another file)`);
  return { path, text: Buffer.from(bytes).toString('utf8'), document: parsed.document.kind === 'Release' ? parsed.document : null };
}

function templateFor({ workload, images, initData, referenceValues }: NewRelease): string {
  const names = Object.keys(images);
  const guests = [...new Set([...Object.keys(initData), ...referenceValues.map(({ guest }) => guest)])];
  return releaseTemplate({ workload, images: names.length > 0 ? names : [workload], guests: guests.length > 0 ? guests : ['cvm'] });
}

/** The names that only one thing of the configuration has. */
function namesOf({ clusters, kbs, keyStores, artifactStores }: Config): DraftOrder['settings'] {
  const sole = (things: object, ...fields: readonly string[]): DraftOrder['settings'] => {
    const [name, ...others] = Object.keys(things);
    return name === undefined || others.length > 0 ? [] : fields.map((field) => ({ field, text: name }));
  };
  return [
    ...sole(clusters, 'targets.0.cluster'),
    ...sole(kbs, 'targets.0.kbs'),
    ...sole(keyStores, 'key.store'),
    ...sole(artifactStores, 'artifact.stores.0', 'targets.0.store'),
  ];
}

function artifactOf({ artifact, from, address }: NewRelease, hashed: HashedWeights | null): DraftArtifact | null {
  if (hashed !== null) return { kind: 'plaintext', address: address ?? hashed.address, manifest: hashed.manifest };
  return artifact === null ? null : { kind: artifact, from };
}

interface InitDataFile extends Beside {
  readonly guest: string;
  readonly bytes: Buffer;
}

/** The files that were named; and of other guests the one before, where images changed that it names. */
async function initDataFiles(tree: WorkTree, told: NewRelease, before: ReleaseDocument | null, serial: number): Promise<readonly InitDataFile[]> {
  const file = (guest: string, bytes: Buffer, how: Beside['how']): InitDataFile => {
    if (bytes.length > DOCUMENT_MAX_BYTES)
      throw new Fault('LimitExceeded', `init-data of ${guest}: ${bytes.length} bytes, expected at most ${DOCUMENT_MAX_BYTES}`);
    return { guest, path: `guests/${told.workload}/${serial}-${guest}.toml`, digest: digestOf(bytes), bytes, how };
  };
  const copied = await Promise.all(Object.entries(told.initData).map(async ([guest, name]) => file(guest, await readNamed(name), 'copied')));
  const replaced = Object.entries(told.images).flatMap(([name, image]): [string, string][] => {
    const old = before?.images[name];
    return old === undefined || old === image ? [] : [[old, image]];
  });
  const others = Object.entries(before?.guests ?? {}).filter(([guest]) => !Object.hasOwn(told.initData, guest));
  const made: InitDataFile[] = [];
  for (const [guest, { initData }] of replaced.length > 0 ? others : []) {
    const [old] = await tree.read([initData.file]);
    if (old === undefined || digestOf(old.bytes) !== initData.digest) continue;
    const text = Buffer.from(old.bytes).toString('utf8');
    const next = replaced.reduce((toml, [from, to]) => toml.replaceAll(from, to), text);
    if (next !== text) made.push(file(guest, Buffer.from(next), 'made'));
  }
  return [...copied, ...made];
}

async function readNamed(name: string): Promise<Buffer> {
  const found = await stat(name).catch(() => null);
  if (found === null || !found.isFile()) throw new Fault('NotFound', `${name}: no such file`);
  if (found.size > DOCUMENT_MAX_BYTES) throw new Fault('LimitExceeded', `${name}: ${found.size} bytes, expected at most ${DOCUMENT_MAX_BYTES}`);
  return readFile(name);
}

/** As the gate `image-is-bound` will ask; which KBS init-data names only where a configuration tells it. */
async function checkImages(tree: WorkTree, release: ReleaseDocument, written: readonly InitDataFile[], config: Config | null): Promise<void> {
  for (const { guest, kbs } of release.targets) {
    const initData = release.guests[guest]?.initData;
    if (initData === undefined) continue;
    const own = written.find((one) => one.guest === guest)?.bytes ?? (await tree.read([initData.file]))[0]?.bytes;
    if (own === undefined || digestOf(own) !== initData.digest)
      throw new Fault('FileMissing', `guests.${guest}.initData: ${initData.file} with ${initData.digest} is not in the checkout`);
    const publicUrl = config === null ? null : (config.kbs[kbs]?.publicUrl ?? null);
    const refusal = imageBinding(Buffer.from(own).toString('utf8'), Object.values(release.images), publicUrl);
    if (refusal !== null) throw new Fault(refusal.reason, `guest ${guest}: ${initData.file}: ${refusal.about} (--init-data ${guest}=FILE brings another)`);
  }
}

/** All of them or none; one that is there with the same bytes stays. */
async function writeAll(root: string, files: readonly { readonly path: string; readonly bytes: Buffer }[]): Promise<void> {
  const written: string[] = [];
  try {
    for (const { path, bytes } of files) {
      const place = join(root, path);
      await mkdir(dirname(place), { recursive: true });
      const there = await readFile(place).catch(() => null);
      if (there?.equals(bytes) === true) continue;
      await writeFile(place, bytes, { flag: 'wx' });
      written.push(place);
    }
  } catch (cause) {
    for (const place of written) await rm(place, { force: true });
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')
      throw new Fault('Conflict', `${cause.message.replace(/^.*open /, '')} is there already`);
    throw cause;
  }
}
