import type { Stand } from './stand.ts';

/** Where the revocation of these tests lies. */
export const PATH = 'revocations/leak.yaml';
/** What it names. */
export const KEY = { kind: 'key', workload: 'w', epoch: 1 } as const;

/** What stands of revocations: how often accepted, runs, whether the revision is revoked, whether its paths are denied. */
export async function standing({ pool }: Stand): Promise<object> {
  const { rows } = await pool.query(
    `select (select count(*)::int from events where event = 'revocation-accepted') as told,
       (select count(*)::int from runs where workflow = 'revoke') as runs,
       (select count(*)::int from revisions where revoked_by is not null) as revoked,
       (select present from documents where path = $1) as present`,
    [PATH],
  );
  return rows[0];
}
