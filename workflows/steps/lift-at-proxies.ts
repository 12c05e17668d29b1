import type { Json } from '#src/domain/json.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { earliest } from '#src/instant.ts';
import { type Effect, type Look, liftedOf, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** Every proxy has acknowledged the lift of each guest or device that was let in again, or refuses every key. Of a revision nothing is lifted there: its path is new. */
export const liftAtProxies: Effect<Revoked> = { kind: 'effect', name: 'lift-at-proxies', observe, act };

async function observe(look: Look<Revoked>): Promise<Seen | NotYet> {
  const brokers: Record<string, Json> = {};
  for (const [kbs, entry] of Object.entries(liftedOf(look).entries)) {
    const behind = await look.ledger.proxiesBehindEntry(kbs, entry);
    if (behind.length > 0) return notYet('ProxyNotCaughtUp', behind.map(({ proxy }) => proxy).join(', '), earliest(behind.map(({ until }) => until)));
    brokers[kbs] = { entry };
  }
  return seen({ brokers });
}

/** Nothing: the lifts came with the fact, and the proxies follow their list by themselves. */
async function act(): Promise<void> {}
