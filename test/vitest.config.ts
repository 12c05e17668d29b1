import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

/** Where `.ci/run` reads what was counted. */
const { KEYTURN_TEST_REPORT: report } = process.env;

/** Files run two at a time: the machines that this is built for have two cores. */
export default defineConfig({
  test: {
    root: resolve(import.meta.dirname, '..'),
    include: ['test/**/*.test.ts'],
    globalSetup: [resolve(import.meta.dirname, 'global-setup.ts')],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    reporters: ['default', ...(report === undefined ? [] : [['json', { outputFile: report }] as [string, { outputFile: string }]])],
  },
});
