import type { Reason } from './reasons.ts';
import type { RepositoryFile } from './signatures.ts';

/** An entry of the watched folders that was not read, and why. */
export interface Unread {
  readonly path: string;
  readonly reason: Reason;
  readonly about: string;
}

/** The watched folders at one commit: documents and bundles, in the order of their paths. */
export interface Snapshot {
  readonly commit: string;
  readonly files: readonly RepositoryFile[];
  readonly unread: readonly Unread[];
}

/** What the branch shows, compared with the commit that was known. */
export type Poll =
  | { readonly kind: 'unchanged'; readonly commit: string }
  | {
      readonly kind: 'changed';
      readonly commit: string;
      /** Whether the known commit is on the tip's first-parent line; true where none was known. */
      readonly descends: boolean;
      readonly snapshot: Snapshot;
      /** The watched folders that are not what the known commit has there; all of them where that cannot be told. */
      readonly moved: readonly string[];
    };

/** The watched branch. Nothing is ever checked out. Each call throws Fault where Git does not answer, or answers what does not add up. */
export interface Git {
  readonly branch: string;
  /** Asks for the branch's tip, and reads it where it is not `known`. */
  readonly poll: (known: string | null) => Promise<Poll>;
  /** The branch's present tip, asked anew. */
  readonly tip: () => Promise<Snapshot>;
  /** Whether a commit is on the first-parent line of a tip that was polled, the tip itself included. */
  readonly follows: (tip: string, commit: string) => Promise<boolean>;
  /** Files anywhere in the tree of a commit that was polled, by their exact paths; those that are not there, or are no plain files, are left out. */
  readonly read: (commit: string, paths: readonly string[]) => Promise<readonly RepositoryFile[]>;
  readonly close: () => Promise<void>;
}
