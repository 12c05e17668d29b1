import { type Instant, later, secondsBetween } from '../../instant.ts';
import type { CollateralVerdict } from './finding.ts';

/**
 * How items of a sort age. `on-demand`: signed when asked for (Intel's documents and PCK lists, 30 days), so a new one
 * can be had on any day. `vendor`: a new one appears when the vendor signs it, so age means nothing and
 * only the time that is left counts.
 */
export type Cadence = 'on-demand' | 'amd-crl' | 'root-crl' | 'rim' | 'vlek';

/**
 * - `Fresh`: nothing to do. `Due`: a newer one should be fetched. `Late`: tell somebody. `Urgent`: wake somebody.
 * - `Expired`: nothing may rest on it any more. `Untrusted`: it is not good in another way, and never becomes so by waiting.
 */
export type Standing = 'Fresh' | 'Due' | 'Late' | 'Urgent' | 'Expired' | 'Untrusted';

const DAY_SECONDS = 86_400;

/** An on-demand item is replaced after a third of its life: of 30 days a lost week still leaves 13. Late when half of it is gone. */
const DUE_PART = 1 / 3;
const LATE_PART = 1 / 2;
const ON_DEMAND_URGENT_DAYS = 6;

/** Days that are left. AMD's lists live 44 to 48 days and are re-issued every 3 to 5 weeks; Intel's root list came 36 days before its end, a RIM on its signer's last day. */
const LEFT_DAYS: Readonly<Record<Exclude<Cadence, 'on-demand'>, { readonly late: number; readonly urgent: number }>> = {
  'amd-crl': { late: 10, urgent: 5 },
  'root-crl': { late: 30, urgent: 14 },
  rim: { late: 30, urgent: 14 },
  vlek: { late: 60, urgent: 21 },
};

/** An item that is in use, as it was last judged. */
export interface Used {
  readonly cadence: Cadence;
  readonly verdict: CollateralVerdict;
  readonly issuedAt: Instant;
  readonly nextUpdate: Instant;
}

/** Where an item stands at a moment. An item whose life is no span of time is Expired. */
export function standingOf({ cadence, verdict, issuedAt, nextUpdate }: Used, now: Instant): Standing {
  if (verdict !== 'good' && verdict !== 'expired') return 'Untrusted';
  const lifeSeconds = secondsBetween(issuedAt, nextUpdate);
  const leftSeconds = secondsBetween(now, nextUpdate);
  if (verdict === 'expired' || leftSeconds <= 0 || lifeSeconds <= 0) return 'Expired';
  if (cadence === 'on-demand') {
    if (leftSeconds < ON_DEMAND_URGENT_DAYS * DAY_SECONDS) return 'Urgent';
    if (leftSeconds < lifeSeconds * LATE_PART) return 'Late';
    return leftSeconds <= lifeSeconds * (1 - DUE_PART) ? 'Due' : 'Fresh';
  }
  const { late, urgent } = LEFT_DAYS[cadence];
  if (leftSeconds < urgent * DAY_SECONDS) return 'Urgent';
  return leftSeconds < late * DAY_SECONDS ? 'Late' : 'Fresh';
}

/** When an on-demand item has to be replaced at the latest, with no haste yet. */
export function dueAt({ issuedAt, nextUpdate }: Pick<Used, 'issuedAt' | 'nextUpdate'>): Instant {
  return later(issuedAt, secondsBetween(issuedAt, nextUpdate) * DUE_PART);
}
