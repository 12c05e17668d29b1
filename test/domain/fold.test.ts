import { describe, expect, it } from 'vitest';
import { counting, factsOf, instantsOf, type Link } from '#src/domain/fold.ts';
import { instantOf } from '#src/instant.ts';

function links(...steps: readonly string[]): readonly Link[] {
  return steps.map((step, place) => ({ number: place + 1, step, at: instantOf(place * 1000), facts: {} }));
}

const names = (receipts: readonly Link[]) => receipts.map(({ step }) => step);

describe('the receipts that count', () => {
  it('are all of them while nothing was reopened', () => {
    expect(names(counting(links('create-key', 'go-live', 'confirm-published', 'patch-template')))).toHaveLength(4);
  });

  it('are, after a reopening, those up to confirm-published and those younger than it', () => {
    const receipts = links('go-live', 'confirm-published', 'patch-template', 'move-pods', 'reopened', 'patch-template');
    expect(names(counting(receipts))).toEqual(['go-live', 'confirm-published', 'reopened', 'patch-template']);
    expect(instantsOf(counting(receipts))['patch-template']).toBe(instantOf(5000));
  });

  it('go by the last reopening', () => {
    const receipts = links('confirm-published', 'patch-template', 'reopened', 'patch-template', 'move-pods', 'reopened');
    expect(names(counting(receipts))).toEqual(['confirm-published', 'reopened']);
  });

  it('are, after a reinstatement, those up to go-live and those younger than it, reopened again or not', () => {
    const before = ['create-key', 'go-live', 'confirm-published', 'patch-template', 'reopened', 'patch-template'];
    expect(names(counting(links(...before, 'reinstated', 'reopened')))).toEqual(['create-key', 'go-live', 'reinstated', 'reopened']);
    const again = ['reinstated', 'reopened', 'confirm-published', 'patch-template'];
    expect(names(counting(links(...before, ...again)))).toEqual(['create-key', 'go-live', ...again]);
    expect(names(counting(links(...before, ...again, 'reopened')))).toEqual([
      ...['create-key', 'go-live', 'reinstated', 'reopened', 'confirm-published', 'reopened'],
    ]);
    expect(names(counting(links(...before, ...again, 'reinstated', 'reopened')))).toEqual(['create-key', 'go-live', 'reinstated', 'reopened']);
  });

  it('all stand where it was reinstated before it was live', () => {
    expect(names(counting(links('create-key', 'reinstated', 'go-live')))).toEqual(['create-key', 'reinstated', 'go-live']);
  });

  it('all stand where it was never published', () => {
    expect(names(counting(links('create-key', 'go-live', 'reopened')))).toEqual(['create-key', 'go-live', 'reopened']);
  });

  it('fold their facts, a later one over an earlier', () => {
    const [first, second] = links('create-key', 'create-key');
    if (first === undefined || second === undefined) throw new Error('two links');
    expect(
      factsOf([
        { ...first, facts: { keyId: 'a' } },
        { ...second, facts: { keyId: 'b' } },
      ]),
    ).toEqual({ keyId: 'b' });
  });
});
