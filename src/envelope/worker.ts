import { parentPort } from 'node:worker_threads';
import type { ChannelCall } from './distant.ts';
import { type EnvelopeErrorKind, isEnvelopeError } from './envelope-error.ts';
import { type Pass, type Passed, pass } from './tink.ts';

/** What the thread is sent. The keys' memory was handed over: the only copies are here, and are wiped here. */
export interface Task {
  readonly order: Omit<Pass, 'openWith' | 'sealWith'>;
  readonly openWith: ArrayBuffer | null;
  readonly sealWith: ArrayBuffer | null;
}

/** What it answers: how far it is, and calls about distant files, any number of times, then one of the others. Errors cross as data: a structured clone of an Error would lose its kind and code. */
export type TaskAnswer =
  | ChannelCall
  | { readonly kind: 'progress'; readonly plaintextBytes: number }
  | { readonly kind: 'passed'; readonly passed: Passed }
  | { readonly kind: 'envelope-error'; readonly error: { readonly kind: EnvelopeErrorKind; readonly message: string; readonly path: string | null } }
  | { readonly kind: 'system-error'; readonly error: { readonly code: string | null; readonly path: string | null; readonly message: string } };

/** Four a second are more than anybody reads. */
const PROGRESS_MILLISECONDS = 250;

/** Tells how far a pass is, seldom enough to cost nothing. */
function openProgress(): (plaintextBytes: number) => void {
  let toldAt = performance.now();
  return (plaintextBytes) => {
    const now = performance.now();
    if (now - toldAt < PROGRESS_MILLISECONDS) return;
    toldAt = now;
    parentPort?.postMessage({ kind: 'progress', plaintextBytes } satisfies TaskAnswer);
  };
}

/** A property of an error, where it is a text. */
function textOf(error: unknown, name: 'code' | 'path'): string | null {
  const value: unknown = error instanceof Error ? Reflect.get(error, name) : null;
  return typeof value === 'string' ? value : null;
}

function carryOut({ order, openWith, sealWith }: Task): TaskAnswer {
  const keys = { openWith: openWith === null ? null : Buffer.from(openWith), sealWith: sealWith === null ? null : Buffer.from(sealWith) };
  try {
    return { kind: 'passed', passed: pass({ ...order, ...keys }, openProgress()) };
  } catch (error) {
    if (isEnvelopeError(error)) return { kind: 'envelope-error', error: { kind: error.kind, message: error.message, path: error.path } };
    const message = error instanceof Error ? error.message : String(error);
    return { kind: 'system-error', error: { code: textOf(error, 'code'), path: textOf(error, 'path'), message } };
  } finally {
    keys.openWith?.fill(0);
    keys.sealWith?.fill(0);
  }
}

parentPort?.on('message', (task: Task) => parentPort?.postMessage(carryOut(task)));
