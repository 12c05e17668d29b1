import type { Config } from '#src/config.ts';
import type { Refusal } from '#src/domain/want.ts';
import type { Db } from '#state/database.ts';
import { takenElsewhere } from '#state/objects.ts';
import { type Arriving, type Loaders, refusalOf } from '#state/want.ts';

/**
 * What a document names that the configuration does not have; then whether another workload moves what
 * it would move; then what its KBS could not be told with it. `before`: documents that are taken to be accepted already, though no row says so.
 */
export function misfitOf(config: Config, loaders: Loaders): (db: Db, arriving: Arriving, before?: readonly Arriving[]) => Promise<Refusal | null> {
  return async (db, arriving, before = []) => {
    const missing = missingFrom(config, arriving);
    if (missing !== null) return { reason: 'NotConfigured', about: missing };
    const releases = before.flatMap((one) => (one.kind === 'release' ? [one.release] : []));
    const taken = arriving.kind === 'release' ? await takenElsewhere(db, loaders.release, arriving.release, releases) : null;
    if (taken !== null) return taken;
    return refusalOf({ installation: config.installation, loaders }, db, arriving, before);
  };
}

function missingFrom(config: Config, arriving: Arriving): string | null {
  const names = (section: string, asked: readonly string[], there: object): string[] =>
    asked.filter((name) => !Object.hasOwn(there, name)).map((name) => `${section}.${name}`);
  if (arriving.kind === 'baseline') return names('kbs', [arriving.baseline.kbs], config.kbs)[0] ?? null;
  if (arriving.kind === 'platform') return null;
  const { targets, artifact, key } = arriving.release;
  const missing = [
    ...targets.flatMap((target) => [...names('clusters', [target.cluster], config.clusters), ...names('kbs', [target.kbs], config.kbs)]),
    ...names('artifactStores', artifact.stores, config.artifactStores),
    ...names('keyStores', [key.store], config.keyStores),
  ];
  return missing[0] === undefined ? null : `${missing[0]} is not in keyturn.yaml`;
}
