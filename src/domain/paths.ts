import { digestOf, hexOf } from '../digest.ts';
import type { Known } from './release.ts';

/** A path in a KBS, `repository/type/tag`, each segment as Trustee reads it. */
export type KeyPath = string;

/** The path where guests fetch a revision's key: immutable, never overwritten or reused, one revision's own (DESIGN §8, naming). */
export function keyPath(repository: string, known: Pick<Known, 'rotation' | 'pathNumber' | 'release' | 'sealing'>): KeyPath {
  const { workload, serial } = known.release;
  const suffix = hexOf(digestOf(known.rotation)).slice(0, 8);
  return `${repository}/${workload}/s${serial}-v${known.sealing.epoch}-${known.pathNumber}-${suffix}`;
}

/** Where the sealed files of a sealing lie under a store: `<workload>/<the sealing's rotation id>`. */
export function ciphertextPrefix(sealing: { readonly workload: string; readonly rotation: string }): string {
  return `${sealing.workload}/${sealing.rotation}`;
}

/** The path that answers "is the policy of this generation installed?". Nothing is ever stored there. */
export function probePath(generation: number): KeyPath {
  return `keyturn/probe/g${String(generation).padStart(12, '0')}`;
}
