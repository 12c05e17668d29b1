import { defineConfig } from 'vitest/config';

/** Files run two at a time: the machines that this is built for have two cores. */
export default defineConfig({
  test: { root: '.', include: ['test/**/*.test.ts'], testTimeout: 30_000, hookTimeout: 60_000, maxWorkers: 2, reporters: ['default'] },
});
