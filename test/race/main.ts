import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { complaints, describe, race } from './race.js';

/** `npm run race -- --operations 50000 --seed 7`; see run.mjs. */

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '50000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const [operations, seed] = [Number(values.operations), Number(values.seed)];
if (!(Number.isInteger(operations) && operations > 0 && Number.isInteger(seed)))
  throw new Error('usage: npm run race -- --operations N --seed N');
console.log(`race of 8 nodes, ${operations} operations, seed ${seed}`);
const program = fileURLToPath(new URL('allocator-process.js', import.meta.url));
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => interrupted.abort(new Error(`ended by ${signal}`)));
const summary = await race({
  operations,
  seed,
  program,
  signal: interrupted.signal,
  say: text => console.log(text),
});
console.log(describe(summary));
const wrong = complaints(summary);
for (const text of wrong.slice(0, 50)) console.error(text);
if (wrong.length > 0) process.exitCode = 1;
