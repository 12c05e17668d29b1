import type { Boot } from '#src/domain/kbs.ts';
import type { Instant } from '#src/instant.ts';
import type { Db } from './database.ts';

/** `unique_violation`: the TEE key is another boot's. */
const UNIQUE_VIOLATION = '23505';

/**
 * Notes the boots that a listing showed. One that is known is only seen again: its address and start
 * stay as they were first seen, so that a cluster cannot move an old boot to where a fetch came from.
 */
export async function sightBoots(db: Db, boots: readonly Boot[]): Promise<void> {
  if (boots.length === 0) return;
  const column = (name: keyof Boot): string[] => boots.map((boot) => boot[name]);
  // In one order everywhere, so that two replicas that look at the same pods do not lock each other out.
  await db.query(
    `insert into boots (cluster, pod_uid, container_id, pod, address, started_at)
     select distinct on (cluster, pod_uid, container_id) * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
       as given (cluster, pod_uid, container_id, pod, address, started_at)
     order by cluster, pod_uid, container_id
     on conflict (cluster, pod_uid, container_id) do update set last_seen_at = instant() where boots.last_seen_at < instant() - interval '10 seconds'`,
    [column('cluster'), column('podUid'), column('containerId'), column('pod'), column('address'), column('startedAt')],
  );
}

interface BootRow {
  readonly cluster: string;
  readonly pod_uid: string;
  readonly container_id: string;
  readonly pod: string;
  readonly address: string;
  readonly started_at: Instant;
}

/** Every boot ever sighted at this address, oldest first. */
export async function sightingsAt(db: Db, address: string): Promise<readonly Boot[]> {
  const { rows } = await db.query<BootRow>(
    'select cluster, pod_uid, container_id, pod, address, started_at from boots where address = $1 order by first_seen_at, cluster, pod_uid, container_id',
    [address],
  );
  return rows.map((row) => ({
    cluster: row.cluster,
    podUid: row.pod_uid,
    containerId: row.container_id,
    pod: row.pod,
    address: row.address,
    startedAt: row.started_at,
  }));
}

/**
 * Counts a TEE key (RFC 7638 thumbprint) for a boot that was sighted, for good: true now and whenever
 * the same pair is asked about again.
 *
 * false: the key was counted for another boot, or this boot was counted with another key, or was never
 * sighted. A stock guest draws a new TEE key for every fetch; so ask about a boot's fetches oldest
 * first, and take the first that says true: that order gives the same one every time.
 */
export async function countBoot(db: Db, boot: Pick<Boot, 'cluster' | 'podUid' | 'containerId'>, teeKey: string): Promise<boolean> {
  try {
    const { rowCount } = await db.query(
      `update boots set tee_key = $4 where cluster = $1 and pod_uid = $2 and container_id = $3 and (tee_key is null or tee_key = $4)`,
      [boot.cluster, boot.podUid, boot.containerId, teeKey],
    );
    return rowCount === 1;
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === UNIQUE_VIOLATION) return false;
    throw thrown;
  }
}
