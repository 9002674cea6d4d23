import { defineConfig } from 'vitest/config';

/** Tests that keep to themselves: no I/O (unit), an etcd each (contract), sockets in a folder of their own (socket). */
const SIDE_BY_SIDE = ['unit', 'contract', 'socket'];

/** Tests with a real kernel, in network namespaces of their own: a busy machine is too slow for what they wait for. */
const KERNEL = ['host', 'differential'];

/** With a real dockerd, of what has to be done in time or is compared with a bridge's time: one file after another. */
const TIMED = ['burst', 'churn', 'cluster', 'quickstart'].map(name => `test/e2e/${name}.test.ts`);

/** Of tests with real hosts: limits in milliseconds, and what their daemons said where one fails. */
const PATIENT = {
  setupFiles: ['test/bed/failure-logs.ts'],
  testTimeout: 180_000,
  // The first bed of an engine may have to fetch that engine.
  hookTimeout: 300_000,
  teardownTimeout: 60_000,
};

const filesOf = (folders: readonly string[]) => folders.map(folder => `test/${folder}/**/*.test.ts`);

export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    pool: 'forks',
    globalSetup: ['test/bed/global.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'quick',
          include: filesOf(SIDE_BY_SIDE),
          testTimeout: 30_000,
          hookTimeout: 60_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'kernel',
          include: filesOf(KERNEL),
          ...PATIENT,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: TIMED,
          ...PATIENT,
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        test: {
          // Most of an end-to-end test is waiting for others: three at a time are more than twice as fast.
          name: 'in threes',
          include: filesOf(['e2e']),
          exclude: TIMED,
          ...PATIENT,
          maxWorkers: 3,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
