import type { Json } from '#src/domain/json.ts';
import type { Revoked } from '#src/domain/revocation-run.ts';
import { earliest } from '#src/instant.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/**
 * Every proxy refuses what was revoked, before the broker is asked: each has acknowledged the entries
 * that were written with the fact, or was silent for so long that it refuses every key.
 */
export const refuseAtProxies: Effect<Revoked> = { kind: 'effect', name: 'refuse-at-proxies', observe, act };

async function observe({ subject, ledger }: Look<Revoked>): Promise<Seen | NotYet> {
  const brokers: Record<string, Json> = {};
  for (const [kbs, entry] of Object.entries(subject.denied)) {
    const behind = await ledger.proxiesBehindEntry(kbs, entry);
    if (behind.length > 0) return notYet('ProxyNotCaughtUp', behind.map(({ proxy }) => proxy).join(', '), earliest(behind.map(({ until }) => until)));
    brokers[kbs] = { entry, acknowledged: (await ledger.proxiesAlive(kbs)).map(({ id, acknowledged }) => ({ proxy: id, acknowledged })) };
  }
  return seen({ revocation: subject.revocation.path, brokers });
}

/** Nothing: the entries came with the fact, and the proxies follow their list by themselves. */
async function act(): Promise<void> {}
