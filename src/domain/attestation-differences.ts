import type { Expectation } from './attestation-result.ts';
import { decodeToken, evidenceOf, type Members, memberOf, membersOf } from './attestation-token.ts';
import { tierOf } from './attestation-vector.ts';
import { canonicalJson, type Json } from './json.ts';

/** A claim of a token that is not what a release demands. */
export interface ClaimDifference {
  readonly claim: string;
  readonly expected: Json;
  /** null: the token does not say it. */
  readonly found: Json;
}

/** AR4SI trust claims that a guest cannot do without, as `appraise` judges them. */
const REQUIRED_CLAIMS = ['hardware', 'executables', 'configuration'];

/**
 * Every claim in which a token differs from what is expected of it, for a person to read: `appraise`
 * judges, stops at the first, and verifies signatures; this one lists, and verifies nothing.
 */
export function differencesOf(token: string, expected: Expectation): readonly ClaimDifference[] {
  const submods = membersOf(memberOf(decodeToken(token)?.payload, 'submods'));
  if (submods === null) return [{ claim: 'token', expected: 'an attestation result', found: null }];
  const evidence = evidenceOf(submods.cpu0);
  return [...submodDifferences(submods, expected), ...(evidence === null ? [] : guestDifferences(evidence, expected))];
}

function submodDifferences(submods: Members, { devices }: Expectation): readonly ClaimDifference[] {
  const counted = (kind: string): number => Object.keys(submods).filter((name) => new RegExp(`^${kind}\\d+$`).test(name)).length;
  const counts = [
    ['cpu', 1],
    ['gpu', devices.gpu],
    ['switch', devices.switch],
  ] as const;
  const wrong = counts.filter(([kind, count]) => counted(kind) !== count);
  const tiers = Object.entries(submods).map(([name, submod]) => ({ name, ...tierOf(memberOf(submod, 'ear.trustworthiness-vector'), REQUIRED_CLAIMS) }));
  return [
    ...wrong.map(([kind, count]) => ({ claim: `submods ${kind}`, expected: count, found: counted(kind) })),
    ...tiers.flatMap(({ name, tier, worst }) => (tier === 'affirming' ? [] : [{ claim: `${name} status`, expected: 'affirming', found: `${tier}: ${worst}` }])),
  ];
}

function guestDifferences(evidence: Members, { tee, initData, claims }: Expectation): readonly ClaimDifference[] {
  if (membersOf(memberOf(evidence, tee)) === null) {
    const others = Object.keys(evidence).filter((name) => membersOf(memberOf(evidence, name)) !== null && name !== 'runtime_data_claims');
    return [{ claim: 'tee', expected: tee, found: others.join(', ') || null }];
  }
  const found = memberOf(evidence, 'init_data') ?? null;
  return [
    ...(found === initData ? [] : [{ claim: 'init_data', expected: initData, found }]),
    ...Object.entries(claims).flatMap(([name, good]) => {
      const value = claimAt(evidence, name);
      const isGood = value !== null && good.some((one) => canonicalJson(one) === canonicalJson(value));
      return isGood ? [] : [{ claim: name, expected: good, found: value }];
    }),
  ];
}

function claimAt(evidence: Members, name: string): Json {
  let value: Json | undefined = evidence;
  for (const part of name.split('.')) value = memberOf(value, part);
  return value ?? null;
}
