import type pg from 'pg';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { initDataClaim } from '#src/domain/init-data.ts';
import { ciphertextPrefix, keyPath } from '#src/domain/paths.ts';
import type { Known } from '#src/domain/release.ts';
import { WANTED_STATES } from '#src/domain/release.ts';
import { targetOf } from '#src/domain/target.ts';
import type { ProberEvidence } from '#src/world.ts';
import { knownRevisions } from '#state/revisions.ts';
import type { Loaders } from '#state/want.ts';
import type { TestWorld } from '../world.ts';

/** Looks at what really stands in the world, after everything that happens. */
export interface Watch {
  /** Throws a violation where an invariant does not hold. */
  readonly check: () => Promise<void>;
  /** Throws a violation where a story has not come to its end: the target alone is left, or nothing may run. */
  readonly checkEnd: () => Promise<void>;
  /** The next change of the template is a human's. */
  readonly human: () => void;
  /** How many receipts were written so far. */
  readonly written: () => Promise<number>;
  readonly revisions: () => Promise<readonly Known[]>;
}

interface Parts {
  readonly pool: pg.Pool;
  readonly test: TestWorld;
  readonly loaders: Loaders;
}

interface ReceiptRow {
  readonly id: number;
  readonly run: string;
  readonly step: string;
  readonly late: string | null;
  readonly revision: number;
}

/** A violation of an invariant: `I2: …`. Anything else that is thrown is a bug of the test or of the product. */
export function violation(what: string): Error {
  return Object.assign(new Error(what), { name: 'Violation' });
}

/** What one revision comes to in the world. */
interface Standing {
  readonly known: Known;
  readonly about: string;
  /** Whether the KBS, and the proxy before it, give the key to its own guests now. */
  readonly served: boolean;
  /** The KBS's own answer. */
  readonly answer: string;
  /** Served, and what is served opens the weights. */
  readonly starts: boolean;
  readonly stored: boolean;
  /** By the KBS's policy; a reference value that is gone proves nothing. */
  readonly granted: boolean;
  /** By the template, or by a pod in any phase. */
  readonly named: boolean;
  /** The same at its present path: a spec that names one from before a reinstatement gets no key, and nobody said that it would. */
  readonly spec: boolean;
  readonly done: ReadonlySet<string>;
  /** By a revocation in force: what it names was seen refused by the proxies and by the KBS, and its bytes absent. */
  readonly refused: boolean;
}

/** Begins to watch a world. */
export function openWatch(parts: Parts): Watch {
  const { pool, test, loaders } = parts;
  const memory = { receipt: 0, template: null as string | null, human: false, refused: new Set<number>() };
  const revisions = () => knownRevisions(pool, { all: true }, loaders.release);
  const check = async (): Promise<void> => {
    const found = await standingsOf(parts, await revisions());
    for (const standing of found) checkStanding(standing);
    await checkRevoked(pool, found);
    const template = await templateOf(test);
    if (template !== memory.template && !memory.human) checkMove(found, memory.template, template);
    Object.assign(memory, { template, human: false });
    const receipts = await receiptsAfter(pool, memory.receipt);
    for (const receipt of receipts) checkReceipt(receipt, found, template);
    memory.receipt = receipts.at(-1)?.id ?? memory.receipt;
  };
  return {
    check,
    revisions,
    checkEnd: async () => {
      await check();
      await checkEnded(parts, await standingsOf(parts, await revisions()));
    },
    human: () => {
      memory.human = true;
    },
    written: async () => {
      const { rows } = await pool.query<{ receipts: number }>('select count(*)::int as receipts from receipts');
      return rows[0]?.receipts ?? 0;
    },
  };
}

async function templateText({ cluster }: TestWorld): Promise<string> {
  return JSON.stringify((await cluster.object(CHAT))?.object ?? null);
}

/** The rotation that the Deployment's template names; null: none. */
export async function templateOf({ cluster }: TestWorld): Promise<string | null> {
  const found = await cluster.object(CHAT);
  const object = found?.object as { spec: { template: { metadata: { annotations: Record<string, string> } } } } | undefined;
  return object?.spec.template.metadata.annotations['keyturn.dev/rotation'] ?? null;
}

const CHAT = { cluster: 'east', namespace: 'inference', apiVersion: 'apps/v1', kind: 'Deployment', name: 'chat' } as const;

async function standingsOf({ pool, test }: Parts, revisions: readonly Known[]): Promise<readonly Standing[]> {
  const { kbs, weights, cluster } = test;
  const denied = await deniedOf(pool);
  const { rows: refusals } = await pool.query<{ revision: number }>(
    `select n.revision from denials n join documents d on d.digest = n.revocation and d.lifted_by is null
     join runs r on r.revocation = n.revocation and r.workflow = 'revoke' join receipts c on c.run = r.id and c.step = 'confirm-refused'`,
  );
  const { rows: steps } = await pool.query<{ revision: number; step: string }>(
    'select r.revision, c.step from receipts c join runs r on r.id = c.run where r.revision is not null',
  );
  const pods = cluster.all();
  // Also those that no controller owns: who hangs starts again one day, and needs its key.
  const names = [await templateOf(test), ...(await cluster.pods(CHAT)).map(({ annotations }) => annotations['keyturn.dev/rotation'] ?? null)];
  const specs = [await templateText(test), ...pods.map(({ template }) => JSON.stringify(template))];
  return Promise.all(
    revisions.map(async (known) => {
      const path = keyPath(kbs.repository, known);
      const guest: ProberEvidence = {
        tee: 'sample',
        svn: svnOf(known),
        initData: known.release.initData.sample ?? null,
      };
      const [answer] = await kbs.ask(path, guest, 'broker');
      const served = answer?.status === 200 && !denied.has(path) && !denied.has(initDataOf(known));
      const key = kbs.resources.get(path);
      const artifact = `${weights.guestAddress('models')}/${ciphertextPrefix(known.sealing)}/`;
      return {
        known,
        about: `s${known.serials.join('+')}-v${known.sealing.epoch}, ${known.state}${known.revoked ? ', revoked' : ''}${known.withdrawn ? ', withdrawn' : ''}`,
        served,
        answer: answer?.type ?? String(answer?.status),
        starts: served && key !== undefined && weights.opens(artifact, key),
        stored: key !== undefined,
        granted: kbs.policy === 'allow' || (kbs.policy !== 'deny' && kbs.policy.grants.some(({ paths }) => paths.includes(path))),
        named: names.includes(known.rotation),
        spec: specs.some((text) => text.includes(`kbs:///${path}"`)),
        refused: refusals.some(({ revision }) => revision === known.id),
        done: new Set(steps.filter(({ revision }) => revision === known.id).map(({ step }) => step)),
      };
    }),
  );
}

/** I2, I3 and I4, and that no key is taken from a revision that counts. */
function checkStanding({ known, about, named, spec, served, starts, stored, answer, done, refused }: Standing): void {
  const good = !known.revoked && known.state !== 'retired';
  // One that was superseded before it was published is closed all the same: nobody was ever told of its path.
  const published = ['published', 'serving'].includes(known.state) || (known.state === 'closing' && known.at['confirm-published'] !== undefined);
  if (good && (spec || published) && !starts) throw violation(`I2: ${about}: cannot start (${answer})`);
  if (known.state === 'retired' && !known.revoked && named) throw violation(`I3: ${about}: the template or a pod names it`);
  if ((known.revoked || known.state === 'retired') && served) throw violation(`I4: ${about}: can be fetched`);
  if (known.revoked && refused && answer === '200') throw violation(`I4: ${about}: was refused, and the KBS itself releases it`);
  if (known.revoked && refused && stored) throw violation(`I4: ${about}: was refused, and its bytes are there again`);
  if (done.has('delete-resource') && stored) throw violation(`I4: ${about}: deleted, and there again`);
  if (good && known.sealing.taken) throw violation(`K: ${about}: its key is taken`);
}

/** What a revocation in force names is revoked, whichever others were lifted. */
async function checkRevoked(pool: pg.Pool, found: readonly Standing[]): Promise<void> {
  const { rows } = await pool.query<{ path: string; subject: RevocationSubject }>(
    `select path, subject from documents where kind = 'Revocation' and verdict = 'accepted' and lifted_by is null`,
  );
  for (const { path, subject } of rows) {
    // Of these a retired one is not asked: it is refused for ever as it is.
    const ofStanding = ['reference-value', 'target', 'signer'].includes(subject.kind);
    const free = found.find(({ known }) => !known.revoked && !(ofStanding && known.state === 'retired') && names(subject, known));
    if (free !== undefined) throw violation(`I4: ${free.about}: ${path} names it`);
  }
}

/** In a world of one workload with one target, whose releases the same two people sign. */
function names(subject: RevocationSubject, known: Known): boolean {
  switch (subject.kind) {
    case 'release':
      return known.serials.includes(subject.serial);
    case 'key':
      return 'epoch' in subject && subject.epoch === known.sealing.epoch;
    case 'reference-value':
      return subject.value === svnOf(known);
    case 'device':
      return false;
    default:
      return true;
  }
}

/** The one measurement of a revision's guests. */
export function svnOf({ release }: Known): string {
  return String(release.guests.sample?.referenceValues.svn?.[0]);
}

function initDataOf({ release }: Known): string {
  const text = release.initData.sample;
  return text === undefined ? '' : (initDataClaim(text, 'sample') ?? '');
}

/** Paths, and init-data whose entry nobody lifted: what the proxies refuse. */
async function deniedOf(pool: pg.Pool): Promise<ReadonlySet<string>> {
  const { rows } = await pool.query<{ name: string }>(
    `select coalesce(path, init_data) as name from deny_list d where coalesce(path, init_data) is not null
       and (path is not null or not exists (select 1 from deny_list l where l.lifts = d.id))`,
  );
  return new Set(rows.map(({ name }) => name));
}

/** I5 and I5b: forwards, or back to what is live from what is not to run; never to what was refused. */
function checkMove(found: readonly Standing[], from: string | null, to: string | null): void {
  const before = found.find(({ known }) => known.rotation === from);
  const after = found.find(({ known }) => known.rotation === to);
  if (after === undefined) return;
  if (after.done.has('refuse-old-path')) throw violation(`I5b: ${after.about}: the template moved to what was refused`);
  if (before === undefined || before.known.id < after.known.id) return;
  const leaves = before.known.revoked || before.known.withdrawn;
  if (!leaves || !WANTED_STATES.includes(after.known.state)) throw violation(`I5: the template went back from ${before.about} to ${after.about}`);
}

async function receiptsAfter(pool: pg.Pool, last: number): Promise<readonly ReceiptRow[]> {
  const { rows } = await pool.query<ReceiptRow>(
    `select c.id, c.run, c.step, r.revision,
       (select min(v ->> 'gate') from jsonb_array_elements(c.body::jsonb -> 'verdicts') v where (v ->> 'goodUntil')::timestamptz <= c.at) as late
     from receipts c join runs r on r.id = c.run where c.id > $1 and r.revision is not null order by c.id`,
    [last],
  );
  return rows;
}

/** I6: what a receipt says is there, is. */
function checkReceipt({ step, late, revision }: ReceiptRow, found: readonly Standing[], template: string | null): void {
  const standing = found.find(({ known }) => known.id === revision);
  if (standing === undefined) return;
  const { about, starts, stored, served, known } = standing;
  if (late !== null) throw violation(`I6: ${step} of ${about}: on a verdict of ${late} that had expired`);
  if (step === 'confirm-published' && !starts) throw violation(`I6: ${step} of ${about}: nobody can start`);
  if (step === 'patch-template' && template !== known.rotation) throw violation(`I6: ${step} of ${about}: the template names ${template}`);
  if (step === 'refuse-old-path' && served) throw violation(`I6: ${step} of ${about}: it is served`);
  if (step === 'delete-resource' && stored) throw violation(`I6: ${step} of ${about}: the bytes are there`);
}

/** I1, I7 and L. */
async function checkEnded({ pool, test }: Parts, found: readonly Standing[]): Promise<void> {
  const left = ({ about, stored, granted }: Standing): string => `${about}: left at the KBS${granted ? ', granted' : ''}${stored ? ', stored' : ''}`;
  const refused = found.find((one) => one.known.revoked && (one.stored || one.granted));
  if (refused !== undefined) throw violation(`L: ${left(refused)}`);
  const target = targetOf(found.map(({ known }) => known));
  if (target === null) return;
  const { rows: open } = await pool.query<{ text: string }>(
    `select r.workflow || ' of ' || v.serial || ' waits for ' || coalesce(r.waiting_for || ' ' || r.about, 'nothing') as text
     from runs r join revisions v on v.id = r.revision where r.ended_at is null`,
  );
  if (open.length > 0) throw violation(`L: does not finish: ${open.map(({ text }) => text).join('; ')}`);
  const standing = found.find(({ known }) => known.id === target.id);
  if (target.state !== 'serving' || standing?.starts !== true) throw violation(`L: the target ${standing?.about} does not serve`);
  if ((await templateOf(test)) !== target.rotation) throw violation(`I7: the template does not name the target ${standing.about}`);
  if (test.cluster.all().some((pod) => !pod.ready || pod.annotations['keyturn.dev/rotation'] !== target.rotation))
    throw violation('I7: a pod is not on the target');
  const other = found.find(({ known, granted, stored }) => known.id !== target.id && (stored || granted));
  if (other !== undefined) throw violation(`I7: ${left(other)}`);
  const active = test.kms.keys().filter(({ state }) => state === 'active');
  if (active.length !== 1 || active[0]?.keyId !== target.sealing.facts.keyId) {
    throw violation(`I1, I7: enabled keys of ${active.map(({ rotation }) => rotation).join(', ')}; the target's sealing is ${target.sealing.rotation}`);
  }
}
