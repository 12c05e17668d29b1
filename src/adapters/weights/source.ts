import type { OpenedKey } from '#src/envelope/codec.ts';
import type { Manifest, ManifestLine } from '#src/envelope/manifest.ts';
import type { Passed } from '#src/envelope/tink.ts';
import type { Goal } from './place.ts';

/** How one file is sealed. */
export interface Writing {
  readonly goal: Goal;
  readonly under: OpenedKey;
  readonly hash: 'both' | 'plaintext';
  readonly told: (plaintextBytes: number) => void;
}

/** What is sealed: approved, and every file of it compared with the manifest while it is read. */
export interface Source {
  readonly manifest: Manifest;
  /** Whether a file that was left half written can be gone on with: only where its plaintext cannot have become another one. */
  readonly resumable: boolean;
  /** Bytes of a file's plaintext, by its length; 0 where that cannot be told. */
  readonly sizeOf: (path: string) => Promise<number>;
  /** Seals one file. Throws Fault where no source has it as approved, and the file system's error where it cannot be written. */
  readonly seal: (line: ManifestLine, writing: Writing) => Promise<Passed>;
}
