import { expect, it } from 'vitest';
import type { Digest } from '#src/digest.ts';
import type { Receipt } from '#src/domain/receipts.ts';
import { openRevocationRecords } from '#src/domain/revocation-record.ts';
import { parseInstant } from '#src/instant.ts';

const [FIRST, SECOND] = [`sha256:${'1'.repeat(64)}`, `sha256:${'2'.repeat(64)}`];

function receipt(change: Partial<Receipt>): Receipt {
  const run = change.run ?? 'r-0000000000000001';
  return {
    ...{ id: `${run}/1`, installation: 'test', run, number: 1, cause: null, previous: null, workload: 'chat', workflow: 'revoke' },
    ...{ subject: { kind: 'revocation', revocation: FIRST }, step: 'refuse-at-proxies', at: parseInstant('2026-11-24T00:00:00.000Z'), claim: 1 },
    ...{ facts: {}, evidence: {}, proof: 'observed', verdicts: [], kept: [] as readonly Digest[], moves: null, generations: {} },
    ...change,
  };
}

function recordsOf(receipts: readonly Receipt[]) {
  const records = openRevocationRecords();
  for (const one of receipts) records.hear(one);
  return records.all();
}

const SAID = { revocation: 'leak', subject: { kind: 'all' }, reason: 'keyCompromise', why: 'w', approvedBy: ['ann'], recovery: 'r', refusals: [] };

it('what was said comes from the receipt that asked once more, and from no other; each step stays with its proof', () => {
  const records = recordsOf([
    receipt({ evidence: { ...SAID, why: 'forged' } }),
    receipt({ step: 'confirm-refused', proof: 'accepted', evidence: SAID }),
    receipt({ step: 'disable-keys', evidence: { ...SAID, why: 'forged' } }),
  ]);
  const { revocation: id, refusals: _, ...said } = SAID;
  expect(records).toMatchObject([{ revocation: FIRST, said: { id, ...said }, lifted: null }]);
  expect(records[0]?.said).toEqual({ id, ...said });
  expect(records[0]?.seen.map(({ step, proof }) => [step, proof])).toEqual([
    ['refuse-at-proxies', 'observed'],
    ['confirm-refused', 'accepted'],
    ['disable-keys', 'observed'],
  ]);
});

it('the generations of all its receipts stay, the newest of each broker', () => {
  const [record] = recordsOf([receipt({ generations: { a: 1, b: 5 } }), receipt({ generations: { a: 2 } })]);
  expect(record?.generations).toEqual({ a: 2, b: 5 });
});

it('runs of other workflows and other subjects are no revocation, and two revocations are two', () => {
  const other = { kind: 'revision', release: FIRST, serial: 1, epoch: 1, pathNumber: 0 } as const;
  const records = recordsOf([
    receipt({ subject: other }),
    receipt({ workflow: 'adopt-revision' }),
    receipt({ workflow: 'reinstate', step: 'enable-keys' }),
    receipt({}),
    receipt({ run: 'r-0000000000000002', subject: { kind: 'revocation', revocation: SECOND } }),
  ]);
  expect(records.map(({ revocation, seen }) => [revocation, seen.length])).toEqual([
    [FIRST, 1],
    [SECOND, 1],
  ]);
});

it('who lifted one is told of that one alone, from the receipt of its lifting', () => {
  const lifting = {
    workflow: 'reinstate',
    run: 'r-0000000000000003',
    evidence: { reinstatement: 'calm', justification: 'j', approvedBy: ['bob'], freed: [] },
  } as const;
  const records = recordsOf([
    receipt({}),
    receipt({ run: 'r-0000000000000002', subject: { kind: 'revocation', revocation: SECOND } }),
    receipt({ ...lifting, step: 'enable-keys' }),
    receipt({ ...lifting, step: 'lift-revocation', subject: { kind: 'revocation', revocation: SECOND } }),
  ]);
  expect(records.map(({ lifted }) => lifted?.said ?? null)).toEqual([null, { reinstatement: 'calm', justification: 'j', approvedBy: ['bob'] }]);
});

it('evidence of a receipt that says nothing, or is no object, is told as nothing', () => {
  for (const evidence of [null, 'x', [1], {}] as const) {
    const [record] = recordsOf([receipt({ step: 'confirm-refused', evidence })]);
    expect(record?.said).toEqual({ id: null, subject: null, reason: null, why: null, approvedBy: null, recovery: null });
  }
});
