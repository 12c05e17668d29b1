import { ListKeysCommand, ListResourceTagsCommand } from '@aws-sdk/client-kms';
import { Fault } from '#src/errors.ts';
import { type Instant, secondsBetween } from '#src/instant.ts';
import { asFault, isNotFound } from './faults.ts';
import { ask, type Wire } from './wire.ts';

/** On every key that we make. */
export const INSTALLATION_TAG = 'keyturn.dev/installation';
/** The rotation of the key's sealing. */
export const ROTATION_TAG = 'keyturn.dev/rotation';

/** A tenth of an account's quota. With more keys, give Keyturn an account of its own. */
const KEYS_MAX = 10_000;
/** The most that ListKeys gives at once. */
const KEYS_A_PAGE = 1000;
/** The most that ListResourceTags gives at once, and the most that a key can have. */
const TAGS_A_PAGE = 50;
/** ListResourceTags has a quota of 2,000 calls a second and account, shared with everybody. */
const TAG_CALLS_AT_ONCE = 8;
/**
 * A key may be listed before its tags are seen ("in some cases several minutes", AWS). One that was seen without ours for this long is
 * somebody else's for good. Seconds.
 */
const FOREIGN_AFTER_SECONDS = 900;

/** Which of the account's keys are somebody else's, as far as this process has seen. */
export interface Foreign {
  readonly settled: Set<string>;
  readonly firstSeenAt: Map<string, Instant>;
}

/** The ARNs of the keys with our tags for this installation and rotation. Throws what the SDK throws, and Fault `LimitExceeded`. */
export async function findTagged(wire: Wire, foreign: Foreign, installation: string, rotation: string, now: Instant): Promise<readonly string[]> {
  const unknown = (await listKeys(wire)).filter((arn) => !foreign.settled.has(arn));
  const found: string[] = [];
  const remaining = unknown.values();
  const lane = async (): Promise<void> => {
    for (const arn of remaining) {
      const tags = await tagsOf(wire, arn);
      if (tags?.get(INSTALLATION_TAG) === installation) {
        if (tags.get(ROTATION_TAG) === rotation) found.push(arn);
        continue;
      }
      const since = foreign.firstSeenAt.get(arn);
      if (since === undefined) foreign.firstSeenAt.set(arn, now);
      else if (secondsBetween(since, now) >= FOREIGN_AFTER_SECONDS) foreign.settled.add(arn);
    }
  };
  await Promise.all(Array.from({ length: TAG_CALLS_AT_ONCE }, lane));
  return found.sort();
}

async function listKeys({ client, title }: Wire): Promise<readonly string[]> {
  const arns: string[] = [];
  let marker: string | undefined;
  do {
    const command = new ListKeysCommand({ Limit: KEYS_A_PAGE, ...(marker === undefined ? {} : { Marker: marker }) });
    const page = await ask((options) => client.send(command, options));
    for (const { KeyArn } of page.Keys ?? []) if (KeyArn !== undefined) arns.push(KeyArn);
    if (arns.length > KEYS_MAX) throw new Fault('LimitExceeded', `${title} ListKeys: more than ${KEYS_MAX} keys in this account and region`);
    marker = nextOf(page, marker, title, 'ListKeys');
  } while (marker !== undefined);
  return arns;
}

/** null: gone meanwhile. */
async function tagsOf({ client, title }: Wire, arn: string): Promise<ReadonlyMap<string, string> | null> {
  const tags = new Map<string, string>();
  let marker: string | undefined;
  try {
    do {
      const command = new ListResourceTagsCommand({ KeyId: arn, Limit: TAGS_A_PAGE, ...(marker === undefined ? {} : { Marker: marker }) });
      const page = await ask((options) => client.send(command, options));
      for (const { TagKey, TagValue } of page.Tags ?? []) if (TagKey !== undefined && TagValue !== undefined) tags.set(TagKey, TagValue);
      marker = nextOf(page, marker, title, 'ListResourceTags');
    } while (marker !== undefined);
    return tags;
  } catch (error) {
    if (isNotFound(error)) return null;
    // A key whose tags we may not see could be ours: to go on would make a second one, again and again.
    throw asFault(error, `${title} ListResourceTags ${arn}`);
  }
}

interface Page {
  readonly Truncated?: boolean | undefined;
  readonly NextMarker?: string | undefined;
}

/** A page that says *more* without saying where, or the same place again, would be read for ever. */
function nextOf(page: Page, marker: string | undefined, title: string, call: string): string | undefined {
  if (page.Truncated !== true) return undefined;
  if (page.NextMarker === undefined || page.NextMarker === marker) throw new Fault('UnexpectedAnswer', `${title} ${call}: truncated without a new marker`);
  return page.NextMarker;
}
