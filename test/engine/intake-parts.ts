import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { openGit } from '#src/adapters/git/index.ts';
import { verifyBundle } from '#src/adapters/sigstore/index.ts';
import { type Digest, digestOf } from '#src/digest.ts';
import { openDocuments } from '#src/engine/documents.ts';
import { type Intake, type Report, takeIn } from '#src/engine/intake.ts';
import { type LabFiles, type LabGit, openLabGit } from '#src/lab/git.ts';
import { openLog } from '#src/log.ts';
import type { Documents } from '#src/world.ts';
import { basisOf } from '#state/basis.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { acceptedReleases } from '#state/documents.ts';
import { withDatabase } from '#test/postgres.ts';
import { type Files, INIT_DATA, makePerson, type Person, releaseText, revocationText, signedBy, trustText } from '../documents/people.ts';

/** Three approvers, and what every repository begins with. */
export const [ann, bob, cid] = ['ann', 'bob', 'cid'].map((id) => makePerson(id)) as [Person, Person, Person];
/** The trust document of these people. */
export const TRUST = trustText([ann, bob, cid]);
/** Files of the first commit. */
export const START: Files = { 'trust/1.yaml': TRUST, 'guests/w.toml': INIT_DATA, 'guests/v.toml': INIT_DATA };

/** A database, a repository, and what takes the one into the other. */
export interface Bench {
  readonly pool: pg.Pool;
  readonly lab: LabGit;
  readonly intake: Intake;
  readonly documents: Documents;
  /** Commits and takes in. */
  readonly push: (files: LabFiles) => Promise<Report>;
}

/** Runs `fn` on a bench of its own. */
export async function withBench(fn: (bench: Bench) => Promise<void>): Promise<void> {
  await withDatabase(async (pool) => {
    const folder = await mkdtemp(join(tmpdir(), 'keyturn-intake-'));
    const lab = await openLabGit({ folder });
    const git = openGit({ url: lab.url, branch: 'main' });
    const verifying = { verifyBundle, initialDigest: digestOf(TRUST), sample: true };
    const loaders = documentLoaders({ ...verifying, pool });
    const basis: Intake['basis'] = (tx, release) => basisOf(tx, loaders.release, release);
    const intake: Intake = { ...verifying, pool, git, enlist: async () => undefined, loaders, misfit: async () => null, basis, log: openLog('silent') };
    const push = async (files: LabFiles): Promise<Report> => {
      await lab.commit(files, 'a commit');
      return takeIn(intake);
    };
    try {
      await fn({ pool, lab, intake, documents: openDocuments({ ...verifying, pool, git }), push });
    } finally {
      await git.close();
      await lab.close();
      await rm(folder, { recursive: true, force: true });
    }
  });
}

/** What became of every document of the branch, by path. */
export async function verdicts(pool: pg.Pool): Promise<Record<string, string>> {
  const { rows } = await pool.query<{ path: string; verdict: string; reason: string | null }>(
    `select path, verdict, reason from documents where kind <> 'File' order by path, seen`,
  );
  return Object.fromEntries(rows.map(({ path, verdict, reason }) => [path, reason === null ? verdict : `${verdict} ${reason}`]));
}

/** Accepted serials, highest first. */
export async function serials(pool: pg.Pool, workload = 'w'): Promise<readonly number[]> {
  return (await acceptedReleases(pool, workload)).map(({ serial }) => serial);
}

/** A release of `w`, signed. */
export function release(
  serial: number,
  previous: Digest | null,
  people: readonly Person[] = [ann, bob],
  workload = 'w',
  change: Record<string, unknown> = {},
): Promise<Files> {
  return signedBy(`releases/${workload}/${serial}.yaml`, releaseText(workload, serial, previous, change), people);
}
/** The digest of a file that is committed. */
export const digestAt = (files: Files, path: string): Digest => digestOf(files[path] ?? '');
/** A revocation, signed. */
export function revocation(id: string, subject: Record<string, unknown>, people: readonly Person[] = [ann]): Promise<Files> {
  return signedBy(`revocations/${id}.yaml`, revocationText(id, subject), people);
}
/** Makes every revocation one that an older version accepted, and could only hold for; its file is gone from the branch. */
export async function asOlderVersion(pool: pg.Pool): Promise<void> {
  await pool.query(`update documents set reason = 'NotSupportedYet', present = false where kind = 'Revocation'`);
}
