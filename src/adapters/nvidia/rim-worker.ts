import { parentPort } from 'node:worker_threads';
import type { Trouble } from '#src/domain/collateral/finding.ts';
import { type Rim, readRim } from '#src/domain/collateral/rim.ts';

/** What the thread answers to the bytes of one document. */
export type RimAnswer = Rim | Trouble;

parentPort?.on('message', (bytes: Uint8Array) => {
  parentPort?.postMessage(readRim(bytes) satisfies RimAnswer);
});
