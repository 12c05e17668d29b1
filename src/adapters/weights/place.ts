import type { Codec } from '#src/envelope/codec.ts';
import type { ByteSink, ByteSource } from '#src/envelope/distant.ts';
import { Fault } from '#src/errors.ts';

/** One sealing's folder in one store, whatever kind of store that is. Opened anew for every call of the port. */
export interface Place {
  readonly store: string;
  /** `<workload>/<rotation>`. */
  readonly prefix: string;
  /** Whether its files do not lie on this machine: more of them are under way at once then, and fewer are computed. */
  readonly isDistant: boolean;
  /** Tells the file at this path from any that takes its place; null where there is none. */
  readonly stampOf: (path: string) => Promise<string | null>;
  /** Bytes of the file at this path; 0 where there is none. */
  readonly sizeOf: (path: string) => Promise<number>;
  /** The file at this path, to be read; null where there is none. Throws EnvelopeError `unsafe-path` where it lies elsewhere in truth. */
  readonly open: (path: string) => Promise<Readable | null>;
  /** The sealed manifest's bytes; null where there is none. Throws EnvelopeError `too-large`. */
  readonly manifest: (codec: Codec) => Promise<Buffer | null>;
  /**
   * Takes over what processes that died left half written of the `wanted` paths, for `put` to go on with, and deletes the rest of it: no
   * two can take over the same, or it does not matter if they do.
   */
  readonly takeParts: (wanted: (path: string) => boolean) => Promise<void>;
  /** Deletes what was taken over of this path and not used. */
  readonly dropPart: (path: string) => Promise<void>;
  /**
   * Puts one file into the store so that it is there whole or not at all. The first one to finish wins: where another process has put the
   * file there meanwhile, ours is dropped and Fault `Conflict` thrown. `torn` is the stamp of a file that was found torn: that one, and no
   * other that took its place since, is replaced. `resumable`: what was taken over is gone on with, and what is written stays where it
   * fails. Every error is a Fault that names store and file, but for those that are not about this store.
   */
  readonly put: <T>(path: string, torn: string | null, resumable: boolean, write: (goal: Goal) => Promise<T>) => Promise<T>;
  /** The same for bytes that fit in memory. */
  readonly putBytes: (path: string, torn: string | null, bytes: Buffer) => Promise<void>;
  /** Brings the names of these files to where a power cut does not take them back. */
  readonly settle: (paths: readonly string[]) => Promise<void>;
  /** Deletes what is ours, the sealed manifest first. */
  readonly remove: () => Promise<void>;
  /** Whether anything of ours is there, whole or half written. */
  readonly isPresent: () => Promise<boolean>;
}

/** A file of a place, about to be read. */
export interface Readable {
  readonly from: string | ByteSource;
  /** Whether something thrown by a pass came of reading this file. */
  readonly isAbout: (thrown: unknown) => boolean;
}

/** What a pass writes to, as `PassOrder` has it. */
export interface Goal {
  readonly order: { readonly to: string | ByteSink; readonly resume?: boolean; readonly header?: Uint8Array };
  /** The same, for another pass over the whole file: what was written stays, and is gone on with. */
  readonly rewound: () => Promise<Goal>;
  /** Drops what was written, and what was taken over: a goal that begins anew. */
  readonly again: () => Promise<Goal>;
}

/** Throws Fault `InvalidRequest` for a prefix that is not `<workload>/<rotation>`, and could lead out of the store. */
export function checkPrefix(store: string, prefix: string): void {
  if (!/^[A-Za-z0-9_-]+\/[A-Za-z0-9_-]+$/.test(prefix)) throw new Fault('InvalidRequest', `weights store ${store}: not a prefix: ${prefix}`);
}
