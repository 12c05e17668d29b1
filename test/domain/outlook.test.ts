import fc from 'fast-check';
import { expect, it } from 'vitest';
import { outlookOf } from '#src/domain/outlook.ts';
import { type PlannedOf, plan } from '#src/domain/plan.ts';
import type { RevisionState } from '#src/domain/release.ts';

const STATES: readonly RevisionState[] = ['accepted', 'live', 'published', 'serving', 'closing', 'retired'];
const BASIS = { kind: 'new', source: null } as const;

function revision(serial: number, state: RevisionState, more: Partial<PlannedOf> = {}): PlannedOf {
  const standing = { id: serial, digest: `d${serial}`, rotation: `r-${serial}`, release: { serial }, sealing: { epoch: serial } };
  return { ...standing, state, withdrawn: false, revoked: false, open: [], ...more };
}

function coming(serial: number, revoked = false): Parameters<typeof outlookOf>[1] {
  return { accepted: { digest: `d${serial}`, serial, basis: BASIS }, epoch: serial, revoked };
}

it('makes the newest release the target, and takes away all that is not', () => {
  const { target, retiring } = outlookOf([revision(1, 'serving'), revision(2, 'published', { open: ['adopt-revision'] })], coming(3));
  expect([target?.release.serial, target?.open, retiring.map(({ id }) => id)]).toEqual([3, ['adopt-revision'], [1, 2]]);
});

it('leaves the present one where a revocation forbids the new one, and takes nothing away where nothing is left', () => {
  expect(outlookOf([revision(1, 'serving')], coming(2, true)).target?.release.serial).toBe(1);
  const held = outlookOf([revision(1, 'serving', { revoked: true })], null);
  expect([held.target, held.retiring]).toEqual([null, []]);
});

it('misses nothing that the plan would still plan', () => {
  const one = fc.record({ serial: fc.integer({ min: 1, max: 9 }), state: fc.constantFrom(...STATES), withdrawn: fc.boolean(), revoked: fc.boolean() });
  fc.assert(
    fc.property(fc.uniqueArray(one, { selector: ({ serial }) => serial }), fc.boolean(), (rows, revoked) => {
      const known = rows.map(({ serial, ...row }) => revision(serial, row.state, row));
      const next = coming(10, revoked);
      const after = outlookOf(known, next);
      expect(plan(next === null ? [] : [next.accepted], after.known)).toEqual([]);
      expect(after.known.length).toBe(known.length + 1);
    }),
  );
});
