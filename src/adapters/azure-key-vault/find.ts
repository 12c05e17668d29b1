import type { Instant } from '#src/instant.ts';
import type { StoredKey } from '#src/world.ts';
import { deletedKey, placeOf, type Seen, shown } from './keys.ts';
import { list, type Wire } from './wire.ts';

/** On every key that we make. */
export const INSTALLATION_TAG = 'keyturn-installation';
/** The rotation of the key's sealing. */
export const ROTATION_TAG = 'keyturn-rotation';

/** Twice what a Managed HSM holds, and 400 pages. With more keys, give Keyturn a vault of its own. */
const KEYS_MAX = 10_000;
/** The most that a Managed HSM keeps of one key. A vault keeps any number. */
const VERSIONS_MAX = 100;
/** The most that a page has. */
const KEYS_A_PAGE = 25;

/** How our keys are called: the rotation, and something new for each creation, since a name that stands would get one more version. */
export function namePrefixOf(rotation: string): string {
  return `keyturn-${rotation}-`;
}

type Tags = Readonly<Record<string, string>> | undefined;

function isOurs(tags: Tags, installation: string, rotation: string): boolean {
  return tags?.[INSTALLATION_TAG] === installation && tags[ROTATION_TAG] === rotation;
}

/**
 * Every version of every key with our tags for this installation and rotation, standing or deleted and still to be called back. A list
 * shows a name with its latest version's tags alone: where somebody made another version, the name still tells to look at all of them.
 */
export async function findTagged(wire: Wire, seen: Seen, installation: string, rotation: string, now: Instant): Promise<readonly StoredKey[]> {
  const { client, title } = wire;
  const isCandidate = ({ name, tags }: { readonly name: string; readonly tags?: Tags }): boolean =>
    name.startsWith(namePrefixOf(rotation)) || isOurs(tags, installation, rotation);
  const standing = await list(`${title} getKeys`, KEYS_MAX, (options) => client.listPropertiesOfKeys(options).byPage({ maxPageSize: KEYS_A_PAGE }));
  const keys = new Map<string, StoredKey>();
  for (const { name } of standing.filter(isCandidate)) {
    for (const key of await versionsOf(wire, seen, name, installation, rotation, now)) keys.set(key.keyId, key);
  }
  const deleted = await list(`${title} getDeletedKeys`, KEYS_MAX, (options) => client.listDeletedKeys(options).byPage({ maxPageSize: KEYS_A_PAGE }));
  for (const { name, properties } of deleted) {
    if (!isOurs(properties.tags, installation, rotation)) continue;
    const key = await deletedKey(wire, seen, name, now);
    if (key !== null && !keys.has(key.keyId)) keys.set(key.keyId, key);
  }
  return [...keys.values()].sort((a, b) => (a.keyId < b.keyId ? -1 : 1));
}

async function versionsOf(wire: Wire, seen: Seen, name: string, installation: string, rotation: string, now: Instant): Promise<readonly StoredKey[]> {
  const versions = await versionProperties(wire, name);
  return versions
    .filter(({ tags }) => isOurs(tags, installation, rotation))
    .map((properties) => shown(wire, seen, { ...(properties.id === undefined ? {} : { id: properties.id }), properties }, now));
}

/** How many other enabled versions stand under a key's name: a deletion would take them along. Throws Fault. */
export async function enabledBeside(wire: Wire, keyId: string): Promise<number> {
  const versions = await versionProperties(wire, placeOf(wire, keyId).name);
  return versions.filter(({ id, enabled }) => id !== keyId && enabled !== false).length;
}

async function versionProperties({ client, title }: Wire, name: string) {
  const pages = client.listPropertiesOfKeyVersions.bind(client);
  return list(`${title} getKeyVersions ${name}`, VERSIONS_MAX, (options) => pages(name, options).byPage({ maxPageSize: KEYS_A_PAGE }));
}
