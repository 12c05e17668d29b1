import { later } from '#src/instant.ts';
import type { Action } from './actions.ts';
import { allAnswered, blindPatch, disablesAtOnce, enablesAtOnce, onePath, patched, redrawn, touchesNothing, unlooked } from './copies.ts';
import type { Copy } from './copy.ts';
import { annotated, inOrder, seeing, withCluster, withSends, withStep } from './edits.ts';

/** A rule that can be switched off in the test's own copy of the world. */
export interface Rule {
  /** R<n>: rule n of the protocol; S<n>: a sentence on sealings, withdrawal and falling back. */
  readonly id: string;
  readonly says: string;
  readonly off: Copy;
  /** The shortest run known: stories are drawn near it. */
  readonly script: readonly Action[];
}

const release = (more: Partial<Extract<Action, { do: 'release' }>> = {}): Action => ({ do: 'release', source: 'plaintext', back: 0, slow: false, ...more });
const until = (step: string, workflow: 'adopt-revision' | 'retire-revision' | 'revoke' = 'adopt-revision'): Action => ({ do: 'until', workflow, step });
const retiring = (step: string): Action => until(step, 'retire-revision');
const befall = (write: string, hazard: Extract<Action, { do: 'befall' }>['hazard']): Action => ({ do: 'befall', write, hazard });
const go = (rounds: number, steps = 40): Action => ({ do: 'go', rounds, steps });
const withdraw = (back = 0): Action => ({ do: 'withdraw', back });
const revoke = (back = 0): Action => ({ do: 'revoke', back });
const reinstate = (back = 0): Action => ({ do: 'reinstate', back });
const sleep = (at: Extract<Action, { do: 'sleep' }>['at'], workflow: 'adopt-revision' | 'retire-revision' = 'adopt-revision'): Action => ({
  do: 'sleep',
  workflow,
  at,
});
const land: Action = { do: 'land' };
const wake: Action = { do: 'wake' };
const undo: Action = { do: 'undo' };

const LONG_AGO = -3600;
const TARGET_ANNOTATION = 'keyturn.dev/target';

const SUPERSEDED: readonly Action[] = [release(), until('put-resource'), sleep('sending main policy'), release(), until('confirm-published'), wake];

/** Every rule that applies to what exists. */
export const RULES: readonly Rule[] = [
  {
    id: 'R1',
    says: 'policy and reference values are generated whole',
    off: { world: patched },
    script: [
      release(),
      until('put-resource'),
      befall('main policy', 'before'),
      go(1),
      release(),
      until('publish-policy'),
      withdraw(),
      until('confirm-published'),
    ],
  },
  {
    id: 'R2',
    says: 'token, then read, then send once',
    off: { tokens: 'after-read' },
    script: [...SUPERSEDED.slice(0, -1), { do: 'wait', seconds: 70 }, wake],
  },
  {
    id: 'R2b',
    says: 'the same, where what sleeps was revoked and refused meanwhile',
    off: { tokens: 'after-read' },
    script: [
      ...[release(), until('publish-reference-values'), sleep('sending main resource'), until('confirm-published')],
      ...[revoke(), until('confirm-refused', 'revoke'), { do: 'wait', seconds: 70 } as const, wake],
    ],
  },
  {
    id: 'R3',
    says: '*refused* waits W, or the proxy refuses at once',
    off: { rewrites: [{ from: 'd.because = $3) order by place', to: 'd.because = $3) and false order by place', in: 'both' }] },
    script: [release(), until('confirm-serving'), revoke()],
  },
  {
    id: 'R4',
    says: '*published* waits W',
    off: {
      workflows: withStep('confirm-published', (step) =>
        seeing(step, (look) => withSends(look, (sends) => sends.map((sent) => ({ ...sent, at: later(sent.at, LONG_AGO) })))),
      ),
    },
    script: [release(), until('put-resource'), befall('main policy', 'late'), go(1), release(), until('confirm-published'), land],
  },
  {
    id: 'R5',
    says: 'a PUT without an answer is waited for before *deleted* is said',
    off: { workflows: allAnswered },
    script: [release(), until('publish-reference-values'), befall('main resource', 'late'), go(1), revoke(), retiring('delete-resource'), land],
  },
  {
    id: 'R6',
    says: 'a revocation raises the generation in its own transaction',
    off: { rewrites: [{ from: 'set generation = generation + 1', to: 'set generation = generation + 0', in: 'acceptance' }] },
    script: [release(), retiring('disable-key'), revoke()],
  },
  {
    id: 'R7',
    says: 'receipts are conditional on the claim',
    off: { rewrites: [{ from: 'where id = $1 and claim = $2 and ended_at', to: 'where id = $1 and $2::bigint is not null and ended_at', in: 'looks' }] },
    script: [release(), until('publish-policy'), { do: 'wait', seconds: 45 }, sleep('decided confirm-published'), revoke(), wake],
  },
  {
    id: 'R8',
    says: '*refused* is proven by deny and delete',
    off: { workflows: inOrder('retire-revision', (names) => names.filter((name) => name !== 'delete-resource')) },
    script: [release()],
  },
  { id: 'R9', says: 'a new path for every revision', off: { prepare: onePath }, script: [release(), until('put-resource')] },
  {
    id: 'R10',
    says: 'the bytes of a path are made once',
    off: { world: redrawn },
    script: [release(), until('publish-reference-values'), befall('main resource', 'answer-lost'), go(3)],
  },
  {
    id: 'R11',
    says: 'the sweeper runs for ever',
    off: { sweeps: false },
    script: [release(), befall('kms create', 'late'), go(3), { do: 'wait', seconds: 45 }, go(2)],
  },
  {
    id: 'R13',
    says: 'retired on the specs of pods in any phase',
    off: { world: withCluster((cluster) => ({ pods: async (target) => (await cluster.pods(target)).filter(({ ready }) => ready) })) },
    script: [{ do: 'stray' }, release(), retiring('retire')],
  },
  {
    id: 'R14',
    says: 'no key is disabled before the target has its own ciphertext',
    off: { workflows: withStep('close', (step) => ({ ...step, gates: [disablesAtOnce, ...(step.gates ?? [])] })) },
    script: [
      release({ source: 'reencrypt' }),
      until('make-resource'),
      { do: 'revoke-key', back: 1 },
      befall('weights seal', 'before'),
      go(1),
      { do: 'wait', seconds: 30 },
      go(3),
    ],
  },
  {
    id: 'R15',
    says: 'the template patch carries resourceVersion',
    off: { world: blindPatch },
    script: [release(), until('confirm-published'), befall('east patch', 'late'), go(1), release(), until('patch-template'), land],
  },
  {
    id: 'R16',
    says: 'a write of ours lands after the last change of the target',
    off: {
      // Both of them: the target's own write, and the touch of what was revoked.
      emergencies: touchesNothing,
      workflows: withStep('patch-template', (step) =>
        seeing(step, (look) => {
          const { rotation, at } = look.subject;
          return annotated(look, TARGET_ANNOTATION, at.reopened === undefined ? rotation : `${rotation}@${at.reopened}`);
        }),
      ),
    },
    script: [release(), until('confirm-published'), befall('east patch', 'late'), go(1), revoke(), go(5), retiring('disable-key'), land],
  },
  {
    id: 'R17',
    says: 'close, then look, then retire',
    off: { workflows: inOrder('retire-revision', (names) => names.filter((name) => name !== 'close')) },
    script: [release(), until('confirm-serving'), sleep('decided retire', 'retire-revision'), undo, wake],
  },
  {
    id: 'R18',
    says: 'retired is for ever',
    off: {
      rewrites: [
        {
          from: 'r.rotation, r.state, r.withdrawn_by',
          to: `r.rotation, case r.state when 'retired' then 'closing' else r.state end as state, r.withdrawn_by`,
          in: 'both',
        },
      ],
    },
    script: [release(), retiring('retire'), revoke(), go(3)],
  },
  { id: 'R19', says: 'superseding deletes nothing', off: { workflows: unlooked }, script: [release(), go(2)] },
  {
    id: 'R20',
    says: 'roll only after published',
    off: {
      workflows: inOrder('adopt-revision', (names) => {
        const rest = names.filter((name) => name !== 'patch-template');
        return rest.flatMap((name) => (name === 'go-live' ? [name, 'patch-template'] : [name]));
      }),
    },
    script: [release(), befall('main referenceValue', 'before'), go(1)],
  },
  {
    id: 'R21',
    says: 'a verdict’s expiry is compared with the database’s clock in the receipt’s transaction',
    off: { rewrites: [{ from: 'select instant() as now', to: `select timestamptz '2000-01-01' as now`, in: 'looks' }] },
    script: [release(), until('move-pods'), sleep('decided confirm-serving'), { do: 'wait', seconds: 70 }, wake],
  },
  {
    id: 'S2',
    says: 'a template that does not name the target reopens it',
    off: { workflows: withStep('patch-template', (step) => (step.kind === 'effect' ? { ...step, undoneReopens: undefined as never } : step)) },
    script: [release({ slow: true }), until('confirm-serving'), undo],
  },
  {
    id: 'S3',
    says: '`reopened` when the target falls back',
    off: {
      rewrites: [
        {
          from: 'insert into receipts (run, number, step, at, body, digest) values ($1, $2, $3, $4, $5, $6)',
          to: `insert into receipts (run, number, step, at, body, digest) select $1::text, $2::int, $3::text, $4::timestamptz, $5::text, $6::text where $3::text <> 'reopened'`,
          in: 'both',
        },
      ],
    },
    script: [release({ slow: true }), until('patch-template'), withdraw()],
  },
  {
    id: 'S4',
    says: 'a withdrawal needs a target left',
    off: { unaskedWithdrawals: true },
    script: [release(), retiring('retire'), withdraw()],
  },
  {
    id: 'S5',
    says: 'a withdrawn revision stays wanted',
    off: { rewrites: [{ from: `'closing') and r.revoked_by is null`, to: `'closing') and r.revoked_by is null and r.withdrawn_by is null`, in: 'looks' }] },
    script: [release({ slow: true }), until('confirm-serving'), withdraw(), release(), until('publish-policy')],
  },
  {
    id: 'S6',
    says: 'claims move with every change of the target',
    off: { rewrites: [{ from: 'update runs set claim = claim + 1 where workload', to: 'update runs set claim = claim + 0 where workload', in: 'both' }] },
    script: [release(), until('publish-policy'), { do: 'wait', seconds: 45 }, sleep('decided confirm-published'), revoke(), wake],
  },
  {
    id: 'S10',
    says: '`keep` of a sealing that is taken is refused',
    off: {
      rewrites: [
        {
          from: 'select id, workload, epoch, rotation, taken from sealings',
          to: 'select id, workload, epoch, rotation, false as taken from sealings',
          in: 'acceptance',
        },
      ],
    },
    script: [release(), retiring('disable-key'), release({ source: 'keep', back: 1 })],
  },
  {
    id: 'S11',
    says: 'a sealing is taken only when no other revision that counts uses it',
    off: { rewrites: [{ from: `and r.state <> 'retired' and r.revoked_by is null)`, to: 'and false)', in: 'looks' }] },
    script: [release({ source: 'keep' }), retiring('retire')],
  },
  {
    id: 'S12',
    says: 'what is reinstated has its own next path',
    off: { rewrites: [{ from: 'update revisions set path_number = $2,', to: 'update revisions set path_number = $2 - 1,', in: 'looks' }] },
    script: [release({ slow: true }), until('confirm-serving'), revoke(), reinstate(), go(5)],
  },
  {
    id: 'S13',
    says: 'a reinstatement waits for every disabling without an answer',
    off: { emergencies: enablesAtOnce },
    script: [
      ...[release({ slow: true }), until('confirm-serving'), release({ slow: true }), until('confirm-serving')],
      ...[befall('kms disable', 'late'), { do: 'revoke-key', back: 0 } as const, go(14), reinstate(), go(12), land],
    ],
  },
  {
    id: 'S14',
    says: 'what another revocation names stays revoked',
    off: {
      rewrites: [{ from: 'and lifted_by is null and digest <> $1', to: 'and false and digest <> $1', in: 'looks' }],
      // Git is asked too, and would hold it alone.
      world: (world) => ({ ...world, documents: { ...world.documents, revocations: async () => [] } }),
    },
    script: [release({ slow: true }), until('confirm-serving'), revoke(), revoke(), reinstate(1), go(5)],
  },
];
