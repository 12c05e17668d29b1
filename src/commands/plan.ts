import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { openGit } from '#src/adapters/git/index.ts';
import { type Config, loadConfig } from '#src/config.ts';
import { ciphertextPrefix } from '#src/domain/paths.ts';
import type { Release, SealingSource } from '#src/domain/release.ts';
import type { Snapshot } from '#src/domain/repository.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { type Foreseen, foresee } from '#src/engine/preview.ts';
import { documentLoaders, type Verifying } from '#state/document-loaders.ts';
import { configOption, openDatabaseOf, print } from './database.ts';
import { misfitOf } from './misfit.ts';
import { checkOwner } from './owner.ts';
import { markdownOf, plainOf } from './plan-text.ts';
import { verifyingOf } from './verifying.ts';
import { sizesOf } from './weights-manifest.ts';
import { openWorkTree } from './work-tree.ts';

const EXIT_NO = 3;

interface Options {
  readonly config: string;
  readonly checkout?: string;
  readonly ref?: string;
  readonly markdown?: true;
  readonly json?: true;
}

/** What a plan is made of, as it says. */
export interface PlanSource {
  readonly kind: 'checkout' | 'ref';
  /** The folder, or the ref's full name. */
  readonly name: string;
  /** null: of a checkout. */
  readonly commit: string | null;
}

/** Files to be judged, and where they come from. */
interface Opened {
  readonly source: PlanSource;
  readonly snapshot: Snapshot;
  readonly read: (paths: readonly string[]) => Promise<readonly RepositoryFile[]>;
  readonly close: () => Promise<void>;
}

/** A plan, and what it was made of. */
export interface Plan extends Foreseen {
  readonly installation: string;
  readonly mode: string;
  readonly source: PlanSource;
}

async function run({ config: file, checkout, ref, markdown, json }: Options, command: Command): Promise<void> {
  if (checkout === undefined && ref === undefined) command.error('name what to plan: --checkout DIR, or --ref NAME');
  const plan = await planOf(file, ref === undefined ? { checkout: checkout ?? '.' } : { ref });
  if (json === true) print(JSON.stringify(plan));
  else print((markdown === true ? markdownOf(plan) : plainOf(plan)).join('\n'));
  if (plan.refused) process.exitCode = EXIT_NO;
}

/** Plans what a checkout or a ref holds, with the configuration in `file`. Writes nothing. Throws Fault. */
export async function planOf(file: string, from: { readonly checkout: string } | { readonly ref: string }): Promise<Plan> {
  const config = await loadConfig(file, process.env);
  const opened = 'ref' in from ? await openRef(config, from.ref) : await openCheckout(from.checkout);
  const pool = await openDatabaseOf(config);
  try {
    await checkOwner(pool, config);
    const verifying: Verifying = verifyingOf(config);
    const loaders = documentLoaders({ ...verifying, pool });
    const foreseen = await foresee({
      ...verifying,
      ...{ pool, loaders, installation: config.installation, branch: config.repository.branch, misfit: misfitOf(config, loaders) },
      publicUrlOf: (kbs) => config.kbs[kbs]?.publicUrl ?? null,
      windowsOf: (cluster) => config.clusters[cluster]?.windows ?? [],
      sizeOf: (release, source) => sizeOf(config, release, source),
      ...{ snapshot: opened.snapshot, read: opened.read, isBranch: opened.source.name === `refs/heads/${config.repository.branch}` },
    });
    return { installation: config.installation, mode: config.mode, source: opened.source, ...foreseen };
  } finally {
    await opened.close();
    await pool.end();
  }
}

async function openCheckout(folder: string): Promise<Opened> {
  const root = resolve(folder);
  const tree = await openWorkTree(root);
  return { source: { kind: 'checkout', name: root, commit: null }, snapshot: await tree.snapshot(), read: tree.read, close: async () => undefined };
}

async function openRef(config: Config, name: string): Promise<Opened> {
  const ref = name.startsWith('refs/') ? name : `refs/heads/${name}`;
  const git = openGit(config.repository, { ref });
  const snapshot = await git.tip();
  const { commit } = snapshot;
  return { source: { kind: 'ref', name: ref, commit }, snapshot, read: (paths) => git.read(commit, paths), close: () => git.close() };
}

/** The bytes that sealing reads, where this machine sees them. */
async function sizeOf(config: Config, { artifact }: Release, source: SealingSource | null): Promise<number | null> {
  const folder = source === null ? folderAt(artifact.address) : ciphertextFolder(config, artifact.stores, source);
  if (folder === null || !(await isFolder(folder))) return null;
  // What cannot be read here may well be where the controller runs.
  return sizesOf(folder).then(
    (sizes) => sizes.reduce((sum, size) => sum + size, 0),
    () => null,
  );
}

function folderAt(address: string | null): string | null {
  try {
    return address?.startsWith('file:///') === true ? fileURLToPath(address) : null;
  } catch {
    return null;
  }
}

function ciphertextFolder(config: Config, stores: readonly string[], source: SealingSource): string | null {
  const paths = stores.flatMap((name) => {
    const store = config.artifactStores[name];
    return store?.kind === 'file' ? [store.path] : [];
  });
  return paths[0] === undefined ? null : join(paths[0], ciphertextPrefix(source));
}

async function isFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isDirectory() === true;
}

const HELP = `
Judges every document that is not accepted yet, as the controller would, against the database: accepted, waiting for signatures, or refused and why;
then what an acceptance would bring about: keys, bytes, measurements, pods, what is retired. Where only signatures are missing it tells what
would happen once they are there. It writes nothing, and needs no more than a role that may read.

  keyturn plan --checkout .                          before you push
  keyturn plan --ref refs/pull/7/head --markdown     as a pull request's check: the text for a comment, the exit code for the check

What stood on the branch before is told, and counts only where the branch itself is asked about. Exit codes: 0 nothing is refused · 3 something would be refused, would stop, or waits for what only a person can mend (signatures apart) ·
1 it could not be answered · 2 usage.`;

/** Adds `keyturn plan`. */
export function register(program: Command): void {
  program
    .command('plan')
    .description('tell what would happen if a checkout, a branch or a pull request’s head were merged now, and what would refuse it')
    .addOption(configOption())
    .addOption(new Option('--checkout <dir>', 'read the files of this work tree, committed or not').conflicts('ref'))
    .option('--ref <name>', 'read this branch, or a full name such as refs/pull/7/head, from the configured repository')
    .addOption(new Option('--markdown', 'print Markdown, for a pull request’s check').conflicts('json'))
    .option('--json', 'print one JSON object')
    .addHelpText('after', HELP)
    .action(run);
}
