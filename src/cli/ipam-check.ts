import { loadConfig } from '../config.js';
import type { Run } from './command.js';
import { UsageError } from './command.js';
import { withDatastore } from './datastore.js';

export const run: Run = async (args, env, out) => {
  const unknown = args.find(arg => arg !== '--fix');
  if (unknown !== undefined) throw new UsageError(`unknown argument ${unknown}`);
  return withDatastore(loadConfig(env), async store => {
    await store.ping();
    out.line('reachable');
    return 0;
  });
};
