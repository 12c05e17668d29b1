import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type PlannedOf, plan } from '#src/domain/plan.ts';
import type { RevisionState } from '#src/domain/release.ts';
import { targetOf } from '#src/domain/target.ts';

const PLAINTEXT = { kind: 'new', source: null } as const;
const STATES: readonly RevisionState[] = ['accepted', 'live', 'published', 'serving', 'closing', 'retired'];

function revision(serial: number, state: RevisionState, more: Partial<PlannedOf> = {}): PlannedOf {
  return {
    id: serial,
    digest: `d${serial}`,
    rotation: `r-${serial}`,
    release: { serial },
    sealing: { epoch: serial },
    state,
    withdrawn: false,
    revoked: false,
    open: [],
    ...more,
  };
}

describe('the target of a workload', () => {
  it('is the newest revision accepted, in whatever order they are listed', () => {
    expect(targetOf([revision(2, 'accepted'), revision(1, 'serving')])?.id).toBe(2);
    expect(targetOf([revision(1, 'serving'), revision(2, 'accepted')])?.id).toBe(2);
  });

  it('is the same release under its next key, where both are there', () => {
    const first = revision(1, 'serving', { id: 1, sealing: { epoch: 1 } });
    const next = revision(1, 'accepted', { id: 2, sealing: { epoch: 2 } });
    expect(targetOf([next, first])?.id).toBe(2);
  });

  it('falls back from a revoked one to the newest that was live', () => {
    const known = [revision(1, 'serving'), revision(2, 'accepted'), revision(3, 'published', { revoked: true })];
    expect(targetOf(known)?.id).toBe(1);
  });

  it('counts one that is closing: it is still whole', () => {
    expect(targetOf([revision(1, 'closing'), revision(2, 'serving', { withdrawn: true })])?.id).toBe(1);
  });

  it('never falls back to a retired or revoked one: then the workload is held', () => {
    expect(targetOf([revision(1, 'retired'), revision(2, 'serving', { revoked: true })])).toBeNull();
    expect(targetOf([revision(1, 'live', { revoked: true }), revision(2, 'retired')])).toBeNull();
  });
});

describe('the plan', () => {
  it('makes a revision of a release that has none, under a new sealing', () => {
    expect(plan([{ digest: 'd1', serial: 1, basis: PLAINTEXT }], [])).toEqual([{ kind: 'revision', release: 'd1', basis: PLAINTEXT }]);
  });

  it('retires everything that is not the target, whatever its state, because of the target', () => {
    const known = [revision(1, 'serving'), revision(2, 'accepted', { open: ['adopt-revision'] }), revision(3, 'accepted', { open: ['adopt-revision'] })];
    expect(plan([{ digest: 'd3', serial: 3, basis: PLAINTEXT }], known)).toEqual([
      { kind: 'run', workflow: 'retire-revision', revision: 1, cause: 'r-3' },
      { kind: 'run', workflow: 'retire-revision', revision: 2, cause: 'r-3' },
    ]);
  });

  it('retires nothing while there is no target', () => {
    expect(plan([{ digest: 'd1', serial: 1, basis: PLAINTEXT }], [revision(1, 'serving', { revoked: true })])).toEqual([]);
  });

  it('makes no revision of a release that a newer accepted one has closed', () => {
    const known = [revision(2, 'serving')];
    expect(
      plan(
        [
          { digest: 'd1', serial: 1, basis: PLAINTEXT },
          { digest: 'd2', serial: 2, basis: PLAINTEXT },
        ],
        known,
      ),
    ).toEqual([]);
  });

  it('asks for nothing twice: what it planned, once stored, is not planned again', () => {
    const anyRevision = fc.record({
      state: fc.constantFrom(...STATES),
      revoked: fc.boolean(),
      withdrawn: fc.boolean(),
      open: fc.subarray(['adopt-revision', 'retire-revision']),
    });
    fc.assert(
      fc.property(fc.array(anyRevision, { minLength: 1, maxLength: 6 }), (drawn) => {
        const known = drawn.map((more, place) => revision(place + 1, more.state, more));
        const accepted = known.map(({ digest, release }) => ({ digest, serial: release.serial, basis: PLAINTEXT }));
        const planned = plan(accepted, known);
        const stored = known.map((item) => ({
          ...item,
          open: [...item.open, ...planned.flatMap((plan) => (plan.kind === 'run' && plan.revision === item.id ? [plan.workflow] : []))],
        }));
        expect(plan(accepted, stored)).toEqual([]);
        const target = targetOf(known);
        expect(planned.every((item) => item.kind === 'run' && (item.workflow === 'adopt-revision') === (item.revision === target?.id))).toBe(true);
      }),
    );
  });
});
