import fc from 'fast-check';
import { adoptRevision } from '#workflows/adopt-revision.ts';
import { reinstate } from '#workflows/reinstate.ts';
import { retireRevision } from '#workflows/retire-revision.ts';
import { revoke } from '#workflows/revoke.ts';
import type { Hazard } from '../world/hazards.ts';
import type { Point } from './sleep.ts';

type WorkflowName = 'adopt-revision' | 'retire-revision' | 'revoke' | 'reinstate';

/** What a revocation names beside a release and a key: all that one Deployment with sample guests can show. */
export type Subject = 'reference-value' | 'target' | 'device' | 'signer' | 'workload' | 'all';

/** One thing that happens in a story. What it names may not be there any more: then nothing happens. */
export type Action =
  | { readonly do: 'release'; readonly source: 'plaintext' | 'keep' | 'reencrypt' | 'amend'; readonly back: number; readonly slow: boolean }
  /** The key of what serves falls due. */
  | { readonly do: 'epoch' }
  /** `back` 0: the newest release. */
  | { readonly do: 'withdraw' | 'revoke' | 'revoke-key'; readonly back: number }
  /** `back`: whose reference value. */
  | { readonly do: 'revoke-other'; readonly subject: Subject; readonly back: number }
  /** The revocation that came last, or before it, is lifted: each once. */
  | { readonly do: 'reinstate'; readonly back: number }
  /** `die`: the process of whoever fell asleep first ends where it is. Its successor knows what the rows say. */
  | { readonly do: 'undo' | 'edit' | 'stray' | 'wake' | 'die' | 'land' | 'upkeep' }
  | { readonly do: 'restart'; readonly pod: number }
  | { readonly do: 'befall'; readonly write: string; readonly hazard: Hazard }
  /** Rounds of looks at all that is open; `steps`: how many steps a look does at most. */
  | { readonly do: 'go'; readonly rounds: number; readonly steps: number }
  /** Rounds until the run of the newest revision has a receipt of the step, and nothing after it. */
  | { readonly do: 'until'; readonly workflow: WorkflowName; readonly step: string }
  /** Another replica looks at the run of the newest revision, and falls asleep. */
  | { readonly do: 'sleep'; readonly workflow: WorkflowName; readonly at: Point }
  /** Another replica's keeper looks, and falls asleep before it sends. */
  | { readonly do: 'sleep-keeper' }
  | { readonly do: 'wait'; readonly seconds: number };

const HAZARDS: readonly Hazard[] = ['before', 'after-effect', 'after-record', 'answer-lost', 'late', 'late'];
const WRITES = [
  ...[
    'kms create',
    'weights seal',
    'main policy',
    'main referenceValue',
    'main resource',
    'main delete',
    'east patch',
    'east patch',
    'kms disable',
    'kms enable',
  ],
] as const;

/** The steps of the workflows, where a story may stop, and where a replica may sleep. */
const ADOPTING = adoptRevision.steps.map(({ kind, name }) => ({ workflow: 'adopt-revision' as const, kind, name }));
const RETIRING = retireRevision.steps.map(({ kind, name }) => ({ workflow: 'retire-revision' as const, kind, name }));
const REVOKING = revoke.steps.map(({ kind, name }) => ({ workflow: 'revoke' as const, kind, name }));
const REINSTATING = reinstate.steps.map(({ kind, name }) => ({ workflow: 'reinstate' as const, kind, name }));
const EMERGENCY_STEPS = [...REVOKING, ...REINSTATING];
const STEPS = [...ADOPTING, ...RETIRING, ...EMERGENCY_STEPS];

const SENDING: readonly Asleep[] = [
  ...sending('adopt-revision', 'kms create', 'main policy', 'main referenceValue', 'main resource', 'east patch'),
  ...sending('retire-revision', 'main policy', 'main referenceValue', 'main delete', 'kms disable'),
];
const EMERGENCY_SENDING: readonly Asleep[] = [
  ...sending('revoke', 'main policy', 'main referenceValue', 'main delete', 'east patch', 'kms disable'),
  ...sending('reinstate', 'kms enable', 'main policy', 'main referenceValue', 'main delete'),
];
const ASLEEP_IN_EMERGENCY = [...EMERGENCY_SENDING, ...EMERGENCY_STEPS.flatMap(momentsOf)];
const ASLEEP = [...SENDING, ...[...ADOPTING, ...RETIRING].flatMap(momentsOf), ...ASLEEP_IN_EMERGENCY];

/** Where another replica falls asleep. */
interface Asleep {
  readonly workflow: WorkflowName;
  readonly at: Point;
}

function sending(workflow: WorkflowName, ...writes: readonly string[]): readonly Asleep[] {
  return writes.map((what) => ({ workflow, at: `sending ${what}` }));
}

function momentsOf({ workflow, kind, name }: (typeof STEPS)[number]): readonly Asleep[] {
  const moments = kind === 'decision' ? (['decided'] as const) : (['observed', 'acting'] as const);
  return moments.map((moment) => ({ workflow, at: `${moment} ${name}` }));
}

const back = fc.integer({ min: 0, max: 2 });
const sources = fc.constantFrom('plaintext', 'plaintext', 'keep', 'reencrypt', 'amend');

const HAPPENS: readonly Action[] = [{ do: 'wake' }, { do: 'wake' }, { do: 'land' }, { do: 'land' }, { do: 'die' }];
const SUBJECTS: readonly Subject[] = ['reference-value', 'target', 'device', 'signer', 'workload', 'all'];
const revoking: fc.Arbitrary<Action> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('revoke' as const, 'revoke-key' as const), back }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('revoke-other' as const), subject: fc.constantFrom(...SUBJECTS), back }) },
);
const reinstating: fc.Arbitrary<Action> = fc.record({ do: fc.constant('reinstate' as const), back: fc.integer({ min: 0, max: 1 }) });

/** Anything that can happen. */
const anything: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('go'), rounds: fc.integer({ min: 1, max: 5 }), steps: fc.constantFrom(1, 2, 4, 40) }) },
  { weight: 8, arbitrary: fc.constantFrom(...STEPS).map(({ workflow, name }) => ({ do: 'until', workflow, step: name }) as const) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('release'), source: sources, back, slow: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('befall'), write: fc.constantFrom(...WRITES), hazard: fc.constantFrom(...HAZARDS) }) },
  { weight: 4, arbitrary: fc.constantFrom(...ASLEEP).map((asleep) => ({ do: 'sleep', ...asleep }) as const) },
  { weight: 2, arbitrary: fc.constant({ do: 'sleep-keeper' } as const) },
  { weight: 5, arbitrary: fc.constantFrom(...HAPPENS) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('withdraw', 'withdraw', 'revoke', 'revoke-key'), back }) },
  { weight: 1, arbitrary: revoking },
  { weight: 2, arbitrary: reinstating },
  { weight: 2, arbitrary: fc.constant({ do: 'epoch' } as const) },
  { weight: 3, arbitrary: fc.constantFrom({ do: 'undo' } as const, { do: 'undo' } as const, { do: 'edit' } as const, { do: 'stray' } as const) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('restart'), pod: fc.integer({ min: 0, max: 1 }) }) },
  { weight: 2, arbitrary: fc.constant({ do: 'upkeep' } as const) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('wait'), seconds: fc.constantFrom(5, 30, 45, 70) }) },
);

/** Emergencies, and all that can come between: revocations and reinstatements that race, and two replicas of which either sleeps or ends in them. */
const emergency: fc.Arbitrary<Action> = fc.oneof(
  { weight: 5, arbitrary: revoking },
  { weight: 4, arbitrary: reinstating },
  { weight: 5, arbitrary: fc.constantFrom(...ASLEEP_IN_EMERGENCY).map((asleep) => ({ do: 'sleep', ...asleep }) as const) },
  { weight: 4, arbitrary: fc.constantFrom(...EMERGENCY_STEPS).map(({ workflow, name }) => ({ do: 'until', workflow, step: name }) as const) },
  { weight: 4, arbitrary: fc.constantFrom(...HAPPENS, { do: 'die' } as const) },
  { weight: 7, arbitrary: anything },
);

/** Stories of six to twenty-five actions, half of them of emergencies. */
export const stories: fc.Arbitrary<readonly Action[]> = fc.oneof(
  fc.array(anything, { minLength: 6, maxLength: 25, size: 'max' }),
  fc.array(emergency, { minLength: 6, maxLength: 25, size: 'max' }),
);

/**
 * Stories near a script: some of its actions are left out now and then, and other things happen
 * between them. They shrink to fewer actions, of the script too.
 */
export function storiesNear(script: readonly Action[]): fc.Arbitrary<readonly Action[]> {
  const noise = fc.oneof({ withCrossShrink: true }, { weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: anything.map((one) => [one]) });
  const parts = script.map((action) => fc.tuple(noise, fc.option(fc.constant(action), { freq: 24 })));
  return fc.tuple(...parts).map((drawn) => drawn.flatMap(([before, action]) => (action === null ? before : [...before, action])));
}

/** An action in a few words. */
export function told(action: Action): string {
  switch (action.do) {
    case 'release':
      return `release (${action.source}${action.source === 'plaintext' || action.back === 0 ? '' : `, from ${action.back} back`}${action.slow ? ', slow' : ''})`;
    case 'withdraw':
    case 'revoke':
    case 'revoke-key':
      return `${action.do} the newest${action.back === 0 ? '' : ` but ${action.back}`}`;
    case 'revoke-other':
      return `revoke a ${action.subject}${action.subject === 'reference-value' && action.back > 0 ? ` of the newest but ${action.back}` : ''}`;
    case 'reinstate':
      return `reinstate what the last revocation${action.back === 0 ? '' : ` but ${action.back}`} took`;
    case 'restart':
      return `restart pod ${action.pod}`;
    case 'befall':
      return `${action.write} will be ${action.hazard}`;
    case 'go':
      return `go ${action.rounds} × ${action.steps}`;
    case 'until':
      return `until ${action.step}`;
    case 'sleep':
      return `sleep ${action.at} (${action.workflow})`;
    case 'wait':
      return `wait ${action.seconds} s`;
    default:
      return action.do;
  }
}
