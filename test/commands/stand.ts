import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type pg from 'pg';
import { stringify } from 'yaml';
import { openGit } from '#src/adapters/git/index.ts';
import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { type Intake, takeIn } from '#src/engine/intake.ts';
import { type LabFiles, type LabGit, openLabGit } from '#src/lab/git.ts';
import { silentLog } from '#src/log.ts';
import { basisOf } from '#state/basis.ts';
import { ensureBrokers } from '#state/brokers.ts';
import { transaction } from '#state/database.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { appendReceipt } from '#state/receipts.ts';
import { refusalOf } from '#state/want.ts';
import { withDatabase } from '#test/postgres.ts';
import { type Files, makePerson, type Person, releaseText, signedBy, trustText, yaml } from '../documents/people.ts';

/** Everybody who may sign. */
export const [ann, bob, cid] = ['ann', 'bob', 'cid'].map((id) => makePerson(id)) as [Person, Person, Person];
const TRUST = trustText([ann, bob, cid]);
/** The name that guests use for the stand's KBS. */
export const PUBLIC_URL = 'https://kbs.test:8443';

/** A database with an intake, a repository that it reads, and a configuration that names both. */
export interface Stand {
  readonly pool: pg.Pool;
  readonly lab: LabGit;
  readonly folder: string;
  readonly config: string;
  /** Commits to the branch and takes in. */
  readonly merge: (files: LabFiles) => Promise<void>;
  /** Commits to `refs/pull/7/head`, on top of the branch. */
  readonly propose: (files: LabFiles) => Promise<void>;
}

/** Runs `fn` on a stand of its own, its trust and baseline accepted. */
export async function withStand(fn: (stand: Stand) => Promise<void>): Promise<void> {
  await withDatabase(async (pool, url) => {
    const folder = await mkdtemp(join(tmpdir(), 'keyturn-stand-'));
    const lab = await openLabGit({ folder });
    const git = openGit({ url: lab.url, branch: 'main' });
    const verifying = { verifyBundle, initialDigest: digestOf(TRUST), sample: true };
    const loaders = documentLoaders({ ...verifying, pool });
    const intake: Intake = {
      ...{ ...verifying, pool, git, enlist: async () => undefined, loaders, log: silentLog },
      misfit: (tx, arriving) => refusalOf({ installation: 'test', loaders }, tx, arriving),
      basis: (tx, release) => basisOf(tx, loaders.release, release),
    };
    await ensureBrokers(pool, [{ name: 'main', repository: 'eu' }]);
    const merge = async (files: LabFiles): Promise<void> => {
      await lab.commit(files, 'a merge');
      await takeIn(intake);
    };
    const propose = async (files: LabFiles): Promise<void> => {
      const tip = (await lab.git(['rev-parse', 'refs/heads/main'])).trim();
      const commit = await lab.commit(files, 'a proposal');
      await lab.git(['update-ref', 'refs/pull/7/head', commit]);
      await lab.git(['update-ref', 'refs/heads/main', tip]);
    };
    try {
      await merge({ 'trust/1.yaml': TRUST, ...(await signedBy('baseline/main/1.yaml', baselineText(), [ann, bob])) });
      await fn({ pool, lab, folder, config: await writeConfig(folder, url, lab.url), merge, propose });
    } finally {
      await git.close();
      await lab.close();
      await rm(folder, { recursive: true, force: true });
    }
  });
}

function baselineText(): string {
  return yaml({
    ...{ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Baseline', kbs: 'main', version: 1, takeover: true },
    ...{ referenceValues: { launch_digest: ['abcde'] }, attestationPolicies: {}, grants: [] },
  });
}

async function writeConfig(folder: string, databaseUrl: string, repositoryUrl: string): Promise<string> {
  const { privateKey } = generateKeyPairSync('ed25519');
  await writeFile(join(folder, 'receipts.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  await writeFile(join(folder, 'database-url'), databaseUrl);
  await writeFile(join(folder, 'kubeconfig'), '');
  const file = join(folder, 'keyturn.yaml');
  const kbs = {
    url: 'http://127.0.0.1:1',
    publicUrl: PUBLIC_URL,
    admin: { keys: [{ id: 'a', file: '/a' }], roles: { resource: 'r', policy: 'p', referenceValue: 'v' } },
  };
  const config = {
    ...{ apiVersion: 'keyturn.dev/v1alpha1', kind: 'Configuration', mode: 'lab', installation: 'test', runtime: 'outside' },
    database: { url: { file: join(folder, 'database-url') } },
    repository: { url: repositoryUrl, branch: 'main' },
    trust: { initialDigest: digestOf(TRUST) },
    clusters: { lab: { kubeconfig: { file: join(folder, 'kubeconfig') } } },
    kbs: { main: { ...kbs, attestationSigners: { file: join(folder, 'signers.pem') }, repository: 'eu', storage: 'postgres' } },
    keyStores: { kms: { kind: 'aws-kms', region: 'eu-central-1', endpoint: 'http://127.0.0.1:2' } },
    artifactStores: { models: { kind: 'file', path: join(folder, 'models'), guestAddress: 'file:///models' } },
    serve: { webhook: { listen: '127.0.0.1:4' }, dashboard: { listen: '127.0.0.1:5' }, metrics: { listen: '127.0.0.1:6' } },
    receipts: { signer: { kind: 'ed25519', key: { file: join(folder, 'receipts.pem') } } },
  };
  await writeFile(file, stringify(config));
  return file;
}

/** A process of its own starts in a second, or in ten on a busy machine. */
export const SPAWNING_SECONDS = 120;

/** How a command ended. */
export interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

const MAIN = resolve(import.meta.dirname, '../../src/main.ts');

/** Runs `keyturn …` as its own process. */
export function keyturn(...words: readonly string[]): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { output: '', errors: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said.output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said.errors += text;
  });
  return new Promise((done) => child.once('close', (code) => done({ code, ...said })));
}

/** An image that exists nowhere. */
export function imageOf(name: string): string {
  return `registry.example/chat@${digestOf(name)}`;
}

/** Init-data that names the stand's KBS and admits exactly this image. */
export function initDataFor(image: string): string {
  const policy = { default: [{ type: 'reject' }], transports: { docker: { [image]: [{ type: 'insecureAcceptAnything' }] } } };
  const hub = `[kbc]\nname = "cc_kbc"\nurl = "${PUBLIC_URL}"\n[image]\nimage_security_policy = '${JSON.stringify(policy)}'\n`;
  return `version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"cdh.toml" = """\n${hub}"""\n`;
}

/** What a test says of a release of workload `w`. */
export interface Wish {
  readonly previous: Digest | null;
  readonly image?: string;
  /** The guest's measurement; the serial where it is not said. */
  readonly svn?: string;
  readonly signers?: readonly Person[];
  readonly change?: Record<string, unknown>;
  /** Init-data that is committed; that of the image where it is not said. */
  readonly initData?: string;
}

/** A release with its init-data, signed by two. */
export async function releaseFiles(
  serial: number,
  { previous, image = imageOf('1'), svn = String(serial), signers = [ann, bob], change = {}, initData }: Wish,
): Promise<Files> {
  const toml = initData ?? initDataFor(image);
  const file = `guests/w/${serial}-cpu.toml`;
  const guest = {
    ...{ tee: 'sample', runtimeClass: `kata-lab-${svn}`, devices: { gpu: 0, switch: 0 } },
    ...{ initData: { file, digest: digestOf(toml) }, referenceValues: { svn: [svn] }, kbsResources: [] },
  };
  const text = releaseText('w', serial, previous, { images: { chat: image }, guests: { cpu: guest }, ...change });
  return { [file]: toml, ...(await signedBy(`releases/w/${serial}.yaml`, text, signers)) };
}

/** Writes files below a folder, as a checkout has them. */
export async function checkOut(folder: string, files: Files): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
}

/** Makes the revision of a serial serve, as its receipts would say. */
export async function serving({ pool }: Stand, serial: number): Promise<void> {
  const { rows } = await pool.query<{ rotation: string }>(`update revisions set state = 'serving', went_live = true where serial = $1 returning rotation`, [
    serial,
  ]);
  const run = rows[0]?.rotation ?? '';
  const sealed = { ciphertextDigest: digestOf('ciphertext'), plaintextManifest: `sha256:${'3'.repeat(64)}` as const, stores: ['models'] };
  for (const [step, facts] of [
    ['create-key', { keyId: 'k' }],
    ['encrypt-weights', sealed],
  ] as const)
    await transaction(pool, (tx) => appendReceipt(tx, { run, step, facts, evidence: null, proof: 'observed', verdicts: [], kept: [], moves: null }));
  await pool.query('update runs set ended_at = instant() where id = $1', [run]);
}

/** The digest of a file that is committed. */
export function digestAt(files: Files, path: string): Digest {
  return digestOf(files[path] ?? '');
}

/** A digest over every row of every table: equal where nothing was written. */
export async function allRows(pool: pg.Pool): Promise<string> {
  const { rows: tables } = await pool.query<{ name: string }>(`select tablename as name from pg_tables where schemaname = 'public' order by tablename`);
  const parts: string[] = [];
  for (const { name } of tables) {
    const { rows } = await pool.query<{ all: string }>(`select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') as all from ${name} t`);
    parts.push(`${name} ${rows[0]?.all}`);
  }
  return parts.join('\n');
}
