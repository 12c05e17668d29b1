import { digestOf, hexOf } from '../digest.ts';
import type { Placed } from './release.ts';

/** A path in a KBS, `repository/type/tag`, each segment as Trustee reads it. */
export type KeyPath = string;

/** What a path is made of. */
export interface PathParts {
  /** The revision's own rotation. */
  readonly rotation: string;
  readonly pathNumber: number;
  readonly workload: string;
  /** The first that it had: an amendment moves no path. */
  readonly serial: number;
  readonly epoch: number;
}

/** The path where guests fetch a revision's key: immutable, never overwritten or reused, one revision's own (DESIGN §8, naming). */
export function keyPathFrom(repository: string, parts: PathParts): KeyPath {
  const suffix = hexOf(digestOf(parts.rotation)).slice(0, 8);
  return `${repository}/${parts.workload}/s${parts.serial}-v${parts.epoch}-${parts.pathNumber}-${suffix}`;
}

/** The same, of a revision. */
export function keyPath(repository: string, known: Placed): KeyPath {
  const { rotation, pathNumber, release, serials, sealing } = known;
  return keyPathFrom(repository, { rotation, pathNumber, workload: release.workload, serial: serials[0], epoch: sealing.epoch });
}

/** What one of our paths tells of itself; null where it is not written as one of ours. */
export function parseKeyPath(path: KeyPath): { readonly workload: string; readonly serial: number; readonly epoch: number } | null {
  const [, workload, serial, epoch] = /^[^/]+\/([a-z0-9-]{1,60})\/s(\d{1,10})-v(\d{1,10})-\d+-[0-9a-f]{8}$/.exec(path) ?? [];
  return workload === undefined ? null : { workload, serial: Number(serial), epoch: Number(epoch) };
}

/** Where the sealed files of a sealing lie under a store: `<workload>/<the sealing's rotation id>`. */
export function ciphertextPrefix(sealing: { readonly workload: string; readonly rotation: string }): string {
  return `${sealing.workload}/${sealing.rotation}`;
}

/** The path that answers "is the policy of this generation installed?". Nothing is ever stored there. */
export function probePath(generation: number): KeyPath {
  return `keyturn/probe/g${String(generation).padStart(12, '0')}`;
}
