import { type Known, WANTED_STATES } from './release.ts';

/** What `targetOf` needs to know of a revision. */
export type Standing = Pick<Known, 'id' | 'state' | 'withdrawn' | 'revoked'> & {
  readonly release: { readonly serial: number };
  readonly sealing: { readonly epoch: number };
};

/** Newer first: by serial, then by epoch (the same release under its next key). */
export function newestFirst(a: Standing, b: Standing): number {
  return b.release.serial - a.release.serial || b.sealing.epoch - a.sealing.epoch || b.id - a.id;
}

/**
 * What a workload should run (DESIGN §8): the newest revision accepted, unless it is revoked,
 * withdrawn or retired; then the newest of those live, published, serving or closing that are neither
 * revoked nor withdrawn, or that were made after it: the next key of what was fallen back to. Else none:
 * the workload is held.
 */
export function targetOf<S extends Standing>(revisions: readonly S[]): S | null {
  const sorted = [...revisions].sort(newestFirst);
  const newest = sorted[0];
  if (newest === undefined) return null;
  if (!newest.revoked && !newest.withdrawn && newest.state !== 'retired') return newest;
  const mayRun = ({ state, id }: S): boolean => WANTED_STATES.includes(state) || (id > newest.id && state !== 'retired');
  return sorted.find((known) => mayRun(known) && !known.revoked && !known.withdrawn) ?? null;
}
