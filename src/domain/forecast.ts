/** What would happen: the words in which `keyturn plan` tells it. */
import type { Json } from './json.ts';
import type { Denied } from './kbs.ts';
import type { Reason } from './reasons.ts';
import type { Release, RevisionState } from './release.ts';
import type { WindowsAt } from './windows.ts';

/** What would not let it go on, though it would be accepted. */
export interface Stop {
  /** The claim that would be answered no. */
  readonly gate: string;
  readonly reason: Reason;
  readonly about: string;
  readonly help: string;
}

/** Values of one name at one KBS. */
export interface ValueChange {
  readonly kbs: string;
  readonly name: string;
  readonly added: readonly Json[];
  readonly removed: readonly Json[];
}

/** A revision, by the name that `status` gives it. */
export interface RevisionName {
  readonly workload: string;
  /** `s<serial>-v<epoch>`. */
  readonly name: string;
  readonly state: RevisionState;
}

/** What becomes of one target. */
export interface TargetForecast {
  /** `<cluster>/<namespace>/<name>`. */
  readonly name: string;
  readonly kind: string;
  readonly kbs: string;
  readonly guest: string;
  /** false: its pods stay as they are. */
  readonly rolls: boolean;
  /** Pods that the last roll counted; null: none did. */
  readonly pods: number | null;
  readonly minimumAttested: number;
  readonly windows: WindowsAt;
}

/** A guest that may have the key. */
export interface GuestForecast {
  readonly name: string;
  readonly tee: string;
  readonly platform: string | null;
  readonly runtimeClass: string;
  readonly initData: { readonly file: string; readonly digest: string };
  readonly referenceValues: Readonly<Record<string, readonly Json[]>>;
}

/** What a release would bring about. */
export interface ReleaseForecast {
  readonly kind: 'release';
  readonly workload: string;
  readonly serial: number;
  /** `adopts`: a revision of its own, pods roll. `amends`: settings, or targets beside those that there are. `forbidden`: a revocation names it already. */
  readonly outcome: 'adopts' | 'amends' | 'forbidden';
  readonly key: {
    readonly kind: 'new' | 'kept';
    readonly epoch: number;
    readonly store: string;
    /** What is opened for it: a revision's name, `plaintext`, or nothing (null). */
    readonly from: string | null;
  };
  readonly artifact: Release['artifact'];
  /** What is read to seal it; null: it cannot be told from here. */
  readonly movedBytes: number | null;
  readonly images: Readonly<Record<string, string>>;
  /** Where guests will fetch the key; the end is drawn at acceptance. */
  readonly paths: readonly { readonly kbs: string; readonly path: string }[];
  readonly guests: readonly GuestForecast[];
  readonly referenceValues: readonly ValueChange[];
  readonly targets: readonly TargetForecast[];
  /** Pods at a time. */
  readonly batch: number;
  /** What is on its way and no longer wanted. */
  readonly supersedes: readonly RevisionName[];
  /** What is taken away once this one serves, and what becomes of its key. */
  readonly retires: readonly (RevisionName & { readonly key: 'disabled' | 'shared' })[];
  /** Kept after serving, for a withdrawal to fall back to. Seconds. */
  readonly keepPreviousSeconds: number;
  readonly held: { readonly reason: Reason; readonly about: string; readonly help: string } | null;
  readonly stops: readonly Stop[];
}

/** What a revocation, or a withdrawal, would bring about. */
export interface TakingForecast {
  readonly kind: 'revocation' | 'withdrawal';
  /**
   * `keyId`: the key store's, null where none was made; `pods`: by the target's name, those that its last roll counted, which lose
   * service at their next restart; null: it was never rolled, or no pod runs it any more.
   */
  readonly touches: readonly (RevisionName & { readonly keyId: string | null; readonly pods: Readonly<Record<string, readonly string[]>> | null })[];
  /** What each workload would run then; `after` null: nothing that there is, but `successor`, under the next key; both null: it would be held. */
  readonly targets: readonly {
    readonly workload: string;
    readonly before: string | null;
    readonly after: string | null;
    readonly successor: string | null;
  }[];
  /** Refused by every KBS, whatever asks for it there. */
  readonly denied: Denied;
  /** Targets whose init-data is that of the one that is revoked, as `<workload> s<serial> <target>`: nobody can tell them apart. */
  readonly sharing: readonly string[];
  /** What is measured no longer. */
  readonly referenceValues: readonly ValueChange[];
  /** A revoked release's key under another approved release: the same bytes for the same guests. */
  readonly stillGivenBy: readonly (RevisionName & { readonly epoch: number })[];
  readonly evict: boolean;
  readonly destroy: boolean;
  readonly stops: readonly Stop[];
}

/** What a reinstatement would bring about. */
export interface ReinstatementForecast {
  readonly kind: 'reinstatement';
  /** The revocation's id. */
  readonly revocation: string;
  /** Revisions that come back, each at the path of this number. */
  readonly frees: readonly (RevisionName & { readonly pathNumber: number })[];
  /** What each workload would run then; null: it stays held. */
  readonly targets: readonly { readonly workload: string; readonly before: string | null; readonly after: string | null }[];
  readonly stops: readonly Stop[];
}

/** What a platform or a baseline would bring about. */
export interface ValuesForecast {
  readonly kind: 'platform' | 'baseline';
  readonly referenceValues: readonly ValueChange[];
  readonly stops: readonly Stop[];
}

/** What an acceptance would bring about. */
export type Forecast = ReleaseForecast | TakingForecast | ReinstatementForecast | ValuesForecast;
