import { parentPort } from 'node:worker_threads';
import { type EnvelopeErrorKind, isEnvelopeError } from './envelope-error.ts';
import { type Pass, type Passed, pass } from './tink.ts';

/** What the thread is sent. The keys' memory was handed over: the only copies are here, and are wiped here. */
export interface Task {
  readonly order: Omit<Pass, 'openWith' | 'sealWith'>;
  readonly openWith: ArrayBuffer | null;
  readonly sealWith: ArrayBuffer | null;
}

/** What it answers. Errors cross as data: a structured clone of an Error would lose its kind and code. */
export type TaskAnswer =
  | { readonly kind: 'passed'; readonly passed: Passed }
  | { readonly kind: 'envelope-error'; readonly error: { readonly kind: EnvelopeErrorKind; readonly message: string; readonly path: string | null } }
  | { readonly kind: 'system-error'; readonly error: { readonly code: string | null; readonly message: string } };

function carryOut({ order, openWith, sealWith }: Task): TaskAnswer {
  const keys = { openWith: openWith === null ? null : Buffer.from(openWith), sealWith: sealWith === null ? null : Buffer.from(sealWith) };
  try {
    return { kind: 'passed', passed: pass({ ...order, ...keys }) };
  } catch (error) {
    if (isEnvelopeError(error)) return { kind: 'envelope-error', error: { kind: error.kind, message: error.message, path: error.path } };
    const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
    return { kind: 'system-error', error: { code, message: error instanceof Error ? error.message : String(error) } };
  } finally {
    keys.openWith?.fill(0);
    keys.sealWith?.fill(0);
  }
}

parentPort?.on('message', (task: Task) => parentPort?.postMessage(carryOut(task)));
