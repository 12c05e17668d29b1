/** `keyturn revoke --file`: a signed revocation straight into the database, for when the Git host is not there. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Config, loadConfig } from '#src/config.ts';
import { documentOfBundle } from '#src/domain/documents/places.ts';
import { DOCUMENT_MAX_BYTES } from '#src/domain/documents/yaml.ts';
import type { RepositoryFile } from '#src/domain/signatures.ts';
import { takeInFile } from '#src/engine/file-intake.ts';
import { openWake } from '#src/engine/wake.ts';
import { Fault } from '#src/errors.ts';
import { silentLog } from '#src/log.ts';
import { readReference } from '#src/reference.ts';
import { PLAINTEXT } from '#state/basis.ts';
import { ensureBrokers } from '#state/brokers.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { checkInstallation } from '#state/migrate.ts';
import { openDatabaseOf } from './database.ts';
import { verifyingOf } from './verifying.ts';

/** More than a dozen signatures on one revocation is no revocation. */
const BUNDLES_MAX = 50;

/** What is brought: a document and, beside it or named, its bundles. */
export interface Brought {
  readonly file: string;
  /** Empty: those that lie beside the file. */
  readonly bundles: readonly string[];
}

/** Accepts the revocation, as a replica that reads it on the branch would. Throws Fault, Error where that could not be answered. */
export async function revokeFile(configFile: string, brought: Brought): ReturnType<typeof takeInFile> {
  const path = `revocations/${basename(brought.file)}`;
  const file: RepositoryFile = { path, bytes: await readLimited(brought.file) };
  const bundles = await bundlesOf(path, brought);
  const config = await loadConfig(configFile, process.env);
  const pool = await openDatabaseOf(config, () => undefined);
  try {
    await checkInstallation(pool, { name: config.installation, mode: config.mode });
    // Every KBS has to refuse, also one that no replica has met yet.
    await ensureBrokers(pool, brokersOf(config));
    using url = await readReference(config.database.url);
    const wake = await openWake({ pool, url: url.reveal().toString('utf8').trim(), onError: () => undefined });
    try {
      const verifying = verifyingOf(config);
      return await takeInFile(
        {
          ...{ ...verifying, pool, git: { branch: config.repository.branch }, enlist: wake.enlist, log: silentLog },
          // Asked of releases only.
          ...{ misfit: async () => null, basis: async () => PLAINTEXT, loaders: documentLoaders({ ...verifying, pool }) },
        },
        file,
        bundles,
      );
    } finally {
      await wake.stop();
    }
  } finally {
    await pool.end();
  }
}

function brokersOf({ kbs }: Config): Parameters<typeof ensureBrokers>[1] {
  return Object.entries(kbs).map(([name, { repository }]) => ({ name, repository }));
}

/** By their places in the repository: of a name that is none there, one is made. */
async function bundlesOf(path: string, { file, bundles }: Brought): Promise<readonly RepositoryFile[]> {
  const folder = dirname(file);
  const beside = (await readdir(folder)).filter((name) => documentOfBundle(`revocations/${name}`) === path).map((name) => join(folder, name));
  const named = bundles.length > 0 ? bundles : beside;
  if (named.length > BUNDLES_MAX) throw new Fault('LimitExceeded', `${named.length} bundles, expected at most ${BUNDLES_MAX}`);
  return Promise.all(
    named.map(async (name, index) => {
      const own = `revocations/${basename(name)}`;
      const place = documentOfBundle(own) === path ? own : `${path.replace(/\.yaml$/, '')}.bundle-${index + 1}.sigstore.json`;
      return { path: place, bytes: await readLimited(name) };
    }),
  );
}

async function readLimited(name: string): Promise<Buffer> {
  const found = await stat(name).catch(() => null);
  if (found === null || !found.isFile()) throw new Fault('NotFound', `${name}: no such file`);
  if (found.size > DOCUMENT_MAX_BYTES) throw new Fault('LimitExceeded', `${name}: ${found.size} bytes, expected at most ${DOCUMENT_MAX_BYTES}`);
  return readFile(name);
}
