import type { BaselineDocument, PlatformDocument } from '#src/domain/documents/release.ts';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Want } from '#src/domain/kbs.ts';
import { withoutLetGo } from '#src/domain/predecessors.ts';
import type { Known, Placed, Release } from '#src/domain/release.ts';
import type { RevokedSigner } from '#src/domain/signatures.ts';
import { type Refusal, type WantParts, wantOf, wantRefusal } from '#src/domain/want.ts';
import { Fault } from '#src/errors.ts';
import { type BrokerRow, brokerRow, brokerRows, lockBrokers } from './brokers.ts';
import type { Db } from './database.ts';
import { deniedOf } from './deny-list.ts';
import { lockObjects } from './objects.ts';
import { letGoValues } from './predecessors.ts';
import { knownRevisions, type LoadRelease, placedRevisions } from './revisions.ts';
import { standingRevocations } from './revocations.ts';

/** What documents are read through; each verifies again what it loads. */
export interface Loaders {
  readonly release: LoadRelease;
  readonly baseline: (digest: string) => Promise<BaselineDocument>;
  /** Every accepted platform document, oldest first; what was let go of them is left out where they are used. */
  readonly platforms: () => Promise<readonly PlatformDocument[]>;
  /** Whether an accepted release has enough signatures without those of these. */
  readonly stands: (release: string, without: readonly RevokedSigner[]) => Promise<boolean>;
}

/** What a Want is computed with. */
export interface WantContext {
  readonly installation: string;
  readonly loaders: Loaders;
}

/** What a broker should hold, as of this transaction. */
export async function wantFrom(context: WantContext, db: Db, broker: BrokerRow): Promise<Want> {
  return wantOf(await partsOf(context, db, broker));
}

/** The baseline in force at a broker; null: none. Throws Fault('Tampered') where its row names one that was signed for another broker. */
export async function baselineOf(loaders: Loaders, { name, baseline: digest }: BrokerRow): Promise<BaselineDocument | null> {
  if (digest === null) return null;
  const baseline = await loaders.baseline(digest);
  if (baseline.kbs !== name) throw new Fault('Tampered', `brokers: ${name} has the baseline ${digest}, which was signed for ${baseline.kbs}`);
  return baseline;
}

/** The revisions that a KBS should hold: live, published, serving or closing, and not revoked. */
export async function wantedRevisions(loaders: Loaders, db: Db, kbs: string): Promise<readonly Placed[]> {
  const wanted = await placedRevisions(db, loaders.release);
  return wanted.filter((known) => known.release.targets.some((target) => target.kbs === kbs));
}

async function partsOf({ installation, loaders }: WantContext, db: Db, broker: BrokerRow): Promise<WantParts> {
  return {
    installation,
    kbs: broker.name,
    repository: broker.repository,
    generation: broker.generation,
    revisions: await wantedRevisions(loaders, db, broker.name),
    baseline: await baselineOf(loaders, broker),
    platforms: withoutLetGo(await loaders.platforms(), await letGoValues(db)),
    namesSent: broker.names_sent,
    denied: await deniedOf(db, broker.name),
    revoked: (await standingRevocations(db)).map(({ subject }) => subject),
  };
}

/** A document that is about to be accepted. */
export type Arriving =
  | { readonly kind: 'release'; readonly release: Release }
  | { readonly kind: 'baseline'; readonly baseline: BaselineDocument }
  | { readonly kind: 'platform'; readonly platform: PlatformDocument };
/** The same, or a revocation: it is accepted whatever a KBS holds, and never asked whether it fits. */
export type Foreseen = Arriving | { readonly kind: 'revocation'; readonly revocation: { readonly subject: RevocationSubject } };

/**
 * What a KBS could not be told once this document is accepted; null: nothing. Asked before acceptance,
 * because what one KBS holds is one document: a value of the wrong shape in one release would keep
 * everybody's policy, and every revocation, from being published. `before`: what is taken to be accepted
 * already, though no row says so.
 */
export async function refusalOf(context: WantContext, db: Db, arriving: Arriving, before: readonly Arriving[] = []): Promise<Refusal | null> {
  return refusalAt(context, db, await brokersOf(db, arriving), [...before, arriving]);
}

/** What any KBS could not be told as things stand, with all that is not live yet; null: nothing. */
export async function standingRefusal(context: WantContext, db: Db): Promise<Refusal | null> {
  return refusalAt(context, db, await brokerRows(db), []);
}

async function refusalAt(context: WantContext, db: Db, brokers: readonly BrokerRow[], arriving: readonly Arriving[]): Promise<Refusal | null> {
  // Those that are accepted and not live yet count too: they will be.
  const standing = (await knownRevisions(db, { all: true }, context.loaders.release)).filter(({ state, revoked }) => state !== 'retired' && !revoked);
  for (const broker of brokers) {
    const revisions = standing.filter(({ release }) => release.targets.some((target) => target.kbs === broker.name));
    const refusal = wantRefusal(arriving.reduce(joined, { ...(await partsOf(context, db, broker)), revisions }));
    if (refusal !== null) return refusal;
  }
  return null;
}

/** What every broker should hold now, and what it should hold once these are accepted and live. Throws Fault where they do not fit (`refusalOf`). */
export async function wantsWith(
  context: WantContext,
  db: Db,
  arriving: readonly Foreseen[],
): Promise<readonly { readonly before: Want; readonly after: Want }[]> {
  const wants: { before: Want; after: Want }[] = [];
  for (const broker of await brokerRows(db)) {
    const parts = await partsOf(context, db, broker);
    wants.push({ before: wantOf(parts), after: wantOf(arriving.reduce(joined, parts)) });
  }
  return wants;
}

/** Locks every broker that a document is for, and for a release who moves which object, so that what is asked of it still holds when it is accepted in the same transaction. */
export async function lockArriving(tx: Db, arriving: Arriving): Promise<void> {
  const brokers = await brokersOf(tx, arriving);
  await lockBrokers(
    tx,
    brokers.map((broker) => broker.name),
  );
  if (arriving.kind === 'release') await lockObjects(tx);
}

async function brokersOf(db: Db, arriving: Arriving): Promise<readonly BrokerRow[]> {
  if (arriving.kind === 'platform') return brokerRows(db);
  const names = arriving.kind === 'baseline' ? [arriving.baseline.kbs] : [...new Set(arriving.release.targets.map((target) => target.kbs))];
  const rows = await Promise.all(names.map((name) => brokerRow(db, name)));
  return rows.filter((row) => row !== null);
}

function joined(parts: WantParts, arriving: Foreseen): WantParts {
  switch (arriving.kind) {
    case 'baseline':
      return arriving.baseline.kbs === parts.kbs ? { ...parts, baseline: arriving.baseline } : parts;
    case 'platform':
      return { ...parts, platforms: [...parts.platforms, arriving.platform] };
    case 'release':
      return { ...parts, revisions: [...parts.revisions, asIfLive(arriving.release)] };
    case 'revocation':
      return { ...parts, revoked: [...parts.revoked, arriving.revocation.subject] };
  }
}

/** The release as the revision that it would become; its path is any path of ours. */
function asIfLive(release: Release): Known {
  const rotation = 'r-0000000000000000';
  const sealing = { id: 0, workload: release.workload, epoch: 1, rotation, taken: false, facts: {}, createdAt: null, source: null };
  const { serial, digest: madeBy } = release;
  return { id: 0, rotation, release, serials: [serial], madeBy, sealing, pathNumber: 0, state: 'live', withdrawn: false, revoked: false, facts: {}, at: {} };
}
