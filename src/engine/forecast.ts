/**
 * What an acceptance would bring about, asked of the functions that bring it about: the plan, the target,
 * what every KBS would hold. Reads; writes nothing.
 */
import type { Forecast, GuestForecast, ReleaseForecast, Stop, TargetForecast, ValueChange } from '#src/domain/forecast.ts';
import { imageBinding } from '#src/domain/image-binding.ts';
import { canonicalJson, type Json } from '#src/domain/json.ts';
import type { Want } from '#src/domain/kbs.ts';
import type { Outlook } from '#src/domain/outlook.ts';
import { keyPathFrom } from '#src/domain/paths.ts';
import type { PlannedOf } from '#src/domain/plan.ts';
import { type Reason, reasons } from '#src/domain/reasons.ts';
import { type Known, type Release, type SealingSource, targetName } from '#src/domain/release.ts';
import { targetOf } from '#src/domain/target.ts';
import { GENERATION_NAME } from '#src/domain/want.ts';
import { type MoveWindow, windowsAt } from '#src/domain/windows.ts';
import { isFault } from '#src/errors.ts';
import { brokerRows } from '#state/brokers.ts';
import { clockOf, type Db } from '#state/database.ts';
import { heldWorkloads } from '#state/document-holds.ts';
import { aboutHold, openHolds } from '#state/holds.ts';
import { knownRevisions } from '#state/revisions.ts';
import { type Foreseen, type Loaders, wantsWith } from '#state/want.ts';
import type { Acceptable } from './finding.ts';
import { nameOf, reinstatementForecast, standingAfter, takingForecast, withRelease } from './forecast-standing.ts';

/** What a forecast asks beside the rows. */
export interface ForecastParts {
  readonly installation: string;
  readonly loaders: Loaders;
  /** The name that guests use for a KBS; null: it is not configured. */
  readonly publicUrlOf: (kbs: string) => string | null;
  /** When pods of a cluster may be moved. */
  readonly windowsOf: (cluster: string) => readonly MoveWindow[];
  /** Bytes that are read to seal a release, from plaintext (`source` null) or from a ciphertext; null: they cannot be seen from here. */
  readonly sizeOf: (release: Release, source: SealingSource | null) => Promise<number | null>;
}

/** Foresees one acceptance; `before`: those that come before it and are in no row. Throws Fault. */
export async function forecastOf(parts: ForecastParts, db: Db, acceptable: Acceptable, before: readonly Acceptable[]): Promise<Forecast | null> {
  switch (acceptable.kind) {
    case 'release':
      return releaseForecast(parts, db, acceptable, before);
    case 'revocation':
    case 'withdrawal':
      return { ...(await takingForecast(db, acceptable, before, parts.loaders)), referenceValues: await valuesWithout(parts, db, acceptable) };
    case 'reinstatement':
      return reinstatementForecast(db, acceptable, before, parts.loaders);
    case 'trust':
      return null;
    case 'platform':
    case 'baseline':
      return { kind: acceptable.kind, referenceValues: await valuesWith(parts, db, acceptable), stops: [] };
  }
}

async function releaseForecast(
  parts: ForecastParts,
  db: Db,
  arrived: Extract<Acceptable, { kind: 'release' }>,
  before: readonly Acceptable[],
): Promise<ReleaseForecast> {
  const { release, resting } = arrived;
  const { workload, serial, artifact, images, key, rollout } = release;
  const { basis, amended } = resting;
  const known = await knownRevisions(db, { workload }, parts.loaders.release);
  const outlook = await withRelease(db, await standingAfter(db, workload, before, known, parts.loaders), arrived, known);
  const own = outlook.known.find(({ digest }) => digest === release.digest);
  const source = known.find(({ sealing }) => sealing.id === (basis.kind === 'keep' ? basis.id : basis.source));
  const forbidden = own?.revoked === true ? [stopAt('nothing-is-revoked', 'Revoked', `${release.path}: a revocation names it already`)] : [];
  return {
    ...{ kind: 'release', workload, serial, artifact, images, batch: rollout.batch, keepPreviousSeconds: rollout.keepPreviousSeconds },
    outcome: amended !== null ? 'amends' : own?.revoked === true ? 'forbidden' : 'adopts',
    key: {
      ...{ kind: basis.kind === 'keep' ? 'kept' : 'new', epoch: own?.sealing.epoch ?? 0, store: key.store },
      from: source === undefined ? null : nameOf(workload, source).name,
    },
    movedBytes: basis.kind === 'keep' ? 0 : await parts.sizeOf(release, source?.sealing ?? null),
    paths: amended === null ? await pathsOf(db, release, own?.sealing.epoch ?? 0) : [],
    guests: Object.entries(release.guests).map(([name, guest]) => guestOf(name, guest)),
    referenceValues: await valuesWith(parts, db, { kind: 'release', release }),
    targets: await targetsOf(parts, db, release, known, amended === null ? null : amended.added),
    supersedes: outlook.retiring.filter(({ open }) => open.includes('adopt-revision')).map((one) => nameOf(workload, one)),
    retires: amended === null ? outlook.retiring.map((one) => ({ ...nameOf(workload, one), key: keyAfter(one, outlook) })) : [],
    held: await heldBy(db, workload),
    stops: [...forbidden, ...unbound(parts, release)],
  };
}

/** A document that holds the workload, or a person. */
async function heldBy(db: Db, workload: string): Promise<ReleaseForecast['held']> {
  const document = (await heldWorkloads(db)).get(workload);
  if (document !== undefined) return { ...document, help: reasons[document.reason].help };
  const hold = (await openHolds(db)).find(({ subject }) => subject.kind === 'all' || (subject.kind === 'workload' && subject.workload === workload));
  return hold === undefined ? null : { reason: 'OnHold', about: aboutHold(hold), help: reasons.OnHold.help };
}

/** A key goes with its last revision that is neither retired nor revoked. */
function keyAfter({ id, sealing }: PlannedOf, { known }: Outlook): 'disabled' | 'shared' {
  const shares = known.some((one) => one.id !== id && one.sealing.epoch === sealing.epoch && one.state !== 'retired' && !one.revoked);
  return shares ? 'shared' : 'disabled';
}

async function pathsOf(db: Db, { workload, serial, targets }: Release, epoch: number): Promise<ReleaseForecast['paths']> {
  const own = new Set(targets.map(({ kbs }) => kbs));
  const parts = { rotation: '', pathNumber: 0, workload, serial, epoch };
  const rows = (await brokerRows(db)).filter(({ name }) => own.has(name));
  return rows.map(({ name, repository }) => ({ kbs: name, path: keyPathFrom(repository, parts).replace(/[0-9a-f]{8}$/, '…') }));
}

function guestOf(name: string, { tee, platform, runtimeClass, initData, referenceValues }: Release['guests'][string]): GuestForecast {
  return { name, tee, platform: platform ?? null, runtimeClass, initData, referenceValues };
}

async function targetsOf(
  parts: ForecastParts,
  db: Db,
  release: Release,
  known: readonly Known[],
  added: readonly string[] | null,
): Promise<readonly TargetForecast[]> {
  const now = await clockOf(db)();
  const present = targetOf(known);
  return release.targets.map((target) => {
    const name = targetName(target);
    const { kind, kbs, guest, minimumAttested } = target;
    const windows = windowsAt(parts.windowsOf(target.cluster), now);
    const pods = present?.facts.boots?.[name]?.length ?? null;
    return { name, kind, kbs, guest, rolls: added === null || added.includes(name), pods, minimumAttested, windows };
  });
}

/** As the gate `image-is-bound` will ask at go-live. */
function unbound({ publicUrlOf }: ForecastParts, { targets, images, initData }: Release): readonly Stop[] {
  return targets.flatMap(({ guest, kbs }) => {
    try {
      const refusal = imageBinding(initData[guest] ?? '', Object.values(images), publicUrlOf(kbs));
      return refusal === null ? [] : [stopAt('image-is-bound', refusal.reason, `${guest}: ${refusal.about}`)];
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      return [stopAt('image-is-bound', thrown.reason, `${guest}: ${thrown.message}`)];
    }
  });
}

function stopAt(gate: string, reason: Reason, about: string): Stop {
  return { gate, reason, about, help: reasons[reason].help };
}

/** Only a revoked value changes what is measured at once: what a revision gave is there until the revision goes. */
async function valuesWithout(
  parts: ForecastParts,
  db: Db,
  taking: Extract<Acceptable, { kind: 'revocation' | 'withdrawal' }>,
): Promise<readonly ValueChange[]> {
  return taking.kind === 'revocation' && taking.revocation.subject.kind === 'reference-value' ? valuesWith(parts, db, taking) : [];
}

/** What every KBS would hold otherwise; the number of its generation apart. */
async function valuesWith({ installation, loaders }: ForecastParts, db: Db, arriving: Foreseen): Promise<readonly ValueChange[]> {
  const wants = await wantsWith({ installation, loaders }, db, [arriving]);
  return wants.flatMap(({ before, after }) => changesOf(before, after));
}

function changesOf(before: Want, after: Want): readonly ValueChange[] {
  const names = [...new Set([...Object.keys(before.referenceValues), ...Object.keys(after.referenceValues)])].filter((name) => name !== GENERATION_NAME);
  return names.sort().flatMap((name) => {
    const [old, now] = [listOf(before.referenceValues[name]), listOf(after.referenceValues[name])];
    const [added, removed] = [without(now, old), without(old, now)];
    return added.length + removed.length === 0 ? [] : [{ kbs: after.kbs, name, added, removed }];
  });
}

function listOf(value: Json | undefined): readonly Json[] {
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}

function without(values: readonly Json[], others: readonly Json[]): readonly Json[] {
  const known = new Set(others.map(canonicalJson));
  return values.filter((value) => !known.has(canonicalJson(value)));
}
