import type { Boot, Fetch, KeyVerb, Sent, Want, Wrapped } from './domain/kbs.ts';
import type { KeyPath } from './domain/paths.ts';
import type { Reason } from './domain/reasons.ts';
import type { Known } from './domain/release.ts';
import type { Run } from './domain/run.ts';
import type { Instant } from './instant.ts';
import type { KeyOrder, Mine, Read } from './world.ts';

/** Our memory of what was sent and seen; `state` implements it. `run` null: the keeper, which asks no claim (P10 of the model). */
export interface Ledger {
  /** Policy and reference values, whole, over all workloads. */
  readonly want: (run: Run | null, kbs: string, kind: 'policy' | 'referenceValue') => Read<Want>;
  /** The same without leave to send: to compare with what is there. */
  readonly wanted: (kbs: string) => Promise<Want>;
  /** Whether an accepted baseline lets us write there. */
  readonly takenOver: (kbs: string) => Promise<boolean>;
  /** A path that is not wanted is never posted. */
  readonly bytes: (run: Run | null, kbs: string, path: KeyPath) => Read<Wrapped>;
  /** Only a path that is not wanted is deleted. */
  readonly gone: (run: Run | null, kbs: string, path: KeyPath) => Read<KeyPath>;
  /** Writes to a KBS, oldest first. */
  readonly sends: (kbs: string, verb: Sent['verb'], path?: KeyPath) => Promise<readonly Sent[]>;
  /** The stored row, its signature checked (Fault('Tampered')). Sends nothing. */
  readonly kept: (path: KeyPath) => Promise<Wrapped | null>;
  /** The rows that this rotation brought, checked in the same way: the one key of its sealing, under each of its paths. */
  readonly sealed: (rotation: string) => Promise<readonly Wrapped[]>;
  /**
   * A write to a key store. `disable` is refused (null) while a revision that counts uses the key's sealing, or a reinstatement is about to
   * free one that does (`enable` is allowed then alone), `destroy` also while another
   * sealing is re-encrypted from it, before a `disable` of that key was answered, and after a `destroy` of it was: it is sent once.
   */
  readonly key: (run: Run | null, store: string, verb: KeyVerb, order: KeyOrder) => Read<KeyOrder>;
  /** Writes to a key store for this rotation, oldest first. */
  readonly keySends: (store: string, rotation: string) => Promise<readonly Sent[]>;
  /** Whether the run is still its claimer's. */
  readonly mine: (run: Run) => Mine;
  /** Says how far the long work of a run's present step is, for people; it decides nothing. */
  readonly progress: (run: Run) => (done: { readonly doneBytes: number; readonly totalBytes: number }) => Promise<void>;
  /** Whether a rotation's revision is wanted, so that its pods can start: live, published, serving or closing, and not revoked. null: none of ours. */
  readonly isWanted: (rotation: string) => Promise<boolean | null>;
  /** The other revisions that keep this sealing from being taken, as `<workload>/<serial>`. */
  readonly sharers: (sealing: number, except: number) => Promise<readonly string[]>;
  /** Every revision that ever used this sealing, whatever became of it. */
  readonly revisionsOf: (sealing: number) => Promise<readonly Known[]>;
  /** The sealings that are still being re-encrypted from this one, as `<workload> v<epoch>`. */
  readonly madeFrom: (sealing: number) => Promise<readonly string[]>;

  /** Key fetches of a path through the proxy, oldest first, the prober's left out. */
  readonly fetches: (kbs: string, path: KeyPath, since: Instant | null) => Promise<readonly Fetch[]>;
  /** Notes the boots that a listing showed, so that a fetch can be told from its address later. */
  readonly sighted: (boots: readonly Boot[]) => Promise<void>;
  /** Every boot ever sighted at this address. */
  readonly sightings: (address: string) => Promise<readonly Boot[]>;
  /** The outage of a cluster that is about to be asked: since when it has not answered, and whether it is ours to ask now. null: it answered last. */
  readonly turnToAsk: (cluster: string) => Promise<{ readonly since: Instant; readonly reason: Reason; readonly about: string; readonly mine: boolean } | null>;
  /** Notes that a cluster answered: its outage is over. */
  readonly answered: (cluster: string) => Promise<void>;
  /** Notes that a cluster did not answer; since when it has not, and what it said then. It outlives this process. */
  readonly unanswered: (cluster: string, reason: Reason, about: string) => Promise<{ readonly since: Instant }>;
  /** Since when a cluster has not answered; null: it did when it was asked last. */
  readonly silentSince: (cluster: string) => Promise<Instant | null>;
  /** Counts a TEE key for a boot, for good. false: it was counted for another one. */
  readonly count: (boot: Boot, teeKey: string) => Promise<boolean>;
  /** Which proxies of the KBS have neither acknowledged that this path is refused nor fallen silent for good, and until when each is waited for. */
  readonly proxiesBehind: (kbs: string, path: KeyPath) => Promise<readonly { readonly proxy: string; readonly until: Instant }[]>;
  /** The same of an entry of the deny-list, by its id. */
  readonly proxiesBehindEntry: (kbs: string, entry: number) => Promise<readonly { readonly proxy: string; readonly until: Instant }[]>;
  /** The proxies of the KBS that may still answer guests, and the last entry that each refuses. */
  readonly proxiesAlive: (kbs: string) => Promise<readonly { readonly id: string; readonly acknowledged: number }[]>;
}
