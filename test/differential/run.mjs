/**
 * `npm run differential -- [--cases N] [--seed S] [--paper]`: random policy and random packets, judged by the kernel and by a
 * reference; `--paper`: without a kernel, a thousand times as fast. As root. Status 1 where they disagree.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runnerImport } from 'vite';
import { reason } from '../../src/setup/command.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '5000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    paper: { type: 'boolean', default: false },
  },
});
const [cases, seed] = [Number(values.cases), Number(values.seed)];

if (!(cases > 0) || !Number.isInteger(seed)) {
  console.error('usage: npm run differential -- [--cases N] [--seed S] [--paper]');
  process.exitCode = 2;
} else {
  try {
    const { module } = /** @type {{ module: typeof import('./main.js') }} */ (
      await runnerImport(join(HERE, 'main.ts'))
    );
    const report = await (values.paper ? module.againstPaper : module.againstKernel)({ cases, seed });
    console.log(`seed ${seed}: ${module.reportText(report)}`);
    if ('medianDelay' in report)
      console.log(`a change is in force after ${Number(report.medianDelay).toFixed(1)} ms (median)`);
    if (report.disagreement !== undefined) process.exitCode = 1;
  } catch (error) {
    console.error(reason(error));
    process.exitCode = 1;
  }
}
