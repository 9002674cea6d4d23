import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Reconciler } from '../../src/agent/reconciler.js';
import { DatastoreError } from '../../src/errors.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('a look that failed is followed by another soon, however long the interval', async () => {
  const observe = vi.fn(() => Promise.reject(new DatastoreError('the datastore is out of sight')));
  const reconciler = new Reconciler({
    observe,
    carryOut: () => Promise.resolve(true),
    dryRun: false,
    interval: 3_600_000,
    grace: 60_000,
    log: pino({ level: 'silent' }),
    now: () => Date.now(),
  });
  reconciler.dockerConnected();
  await vi.advanceTimersByTimeAsync(1);
  expect(observe).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(observe).toHaveBeenCalledTimes(2);
  reconciler.stop();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(observe).toHaveBeenCalledTimes(2);
});
