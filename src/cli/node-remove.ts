import { loadConfig } from '../config.js';
import type { Config } from '../config.js';
import type { Store } from '../datastore/store.js';
import { IpamFacts } from '../ipam/facts.js';
import { NodeRemoval, whileGone } from '../ipam/node-removal.js';
import { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import { createLogger } from '../log.js';
import type { Output, Run } from './command.js';
import { UsageError } from './command.js';
import { withDatastore } from './datastore.js';

/**
 * `node remove NAME [--dry-run]`: frees all that a dead host held; one line for each thing freed, then a summary. Exit
 * status 0: done, also where there was nothing; 1: the host is alive, or others are changing what was its.
 */
export const run: Run = (args, env, out) => {
  const [node, ...more] = args.filter(arg => arg !== '--dry-run');
  if (node === undefined) throw new UsageError('node remove needs the name of a host');
  if (more.length > 0 || !/^[A-Za-z0-9][A-Za-z0-9.-]*$/.test(node))
    throw new UsageError(`node remove does not know "${[node, ...more].join(' ')}"`);
  const config = loadConfig(env);
  const dryRun = args.includes('--dry-run');
  return withDatastore(config, async store => {
    await remove(whileGone(store, node), config, node, dryRun, out);
    return 0;
  });
};

async function remove(
  store: Store,
  config: Config,
  node: string,
  dryRun: boolean,
  out: Output,
): Promise<void> {
  const quiet = createLogger('silent');
  const facts = new IpamFacts(store, node, quiet);
  const pools = new PoolLifecycle(store, facts, config, () => Promise.resolve([]), quiet);
  let count = 0;
  try {
    await new NodeRemoval(store, facts, {
      node,
      dryRun,
      isGlobal: config.scope === 'global',
      removePool: (pool, isNeeded) => pools.removeIfUnused(pool.name, isNeeded),
      freed(text) {
        count += 1;
        out.line(`${dryRun ? 'would free' : 'freed'}: ${text}`);
      },
      note: text => out.error(`note: ${text}`),
    }).run();
    const summary = `${count} things of host ${node} ${dryRun ? 'would be freed' : 'freed'}`;
    out.line(count === 0 ? `nothing of host ${node} is in the datastore` : summary);
  } finally {
    facts.close();
  }
}
