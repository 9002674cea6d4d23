import { expect, it } from 'vitest';
import { chaos } from '../chaos/chaos.js';
import { format } from '../chaos/report.js';

/** Decides the commands and kills; printed, and taken from here to repeat a run. */
const SEED = Number(process.env['CALICO_LIBNETWORK_CHAOS_SEED'] ?? Date.now() % 1_000_000);

/** One of them, by the seed; `npm run chaos` takes any. */
const BEDS = [
  { engine: '28', etcd: 'embedded' },
  { engine: '20', etcd: 'external' },
] as const;

it.each(BEDS.filter((_, index) => index === SEED % BEDS.length))(
  'chaos on Docker $engine with its $etcd etcd loses, doubles and leaves nothing',
  async ({ engine, etcd }) => {
    const said: string[] = [];
    const options = {
      seed: SEED,
      milliseconds: 40_000,
      engine,
      etcd,
      say: (text: string) => said.push(text),
    };
    const report = await chaos(options);
    console.log(format(report, options));
    const { leaks, duplicates, unreachable, hung } = report;
    expect({ leaks, duplicates, unreachable, hung }, `seed ${SEED}:\n${said.join('\n')}`).toEqual({
      leaks: [],
      duplicates: [],
      unreachable: [],
      hung: [],
    });
    expect(report.commands).toBeGreaterThan(25);
    expect(Object.values(report.kills).reduce((sum, times) => sum + times, 0)).toBeGreaterThan(1);
    expect(report.pings).toBeGreaterThan(0);
  },
  240_000,
);
