/**
 * `npm run chaos -- [--minutes N] [--seed S] [--engine 20|26|28] [--etcd embedded|external]`: random docker commands and
 * random kills on a pretend host, as root. Builds the daemon first. Status 1 where something was lost, doubled or left.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runnerImport } from 'vite';
import { build } from '../../src/setup/build.mjs';
import { reason } from '../../src/setup/command.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    engine: { type: 'string', default: '28' },
    etcd: { type: 'string', default: 'embedded' },
  },
});
const engine = /** @type {const} */ (['20', '26', '28']).find(name => name === values.engine);
const etcd = /** @type {const} */ (['embedded', 'external']).find(name => name === values.etcd);
const [minutes, seed] = [Number(values.minutes), Number(values.seed)];

if (!engine || !etcd || !(minutes > 0) || !Number.isInteger(seed)) {
  console.error(
    'usage: npm run chaos -- [--minutes N] [--seed S] [--engine 20|26|28] [--etcd embedded|external]',
  );
  process.exitCode = 2;
} else {
  try {
    await build();
    const { module } = /** @type {{ module: typeof import('./chaos.js') }} */ (
      await runnerImport(join(HERE, 'chaos.ts'))
    );
    const { format } = /** @type {{ module: typeof import('./report.js') }} */ (
      await runnerImport(join(HERE, 'report.ts'))
    ).module;
    const began = Date.now();
    const options = {
      seed,
      milliseconds: minutes * 60_000,
      engine,
      etcd,
      say: (/** @type {string} */ text) =>
        console.log(`${((Date.now() - began) / 1000).toFixed(1)} s: ${text}`),
    };
    console.log(`seed ${seed}`);
    const report = await module.chaos(options);
    console.log(format(report, options));
    const { leaks, duplicates, unreachable, hung } = report;
    if ([leaks, duplicates, unreachable, hung].some(all => all.length > 0)) process.exitCode = 1;
  } catch (error) {
    console.error(reason(error));
    process.exitCode = 1;
  }
}
