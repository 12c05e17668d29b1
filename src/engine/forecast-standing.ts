/** How revisions would stand after acceptances that are in no row yet, and what a revocation or a withdrawal takes. Reads; writes nothing. */
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { ReinstatementForecast, RevisionName, TakingForecast } from '#src/domain/forecast.ts';
import { type Outlook, outlookOf } from '#src/domain/outlook.ts';
import type { PlannedOf } from '#src/domain/plan.ts';
import type { Known } from '#src/domain/release.ts';
import { mayBeSucceeded } from '#src/domain/revoked.ts';
import { targetOf } from '#src/domain/target.ts';
import type { Db } from '#state/database.ts';
import { freedBy } from '#state/reinstatements.ts';
import { knownRevisions } from '#state/revisions.ts';
import { type Reach, reachOf, revokedBy } from '#state/revocations.ts';
import { standings, successorOf } from '#state/targets.ts';
import type { Loaders } from '#state/want.ts';
import type { Acceptable } from './finding.ts';

type Arrived = Extract<Acceptable, { kind: 'release' }>;
type Taking = Extract<Acceptable, { kind: 'revocation' | 'withdrawal' }>;

/** A revision by the name that `status` gives it. */
export function nameOf(workload: string, { release, sealing, state }: Pick<PlannedOf, 'release' | 'sealing' | 'state'>): RevisionName {
  return { workload, name: `s${release.serial}-v${sealing.epoch}`, state };
}

/** A workload's revisions as they would stand after these. */
export async function standingAfter(
  db: Db,
  workload: string,
  before: readonly Acceptable[],
  known: readonly Known[],
  loaders: Loaders,
): Promise<readonly PlannedOf[]> {
  let there: readonly PlannedOf[] = await standings(db, workload);
  for (const [index, one] of before.entries()) {
    if (one.kind === 'release' && one.release.workload === workload) there = (await withRelease(db, there, one, known)).known;
    if (one.kind === 'revocation' || one.kind === 'withdrawal')
      there = marked(there, (await takenBy(db, one, before.slice(0, index), loaders)).revisions, one.kind);
  }
  return there;
}

/** The same after one release more. */
export async function withRelease(db: Db, there: readonly PlannedOf[], { release, resting }: Arrived, known: readonly Known[]): Promise<Outlook> {
  const { workload, serial, digest } = release;
  const { basis, amended } = resting;
  if (amended !== null)
    return outlookOf(
      there.map((one) => (one.id === amended.revision ? { ...one, digest, release: { serial } } : one)),
      null,
    );
  const kept = basis.kind === 'keep' ? known.find(({ sealing }) => sealing.id === basis.id)?.sealing.epoch : undefined;
  const epoch = kept ?? Math.max(0, ...there.map(({ sealing }) => sealing.epoch)) + 1;
  const revoked = (await revokedBy(db, { workload, serial, epoch })) !== null;
  return outlookOf(there, { accepted: { digest, serial, basis }, epoch, revoked });
}

function marked(known: readonly PlannedOf[], ids: readonly number[], kind: Taking['kind']): readonly PlannedOf[] {
  const mark = kind === 'revocation' ? { revoked: true } : { withdrawn: true };
  return known.map((one) => (ids.includes(one.id) ? { ...one, ...mark } : one));
}

/** What a withdrawal denies: nothing. */
const NOTHING_DENIED = { denied: { paths: [], initData: [], devices: [] }, sharing: [] };

/** `before`: what is merged before it. Two signers may leave too few together whom each of them alone does not. */
async function takenBy(db: Db, taking: Taking, before: readonly Acceptable[], loaders: Loaders): Promise<Pick<Reach, 'revisions' | 'denied' | 'sharing'>> {
  if (taking.kind === 'revocation') return reachOf(db, taking.revocation.subject, loaders, subjectsOf(before));
  const { workload, release } = taking.withdrawal;
  const { rows } = await db.query<{ id: number }>(`select id from revisions where workload = $1 and $2 = any(releases) and state <> 'retired'`, [
    workload,
    release,
  ]);
  return { ...NOTHING_DENIED, revisions: rows.map(({ id }) => id) };
}

/** What a revocation or a withdrawal would take, and what would run then; how it changes what is measured is told apart. */
export async function takingForecast(
  db: Db,
  taking: Taking,
  before: readonly Acceptable[],
  loaders: Loaders,
): Promise<Omit<TakingForecast, 'referenceValues'>> {
  const { revisions: ids, denied, sharing } = await takenBy(db, taking, before, loaders);
  const touched = await knownRevisions(db, { ids }, loaders.release);
  const targets: TakingForecast['targets'][number][] = [];
  const gone = new Set<number>();
  for (const workload of [...new Set(touched.map(({ release }) => release.workload))].sort()) {
    const there = await standingAfter(db, workload, before, await knownRevisions(db, { workload }, loaders.release), loaders);
    const present = targetOf(there);
    const left = marked(there, ids, taking.kind);
    const after = targetOf(left);
    const successor = after === null ? await successorName(db, workload, left, { taking, present, before }) : null;
    targets.push({ workload, before: runs(workload, present), after: runs(workload, after), successor });
    // Once a workload serves, no pod is left of what it ran before.
    if (present?.state === 'serving') for (const { id } of there) if (id !== present.id) gone.add(id);
  }
  const running = touched.filter(({ id }) => !gone.has(id));
  const pods = await podsOf(db, running);
  // Of these the same bytes may be had at another path: a key is refused at all of its paths, and a workload has no other.
  const mayShare = taking.kind === 'revocation' && ['release', 'reference-value', 'signer', 'target'].includes(taking.revocation.subject.kind);
  return {
    kind: taking.kind,
    touches: touched.map((known) => ({
      ...{ ...nameOf(known.release.workload, known), keyId: known.sealing.facts.keyId ?? null },
      pods: running.includes(known) ? (pods.get(known.id) ?? null) : null,
    })),
    targets,
    denied,
    sharing,
    stillGivenBy: mayShare ? await sharersOf(db, touched, loaders) : [],
    evict: taking.kind === 'revocation' && taking.revocation.evict,
    destroy: taking.kind === 'revocation' && taking.revocation.destroy,
    stops: [],
  };
}

/** Pods that the last roll of each counted, by their targets' names: they have the key in their memory until they restart. None of one that was never rolled. */
async function podsOf(db: Db, revisions: readonly Known[]): Promise<ReadonlyMap<number, NonNullable<TakingForecast['touches'][number]['pods']>>> {
  const uidOf = (boot: string): string => boot.split('/')[0] ?? '';
  const uids = revisions.flatMap(({ facts }) => Object.values(facts.boots ?? {}).flatMap((boots) => boots.map(uidOf)));
  const { rows } = await db.query<{ uid: string; pod: string }>('select distinct pod_uid as uid, pod from boots where pod_uid = any($1)', [uids]);
  const names = new Map(rows.map(({ uid, pod }) => [uid, pod]));
  return new Map(
    revisions.flatMap(({ id, facts: { boots } }) => {
      if (boots === undefined) return [];
      const named = Object.entries(boots).map(([target, of]) => [target, of.map((boot) => names.get(uidOf(boot)) ?? uidOf(boot)).sort()]);
      return [[id, Object.fromEntries(named) as Record<string, readonly string[]>]];
    }),
  );
}

/** The revision that a workload goes on as where nothing else is left; null: none, or something merged before names its release. */
async function successorName(
  db: Db,
  workload: string,
  left: readonly PlannedOf[],
  { taking, present, before }: { readonly taking: Taking; readonly present: PlannedOf | null; readonly before: readonly Acceptable[] },
): Promise<string | null> {
  if (taking.kind !== 'revocation' || !mayBeSucceeded(taking.revocation)) return null;
  const successor = await successorOf(db, workload, left, present?.id ?? null);
  if (successor === null) return null;
  const names = (subject: RevocationSubject): boolean =>
    subject.kind === 'all' ||
    (subject.kind === 'workload' && subject.workload === workload) ||
    (subject.kind === 'release' && subject.workload === workload && subject.serial === successor.serial);
  return subjectsOf(before).some(names) ? null : `s${successor.serial}-v${Math.max(...left.map(({ sealing }) => sealing.epoch)) + 1}`;
}

function subjectsOf(before: readonly Acceptable[]): readonly RevocationSubject[] {
  return before.flatMap((one) => (one.kind === 'revocation' ? [one.revocation.subject] : []));
}

/** What a reinstatement would free, and what would run then. */
export async function reinstatementForecast(
  db: Db,
  { reinstatement, revocation }: Extract<Acceptable, { kind: 'reinstatement' }>,
  before: readonly Acceptable[],
  loaders: Loaders,
): Promise<ReinstatementForecast> {
  const ids = await freedBy(db, revocation);
  const freed = await knownRevisions(db, { ids }, loaders.release);
  const targets: ReinstatementForecast['targets'][number][] = [];
  for (const workload of [...new Set(freed.map(({ release }) => release.workload))].sort()) {
    const there = await standingAfter(db, workload, before, await knownRevisions(db, { workload }, loaders.release), loaders);
    const after = there.map((one) => (ids.includes(one.id) ? { ...one, revoked: false } : one));
    targets.push({ workload, before: runs(workload, targetOf(there)), after: runs(workload, targetOf(after)) });
  }
  const frees = freed.map((known) => ({ ...nameOf(known.release.workload, known), pathNumber: known.pathNumber + 1 }));
  return { kind: 'reinstatement', revocation: reinstatement.revocation, frees, targets, stops: [] };
}

function runs(workload: string, standing: PlannedOf | null): string | null {
  return standing === null ? null : nameOf(workload, standing).name;
}

/** Other revisions under the keys of these that still stand: whoever is refused one path is given the same bytes at the other. */
async function sharersOf(db: Db, touched: readonly Known[], loaders: Loaders): Promise<TakingForecast['stillGivenBy']> {
  const ids = touched.map(({ id }) => id);
  const { rows } = await db.query<{ id: number }>(
    `select id from revisions where sealing = any($1) and not id = any($2) and state <> 'retired' and revoked_by is null order by id`,
    [touched.map(({ sealing }) => sealing.id), ids],
  );
  const sharing = await knownRevisions(db, { ids: rows.map(({ id }) => id) }, loaders.release);
  return sharing.map((known) => ({ ...nameOf(known.release.workload, known), epoch: known.sealing.epoch }));
}
