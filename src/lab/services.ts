import { join } from 'node:path';
import { type Child, type Keyturn, keepRunning, type LabEvent } from './children.ts';
import { untilListening } from './host.ts';
import { failure } from './watch.ts';

/** From a child's start to its listener: two seconds, on a loaded machine many. Seconds. */
const START_SECONDS = 60;
/** A child that was started again this often cannot run here. */
const RESTARTS_MAX = 5;
/** Between looks at how often. Milliseconds. */
const LOOK_MILLISECONDS = 200;
/** Of what a child said last, when it cannot run. Lines. */
const WORDS_TOLD = 3;

/** What the product's own processes are started with. */
export interface ServicesOptions {
  readonly keyturn: Keyturn;
  /** The controllers, each with what tells that it is up: `host:port` of its webhook's listener. */
  readonly replicas: readonly { readonly configFile: string; readonly webhook: string }[];
  readonly proxy: { readonly configFile: string; readonly listen: string };
  /** For their logs. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly onEvent: (event: LabEvent) => void;
}

/** The product's own processes, running. */
export interface Services {
  /** Of the process that runs now; null while it is started again. `replica` counts controllers from 0. */
  readonly pid: (name: 'serve' | 'proxy', replica?: number) => number | null;
  /** How a controller's process before ended: see `Child`. */
  readonly lastExit: (replica: number) => number | null | undefined;
  /** Ends all. */
  readonly end: () => Promise<void>;
}

/** Resolves when the child listens. Rejects where it exits again and again, with what it said last. */
async function untilReady(child: Child, listen: string, signal: AbortSignal): Promise<void> {
  const ended = new AbortController();
  const look = () => {
    if (child.restarts() <= RESTARTS_MAX) return;
    ended.abort(failure('ServerError', `keyturn ${child.name} does not run: ${child.lastWords().slice(-WORDS_TOLD).join(' · ')}`));
  };
  const timer = setInterval(look, LOOK_MILLISECONDS);
  try {
    await untilListening(listen, START_SECONDS, AbortSignal.any([signal, ended.signal]));
  } finally {
    clearInterval(timer);
  }
}

/**
 * Starts the controllers and the proxy with the commands that production uses, and resolves when all of
 * them listen. They are started again whenever they exit. Throws where one cannot run; all are ended then.
 */
export async function startServices({ keyturn, replicas, proxy: proxied, folder, signal, onEvent }: ServicesOptions): Promise<Services> {
  // Each controller tells every event, in order, and one that starts again tells what nobody told before: none is lost, and none is told twice.
  let lastEvent = 0;
  const hear = (event: LabEvent) => {
    if (typeof event.number === 'number') {
      if (event.number <= lastEvent) return;
      lastEvent = event.number;
    }
    onEvent(event);
  };
  const start = (word: string, log: string, configFile: string, words: () => readonly string[]) =>
    keepRunning(keyturn, { name: word, words: () => [word, '--json', '--config', configFile, ...words()], logFile: join(folder, `${log}.log`), onEvent: hear });
  const serves = replicas.map(({ configFile }, index) =>
    start('serve', index === 0 ? 'serve' : `serve-${index + 1}`, configFile, () => ['--events-after', String(lastEvent)]),
  );
  const proxy = start('proxy', 'proxy', proxied.configFile, () => []);
  const end = async () => {
    await Promise.all([...serves, proxy].map((child) => child.stop()));
  };
  try {
    await Promise.all([...serves.map((serve, index) => untilReady(serve, replicas[index]?.webhook ?? '', signal)), untilReady(proxy, proxied.listen, signal)]);
    const lastExit = (replica: number) => serves[replica]?.lastExit();
    return { end, lastExit, pid: (name, replica = 0) => (name === 'serve' ? (serves[replica]?.pid() ?? null) : proxy.pid()) };
  } catch (thrown) {
    await end();
    throw thrown;
  }
}
