import { loadConfig } from '../config.js';
import { daemonOn } from '../doctor/processes.js';
import { createLinuxDataplane } from '../host/linux.js';
import { createLogger } from '../log.js';
import { UsageError } from './command.js';
import type { Run } from './command.js';

/**
 * `node cleanup`: takes off this host what the daemon leaves on it when it ends, so that containers keep their network:
 * routes of our protocol number, nftables tables, the accept rules in Docker's chain, the VXLAN. For after the last
 * container, when the daemon is not to come back; asks no datastore. Exit status 0: nothing of it is there any more; 1: a
 * daemon runs, or containers use it. Throws HostError where the kernel refuses.
 */
export const run: Run = async (args, env, out) => {
  if (args.length > 0) throw new UsageError(`node cleanup does not know "${args.join(' ')}"`);
  const { socketDir } = loadConfig(env);
  const pid = daemonOn(`${socketDir}/calico.sock`);
  if (pid !== undefined) {
    out.error(`the daemon runs (process ${pid}) and would put it all back: stop it first`);
    return 1;
  }
  // Felix's things are not ours: they have another protocol number, other tables and no link group.
  const dataplane = createLinuxDataplane({}, createLogger('silent'));
  try {
    const interfaces = await dataplane.hostInterfaces();
    if (interfaces.length > 0) {
      const names = interfaces.map(({ name }) => name).join(', ');
      out.error(
        `${interfaces.length} interfaces of containers are here (${names}), which would lose their network: remove those containers first`,
      );
      return 1;
    }
    await dataplane.removeAll();
  } finally {
    await dataplane.close();
  }
  out.line('routes, nftables tables, accept rules and tunnels of calico-libnetwork are gone from this host');
  return 0;
};
