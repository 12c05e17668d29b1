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
  readonly configFile: string;
  /** `host:port` of the listeners that tell that they are up. */
  readonly listen: { readonly webhook: string; readonly proxy: string };
  /** For their logs. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly onEvent: (event: LabEvent) => void;
}

/** The product's own processes, running. */
export interface Services {
  /** Of the process that runs now; null while it is started again. */
  readonly pid: (name: 'serve' | 'proxy') => number | null;
  /** Ends both. */
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
 * Starts the controller and the proxy with the commands that production uses, and resolves when both
 * listen. They are started again whenever they exit. Throws where one cannot run; both are ended then.
 */
export async function startServices({ keyturn, configFile, listen, folder, signal, onEvent }: ServicesOptions): Promise<Services> {
  // A controller that starts again tells what it did not tell before: no event is lost, and none is told twice.
  let lastEvent = 0;
  const hear = (event: LabEvent) => {
    if (typeof event.number === 'number') lastEvent = Math.max(lastEvent, event.number);
    onEvent(event);
  };
  const start = (name: string, words: () => readonly string[]) =>
    keepRunning(keyturn, { name, words: () => [name, '--json', '--config', configFile, ...words()], logFile: join(folder, `${name}.log`), onEvent: hear });
  const serve = start('serve', () => ['--events-after', String(lastEvent)]);
  const proxy = start('proxy', () => []);
  const end = async () => {
    await Promise.all([serve.stop(), proxy.stop()]);
  };
  try {
    await Promise.all([untilReady(serve, listen.webhook, signal), untilReady(proxy, listen.proxy, signal)]);
    return { end, pid: (name) => (name === 'serve' ? serve : proxy).pid() };
  } catch (thrown) {
    await end();
    throw thrown;
  }
}
