import type { BaselineDocument, GuestDocument, PlatformDocument, ReleaseDocument, TargetDocument } from './release.ts';
import type { TrustDocument } from './trust.ts';

/** A field, and what was expected there. */
export interface Mistake {
  readonly field: string;
  readonly expected: string;
}

/** Environments whose claims a grant can be written on (DESIGN §8, Grants). */
const GRANTABLE: readonly GuestDocument['tee'][] = ['snp', 'tdx', 'sample'];

/** The placeholders of a target's `set`. */
const PLACEHOLDER = /\$\{([^}]*)\}/g;

/** Rules of a release that reach over several fields; null: all hold. Pure. */
export function releaseMistake(release: ReleaseDocument): Mistake | null {
  return artifactMistake(release) ?? imagesMistake(release) ?? targetsMistake(release);
}

function artifactMistake({ artifact, serial, previous }: ReleaseDocument): Mistake | null {
  const { source, from, address, keyPath, plaintextManifest, stores } = artifact;
  const sealedFrom = source === 'keep' || source === 'reencrypt';
  if ((source === 'running') !== (serial === 0)) return { field: 'artifact.source', expected: 'running in serial 0, and nowhere else' };
  if (serial === 0 && previous !== null) return { field: 'previous', expected: 'null in serial 0' };
  if (!sealedFrom && from !== null) return { field: 'artifact.from', expected: `null where source is ${source}` };
  if (from !== null && from >= serial) return { field: 'artifact.from', expected: 'a serial below this one' };
  if (sealedFrom !== (address === null)) return { field: 'artifact.address', expected: sealedFrom ? `null where source is ${source}` : 'an address' };
  if ((source === 'running') !== (keyPath !== null)) return { field: 'artifact.keyPath', expected: 'a path where source is running, else null' };
  if ((source === 'plaintext' || source === 'provided') && plaintextManifest === null) return { field: 'artifact.plaintextManifest', expected: 'a digest' };
  if (stores.length === 0 && source !== 'running') return { field: 'artifact.stores', expected: 'at least one store' };
  if (new Set(stores).size !== stores.length) return { field: 'artifact.stores', expected: 'each store once' };
  return null;
}

function imagesMistake({ images, guests }: ReleaseDocument): Mistake | null {
  if (Object.keys(images).length === 0) return { field: 'images', expected: 'every container’s image: at least one' };
  if (Object.keys(guests).length === 0) return { field: 'guests', expected: 'at least one' };
  return null;
}

function targetsMistake(release: ReleaseDocument): Mistake | null {
  const names = new Set<string>();
  for (const [index, target] of release.targets.entries()) {
    const field = `targets.${index}`;
    const name = `${target.cluster}/${target.namespace}/${target.apiVersion}/${target.kind}/${target.name}`;
    if (names.has(name)) return { field, expected: 'each object once' };
    names.add(name);
    if (!Object.hasOwn(release.guests, target.guest)) return { field: `${field}.guest`, expected: 'a name of `guests`' };
    if (!release.artifact.stores.includes(target.store)) return { field: `${field}.store`, expected: 'a name of `artifact.stores`' };
    const mistake = setMistake(release, target);
    if (mistake !== null) return { field: `${field}.${mistake.field}`, expected: mistake.expected };
  }
  return null;
}

function setMistake(release: ReleaseDocument, target: TargetDocument): Mistake | null {
  for (const [pointer, value] of Object.entries(target.set)) {
    const field = `set.${pointer}`;
    if (/~(?![01])/.test(pointer)) return { field, expected: '~0 or ~1 (RFC 6901)' };
    if (pointer.split('/').some((segment) => /^(?:[0-9]+|-)$/.test(segment)))
      return { field, expected: 'an element of a list as name=<its name>, not an index' };
    for (const [written, name = ''] of value.matchAll(PLACEHOLDER)) {
      if (!isPlaceholder(name, release)) return { field, expected: `initData, keyPath, artifact or images.<name>[.repository|.digest] in ${written}` };
    }
    if (value.replaceAll(PLACEHOLDER, '').includes('${')) return { field, expected: 'a } for every ${' };
  }
  return null;
}

function isPlaceholder(name: string, release: ReleaseDocument): boolean {
  if (name === 'initData' || name === 'keyPath' || name === 'artifact') return true;
  const image = /^images\.([a-z0-9-]+)(?:\.(?:repository|digest))?$/.exec(name)?.[1];
  return image !== undefined && Object.hasOwn(release.images, image);
}

/** Rules of a trust document that reach over several fields; null: all hold. What its keys are is `readTrust`'s to say. Pure. */
export function trustMistake(trust: TrustDocument): Mistake | null {
  const ids = trust.people.map((person) => person.id);
  if (new Set(ids).size !== ids.length) return { field: 'people', expected: 'each person once' };
  for (const { field, threshold, people, spare } of rolesOf(trust)) {
    const stranger = people.find((person) => !ids.includes(person));
    if (stranger !== undefined) return { field: `${field}.people`, expected: `ids of \`people\`; ${stranger} is not one` };
    if (new Set(people).size !== people.length) return { field: `${field}.people`, expected: 'each person once' };
    if (people.length < threshold + spare)
      return { field: `${field}.people`, expected: `at least ${threshold + spare} people for a threshold of ${threshold}` };
  }
  if (trust.roles.revokers.threshold !== 1) return { field: 'roles.revokers.threshold', expected: '1: one signer is enough to refuse' };
  return null;
}

/** Every role, by its field. `spare`: how many more people than its threshold it needs, so that one lost key locks nobody out. */
export function rolesOf(trust: TrustDocument): readonly {
  readonly field: string;
  readonly threshold: number;
  readonly people: readonly string[];
  readonly spare: number;
}[] {
  const { approvers, platformApprovers, revokers, recoverers, administrators } = trust.roles;
  return [
    ...approvers.map((entry, index) => ({ field: `roles.approvers.${index}`, threshold: entry.threshold, people: entry.people, spare: 0 })),
    { field: 'roles.platformApprovers', ...platformApprovers, spare: 0 },
    { field: 'roles.revokers', ...revokers, spare: 0 },
    { field: 'roles.recoverers', ...recoverers, spare: 1 },
    { field: 'roles.administrators', ...administrators, spare: 1 },
  ];
}

/** The field of a release that this version cannot carry out; null: it can carry all of it. */
export function releaseUnsupported(release: ReleaseDocument): Mistake | null {
  const { artifact, rollout, targets, guests } = release;
  if (release.serial === 0) return { field: 'serial', expected: '1 or more: taking over what already runs is not built yet' };
  if (artifact.source === 'provided') return { field: 'artifact.source', expected: 'plaintext, reencrypt or keep' };
  if (rollout.mode !== 'patch') return { field: 'rollout.mode', expected: 'patch' };
  if (rollout.attestation.source !== 'proxy') return { field: 'rollout.attestation.source', expected: 'proxy' };
  const other = targets.findIndex((target) => target.kind !== 'Deployment');
  if (other >= 0) return { field: `targets.${other}.kind`, expected: 'Deployment' };
  // Under another version the same object would be there twice, by two names.
  const beta = targets.findIndex((target) => target.apiVersion !== 'apps/v1');
  if (beta >= 0) return { field: `targets.${beta}.apiVersion`, expected: 'apps/v1' };
  const strange = Object.entries(guests).find(([, guest]) => !GRANTABLE.includes(guest.tee));
  return strange === undefined ? null : { field: `guests.${strange[0]}.tee`, expected: GRANTABLE.join(', ') };
}

/** As `releaseUnsupported`, of a baseline. */
export function baselineUnsupported(baseline: BaselineDocument): Mistake | null {
  return Object.keys(baseline.attestationPolicies ?? {}).length === 0 ? null : { field: 'attestationPolicies', expected: '{}' };
}

/** As `releaseUnsupported`, of a platform. */
export function platformUnsupported(platform: PlatformDocument): Mistake | null {
  return GRANTABLE.includes(platform.tee) ? null : { field: 'tee', expected: GRANTABLE.join(', ') };
}
