import type { Command } from 'commander';
import { loadConfig } from '#src/config.ts';
import { sentenceOf } from '#src/dashboard/sentences.ts';
import { signerNames } from '#src/domain/signatures.ts';
import { subjectName } from '#state/holds.ts';
import { checkInstallation } from '#state/migrate.ts';
import { type BrokerStatus, type HeldStatus, type RevisionStatus, type RunStatus, readStatus, type Status, type WorkloadStatus } from '#state/status.ts';
import type { EmergencyStatus } from '#state/status-emergencies.ts';
import { emergencies } from '#workflows/index.ts';
import { configOption, openDatabaseOf, print } from './database.ts';

interface Options {
  readonly config: string;
  readonly json?: true;
}

async function status({ config: file, json }: Options): Promise<void> {
  const config = await loadConfig(file, process.env);
  const pool = await openDatabaseOf(config);
  await checkInstallation(pool, { name: config.installation, mode: config.mode });
  const read = await readStatus(pool);
  await pool.end();
  print(json === true ? JSON.stringify(read) : tell(read).join('\n'));
}

/** The states in their order, as a ladder: the one that it is in stands in brackets. */
const LADDER = ['accepted', 'live', 'published', 'serving', 'closing', 'retired'] as const;

/** The same as `--json` says, for people; what is well is told in a line, what waits with what to do. */
export function tell(read: Status): readonly string[] {
  const { installation, at, receipts } = read;
  const lab = installation?.mode === 'lab' ? 'LAB ' : '';
  const signed = receipts.signedAt === null ? 'none signed' : `${receipts.signed} signed at ${receipts.signedAt}`;
  return [
    `${lab}${installation?.name ?? 'no installation'} at ${at}; ${receipts.written} receipts, ${signed}`,
    ...read.branches.flatMap(({ name, commit, rewrittenTo, help }) => [
      `branch ${name} at ${commit.slice(0, 12)}${rewrittenTo === null ? '' : `; REWRITTEN to ${rewrittenTo.slice(0, 12)}: releases are held`}`,
      ...(help === null ? [] : [`  ${help}`]),
    ]),
    ...trustLines(read.trust),
    ...read.polls.flatMap(({ branch, failingSince, reason, about, help }) =>
      failingSince === null
        ? []
        : [`branch ${branch} cannot be read since ${failingSince}: ${reason}: ${about}`, `  ${help ?? ''} Revocations are not seen meanwhile.`],
    ),
    ...section('REVOCATIONS', read.emergencies.flatMap(emergencyRows)),
    ...section('ON HOLD', read.holds.map(holdRow)),
    ...section(
      'WORKLOADS',
      read.workloads.flatMap((workload) => [
        [workload.name, workload.target === null ? 'no target' : `target ${workload.target}`, workload.held === null ? '' : heldWords(workload.held)],
        ...keyRows(workload.key, at),
        ...workload.revisions.map((revision) => [`  s${revision.serial}-v${revision.epoch}`, ladderOf(revision), revision.rotation, endOf(revision)]),
      ]),
    ),
    ...section('RUNS', read.runs.flatMap(runRows)),
    ...section(
      'WEBHOOK',
      read.deliveries.flatMap(({ reason, about, help, times, firstAt, lastAt }) => [
        [`${reason}: ${about}`, `${times} times since ${firstAt}, last at ${lastAt}`],
        [help],
      ]),
    ),
    ...section(
      'NOT READ',
      read.branches.flatMap(({ unread }) =>
        unread.flatMap(({ path, reason, about, help }) => [
          [path, `${reason}: ${about}`],
          ['', help],
        ]),
      ),
    ),
    ...section(
      'DOCUMENTS',
      read.documents.flatMap(({ path, verdict, reason, about, help, approvedBy, signatures }) => [
        [path, verdict, [reason, about].filter((text) => text !== null).join(': ') || `by ${signerNames(approvedBy, signatures).join(', ') || 'its digest'}`],
        ...(help === null ? [] : [['', '', help]]),
      ]),
    ),
    ...section('BROKERS', read.brokers.map(brokerRow)),
    ...section('PLATFORM VALUES KEPT', read.predecessors.flatMap(predecessorRows)),
  ];
}

/** Which revocation, what is undone of it, and what the present wait is for. */
function emergencyRows(one: EmergencyStatus): readonly (readonly string[])[] {
  const { workflow, path, subject, acceptedAt, run, done, waitingFor, about, since, nextRetryAt, help } = one;
  const steps = emergencies.find(({ name }) => name === workflow)?.steps ?? [];
  const [next, ...more] = steps.filter(({ name }) => !done.includes(name));
  const undone =
    next === undefined ? 'all is done' : `not yet: ${sentenceOf(workflow, next.name) ?? next.name}${more.length === 0 ? '' : ` (and ${more.length} more)`}`;
  const when = [since === null ? '' : `since ${since}`, nextRetryAt === null ? '' : `again at ${nextRetryAt}`].filter((text) => text !== '').join(', ');
  return [
    [
      path,
      `${workflow === 'reinstate' ? `being lifted by ${one.reinstatement ?? 'a reinstatement'}` : standingWords(one)}${acceptedAt === null ? '' : `, accepted ${acceptedAt}`}`,
    ],
    [
      '',
      `of ${subject ?? 'what cannot be read'}: ${run === null ? 'nobody carries it out' : `${steps.length - more.length - (next === undefined ? 0 : 1)} of ${steps.length} done; ${undone}`}`,
    ],
    ...(waitingFor === null
      ? []
      : [
          ['', `${waitingFor}: ${about ?? ''}`],
          ['', when],
          ['', help ?? ''],
        ]),
  ];
}

function standingWords({ run, done }: EmergencyStatus): string {
  if (run === null) return 'NOT CARRIED OUT';
  return done.includes('confirm-refused') ? 'refused, not all is done' : 'BEING REFUSED';
}

function heldWords({ reason, about, revocation }: HeldStatus): string {
  return `held${revocation === null ? '' : ` by ${revocation}`}: ${reason}: ${about}`;
}

function trustLines(trust: Status['trust']): readonly string[] {
  if (trust === null || trust.help === null) return [];
  const { version, expiresAt, state, help } = trust;
  return [`trust version ${version} ${state === 'expired' ? `EXPIRED at ${expiresAt}: releases are held` : `expires at ${expiresAt}`}`, `  ${help}`];
}

function holdRow({ subject, by, at, why }: Status['holds'][number]): readonly string[] {
  return [subjectName(subject), `by ${by}`, `since ${at}`, why];
}

function predecessorRows(kept: Status['predecessors'][number]): readonly (readonly string[])[] {
  const { platform, serial, name, value, reason, about, since, help } = kept;
  return [
    [`${platform}/${serial}`, `${name} ${String(value)}`, `${reason}: ${about}, since ${since}`],
    ['', '', help],
  ];
}

/** When the key falls due: nothing to say where it never does. */
function keyRows(key: WorkloadStatus['key'], at: string): readonly (readonly string[])[] {
  if (key === null || key.rotationDueAt === null) return [];
  return [['', `its key, of ${key.createdAt}, ${key.rotationDueAt > at ? 'falls due at' : 'is due since'} ${key.rotationDueAt}`]];
}

/** What becomes of a retired revision's key; empty where it only is disabled. */
function endOf({ destruction }: RevisionStatus): string {
  if (destruction === null) return '';
  if (destruction.end === 'destroyed') return 'its key is destroyed';
  if (destruction.end === 'called-back') return 'the destruction of its key was called back';
  return destruction.at === null ? 'its key is to be destroyed' : `its key is destroyed at ${destruction.at}`;
}

function ladderOf({ state, withdrawn, revoked }: RevisionStatus): string {
  const facts = [withdrawn ? 'WITHDRAWN' : '', revoked ? 'REVOKED' : ''].filter((fact) => fact !== '');
  return [...LADDER.map((rung) => (rung === state ? `[${rung}]` : rung)), ...facts].join(' ');
}

function runRows({
  id,
  workflow,
  workload,
  serial,
  revocation,
  step,
  waitingFor,
  about,
  since,
  nextRetryAt,
  help,
  deadline,
}: RunStatus): readonly (readonly string[])[] {
  const subject = revocation ?? (serial === null ? workload : `${workload}/${serial}`);
  const waits = waitingFor === null ? '' : `${waitingFor}: ${about ?? ''}`;
  const when = [since === null ? '' : `since ${since}`, nextRetryAt === null ? '' : `again at ${nextRetryAt}`, deadline === null ? '' : `deadline ${deadline}`];
  return [
    [id, `${workflow} ${subject}`, step ?? '', waits],
    ...(waitingFor === null
      ? []
      : [
          ['', '', '', when.filter((text) => text !== '').join(', ')],
          ['', '', '', help ?? ''],
        ]),
  ];
}

function brokerRow({ name, generation, baseline, denied, proxies }: BrokerStatus): readonly string[] {
  const alive = proxies.filter(({ silent }) => !silent);
  const behind = alive.filter(({ caughtUp }) => !caughtUp).length;
  return [
    name,
    `generation ${generation}`,
    `${denied} denied`,
    `${alive.length} proxies${behind === 0 ? '' : `, ${behind} behind`}`,
    baseline === null ? 'no baseline: nothing is written' : '',
  ];
}

/** A heading and aligned columns; nothing where there are no rows. */
function section(heading: string, rows: readonly (readonly string[])[]): readonly string[] {
  if (rows.length === 0) return [];
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return [
    '',
    heading,
    ...rows.map((row) =>
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    ),
  ];
}

/** Adds `keyturn status`. */
export function register(program: Command): void {
  program
    .command('status')
    .description('tell where every workload, rotation and document stands, what it waits for and what to do; reads rows, asks no other system')
    .addOption(configOption())
    .option('--json', 'print one JSON object')
    .action(status);
}
