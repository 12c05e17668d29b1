import { type KeyPath, keyPath } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import type { World } from '#src/world.ts';

/** Where a revision's key stands in one KBS. */
export interface Place {
  readonly kbs: string;
  readonly path: KeyPath;
}

/** Every KBS that the revision's targets fetch from, each once, by name, with the revision's own path there. */
export function placesOf(world: World, known: Known): readonly Place[] {
  const names = [...new Set(known.release.targets.map((target) => target.kbs))].sort();
  return names.map((kbs) => ({ kbs, path: keyPath(world.broker(kbs).repository, known) }));
}

/** A revision in the words of a log line: `<workload>/<serial> v<epoch>`. */
export function revisionName(known: Pick<Known, 'release' | 'sealing'>): string {
  return `${known.release.workload}/${known.release.serial} v${known.sealing.epoch}`;
}

/** Whether the revision keeps a key and a ciphertext that another rotation made. */
export function isShared(known: Pick<Known, 'rotation' | 'sealing'>): boolean {
  return known.sealing.rotation !== known.rotation;
}

/** Whether the revision ever was in what a KBS should hold. One that never was has published nothing and is used by nobody. */
export function wentLive(known: Known): boolean {
  return known.at['go-live'] !== undefined;
}
