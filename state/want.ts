import type { BaselineDocument, PlatformDocument } from '#src/domain/documents/release.ts';
import type { Want } from '#src/domain/kbs.ts';
import type { Known, Release } from '#src/domain/release.ts';
import { type Refusal, type WantParts, wantOf, wantRefusal } from '#src/domain/want.ts';
import { Fault } from '#src/errors.ts';
import { type BrokerRow, brokerRow, brokerRows, lockBrokers } from './brokers.ts';
import type { Db } from './database.ts';
import { knownRevisions, type LoadRelease } from './revisions.ts';

/** What documents are read through; each verifies again what it loads. */
export interface Loaders {
  readonly release: LoadRelease;
  readonly baseline: (digest: string) => Promise<BaselineDocument>;
  /** Every accepted platform document: values are only added. */
  readonly platforms: () => Promise<readonly PlatformDocument[]>;
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
export async function wantedRevisions(loaders: Loaders, db: Db, kbs: string): Promise<readonly Known[]> {
  const wanted = await knownRevisions(db, { wanted: true }, loaders.release);
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
    platforms: await loaders.platforms(),
    namesSent: broker.names_sent,
  };
}

/** A document that is about to be accepted. */
export type Arriving =
  | { readonly kind: 'release'; readonly release: Release }
  | { readonly kind: 'baseline'; readonly baseline: BaselineDocument }
  | { readonly kind: 'platform'; readonly platform: PlatformDocument };

/**
 * What a KBS could not be told once this document is accepted; null: nothing. Asked before acceptance,
 * because what one KBS holds is one document: a value of the wrong shape in one release would keep
 * everybody's policy, and every revocation, from being published.
 */
export async function refusalOf(context: WantContext, db: Db, arriving: Arriving): Promise<Refusal | null> {
  // Those that are accepted and not live yet count too: they will be.
  const standing = (await knownRevisions(db, { all: true }, context.loaders.release)).filter(({ state, revoked }) => state !== 'retired' && !revoked);
  for (const broker of await brokersOf(db, arriving)) {
    const revisions = standing.filter(({ release }) => release.targets.some((target) => target.kbs === broker.name));
    const refusal = wantRefusal(joined({ ...(await partsOf(context, db, broker)), revisions }, arriving));
    if (refusal !== null) return refusal;
  }
  return null;
}

/** Locks every broker that a document is for, so that what is asked of it still holds when it is accepted in the same transaction. */
export async function lockArriving(tx: Db, arriving: Arriving): Promise<void> {
  const brokers = await brokersOf(tx, arriving);
  await lockBrokers(
    tx,
    brokers.map((broker) => broker.name),
  );
}

async function brokersOf(db: Db, arriving: Arriving): Promise<readonly BrokerRow[]> {
  if (arriving.kind === 'platform') return brokerRows(db);
  const names = arriving.kind === 'baseline' ? [arriving.baseline.kbs] : [...new Set(arriving.release.targets.map((target) => target.kbs))];
  const rows = await Promise.all(names.map((name) => brokerRow(db, name)));
  return rows.filter((row) => row !== null);
}

function joined(parts: WantParts, arriving: Arriving): WantParts {
  switch (arriving.kind) {
    case 'baseline':
      return { ...parts, baseline: arriving.baseline };
    case 'platform':
      return { ...parts, platforms: [...parts.platforms, arriving.platform] };
    case 'release':
      return { ...parts, revisions: [...parts.revisions, asIfLive(arriving.release)] };
  }
}

/** The release as the revision that it would become; its path is any path of ours. */
function asIfLive(release: Release): Known {
  const rotation = 'r-0000000000000000';
  const sealing = { id: 0, workload: release.workload, epoch: 1, rotation, taken: false, facts: {} };
  return { id: 0, rotation, release, sealing, pathNumber: 0, state: 'live', withdrawn: false, revoked: false, facts: {}, at: {} };
}
