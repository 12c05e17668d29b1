import type pg from 'pg';
import { type Digest, digestOf } from '#src/digest.ts';
import type { Reinstatement } from '#src/domain/judge-reinstatement.ts';
import type { Reason } from '#src/domain/reasons.ts';
import type { Known, Release, Revocation } from '#src/domain/release.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import type { Engine } from '#src/engine/look.ts';
import { type Looked, lookAt } from '#src/engine/run.ts';
import { type Instant, secondsBetween } from '#src/instant.ts';
import { silentLog } from '#src/log.ts';
import { acceptBaseline, acceptRelease, acceptRevocation } from '#state/acceptance.ts';
import { basisOf } from '#state/basis.ts';
import { ensureBrokers } from '#state/brokers.ts';
import { transaction } from '#state/database.ts';
import { openLedger } from '#state/ledger.ts';
import { acceptReinstatement } from '#state/reinstatements.ts';
import { knownRevisions } from '#state/revisions.ts';
import { lockWorkload, openRuns } from '#state/runs.ts';
import type { Loaders } from '#state/want.ts';
import { acceptWithdrawal, type Barred, type Withdrawal, withdrawalBar } from '#state/withdrawals.ts';
import { emergencies, workflows } from '#workflows/index.ts';
import { type Gate, no, type Workflow, yes } from '#workflows/step.ts';
import type { TestWorld } from '../world.ts';
import { BASELINE } from './release.ts';

/** More rounds than any story of a test takes. */
const ROUNDS_MAX = 400;

/** The production engine, state and workflows over a test world. */
export interface TestEngine {
  readonly engine: Engine;
  /** What Git's acceptance does, without Git: the document's row, and the transaction of its fact. Returns why it does not rest on what it names; null: accepted. */
  readonly accept: (release: Release) => Promise<Reason | null>;
  readonly revoke: (revocation: Revocation) => Promise<void>;
  /** A reinstatement of an accepted revocation: what Git's acceptance does once it was judged. */
  readonly reinstate: (reinstatement: Reinstatement, revocation: Revocation) => Promise<void>;
  /** The same for a withdrawal. Returns what stands against it; null: accepted. */
  readonly withdraw: (withdrawal: Withdrawal) => Promise<Barred | null>;
  readonly known: (serial: number) => Promise<Known>;
  /** One look at every open run, and one tick of the cluster. */
  readonly round: () => Promise<readonly Looked[]>;
  /** Rounds, the clock moved on to the next retry where all rest, until no run is open or `until` says so. Throws where neither comes about. */
  readonly drive: (until?: (looks: readonly Looked[]) => boolean | Promise<boolean>) => Promise<void>;
  /** Looks until a run of this serial has a receipt of this step; nothing after it is done. */
  readonly driveTo: (serial: number, step: string, workflow?: string) => Promise<void>;
}

/** Parts of the engine that a test replaces. */
export interface EngineParts {
  /** The pool that the engine alone uses; the ledger and the test keep theirs. */
  readonly pool?: pg.Pool;
  readonly workflows?: readonly Workflow[];
  readonly emergencies?: readonly Workflow<Revoked>[];
  /** The platforms that are accepted by now. */
  readonly platforms?: Loaders['platforms'];
}

/** Joins engine, ledger and world on a database of its own, with the baseline accepted. */
export async function openTestEngine(pool: pg.Pool, test: TestWorld, parts: EngineParts = {}): Promise<TestEngine> {
  const releases = new Map<string, Release>();
  const reinstatements = new Map<string, Reinstatement>();
  const baselines = new Map(test.brokers.map(({ name }) => [digestOf(`baseline ${name}`), { ...BASELINE, kbs: name }]));
  const loaders: Loaders = {
    release: async (digest) => {
      const release = releases.get(digest);
      if (release === undefined) throw new Error(`no release ${digest}`);
      return release;
    },
    baseline: async (digest) => baselines.get(digest as Digest) ?? BASELINE,
    platforms: parts.platforms ?? (async () => []),
    // Two of those who approved it have to be left, as everywhere in this world.
    stands: async (digest, without) => (releases.get(digest)?.approvedBy ?? []).filter((person) => !without.some((one) => one.person === person)).length >= 2,
  };
  const enlist = async () => {};
  const brake: Brake = { before: null };
  const engine: Engine = {
    pool: parts.pool ?? pool,
    world: test.world,
    ledger: openLedger({ pool, installation: 'test', signer: test.world.signer, loaders }),
    loaders,
    workflows: (parts.workflows ?? workflows).map((workflow) => braked(workflow, brake)),
    emergencies: parts.emergencies ?? emergencies,
    revocation: async (digest) => {
      const found = test.git.revocations.find((revocation) => revocation.digest === digest);
      if (found === undefined) throw new Error(`no revocation ${digest}`);
      return found;
    },
    reinstatement: async (digest) => {
      const found = reinstatements.get(digest);
      if (found === undefined) throw new Error(`no reinstatement ${digest}`);
      return found;
    },
    enlist,
    log: silentLog,
    owner: 'test',
    held: async () => new Map(),
  };
  await ensureBrokers(pool, test.brokers);
  for (const [digest, baseline] of baselines) await transaction(pool, (tx) => acceptBaseline(tx, { ...baseline, digest }, enlist));
  const round = async (): Promise<readonly Looked[]> => {
    const looks: Looked[] = [];
    for (const run of await openRuns(pool)) looks.push(await lookAt(engine, run));
    await test.cluster.tick();
    await test.west.cluster.tick();
    return looks;
  };
  const known = async (serial: number): Promise<Known> => {
    const found = (await knownRevisions(pool, { all: true }, loaders.release)).find((revision) => revision.release.serial === serial);
    if (found === undefined) throw new Error(`no revision of serial ${serial}`);
    return found;
  };
  const drive = async (until: (looks: readonly Looked[]) => boolean | Promise<boolean> = () => false): Promise<void> => {
    for (let rounds = 0; rounds < ROUNDS_MAX; rounds += 1) {
      const looks = await round();
      if (looks.length === 0 || (await until(looks))) return;
      await advanceTo(test, looks);
    }
    throw new Error(`still open after ${ROUNDS_MAX} rounds: ${JSON.stringify(await round())}`);
  };
  return {
    engine,
    round,
    drive,
    known,
    accept: async (release) => {
      releases.set(release.digest, release);
      await storeDocument(pool, 'Release', release);
      return transaction(pool, async (tx) => {
        const resting = await basisOf(tx, loaders.release, release);
        if (resting.kind !== 'found') {
          await tx.query('delete from documents where digest = $1', [release.digest]);
          return resting.reason;
        }
        await acceptRelease(tx, release, enlist, resting);
        return null;
      });
    },
    revoke: async (revocation) => {
      test.git.revocations.push(revocation);
      await storeDocument(pool, 'Revocation', revocation);
      await transaction(pool, (tx) => acceptRevocation(tx, revocation, enlist, loaders));
    },
    reinstate: async (reinstatement, revocation) => {
      reinstatements.set(reinstatement.digest, reinstatement);
      await storeDocument(pool, 'Reinstatement', reinstatement);
      await transaction(pool, (tx) => acceptReinstatement(tx, reinstatement, revocation.digest, enlist));
    },
    withdraw: async (withdrawal) => {
      await storeDocument(pool, 'Withdrawal', withdrawal);
      return transaction(pool, async (tx) => {
        await lockWorkload(tx, withdrawal.workload);
        const bar = await withdrawalBar(tx, withdrawal);
        if (bar === null) await acceptWithdrawal(tx, withdrawal, enlist);
        return bar;
      });
    },
    driveTo: async (serial, step, workflow = 'adopt-revision') => {
      brake.before = (name, subject, next) => name === workflow && subject.release.serial === serial && isAfter(name, step, next);
      await drive(() => hasReceipt(pool, serial, workflow, step)).finally(() => {
        brake.before = null;
      });
    },
  };
}

/** Holds a run before a step: a look does all that it can, and a test wants to stand in between. */
interface Brake {
  before: ((workflow: string, subject: Known, step: string) => boolean) | null;
}

function braked(workflow: Workflow, brake: Brake): Workflow {
  const gateOf = (step: string): Gate => ({
    name: 'brake',
    ask: async ({ subject }) => (brake.before?.(workflow.name, subject, step) === true ? no('Held', 'the test') : yes(null)),
  });
  return { ...workflow, steps: workflow.steps.map((step) => ({ ...step, gates: [gateOf(step.name), ...(step.gates ?? [])] })) };
}

function isAfter(workflow: string, step: string, next: string): boolean {
  const names = workflows.find(({ name }) => name === workflow)?.steps.map(({ name }) => name) ?? [];
  return names.indexOf(next) > names.indexOf(step);
}

/** Where every run rests, time goes on to the earliest retry; where one went on, it does not. */
async function advanceTo(test: TestWorld, looks: readonly Looked[]): Promise<void> {
  const next = looks.map((look) => (look.kind === 'resting' ? look.nextRetryAt : null));
  const due = next.filter((at): at is Instant => at !== null).sort()[0];
  if (next.includes(null) || due === undefined) return;
  const seconds = secondsBetween(await test.clock(), due);
  if (seconds > 0) await test.advance(seconds);
}

/** Whether a run on the revision of this serial has a receipt of this step. */
export async function hasReceipt(pool: pg.Pool, serial: number, workflow: string, step: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    `select 1 from receipts c join runs o on o.id = c.run join revisions r on r.id = o.revision where r.serial = $1 and o.workflow = $2 and c.step = $3`,
    [serial, workflow, step],
  );
  return rowCount !== 0;
}

/** The receipts' steps of a run, in order. */
export async function stepsOf(pool: pg.Pool, serial: number, workflow: string): Promise<readonly string[]> {
  const { rows } = await pool.query<{ step: string }>(
    `select c.step from receipts c join runs o on o.id = c.run join revisions r on r.id = o.revision
     where r.serial = $1 and o.workflow = $2 order by o.created_at, c.number`,
    [serial, workflow],
  );
  return rows.map(({ step }) => step);
}

/** What a run of this serial waits for now; null: for nothing. */
export async function waitsFor(pool: pg.Pool, serial: number, workflow = 'adopt-revision'): Promise<string | null> {
  const { rows } = await pool.query<{ waiting_for: string | null }>(
    `select o.waiting_for from runs o join revisions r on r.id = o.revision where r.serial = $1 and o.workflow = $2 order by o.created_at desc limit 1`,
    [serial, workflow],
  );
  return rows[0]?.waiting_for ?? null;
}

async function storeDocument(pool: pg.Pool, kind: string, document: { path: string; digest: Digest }): Promise<void> {
  const { workload = null, serial = null } = document as Partial<Release>;
  await pool.query(
    `insert into documents (path, digest, kind, bytes, commit_id, verdict, workload, serial) values ($1, $2, $3, '', 'test', 'accepted', $4, $5)`,
    [document.path, document.digest, kind, workload, serial],
  );
}
