import { memberOf, membersOf } from './attestation-token.ts';
import type { Json } from './json.ts';

/** A trustworthiness tier (draft-ietf-rats-ar4si §3.2). */
export type Tier = 'none' | 'affirming' | 'warning' | 'contraindicated';

/** The trust claims of draft-ietf-rats-ar4si §2.3, as an EAR names them. A name beside them is no claim that this version can judge. */
const CLAIMS = ['instance-identity', 'configuration', 'executables', 'file-system', 'hardware', 'runtime-opaque', 'storage-opaque', 'sourced-data'];

/** From good to worst. `none` among the required ones is as bad as it gets without a word against the guest. */
const ORDER: readonly Tier[] = ['affirming', 'none', 'warning', 'contraindicated'];

/** The tier of one claim's value: 2–31 affirming, 32–95 warning, 96–127 contraindicated, −1, 0 and 1 none; anything else is no value of the standard, and so no good one. */
function tierOfValue(value: Json | undefined): Tier {
  if (typeof value !== 'number' || !Number.isInteger(value)) return 'contraindicated';
  if (value >= 2 && value <= 31) return 'affirming';
  if (value >= 32 && value <= 95) return 'warning';
  if (value >= -1 && value <= 1) return 'none';
  return 'contraindicated';
}

/**
 * The tier of a whole vector: its worst claim, where `required` ones must be affirming and the others
 * may be absent or `none`. `worst` names that claim and its value. The status string beside a vector
 * is only somebody's word about it, so it is not asked.
 */
export function tierOf(vector: Json | undefined, required: readonly string[]): { readonly tier: Tier; readonly worst: string } {
  const members = membersOf(vector);
  if (members === null) return { tier: 'none', worst: 'no trustworthiness vector' };
  const judged = [...new Set([...required, ...Object.keys(members)])].map((name) => {
    const value = memberOf(members, name);
    const tier = !CLAIMS.includes(name) ? 'contraindicated' : value === undefined ? 'none' : tierOfValue(value);
    return { tier: tier === 'none' && !required.includes(name) ? ('affirming' as const) : tier, worst: `${name} ${JSON.stringify(value ?? null)}` };
  });
  const worst = judged.reduce((a, b) => (ORDER.indexOf(b.tier) > ORDER.indexOf(a.tier) ? b : a), { tier: 'affirming' as Tier, worst: '' });
  return worst;
}
