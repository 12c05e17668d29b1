import { type Standing, targetOf } from './target.ts';

/** The weights of a revision that is to be: a sealing that is there already, or a new one, re-encrypted from `source` (null: from plaintext). */
export type Basis = { readonly kind: 'keep'; readonly id: number } | { readonly kind: 'new'; readonly source: number | null };

/** An accepted release that a revision may be made of. */
export interface Accepted {
  readonly digest: string;
  readonly serial: number;
  readonly basis: Basis;
}

/** A revision as the plan sees it. */
export interface PlannedOf extends Standing {
  /** Digest of its release in force. */
  readonly digest: string;
  /** Its adopt run: the cause of the runs that retire what it replaces. */
  readonly rotation: string;
  /** Names of the workflows that have an open run on it. */
  readonly open: readonly string[];
}

/** What is missing. The transaction that stores it draws ids and epochs. */
export type Planned =
  | { readonly kind: 'revision'; readonly release: string; readonly basis: Basis }
  | { readonly kind: 'run'; readonly workflow: 'adopt-revision' | 'retire-revision'; readonly revision: number; readonly cause: string | null };

/**
 * What a workload is missing: a revision for the newest release accepted, an adopt run for the
 * target, a retire run for whatever is not the target. Pure: the same rows give the same plan, so it
 * can be asked again after every change, and plans nothing where nothing is missing.
 *
 * A first target needs no retire runs, and while there is no target nothing is retired: the
 * workload is held.
 */
export function plan(accepted: readonly Accepted[], known: readonly PlannedOf[]): readonly Planned[] {
  const newest = accepted.reduce<Accepted | null>((best, release) => (best === null || release.serial > best.serial ? release : best), null);
  if (newest !== null && !known.some((revision) => revision.digest === newest.digest)) {
    return [{ kind: 'revision', release: newest.digest, basis: newest.basis }];
  }
  const target = targetOf(known);
  if (target === null) return [];
  const planned: Planned[] = [];
  if (target.state === 'accepted' && !target.open.includes('adopt-revision')) {
    planned.push({ kind: 'run', workflow: 'adopt-revision', revision: target.id, cause: null });
  }
  for (const revision of known) {
    if (revision.id === target.id || revision.state === 'retired' || revision.open.includes('retire-revision')) continue;
    planned.push({ kind: 'run', workflow: 'retire-revision', revision: revision.id, cause: target.rotation });
  }
  return planned;
}
