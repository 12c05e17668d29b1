/**
 * The KBS proxy at 300 key fetches a second, beside the direct path and a bare pass-through of the same
 * HTTP client, in one run: what it adds to a fetch, and what it costs. Each is a process of its own; the
 * series take turns, so that a noisy neighbour meets all of them. Requests leave on a fixed beat whether
 * or not the ones before are answered, and are timed from when they should have left.
 *
 *   node test/bench/proxy.ts [--seconds N] [--json]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { destination } from 'pino';
import { Agent, request } from 'undici';
import { openPostgres } from '#src/lab/postgres.ts';
import { openLog } from '#src/log.ts';
import { openDatabase } from '#state/database.ts';
import { checkInstallation, migrate } from '#state/migrate.ts';
import { openBroker, openGuest, openTestProxy } from '../proxy/stand.ts';
import { type Bar, tellBars } from './bar.ts';
import { quantile } from './quantile.ts';

const RATE_A_SECOND = 300;
/** Guests, each at an address of its own with a session of its own. */
const GUESTS = 60;
/** A token of an eight-GPU guest: its EAR has nine submods with their claims. */
const LONG_TOKEN_BYTES = 120 * 1024;
const GPUS = 8;
const ROUNDS = 3;
/** Until the hot paths are compiled and the heap has its size. */
const WARM_UP_SECONDS = 5;
const PATH = '/kbs/v0/resource/keyturn-lab/chat/s1-v1-0-00112233';
const TICKS_A_SECOND = 100;

type Role = 'broker' | 'bare' | 'proxy';

/** Runs one of the three until its standard input ends. */
async function play(role: Role, upstream: string, database: string): Promise<void> {
  const opened = role === 'broker' ? await openUpstream() : role === 'bare' ? await openBare(upstream) : await openProduct(upstream, database);
  process.stdout.write(`${opened.url}\n`);
  process.stdin.resume();
  await once(process.stdin, 'end');
  await opened.close();
}

/** A KBS that answers as was recorded from one. */
async function openUpstream(): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const broker = await openBroker({ forgetful: true });
  broker.released.add(PATH);
  return broker;
}

/** What a proxy that decides nothing and remembers nothing costs. */
async function openBare(upstream: string): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const agent = new Agent({ connections: 64, maxHeaderSize: 512 * 1024 });
  const server = createServer({ maxHeaderSize: 512 * 1024 }, async (call, response) => {
    const { method = 'GET', url = '/', headers } = call;
    const { host: _, connection: __, ...kept } = headers;
    const answer = await request(`${upstream}${url}`, { method: method as 'GET', headers: kept, body: method === 'GET' ? null : call, dispatcher: agent });
    const bytes = Buffer.from(await answer.body.arrayBuffer());
    response.writeHead(answer.statusCode, answer.headers).end(bytes);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async (): Promise<void> => {
    server.close();
    server.closeAllConnections();
    await agent.close();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}

async function openProduct(upstream: string, database: string): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const pool = openDatabase({ url: database, poolSize: 10 });
  const proxy = await openTestProxy(pool, { url: upstream }, { log: openLog('info', destination({ dest: '/dev/null', sync: true })) });
  const close = async (): Promise<void> => {
    await proxy.close();
    await pool.end();
  };
  return { url: proxy.url, close };
}

interface Child {
  readonly url: string;
  readonly pid: number;
  readonly end: () => Promise<void>;
}

async function start(role: Role, upstream = '', database = ''): Promise<Child> {
  const child = spawn(process.execPath, [import.meta.filename, '--role', role, upstream, database], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const [url] = (await Promise.race([once(createInterface(child.stdout), 'line'), exited.then(() => [null])])) as [string | null];
  if (url === null || child.pid === undefined) throw new Error(`${role} did not start`);
  const end = async (): Promise<void> => {
    child.stdin.end();
    await exited;
  };
  return { url, pid: child.pid, end };
}

/** CPU seconds that a process has used (proc(5): utime and stime, in ticks). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}

function residentMebibytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

type Send = () => Promise<void>;

/** The token with eight GPUs and their evidence in it, another one for each guest. The signature does not fit any more: the KBS's stand-in does not look. */
function lengthened(token: string, place: number): string {
  const [header, payload, signature] = token.split('.');
  const claims = JSON.parse(Buffer.from(payload ?? '', 'base64url').toString('utf8')) as { submods: Record<string, unknown> };
  const evidence = (gpu: number): unknown => ({ ueid: `${place}-${gpu}`, certificates: 'A'.repeat((LONG_TOKEN_BYTES * 3) / 4 / GPUS) });
  for (let gpu = 0; gpu < GPUS; gpu += 1)
    claims.submods[`gpu${gpu}`] = { 'ear.status': 'affirming', 'ear.veraison.annotated-evidence': { nvidia: evidence(gpu) } };
  return [header, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.');
}

/** Guests that are attested through this address, each fetching in turn. `long`: by a token of that length instead of a cookie. */
async function guestsOf(url: string, long: boolean): Promise<{ readonly send: Send; readonly close: () => Promise<void> }> {
  const guests = Array.from({ length: GUESTS }, (_, place) => openGuest(url, `127.64.0.${place + 1}`, { connections: 4 }));
  const headers = await Promise.all(
    guests.map(async (guest, place) => {
      const { cookie, token } = await guest.attest();
      return long ? { authorization: `Bearer ${lengthened(token, place)}` } : { cookie };
    }),
  );
  let turn = 0;
  const send = async (): Promise<void> => {
    const place = turn++ % GUESTS;
    const told = await guests[place]?.ask('GET', PATH, headers[place]);
    if (told?.status !== 200) throw new Error(`a fetch was answered ${told?.status} ${told?.type}`);
  };
  return { send, close: async () => void (await Promise.all(guests.map((guest) => guest.close()))) };
}

/** Milliseconds of every fetch, sent on the beat. */
async function series(send: Send, seconds: number): Promise<readonly number[]> {
  const began = performance.now();
  const sent: Promise<number>[] = [];
  for (let number = 0; number < RATE_A_SECOND * seconds; number += 1) {
    const due = began + (number * 1000) / RATE_A_SECOND;
    const early = due - performance.now();
    if (early > 1) await pause(early);
    const from = Math.min(due, performance.now());
    sent.push(send().then(() => performance.now() - from));
  }
  return Promise.all(sent);
}

function middle(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The bars of the proxy, measured. `seconds`: of each series; 10, so that three rounds give each path the bar's 30. */
export async function benchProxy(seconds = 10): Promise<readonly Bar[]> {
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-bench-'));
  await chmod(folder, 0o755);
  const postgres = await openPostgres({ folder, temporary: true });
  const pool = openDatabase({ url: postgres.url, poolSize: 1 });
  await migrate(pool);
  await checkInstallation(pool, { name: 'test', mode: 'lab' });
  await pool.query(`insert into brokers (name, repository) values ('main', 'keyturn-lab')`);
  await pool.end();
  const broker = await start('broker');
  const bare = await start('bare', broker.url);
  const proxy = await start('proxy', broker.url, postgres.url);
  try {
    const short = await compare({ broker, bare, proxy }, false, seconds);
    const long = await compare({ broker, bare, proxy }, true, seconds);
    return [...short, ...long];
  } finally {
    await proxy.end();
    await bare.end();
    await broker.end();
    await postgres.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function compare(parts: Readonly<Record<Role, Child>>, long: boolean, seconds: number): Promise<readonly Bar[]> {
  const paths = { broker: await guestsOf(parts.broker.url, long), bare: await guestsOf(parts.bare.url, long), proxy: await guestsOf(parts.proxy.url, long) };
  const roles: readonly Role[] = ['broker', 'bare', 'proxy'];
  for (const role of roles) await series(paths[role].send, WARM_UP_SECONDS);
  const [resident, rounds] = [[] as number[], [] as Record<Role, { p50: number; p99: number; cpu: number }>[]];
  for (let round = 0; round < ROUNDS; round += 1) {
    const measured = {} as Record<Role, { p50: number; p99: number; cpu: number }>;
    for (const role of roles) {
      const before = cpuSeconds(parts[role].pid);
      const times = await series(paths[role].send, seconds);
      measured[role] = { p50: middle(times), p99: quantile(times, 0.99), cpu: cpuSeconds(parts[role].pid) - before };
    }
    rounds.push(measured);
    resident.push(residentMebibytes(parts.proxy.pid));
  }
  for (const role of roles) await paths[role].close();
  const added = (name: 'p50' | 'p99'): number => middle(rounds.map(({ proxy, broker }) => proxy[name] - broker[name]));
  const direct = (name: 'p50' | 'p99'): number => middle(rounds.map(({ broker }) => broker[name]));
  const cost = middle(rounds.map(({ proxy, bare }) => proxy.cpu / bare.cpu));
  const [first = 0] = resident;
  const grown = (resident.at(-1) ?? 0) - first;
  const what = long ? 'proxy, 120 KiB tokens' : 'proxy';
  return [
    { bar: `${what}: added p50`, value: added('p50'), unit: 'ms', target: '≤ 2', peer: 'direct path', peerValue: direct('p50'), met: added('p50') <= 2 },
    { bar: `${what}: added p99`, value: added('p99'), unit: 'ms', target: '≤ 5', peer: 'direct path', peerValue: direct('p99'), met: added('p99') <= 5 },
    { bar: `${what}: CPU`, value: cost, unit: '× bare', target: '≤ 2', peer: 'bare undici pass-through', peerValue: 1, met: cost <= 2 },
    { bar: `${what}: memory grown after the first round`, value: grown, unit: 'MiB', target: '≤ 8', peer: 'after it', peerValue: first, met: grown <= 8 },
  ];
}

if (process.argv[2] === '--role') {
  const [, , , role, upstream = '', database = ''] = process.argv;
  await play(role as Role, upstream, database);
} else if (import.meta.main) {
  const asked = process.argv.indexOf('--seconds');
  tellBars(await benchProxy(asked < 0 ? 10 : Number(process.argv[asked + 1])), process.argv.includes('--json'));
}
