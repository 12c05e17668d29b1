import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { digestOf } from '#src/digest.ts';
import { initDataClaim } from '#src/domain/init-data.ts';
import type { Json } from '#src/domain/json.ts';
import type { Answer, Want } from '#src/domain/kbs.ts';
import { type KeyPath, probePath } from '#src/domain/paths.ts';
import { Fault } from '#src/errors.ts';
import { type Instant, later } from '#src/instant.ts';
import type { Clock, KeyBroker, ProberEvidence } from '#src/world.ts';
import type { Verifier } from './attestation.ts';
import { done, type Network, refused } from './hazards.ts';
import { PUBLIC_URL, WEST_URL } from './release.ts';

/** W of every kind: long, so that a slow machine does not use it up while a test looks on. Seconds. */
export const LATE_WRITE_SECONDS = 40;

/** What a KBS was given last; `deny` and `allow` are what others install: deny all, allow all. */
export type Policy = Want | 'deny' | 'allow';

/** The KBS of the test world with the proxy in front of it, and what it holds. */
export interface TestBroker extends KeyBroker {
  policy: Policy;
  /** true: it answers nothing, and nothing reaches it. */
  silent: boolean;
  readonly referenceValues: Map<string, Json>;
  readonly resources: Map<KeyPath, Buffer>;
  /** Something that happens while a token for a policy is made: before the question is asked what to send. */
  whileMinting: (() => Promise<void>) | null;
  /** What the machines' firmware is, as the verifier of every guest that starts from now on finds it. */
  launchDigest: string;
  /** A guest starts: it attests through the proxy from its address, and fetches. The bytes, or null where they were refused. */
  readonly fetch: (path: KeyPath, guest: ProberEvidence, address: string) => Promise<Buffer | null>;
}

/** Which KBS of the test world: its name, where guests find it, and the first segment of our paths there. */
export interface BrokerPlace {
  readonly name: string;
  readonly publicUrl: string;
  readonly repository: string;
}

/** The KBS of every story. */
export const MAIN_BROKER: BrokerPlace = { name: 'main', publicUrl: PUBLIC_URL, repository: 'keyturn-test' };
/** Another one, for stories of two. */
export const WEST_BROKER: BrokerPlace = { name: 'west-kbs', publicUrl: WEST_URL, repository: 'keyturn-west' };

/**
 * A KBS that does what its last policy, reference values and resources say, whoever wrote them and in
 * whatever order they landed. It checks a write's token when it lands: none lands W after it was made.
 */
export function openTestBroker(pool: pg.Pool, network: Network, clock: Clock, verifier: Verifier, place = MAIN_BROKER): TestBroker {
  const { name } = place;
  const landsUntil = (at: Instant) => later(at, LATE_WRITE_SECONDS);
  const resources = new Map<KeyPath, Buffer>();
  const referenceValues = new Map<string, Json>();
  const heard = (): void => {
    if (broker.silent) throw new Fault('Unreachable', `${name}: no answer`);
  };
  const broker: TestBroker = {
    ...place,
    attestationSigners: [verifier.authorityPem],
    lateWriteSeconds: { policy: LATE_WRITE_SECONDS, referenceValue: LATE_WRITE_SECONDS, resource: LATE_WRITE_SECONDS },
    policy: 'deny',
    silent: false,
    referenceValues,
    resources,
    whileMinting: null,
    launchDigest: 'abcde',
    publishPolicy: async (read) => {
      heard();
      await broker.whileMinting?.();
      const permit = await read();
      if (permit === null) return;
      const effect = () => {
        broker.policy = permit.value;
        return done();
      };
      await network.send({ system: name, verb: 'policy', what: `g${permit.value.generation}`, effect, answered: permit.answered, landsUntil });
    },
    publishReferenceValues: async (read) => {
      heard();
      const permit = await read();
      if (permit === null) return;
      const effect = () => {
        for (const [value, wanted] of Object.entries(permit.value.referenceValues)) referenceValues.set(value, wanted);
        return done();
      };
      await network.send({ system: name, verb: 'referenceValue', what: `g${permit.value.generation}`, effect, answered: permit.answered, landsUntil });
    },
    putResource: async (read, unwrap) => {
      heard();
      const permit = await read();
      if (permit === null) return;
      const secret = await unwrap(permit.value);
      const bytes = Buffer.from(secret.reveal());
      if (bytes.length === 0) throw new Fault('InvalidRequest', 'a key without bytes');
      const { path } = permit.value;
      const effect = () => {
        resources.set(path, bytes);
        return done();
      };
      await network.send({ system: name, verb: 'resource', what: path, effect, answered: permit.answered, landsUntil });
    },
    deleteResource: async (read) => {
      heard();
      const permit = await read();
      if (permit === null) return;
      const effect = () => (resources.delete(permit.value) ? done() : refused(401, 'PluginInternalError'));
      await network.send({ system: name, verb: 'delete', what: permit.value, effect, answered: permit.answered, landsUntil });
    },
    referenceValue: async (value) => {
      heard();
      return referenceValues.get(value) ?? null;
    },
    ask: async (path, as, at) => {
      if (at === 'proxy' && (await isDenied(pool, name, path, as))) return [refused(404, 'ProxyDeny')];
      heard();
      return [answerOf(broker, path, as)];
    },
    fetch: async (path, guest, address) => {
      const { token, teeKey } = await verifier.attest(
        { svn: guest.svn, launchDigest: broker.launchDigest, initData: claimOf(guest), affirming: isAffirming(broker, guest) },
        await clock(),
      );
      const denied = await isDenied(pool, name, path, guest);
      const answer = denied ? refused(404, 'ProxyDeny') : answerOf(broker, path, guest);
      await record(pool, { kbs: name, path, address, token, teeKey, answer });
      return answer.status === 200 ? (resources.get(path) ?? null) : null;
    },
  };
  return broker;
}

/** What KBS answers: 200, `PolicyDeny`, or `PluginInternalError` where the policy allows and nothing is stored. */
function answerOf(broker: TestBroker, path: KeyPath, guest: ProberEvidence): Answer {
  if (!allows(broker, path, guest)) return refused(403, 'PolicyDeny');
  return broker.resources.has(path) ? done() : refused(401, 'PluginInternalError');
}

function allows(broker: TestBroker, path: KeyPath, guest: ProberEvidence): boolean {
  const { policy } = broker;
  if (policy === 'allow' || policy === 'deny') return policy === 'allow';
  if (path.startsWith('keyturn/')) return /^keyturn\/probe\/g\d{12}$/.test(path) && path <= probePath(policy.generation);
  if (policy.denied.paths.includes(path) || policy.denied.initData.includes(claimOf(guest) ?? '')) return false;
  const grant = policy.grants.find(
    (one) => one.paths.includes(path) && one.tee === guest.tee && one.initData === claimOf(guest) && one.claims['sample.svn']?.includes(guest.svn),
  );
  return grant !== undefined && isAffirming(broker, guest);
}

function isAffirming(broker: TestBroker, guest: ProberEvidence): boolean {
  const good = broker.referenceValues.get('svn');
  return Array.isArray(good) && good.includes(guest.svn);
}

function claimOf({ initData }: ProberEvidence): string | null {
  return initData === null ? null : initDataClaim(initData, 'sample');
}

async function isDenied(pool: pg.Pool, kbs: string, path: KeyPath, guest: ProberEvidence): Promise<boolean> {
  const { rowCount } = await pool.query(
    `select 1 from deny_list d where kbs = $1 and (path = $2 or init_data = $3 and not exists (select 1 from deny_list l where l.lifts = d.id))`,
    [kbs, path, claimOf(guest)],
  );
  return rowCount !== 0;
}

interface Seen {
  readonly kbs: string;
  readonly path: KeyPath;
  readonly address: string;
  readonly token: string;
  readonly teeKey: string;
  readonly answer: Answer;
}

/** The rows that the proxy writes. */
async function record(pool: pg.Pool, { kbs, path, address, token, teeKey, answer }: Seen): Promise<void> {
  const session = digestOf(randomBytes(16));
  await pool.query(
    `with handshake as (insert into handshakes (kbs, proxy, address, session_digest, token_digest, token, tee_key)
       values ($10, 'test', $1, $2, $3, $4, $5) returning id)
     insert into fetches (kbs, proxy, path, address, session_digest, handshake, decision, status, type, request_id)
       select $10, 'test', $6, $1, $2, id, $7, $8, $9, $2 from handshake`,
    [address, session, digestOf(token), token, teeKey, path, answer.status === 200 ? 'released' : 'refused', answer.status, answer.type, kbs],
  );
}
