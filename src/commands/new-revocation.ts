/** What `keyturn revoke` writes: a revocation from whatever an incident gave, in a checkout of the releases' repository. */
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { stringify } from 'yaml';
import { signBundle, verifyBundle } from '#src/adapters/sigstore/index.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { namedBy, parseDocument } from '#src/domain/documents/parse.ts';
import { bundlePath } from '#src/domain/documents/places.ts';
import type { RevocationDocument, RevocationSubject } from '#src/domain/documents/trust.ts';
import { verifyRevocation } from '#src/domain/judge-revocation.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { type NamedFiles, verifyTrust } from '#src/domain/trust.ts';
import { Fault } from '#src/errors.ts';
import { openWorkTree, type WorkTree } from './work-tree.ts';

/** The first trust document: where there is a later one, what is said of a signer is only a note. */
const TRUST_PATH = 'trust/1.yaml';
/** A private key in PEM has some 300 bytes. */
const KEY_MAX_BYTES = 64 * 1024;
/** Of an id (`revocations/<id>.yaml`). Characters. */
const ID_MAX_CHARACTERS = 60;
/** Revocations of one day about one subject that are told apart by a number. */
const SAME_MAX = 99;

/** What a person told of a revocation. */
export interface NewRevocation {
  readonly subject: RevocationSubject;
  readonly reason: string;
  readonly why: string;
  /** null: what usually follows such a reason. */
  readonly recovery: string | null;
  readonly evict: boolean;
  readonly destroy: boolean;
  /** null: this day and the subject, as much as makes a name. */
  readonly id: string | null;
  /** The checkout. */
  readonly tree: string;
  /** Who signs: a private key in PEM, and a name for the bundle's file; null: nobody yet. */
  readonly signature: { readonly keyFile: string; readonly signer: string | null } | null;
}

/** A revocation, as it would be written. */
export interface Drafted {
  /** The document's, then its bundle's, where it was signed. */
  readonly files: readonly RepositoryFile[];
  readonly path: string;
  readonly digest: Digest;
  readonly document: RevocationDocument;
  /** What the checkout's trust document says of it: sentences; it may be older than the one in force. */
  readonly notes: readonly string[];
}

/** Drafts and signs; writes nothing. Throws Fault, naming the field. */
export async function draftRevocation(told: NewRevocation, today: string): Promise<Drafted> {
  const tree = await openWorkTree(told.tree);
  const id = told.id ?? (await freeId(tree, `${today}-${nameOf(told.subject)}`));
  const path = `revocations/${id}.yaml`;
  const { subject, reason, why, evict, destroy } = told;
  const recovery = told.recovery ?? recoveryAfter(reason);
  const written = { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Revocation', id, subject, reason, why, evict, destroy, recovery };
  const bytes = Buffer.from(stringify(written, { aliasDuplicateObjects: false, lineWidth: 0 }));
  const parsed = parseDocument(path, bytes);
  if (parsed.kind === 'bad') throw new Fault(parsed.reason, parsed.about);
  if (parsed.document.kind !== 'Revocation') throw new Fault('WrongPlace', `${path}: kind: expected Revocation`);
  const file = { path, bytes };
  const bundles = told.signature === null ? [] : [await bundleOver(file, told.signature)];
  const notes = await notesOf(tree, file, bundles, parsed.document);
  return { files: [file, ...bundles], path, digest: digestOf(bytes), document: parsed.document, notes };
}

/** Puts the files into the checkout; all of them or none, and over nothing. Throws Fault('Conflict'). */
export async function writeRevocation(tree: string, { files }: Drafted): Promise<void> {
  const written: string[] = [];
  try {
    for (const { path, bytes } of files) {
      await mkdir(dirname(join(tree, path)), { recursive: true });
      await writeFile(join(tree, path), bytes, { flag: 'wx' });
      written.push(path);
    }
  } catch (cause) {
    for (const path of written) await rm(join(tree, path), { force: true });
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')
      throw new Fault('Conflict', 'a file of that name is there already: name it with --id');
    throw cause;
  }
}

/** What usually follows: only a suspension comes back. */
function recoveryAfter(reason: string): string {
  return reason === 'certificateHold' ? 'a reinstatement, approved by the recoverers' : 'a new release under a new key, approved by the approvers';
}

/** The subject in the letters of an id. */
function nameOf(subject: RevocationSubject): string {
  const words = (Object.values(subject) as readonly (string | number | boolean)[]).map(String).join('-');
  return words.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
}

async function freeId(tree: WorkTree, wished: string): Promise<string> {
  for (let number = 1; number <= SAME_MAX; number += 1) {
    const end = number === 1 ? '' : `-${number}`;
    const id = `${wished.slice(0, ID_MAX_CHARACTERS - end.length).replace(/-+$/, '')}${end}`;
    if ((await tree.read([`revocations/${id}.yaml`])).length === 0) return id;
  }
  throw new Fault('Conflict', `revocations/${wished}.yaml: ${SAME_MAX} of these are there already: name it with --id`);
}

async function bundleOver({ path, bytes }: RepositoryFile, { keyFile, signer }: NonNullable<NewRevocation['signature']>): Promise<RepositoryFile> {
  const name = signer ?? basename(keyFile).replace(/\.[^.]*$/, '');
  if (!/^[a-z0-9-]{1,60}$/.test(name)) throw new Fault('InvalidRequest', `--sign-as ${name}: expected 1 to 60 of a-z, 0-9 and -`);
  const found = await stat(keyFile).catch(() => null);
  if (found === null || !found.isFile()) throw new Fault('NotFound', `--sign-key ${keyFile}: no such file`);
  if (found.size > KEY_MAX_BYTES) throw new Fault('LimitExceeded', `--sign-key ${keyFile}: ${found.size} bytes, expected at most ${KEY_MAX_BYTES}`);
  const key = await readFile(keyFile);
  try {
    const bundle = await signBundle(Buffer.from(bytes), key.toString());
    return { path: bundlePath(path, name), bytes: Buffer.from(`${bundle}\n`) };
  } finally {
    key.fill(0);
  }
}

/** Judged by the trust document that lies there: a hint before the push, and never a reason not to revoke. */
async function notesOf(tree: WorkTree, file: RepositoryFile, bundles: readonly RepositoryFile[], document: RevocationDocument): Promise<readonly string[]> {
  if (bundles.length === 0) return ['nobody has signed it: until a revoker has, it changes nothing'];
  const [trustFile] = await tree.read([TRUST_PATH]);
  if (trustFile === undefined) return [`${TRUST_PATH} is not in this folder: whether the signer is a revoker was not looked at`];
  const named = await tree.read(namedBy(trustFile).map((one) => one.file));
  const files: NamedFiles = (path, digest) => named.find((one) => one.path === path && digestOf(one.bytes) === digest)?.bytes ?? null;
  const trusted = verifyTrust(trustFile, digestOf(trustFile.bytes), files);
  if (trusted.kind === 'bad') return [`${trusted.about}: whether the signer is a revoker was not looked at`];
  const judged = verifyRevocation({ file, bundles, trust: trusted.trust, verifyBundle });
  if (judged.kind !== 'accepted') return [`by ${TRUST_PATH} it would not count yet: ${judged.reason}: ${judged.about}`];
  return [
    ...(document.evict && !judged.value.evict ? ['evict: beyond one workload it needs the recoverers’ threshold; without it nothing is evicted'] : []),
    ...(document.destroy && !judged.value.destroy ? ['destroy: it needs the approvers’ threshold; without it nothing is destroyed'] : []),
  ];
}
