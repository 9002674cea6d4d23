import { defineConfig } from 'vitest/config';

/** Tests that keep to themselves: no I/O (unit), an etcd each (contract), sockets in a folder of their own (socket). */
const SIDE_BY_SIDE = ['unit', 'contract', 'socket'];

/** Tests with a real kernel (host) or a real dockerd (e2e). They do not like company: one file after another. */
const ONE_BY_ONE = ['host', 'e2e'];

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
          name: 'real',
          include: filesOf(ONE_BY_ONE),
          testTimeout: 120_000,
          // The first bed of an engine may have to fetch that engine.
          hookTimeout: 300_000,
          teardownTimeout: 60_000,
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
