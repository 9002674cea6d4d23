import { join } from 'node:path';
import { expect, it } from 'vitest';
import { compileRace } from '../race/compile.mjs';
import { complaints, describe as figures, race } from '../race/race.js';

/** A machine that is busy with other tests makes fewer in that time. */
const ENOUGH = 1_000;

/** The long form is `npm run race`. */
it('eight allocators on one pool that is too small, leaders and allocators killed: no address is held by two', async () => {
  const program = join(await compileRace(), 'allocator-process.js');
  const summary = await race({ operations: 10_000, seconds: 55, seed: 4, program });
  console.log(figures(summary));
  expect(complaints(summary)).toEqual([]);
  expect(summary.operations).toBeGreaterThan(ENOUGH);
  expect(summary.killsOfLeader).toBeGreaterThan(3);
  expect(summary.killsOfProcesses).toBeGreaterThan(10);
  // What dockerd is promised, and half a second for a busy machine.
  expect(summary.longest).toBeLessThan(10_500);
}, 240_000);
