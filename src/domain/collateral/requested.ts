import type { Trouble } from './finding.ts';
import type { IntelFields, IntelMember } from './intel.ts';

/** What a source was asked for. */
export interface Requested {
  readonly member: IntelMember;
  /** `SGX` or `TDX`; of an enclave `QE`, `TD_QE`, `QVE`, `QAE`. */
  readonly id: string;
  /** Twelve upper-case hexadecimal digits; null: not of one platform. */
  readonly fmspc: string | null;
  /** The generation that was asked for; null: whichever is offered. */
  readonly evaluation: number | null;
}

/**
 * Whether an answer is the one that was asked for: a genuine document of another platform or TEE verifies
 * just as well. FMSPCs are compared with the letters' case: PCS echoes the request's into what it signs, and Trustee's
 * file backend writes upper case, under which a lower-case document no longer verifies. null: it is.
 */
export function requestTrouble(fields: IntelFields, requested: Requested): Trouble | null {
  const mismatch = (about: string): Trouble => ({ verdict: 'untrusted', reason: 'CollateralMismatch', about });
  if (fields.member !== requested.member) return mismatch(`${fields.member} came where ${requested.member} was asked for`);
  if (fields.id !== requested.id) return mismatch(`${fields.id} came where ${requested.id} was asked for`);
  if (fields.fmspc !== requested.fmspc) {
    const isCase = fields.fmspc?.toUpperCase() === requested.fmspc?.toUpperCase();
    return mismatch(isCase ? `FMSPC ${fields.fmspc} in lower case` : `FMSPC ${fields.fmspc} came where ${requested.fmspc} was asked for`);
  }
  if (requested.evaluation !== null && fields.evaluation !== requested.evaluation)
    return mismatch(`generation ${fields.evaluation} came where ${requested.evaluation} was asked for`);
  return null;
}

/** Whether documents of one platform and TEE are of one TCB evaluation generation: levels of one and an identity of another describe no machine. null: they are. */
export function generationTrouble(set: readonly IntelFields[]): Trouble | null {
  const numbers = [...new Set(set.flatMap(({ evaluation }) => (evaluation === null ? [] : [evaluation])))].sort((a, b) => a - b);
  if (numbers.length <= 1) return null;
  return { verdict: 'untrusted', reason: 'CollateralMismatch', about: `TCB evaluation numbers ${numbers.join(' and ')} in one set` };
}

/** Whether a newer answer goes back behind the one that is in use. The list of numbers has none; its date decides. null: it does not. */
export function rollbackTrouble(used: IntelFields, offered: IntelFields): Trouble | null {
  const back = (about: string): Trouble => ({ verdict: 'untrusted', reason: 'CollateralRolledBack', about });
  if (used.evaluation !== null && offered.evaluation !== null && offered.evaluation < used.evaluation)
    return back(`TCB evaluation number ${offered.evaluation} after ${used.evaluation}`);
  return offered.issuedAt < used.issuedAt ? back(`issued at ${offered.issuedAt}, after one of ${used.issuedAt}`) : null;
}
