import { clockOf, type Db, transaction } from '#state/database.ts';
import { aboutHold, type Hold, openHolds } from '#state/holds.ts';
import { type KeptPredecessor, lastHandshake, letGo, letGoValues, noteKept, tokensSince } from '#state/predecessors.ts';
import { knownRevisions } from '#state/revisions.ts';
import { attestedBoots, type Counted, PODS_GOOD_SECONDS } from '#workflows/pods.ts';
import { listening } from '#workflows/reach.ts';
import { digestOf } from '../digest.ts';
import type { Tee } from '../domain/documents/fields.ts';
import type { TargetDocument } from '../domain/documents/release.ts';
import type { Json } from '../domain/json.ts';
import { isReadable, type Predecessor, predecessorsOf, restsOn } from '../domain/predecessors.ts';
import type { Reason } from '../domain/reasons.ts';
import { type Known, targetName } from '../domain/release.ts';
import { isFault } from '../errors.ts';
import { type Instant, later } from '../instant.ts';
import type { Engine } from './look.ts';

/** Guests of a kind of machine: a wanted revision's at one of its targets. */
interface User {
  readonly known: Known;
  readonly target: TargetDocument;
  readonly tee: Tee;
}

interface Why {
  readonly reason: Reason;
  readonly about: string;
}

/** Everything that this look saw, and when. */
interface Sight {
  readonly engine: Engine;
  readonly at: Instant;
  readonly lastHandshake: number;
  readonly wanted: readonly Known[];
  /** By user; asked once a look. */
  readonly boots: Map<string, Promise<readonly Counted[] | Why>>;
}

type Finding = { readonly kind: 'kept'; readonly why: Why } | { readonly kind: 'free'; readonly users: readonly User[] };

/**
 * Lets go what only earlier serials of a platform list, as soon as no wanted revision has a boot that
 * attested on it: of the revisions that name the platform, and of the others on machines of its kind,
 * whose guests the same values are good for. What cannot be told keeps. Writes down why each
 * value is kept. No workflow, because nothing waits for it: a receipt in a chain of its own. Throws Fault.
 */
export async function letGoPredecessors(engine: Engine): Promise<void> {
  const { pool, loaders } = engine;
  const candidates = predecessorsOf(await loaders.platforms(), await letGoValues(pool));
  if (candidates.length === 0) return transaction(pool, (tx) => noteKept(tx, []));
  const at = await clockOf(pool)();
  const sight = {
    engine,
    at,
    lastHandshake: await lastHandshake(pool),
    wanted: await knownRevisions(pool, { wanted: true }, loaders.release),
    boots: new Map(),
  };
  const stopped = await holdOfAll(pool);
  const kept: Omit<KeptPredecessor, 'since'>[] = [];
  const free: Predecessor[] = [];
  for (const candidate of candidates) {
    const finding = stopped === null ? await find(sight, candidate) : keptBecause('OnHold', aboutHold(stopped));
    if (finding.kind === 'kept') kept.push({ ...candidate, ...finding.why });
    else free.push(candidate);
  }
  await transaction(pool, (tx) => noteKept(tx, kept));
  for (const values of Map.groupBy(free, ({ platform }) => platform).values()) await release(sight, values);
}

/** A hold of everything stops this too: it takes something away. One of a workload or a run says nothing of the machines. */
async function holdOfAll(db: Db): Promise<Hold | null> {
  return (await openHolds(db)).find(({ subject }) => subject.kind === 'all') ?? null;
}

async function find(sight: Sight, candidate: Predecessor): Promise<Finding> {
  const { name, platform, tees } = candidate;
  const users = usersOf(sight.wanted, tees);
  // Named by none, no KBS is told its values: whoever is left comes by them in another way.
  if (!users.some(({ known, target }) => known.release.guests[target.guest]?.platform === platform)) return { kind: 'free', users: [] };
  for (const user of users) {
    if (!isReadable(user.tee, name)) return keptBecause('ClaimUnknown', `${name} of ${user.tee}, as ${nameOf(user)} runs`);
    const boots = await bootsOf(sight, user);
    if ('reason' in boots) return { kind: 'kept', why: boots };
    for (const boot of boots) {
      const why = useOf(candidate, user, boot);
      if (why !== null) return { kind: 'kept', why };
    }
  }
  return { kind: 'free', users };
}

function usersOf(wanted: readonly Known[], tees: readonly Tee[]): readonly User[] {
  return wanted.flatMap((known) =>
    known.release.targets.flatMap((target) => {
      const tee = known.release.guests[target.guest]?.tee;
      return tee !== undefined && tees.includes(tee) ? [{ known, target, tee }] : [];
    }),
  );
}

function nameOf({ known, target }: User): string {
  return `${known.rotation} at ${targetName(target)}`;
}

/** A cluster that does not answer, and a pod that has not attested, keep: nobody knows what they rest on. */
function bootsOf(sight: Sight, user: User): Promise<readonly Counted[] | Why> {
  const { engine, boots } = sight;
  const asked = boots.get(nameOf(user)) ?? askBoots(engine, user);
  boots.set(nameOf(user), asked);
  return asked;
}

async function askBoots(engine: Engine, { known, target }: User): Promise<readonly Counted[] | Why> {
  try {
    const found = await attestedBoots(
      engine,
      known,
      target,
      listening(engine, target.cluster, () => undefined),
    );
    return found.kind === 'good' ? found.value : { reason: found.reason, about: found.about };
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    return { reason: thrown.reason, about: thrown.message };
  }
}

/** Why a boot keeps a value; null: it attested on others. */
function useOf({ name, value }: Predecessor, { tee }: User, { boot, tokens }: Counted): Why | null {
  for (const token of tokens) {
    const found = restsOn(token, tee, name);
    if (found === null) return { reason: 'ClaimUnknown', about: `${name}: the attestation of ${boot.pod} does not tell it` };
    if (found.includes(String(value))) return { reason: 'PlatformInUse', about: `${name} ${String(value)}: ${boot.pod} at ${boot.address}` };
  }
  return null;
}

function keptBecause(reason: Reason, about: string): Finding {
  return { kind: 'kept', why: { reason, about } };
}

/** Values of one platform. What came meanwhile is asked for under the lock of every broker, which whoever goes live or is accepted takes too. */
async function release(sight: Sight, values: readonly Predecessor[]): Promise<void> {
  const { engine, at, wanted } = sight;
  const { pool, loaders, log } = engine;
  const users = usersOf(wanted, [...new Set(values.flatMap(({ tees }) => tees))]);
  const evidence = { lookedAt: at, boots: await evidenceOf(sight, users) };
  const chain = await transaction(pool, (tx) =>
    letGo(tx, values, evidence, async (open) => {
      if ((await clockOf(open)()) >= later(at, PODS_GOOD_SECONDS) || (await holdOfAll(open)) !== null) return false;
      const now = await knownRevisions(open, { wanted: true }, loaders.release);
      if (now.some((known) => !wanted.some(({ id }) => id === known.id))) return false;
      const standing = new Set(predecessorsOf(await loaders.platforms(), await letGoValues(open)).map(textOf));
      if (!values.every((value) => standing.has(textOf(value)))) return false;
      return noneRestsOn(values, await tokensSince(open, sight.lastHandshake, at));
    }),
  );
  const said = { platform: values[0]?.platform, values: values.map(({ name, value }) => `${name} ${String(value)}`) };
  if (chain !== null) log.info({ ...said, chain }, 'values of a platform’s predecessor were let go');
}

/** Of guests that attested while we looked, whoever they are, none was found to have one of the values. */
function noneRestsOn(values: readonly Predecessor[], tokens: readonly string[] | null): boolean {
  if (tokens === null) return false;
  return tokens.every((token) => values.every(({ tees, name, value }) => tees.every((tee) => restsOn(token, tee, name)?.includes(String(value)) !== true)));
}

/** Which boots were looked at; of a user whose boots could not be asked, and did not have to be, nothing. */
async function evidenceOf(sight: Sight, users: readonly User[]): Promise<Json> {
  const told: Record<string, Json> = {};
  for (const user of users) {
    const boots = await (sight.boots.get(nameOf(user)) ?? []);
    if ('reason' in boots) continue;
    told[nameOf(user)] = boots.map(({ boot, tokens }) => ({
      uid: boot.podUid,
      containerId: boot.containerId,
      attestationResults: tokens.map((token) => digestOf(token)),
    }));
  }
  return told;
}

function textOf({ platform, serial, name, value }: Predecessor): string {
  return JSON.stringify([platform, serial, name, value]);
}
