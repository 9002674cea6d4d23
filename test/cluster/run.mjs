/**
 * `npm run test:cluster -- [--minutes N] [--seed S] [--hosts N] [--fabric l2|l3]`: hosts with a three-member etcd under a load
 * of `docker run`, as root; without --fabric five on one segment and then five in two subnets. Hosts join, are cut off,
 * lose their daemon or the leader of etcd; one crashes. Builds the daemon first. Status 1 where an address was given
 * twice, a call failed without a reason, a host was late to agree, or something was wrong in the end.
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
    hosts: { type: 'string', default: '5' },
    fabric: { type: 'string', default: 'l2,l3' },
  },
});
const [minutes, seed, hosts] = [Number(values.minutes), Number(values.seed), Number(values.hosts)];
const fabrics = values.fabric
  .split(',')
  .map(name => /** @type {const} */ (['l2', 'l3']).find(kind => kind === name));

if (!(minutes > 0) || !Number.isInteger(seed) || !(hosts >= 3) || fabrics.includes(undefined)) {
  console.error('usage: npm run test:cluster -- [--minutes N] [--seed S] [--hosts N] [--fabric l2|l3]');
  process.exitCode = 2;
} else {
  try {
    await build();
    const { module } = /** @type {{ module: typeof import('./soak.js') }} */ (
      await runnerImport(join(HERE, 'soak.ts'))
    );
    for (const fabric of fabrics) if (fabric) await one(module, fabric);
  } catch (error) {
    console.error(reason(error));
    process.exitCode = 1;
  }
}

/**
 * @param {typeof import('./soak.js')} module
 * @param {'l2' | 'l3'} fabric
 */
async function one({ soak, AGREED }, fabric) {
  const began = Date.now();
  console.log(`${hosts} hosts, ${fabric === 'l2' ? 'one segment' : 'two subnets'}, seed ${seed}`);
  const report = await soak({
    ...{ hosts, fabric, seed, milliseconds: minutes * 60_000 },
    say: text => console.log(`${((Date.now() - began) / 1000).toFixed(1)} s: ${text}`),
  });
  const { commands, refused, longest, disturbances, duplicates, unexplained, wrong } = report;
  const behind = report.behind.toSorted((a, b) => a - b);
  const late = behind.filter(milliseconds => milliseconds > AGREED);
  const median = behind[Math.floor(behind.length / 2)];
  console.log(
    [
      `docker run: ${commands}, refused on disturbed hosts ${refused}; longest of the others ${longest} ms`,
      `disturbances: ${Object.entries(disturbances)
        .map(([kind, times]) => `${kind} ${times}`)
        .join(', ')}`,
      `behind etcd after being cut off: median ${median} ms, longest ${behind.at(-1)} ms, later than ${AGREED} ms: ${late.length} of ${behind.length}`,
      ...list('addresses given twice', duplicates),
      ...list('refusals unexplained', unexplained),
      ...list('wrong in the end', wrong),
    ].join('\n'),
  );
  if ([duplicates, unexplained, wrong, late].some(all => all.length > 0)) process.exitCode = 1;
}

/**
 * @param {string} what
 * @param {readonly string[]} all
 */
function list(what, all) {
  return [`${what}: ${all.length}`, ...all.map(each => `  ${each}`)];
}
