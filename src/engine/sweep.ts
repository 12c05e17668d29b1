import { type BrokerRow, brokerRows } from '#state/brokers.ts';
import { knownRevisions } from '#state/revisions.ts';
import { keyPath } from '../domain/paths.ts';
import type { Known } from '../domain/release.ts';
import { isFault } from '../errors.ts';
import { later } from '../instant.ts';
import type { Engine } from './look.ts';

/**
 * Takes away what carries this installation's tag and no fact names: the second key of a creation
 * whose answer was lost, and the bytes of a path that is refused. It runs for ever, because listings
 * lag: a twin can appear long after everybody stopped looking (rule R11). It is no Step: it writes no
 * receipt, and everything it does is asked of the ledger, which refuses what a fact still names.
 */
export async function sweep(engine: Engine): Promise<void> {
  const revisions = await knownRevisions(engine.pool, { all: true }, engine.loaders.release);
  for (const known of revisions) await guarded(engine, known, () => sweepTwins(engine, known));
  // Each KBS by itself: one that does not answer keeps a revoked key in none of the others.
  const brokers = await brokerRows(engine.pool);
  for (const known of revisions.filter(({ revoked }) => revoked)) {
    for (const broker of brokers) await guarded(engine, known, () => sweepPath(engine, known, broker));
  }
}

/** One thing that cannot be swept now delays none of the others. */
async function guarded(engine: Engine, known: Known, task: () => Promise<void>): Promise<void> {
  try {
    await task();
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    engine.log.warn({ rotation: known.rotation, reason: thrown.reason, fault: thrown.message }, 'the sweeper could not look');
  }
}

/**
 * Keys of a sealing beside the one in its receipt: disabled. Before there is a receipt nobody can tell
 * which is the twin; where the sealing was taken before there was one, all of them are.
 */
async function sweepTwins(engine: Engine, known: Known): Promise<void> {
  const { keyId } = known.sealing.facts;
  if (keyId === undefined && !known.sealing.taken) return;
  const name = known.release.key.store;
  const store = engine.world.keyStore(name);
  const { rotation } = known.sealing;
  for (const key of await store.find(rotation)) {
    if (key.keyId === keyId || key.state !== 'active') continue;
    engine.log.warn({ keyId: key.keyId, rotation }, 'a twin key is disabled');
    await store.disable(engine.ledger.key(null, name, 'disable', { rotation, keyId: key.keyId }));
  }
}

/**
 * Bytes at the path of a revoked revision, posted and not yet seen deleted: deleted, and again until a
 * deletion was sent after every post had its answer or could no longer land (rule R5). Where the
 * workload is held nobody else deletes them.
 */
async function sweepPath(engine: Engine, known: Known, { name, repository }: BrokerRow): Promise<void> {
  const path = keyPath(repository, known);
  const posted = await engine.ledger.sends(name, 'resource', path);
  const deleted = await engine.ledger.sends(name, 'delete', path);
  if (posted.length === 0) return;
  const broker = engine.world.broker(name);
  const { resource } = broker.lateWriteSeconds;
  const settled = posted.map((post) => post.answeredAt ?? later(post.at, resource)).reduce((last, at) => (at > last ? at : last));
  const gone = deleted.some(({ at, answer }) => at >= settled && answer !== null && (answer.type === null || answer.type === 'PluginInternalError'));
  if (!gone) await broker.deleteResource(engine.ledger.gone(null, name, path));
}
