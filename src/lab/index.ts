import type { Codec } from '#src/envelope/codec.ts';
import { advise } from './advice.ts';
import type { LabEvent } from './children.ts';
import type { LabStore } from './far-sides.ts';
import type { KeysKind } from './key-store.ts';
import { type Ending, exportReceipts } from './receipts.ts';
import { openSetting, type Setting } from './setting.ts';
import { tellOfAge, tellStory } from './story.ts';
import { tellRevocation } from './story-revocation.ts';
import { failure } from './watch.ts';

/**
 * The rotations that a story promises. `rotation`: a first release, the one that takes its place, and the same under the next key.
 * `revocation`: a first release; the second's key is revoked before it serves.
 */
const STORY_ROTATIONS = { rotation: 3, revocation: 1 } as const;

/** What the lab tells. */
export type StoryName = keyof typeof STORY_ROTATIONS;
const DAY_MILLISECONDS = 86_400_000;

/** What `keyturn lab` asks for. */
export interface LabOptions {
  readonly story: StoryName;
  /** The product's entry, `src/main.ts`: its other commands run as children. */
  readonly mainFile: string;
  /** true: end when the story is told. false: stay up until `signal` says so. */
  readonly once: boolean;
  /** A folder of real weights; null: the lab makes its own, 64 MiB a release. */
  readonly model: string | null;
  /** Which key store the lab plays. */
  readonly keys: KeysKind;
  readonly codec: Codec;
  /** Where ciphertext is kept: in a folder, or in the lab's own S3. */
  readonly store: LabStore;
  /** Where the exported receipts and the public key go; both outlive the lab. */
  readonly outFolder: string;
  /** Aborted, with an Error named `Interrupted` where a person did it: everything is closed, and `runLab` returns. */
  readonly signal: AbortSignal;
  readonly onEvent: (event: LabEvent) => void;
  /** Lines for a person, once the story is told and everything stays up. */
  readonly onTold: (lines: readonly string[]) => void;
}

/** Resolves when somebody ends the lab; throws where a failure did. */
async function untilInterrupted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  if (!(signal.reason instanceof Error) || signal.reason.name !== 'Interrupted') throw signal.reason;
}

/** The lab's clock, as far as the lab's own events need it: this machine's, and what the story moved it on. */
interface LabTime {
  readonly now: () => string;
  readonly move: (days: number) => void;
}

function openTime(): LabTime {
  let moved = 0;
  return {
    now: () => new Date(Date.now() + moved).toISOString(),
    move: (days) => {
      moved += days * DAY_MILLISECONDS;
    },
  };
}

async function tell(options: LabOptions, time: LabTime): Promise<Ending> {
  const setting = await openSetting(options);
  try {
    const { folder, configFile, kubeconfigFile, dashboardUrl, publicUrl, farSides } = setting;
    const places = { dashboard: dashboardUrl, proxy: publicUrl, repository: farSides.git.url, folder, config: configFile, kubeconfig: kubeconfigFile };
    options.onEvent({ event: 'lab-ready', at: time.now(), ...places });
    const found = await storyOf(setting, options, time);
    if (!options.once) {
      options.onTold(await advise(setting, options.story));
      await untilInterrupted(options.signal);
    }
    await setting.endChildren();
    return { ...found, ...(await exportReceipts(setting.keyturn, configFile, setting.keys.receiptsPublicKeyFile, options.outFolder)) };
  } finally {
    await setting.close();
  }
}

/** Tells it, and gives what its last line says beside the export's figures. */
async function storyOf(setting: Setting, { story, signal, onEvent }: LabOptions, time: LabTime): Promise<object> {
  switch (story) {
    case 'revocation':
      return tellRevocation(setting, signal, { onEvent, now: time.now });
    case 'rotation':
      await tellStory(setting, signal);
      await tellOfAge(setting, signal, (days) => {
        time.move(days);
        onEvent({ event: 'clock-moved', at: time.now(), days });
      });
      return {};
  }
}

/**
 * Sets the lab up, tells its story, and closes everything. Returns the last event,
 * `lab-finished`; after a failure it says `failed` and about what, or `"chain":"broken"`. Never throws.
 */
export async function runLab(options: LabOptions): Promise<LabEvent> {
  const startedAt = performance.now();
  const time = openTime();
  const last = (rest: Record<string, unknown>): LabEvent => {
    const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
    return { event: 'lab-finished', at: time.now(), story: options.story, ...rest, seconds };
  };
  try {
    const ending = await tell(options, time);
    const promised = STORY_ROTATIONS[options.story];
    if (ending.rotations < promised) throw failure('NotFound', `the export shows ${ending.rotations} rotations; the story has ${promised}`);
    return last({ ...ending });
  } catch (thrown) {
    // Whatever failed after an interruption failed because of it.
    const cause: unknown = options.signal.aborted ? options.signal.reason : thrown;
    const error = cause instanceof Error ? cause : new Error(String(cause));
    return last({ rotations: 0, failed: error.name === 'Error' ? 'ServerError' : error.name, about: error.message });
  }
}
