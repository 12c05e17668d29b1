import type { Command } from 'commander';
import { type Config, loadConfig } from '#src/config.ts';
import type { Inquiry } from '#src/domain/inquiry.ts';
import { inquire } from '#src/engine/inquiry.ts';
import { Fault } from '#src/errors.ts';
import { readReference } from '#src/reference.ts';
import { documentLoaders } from '#state/document-loaders.ts';
import { readOnly } from '#state/read-only.ts';
import { emergencies, workflows } from '#workflows/index.ts';
import { configOption, openDatabaseOf, print } from './database.ts';
import { checkOwner } from './owner.ts';
import { verifyingOf } from './verifying.ts';
import { inquiryText } from './why-text.ts';

const EXIT_NO = 3;

interface Options {
  readonly config: string;
  readonly json?: true;
}

async function run(name: string, { config: file, json }: Options): Promise<void> {
  const inquiry = await whyOf(file, name);
  print(json === true ? JSON.stringify(inquiry) : inquiryText(inquiry).join('\n'));
  if (inquiry.conclusion.kind === 'denied') process.exitCode = EXIT_NO;
}

/** Asks why, with the configuration in `file`. Writes nothing. Throws Fault('NotFound') for a name that nothing has. */
export async function whyOf(file: string, name: string): Promise<Inquiry> {
  const config = await loadConfig(file, process.env);
  const pool = await openDatabaseOf(config);
  try {
    await checkOwner(pool, config);
    const loaders = documentLoaders({ ...verifyingOf(config), pool });
    const parts = {
      ...{ loaders, workflows, emergencies, signersOf: (kbs: string) => signersOf(config, kbs) },
      clockBoundOf: (cluster: string) => config.clusters[cluster]?.clockBoundSeconds ?? 0,
    };
    const inquiry = await readOnly(pool, (db) => inquire(parts, db, name));
    if (inquiry === null) throw new Fault('NotFound', `${name}: no rotation, run, workload, revocation or pod (name, uid or address) has this name`);
    return inquiry;
  } finally {
    await pool.end();
  }
}

/** null: the CA cannot be read from here; what a token says is told all the same, and not verified. */
async function signersOf(config: Config, kbs: string): Promise<readonly string[] | null> {
  const reference = config.kbs[kbs]?.attestationSigners;
  if (reference === undefined) return null;
  try {
    using pem = await readReference(reference);
    return [pem.reveal().toString('utf8')];
  } catch {
    return null;
  }
}

const HELP = `
Looks at receipts, runs, documents and what the KBS proxies saw; asks no other system, writes nothing.

  keyturn why chat                     a workload: what it should run, and what everything on its way there waits for
  keyturn why r-0123456789abcdef       a rotation (or a run of it): every step, the gate that says no, the pods that it waits for
  keyturn why leaked-key               a revocation, by its id (or path, or digest): who, why, what it took, each refusal since the webhook, what is undone
  keyturn why chat-7d9f-x2b            a pod, by name, uid or address: what it asked for, who refused it, and which claim of its attestation
                                       is not what the release demands

Exit codes: 0 nothing is wrong, or it only takes time · 3 it was denied, or a person has to act · 1 nothing has this name, or it could not be
answered · 2 usage.`;

/** Adds `keyturn why`. */
export function register(program: Command): void {
  program
    .command('why')
    .description('tell why a pod, a rotation, a workload or a revocation waits or was denied: what, since when, which claim, what to do')
    .argument('<name>', 'a pod (name, uid, address), a rotation, a workload or a revocation')
    .addOption(configOption())
    .option('--json', 'print one JSON object')
    .addHelpText('after', HELP)
    .action(run);
}
