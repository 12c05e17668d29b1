/**
 * How soon a key is refused that somebody revokes, in a lab with a thousand open rotations, with the product's own
 * processes: from the webhook of the revocation's commit to the first refusal of an attested guest at the
 * proxy, and to the policy's being in force, while the controller that has the rotation in hand is frozen
 * or dead; and where no webhook comes at all. The webhook reaches the controller that is left: which of them a
 * host's delivery goes to is the load balancer's to know.
 *
 *   node test/bench/revocation.ts [--rotations N] [--json]
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type Asker, openAsker } from '#src/lab/guest-kbs.ts';
import { type Bar, tellBars } from './bar.ts';
import { type Crowd, openCrowd } from './crowd.ts';
import { initDataOf, revocationFiles } from './documents.ts';
import { quantile } from './quantile.ts';

/** Half of them with a frozen owner, half with a dead one. */
const ROUNDS = 20;
/** Revocations that only a poll finds: pushed over one whole turn of it, so that each waits for another part of one. */
const POLLED = 20;
const POLLED_OVER_SECONDS = 30;
/** Whatever is not refused within this has missed every bar. Seconds. */
const REFUSED_SECONDS = 90;
/** Between two questions of a guest: each is answered by the far sides in this process, and more of them would be what is measured. Milliseconds. */
const ASK_MILLISECONDS = 20;
/** The same of many guests that wait for a poll. Milliseconds. */
const POLLED_ASK_MILLISECONDS = 250;
/** Between two looks for a receipt. Milliseconds. */
const LOOK_MILLISECONDS = 50;
/** The whole of it takes some three minutes on two quiet cores; a loaded machine gets several times that. Seconds. */
const LIMIT_SECONDS = 900;

/** Of one revocation, in seconds from its webhook, or its commit where there is none. */
interface Refused {
  readonly proxy: number;
  readonly policy: number;
}

/** The bars of a revocation, measured in a lab of its own. */
export async function benchRevocation(rotations = 1000): Promise<readonly Bar[]> {
  const signal = AbortSignal.timeout(LIMIT_SECONDS * 1000);
  const crowd = await openCrowd(rotations, ROUNDS + POLLED, signal);
  try {
    const hinted: Refused[] = [];
    for (const [number, workload] of crowd.workloads.slice(0, ROUNDS).entries()) hinted.push(await round(crowd, workload, number % 2 === 0, signal));
    const polled = await polls(crowd, crowd.workloads.slice(ROUNDS), signal);
    const open = await crowd.open();
    const what = `revoked with ${open} open rotations`;
    return [
      barOf(
        `${what}, its owner frozen or dead: webhook → refused at the proxy, p95`,
        hinted.map(({ proxy }) => proxy),
        0.5,
      ),
      barOf(
        `${what}, its owner frozen or dead: webhook → policy in force, p95`,
        hinted.map(({ policy }) => policy),
        5,
      ),
      barOf(`${what}, no webhook, polled every 30 s: commit → refused at the proxy, p95`, polled, 45),
    ];
  } finally {
    await crowd.close();
  }
}

function barOf(bar: string, seconds: readonly number[], most: number): Bar {
  const value = quantile(seconds, 0.95);
  return { bar, value, unit: 's', target: `≤ ${most}`, peer: `p50 of the same ${seconds.length}`, peerValue: quantile(seconds, 0.5), met: value <= most };
}

/** One revocation whose webhook reaches the controller that is left. */
async function round(crowd: Crowd, workload: string, frozen: boolean, signal: AbortSignal): Promise<Refused> {
  const guest = await openGuest(crowd, workload, signal);
  const stopped = await crowd.stopOwner(workload);
  try {
    const { digest, files } = await revocationFiles(crowd.setting, workload);
    await crowd.setting.farSides.git.commit(files, `Revoke the key of ${workload}`);
    const ended = frozen ? null : crowd.end(stopped);
    const beganAt = performance.now();
    const since = (): number => (performance.now() - beganAt) / 1000;
    const [, proxy, policy] = await Promise.all([crowd.hint(stopped), untilRefused(guest, since, signal), untilInForce(crowd, digest, since, signal)]);
    await ended;
    return { proxy, policy };
  } finally {
    await guest.close();
    await crowd.restore(stopped);
  }
}

/** Revocations that nobody tells of, one after the other over a turn of the poll, while one of the two controllers is frozen. Seconds from each commit. */
async function polls(crowd: Crowd, workloads: readonly string[], signal: AbortSignal): Promise<readonly number[]> {
  const guests = await Promise.all(workloads.map(async (workload) => ({ workload, guest: await openGuest(crowd, workload, signal) })));
  const stopped = await crowd.stopOwner(workloads[0] ?? '');
  try {
    const asked: Promise<number>[] = [];
    for (const { workload, guest } of guests) {
      const { files } = await revocationFiles(crowd.setting, workload);
      await crowd.setting.farSides.git.commit(files, `Revoke the key of ${workload}`);
      const beganAt = performance.now();
      asked.push(untilRefused(guest, () => (performance.now() - beganAt) / 1000, signal, POLLED_ASK_MILLISECONDS));
      await pause((POLLED_OVER_SECONDS / POLLED) * 1000, undefined, { signal });
    }
    return await Promise.all(asked);
  } finally {
    await Promise.all(guests.map(({ guest }) => guest.close()));
    await crowd.restore(stopped);
  }
}

/** A guest of the workload that attested and gets its key. */
async function openGuest({ setting, query, workloads }: Crowd, workload: string, signal: AbortSignal): Promise<Asker> {
  const [resource] = await query<{ path: string }>(`select path from resources where path like '%/' || $1 || '/%'`, [workload]);
  if (resource === undefined) throw new Error(`${workload} has no key`);
  const guest = await openAsker({
    kbsUrl: setting.publicUrl,
    kbsCertificate: null,
    path: resource.path,
    address: `127.64.200.${workloads.indexOf(workload) + 1}`,
    svn: '1',
    initData: initDataOf(setting, workload),
    pauseSeconds: 1,
    signal,
    log: () => undefined,
  });
  const answer = await guest.ask();
  if (answer !== 'released') throw new Error(`${workload}: a guest is told ${answer} before anything is revoked`);
  return guest;
}

async function untilRefused(guest: Asker, since: () => number, signal: AbortSignal, askMilliseconds = ASK_MILLISECONDS): Promise<number> {
  for (;;) {
    const answer = await guest.ask();
    if (answer === 'PolicyDeny' || since() > REFUSED_SECONDS) return since();
    if (answer !== 'released') throw new Error(`a guest is told ${answer}`);
    await pause(askMilliseconds, undefined, { signal });
  }
}

/** Until the revocation's run has a receipt that its generation, or a later one, was read back from the KBS. */
async function untilInForce({ query }: Crowd, digest: string, since: () => number, signal: AbortSignal): Promise<number> {
  for (;;) {
    const rows = await query(`select 1 from receipts c join runs r on r.id = c.run where r.revocation = $1 and c.step = 'publish-policy'`, [digest]);
    if (rows.length > 0 || since() > REFUSED_SECONDS) return since();
    await pause(LOOK_MILLISECONDS, undefined, { signal });
  }
}

if (import.meta.main) {
  const asked = process.argv.indexOf('--rotations');
  tellBars(await benchRevocation(asked < 0 ? 1000 : Number(process.argv[asked + 1])), process.argv.includes('--json'));
}
