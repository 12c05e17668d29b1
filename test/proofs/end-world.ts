import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { openKubernetes } from '#src/adapters/kubernetes/index.ts';
import { runCommand } from '#src/lab/children.ts';
import { exportReceipts } from '#src/lab/receipts.ts';
import type { Setting } from '#src/lab/setting.ts';
import type { TargetRef } from '#src/world.ts';
import type { Status } from '#state/status.ts';
import type { Proof } from './proof.ts';

/** The story's one object. */
export const TARGET: TargetRef = { cluster: 'lab', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name: 'chat' };
/** The sweeper looks every three seconds; a run that a fault held up is looked at again after some more. Seconds. */
const SETTLE_SECONDS = 60;
/** One start of the command line, on a loaded machine. Seconds. */
const STATUS_SECONDS = 30;
const ROTATION = 'keyturn.dev/rotation';

/** A world at rest, by what it shows. Ids that are drawn are told by the serial that they belong to, so that two worlds can be compared. */
export interface EndWorld {
  /** `workflow serial` → its steps with receipts, in order; more than one run of a name stands one behind the other. */
  readonly receipts: Readonly<Record<string, readonly string[]>>;
  /** `s<serial>-v<epoch> state`, and whether it is revoked. */
  readonly revisions: readonly string[];
  readonly openRuns: number;
  readonly denied: readonly string[];
  readonly generation: number;
  /** KBS paths without their last, drawn part. */
  readonly stored: readonly string[];
  readonly referenceValues: Readonly<Record<string, unknown>>;
  /** By the serial whose rotation a key is tagged with, the state of the key in its receipt; a second key of a rotation is a twin. */
  readonly keys: Readonly<Record<string, string>>;
  readonly twins: { readonly enabled: number; readonly disabled: number };
  /** Serial of the revision that the workload's template names, and what it sets. */
  readonly template: { readonly serial: number | null; readonly runtimeClass: string; readonly keyPath: string };
  /** `serial ready` of each pod. */
  readonly pods: readonly string[];
}

interface Rows {
  readonly revisions: readonly { serial: number; epoch: number; rotation: string; state: string; revoked: boolean }[];
  readonly receipts: readonly { workflow: string; serial: number; step: string; key: string | null }[];
  readonly denied: readonly string[];
  readonly openRuns: number;
  readonly generation: number;
}

/** Asks the lab's database. Its statements are the proof's own: nothing of what is proven answers for itself. */
export async function query<T extends pg.QueryResultRow>(setting: Setting, text: string): Promise<readonly T[]> {
  const client = new pg.Client({ connectionString: setting.farSides.databaseUrl, connectionTimeoutMillis: 5000, query_timeout: 10_000 });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<T>(text)).rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function rowsOf(setting: Setting): Promise<Rows> {
  const denied = await query<{ path: string; because: string }>(setting, 'select path, because from deny_list order by id');
  const [counts] = await query<{ open: number; generation: number }>(
    setting,
    'select (select count(*)::int from runs where ended_at is null) as open, generation::int from brokers',
  );
  return {
    revisions: await query(
      setting,
      `select r.serial, s.epoch, r.rotation, r.state, r.revoked_by is not null as revoked from revisions r join sealings s on s.id = r.sealing order by r.id`,
    ),
    receipts: await query(
      setting,
      `select u.workflow, r.serial, c.step, c.body::jsonb #>> '{facts,keyId}' as key
       from receipts c join runs u on u.id = c.run join revisions r on r.id = u.revision order by u.created_at, u.id, c.number`,
    ),
    denied: denied.map(({ path, because }) => `${shortPath(path)} ${because.startsWith('sha256:') ? 'revoked' : because}`),
    openRuns: counts?.open ?? -1,
    generation: counts?.generation ?? -1,
  };
}

/** `repository/workload/s1-v1-0-<drawn>` without what was drawn. */
export function shortPath(path: string): string {
  return path.replace(/-[0-9a-f]{8}$/, '');
}

interface KmsFile {
  readonly keys: readonly { readonly id: string; readonly state: string; readonly tags: Readonly<Record<string, string>> }[];
}

/** The KMS's own file: what it holds, and not what a listing says. */
async function keysOf(setting: Setting, { receipts, revisions }: Rows): Promise<Pick<EndWorld, 'keys' | 'twins'>> {
  const { keys } = JSON.parse(await readFile(join(setting.folder, 'kms', 'kms.json'), 'utf8')) as KmsFile;
  const ours = new Map(receipts.flatMap(({ step, key, serial }) => (step === 'create-key' && key !== null ? [[key.split('/').at(-1), serial]] : [])));
  const known = keys.filter(({ id }) => ours.has(id));
  const twins = keys.filter(({ id }) => !ours.has(id));
  const strays = twins.filter(({ tags }) => !revisions.some(({ rotation }) => Object.values(tags).includes(rotation)));
  if (strays.length > 0) throw new Error(`keys that belong to no rotation: ${JSON.stringify(strays.map(({ tags }) => tags))}`);
  return {
    keys: Object.fromEntries(known.map(({ id, state }) => [`key of ${ours.get(id)}`, state])),
    twins: { enabled: twins.filter(({ state }) => state === 'Enabled').length, disabled: twins.filter(({ state }) => state !== 'Enabled').length },
  };
}

interface KbsFile {
  readonly resources: Readonly<Record<string, string>>;
  readonly referenceValues: Readonly<Record<string, unknown>>;
}

/** The KBS's own file. */
export async function kbsOf(setting: Setting): Promise<KbsFile> {
  return JSON.parse(await readFile(join(setting.folder, 'kbs', 'kbs.json'), 'utf8')) as KbsFile;
}

/** The workload's template, and its pods. */
export async function clusterOf(setting: Setting): Promise<Pick<EndWorld, 'template' | 'pods'>> {
  const { revisions } = await rowsOf(setting);
  const serialOf = (rotation: string | undefined): number | null => revisions.find((revision) => revision.rotation === rotation)?.serial ?? null;
  const cluster = openKubernetes('lab', { kubeconfig: { file: setting.kubeconfigFile }, clockBoundSeconds: 1, windows: [] });
  try {
    const found = await cluster.object(TARGET);
    if (found === null) throw new Error('the workload is gone');
    const { spec } = found.object as unknown as { spec: { template: PodTemplate } };
    const [container] = spec.template.spec.containers;
    return {
      template: {
        serial: serialOf(spec.template.metadata.annotations[ROTATION]),
        runtimeClass: spec.template.spec.runtimeClassName,
        keyPath: shortPath(container?.env.find(({ name }) => name === 'KEY_URI')?.value ?? ''),
      },
      pods: (await cluster.pods(TARGET)).map((pod) => `${serialOf(pod.annotations[ROTATION])} ${pod.ready && !pod.terminating ? 'ready' : 'not ready'}`),
    };
  } finally {
    await cluster.close();
  }
}

interface PodTemplate {
  readonly metadata: { readonly annotations: Readonly<Record<string, string>> };
  readonly spec: {
    readonly runtimeClassName: string;
    readonly containers: readonly { readonly env: readonly { readonly name: string; readonly value: string }[] }[];
  };
}

/** Reads everything. */
export async function readWorld(setting: Setting): Promise<EndWorld> {
  const rows = await rowsOf(setting);
  const receipts: Record<string, string[]> = {};
  for (const { workflow, serial, step } of rows.receipts) {
    const name = `${workflow} ${serial}`;
    receipts[name] = [...(receipts[name] ?? []), step];
  }
  const { resources, referenceValues } = await kbsOf(setting);
  return {
    receipts,
    revisions: rows.revisions.map(({ serial, epoch, state, revoked }) => `s${serial}-v${epoch} ${state}${revoked ? ' revoked' : ''}`),
    openRuns: rows.openRuns,
    denied: rows.denied,
    generation: rows.generation,
    stored: Object.keys(resources).map(shortPath).sort(),
    referenceValues,
    ...(await keysOf(setting, rows)),
    ...(await clusterOf(setting)),
  };
}

/** The world once nothing is open and the sweeper had its time. Throws where a twin key stays. */
export function settledWorld(proof: Proof, setting: Setting): Promise<EndWorld> {
  return proof.until('nothing is open, and no twin key is enabled', SETTLE_SECONDS, async () => {
    const world = await readWorld(setting);
    return world.twins.enabled === 0 && world.openRuns === 0 ? world : null;
  });
}

/** What two rotations leave behind, whatever happened on the way. */
export const STORY_END: Omit<EndWorld, 'receipts' | 'twins'> = {
  revisions: ['s1-v1 retired', 's2-v2 serving'],
  openRuns: 0,
  denied: ['keyturn-lab/chat/s1-v1-0 retired'],
  generation: 4,
  stored: ['keyturn-lab/chat/s2-v2-0'],
  referenceValues: {
    'keyturn.generation': { generation: 4, installation: 'lab' },
    launch_digest: ['abcde'],
    major_version: 1,
    minimum_minor_version: 1,
    svn: ['2'],
  },
  keys: { 'key of 1': 'Disabled', 'key of 2': 'Enabled' },
  template: { serial: 2, runtimeClass: 'kata-lab-2', keyPath: 'kbs:///keyturn-lab/chat/s2-v2-0' },
  pods: ['2 ready', '2 ready', '2 ready'],
};

/** One fact a member. */
export function compareWorlds(proof: Proof, seen: Omit<EndWorld, 'receipts' | 'twins'>, expected: Omit<EndWorld, 'receipts' | 'twins'>): void {
  for (const name of ['revisions', 'keys', 'stored', 'referenceValues', 'template', 'pods', 'denied', 'openRuns', 'generation'] as const) {
    proof.same(`${name}: ${JSON.stringify(seen[name])}`, seen[name], expected[name]);
  }
}

/** What `keyturn status --json` says. */
export async function statusOf(setting: Setting): Promise<Status> {
  const { code, output, errors } = await runCommand(setting.keyturn, ['status', '--json', '--config', setting.configFile], STATUS_SECONDS);
  if (code !== 0) throw new Error(`keyturn status ended with ${code}: ${errors}`);
  return JSON.parse(output) as Status;
}

/** Exports the receipts into the lab's folder and verifies the export, with the product's commands. */
export async function chainOf(setting: Setting): Promise<{ readonly chain: string; readonly receipts: number; readonly rotations: number }> {
  const { chain, receipts, rotations } = await exportReceipts(
    setting.keyturn,
    setting.configFile,
    setting.keys.receiptsPublicKeyFile,
    join(setting.folder, 'export'),
  );
  return { chain, receipts, rotations };
}
