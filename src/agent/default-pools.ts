import type { Config } from '../config.js';
import { withDeadline } from '../deadline.js';
import { reason, RequestError } from '../errors.js';
import type { Dataplane } from '../host/dataplane.js';
import { parseCidr } from '../ipam/cidr.js';
import { choosePool } from '../ipam/default-pool.js';
import type { IpamFacts } from '../ipam/facts.js';
import type { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import type { Logger } from '../log.js';

/** Milliseconds between tries. */
const RETRY = 2_000;

/** Makes the pools for networks without a subnet, where there are none of their family. Throws RequestError, DatastoreError. */
export async function makeDefaultPools(
  config: Pick<Config, 'ipv4PoolCidr' | 'ipv6PoolCidr'>,
  facts: IpamFacts,
  pools: PoolLifecycle,
  dataplane: Pick<Dataplane, 'foreignRoutes'>,
): Promise<void> {
  const routes = (await dataplane.foreignRoutes()).flatMap(({ cidr }) => parseCidr(cidr) ?? []);
  const others = [...routes, ...facts.allPools().map(pool => pool.cidr)];
  const { ipv4PoolCidr, ipv6PoolCidr } = config;
  const cidr = ipv4PoolCidr && choosePool(ipv4PoolCidr, others);
  if (cidr) await pools.ensureDefault(cidr);
  if (ipv6PoolCidr) await pools.ensureDefault(ipv6PoolCidr);
}

/** Tries until it is done, or cannot be. */
export async function untilMade(work: () => Promise<void>, what: string, log: Logger): Promise<void> {
  for (;;) {
    try {
      return await withDeadline(30_000, work);
    } catch (error) {
      // Nothing that time would change; a network without --subnet will say so again.
      if (error instanceof RequestError) return log.error({ reason: error.message }, `cannot make ${what}`);
      log.error({ reason: reason(error) }, `cannot make ${what}; trying again`);
      await new Promise(resolve => setTimeout(resolve, RETRY).unref());
    }
  }
}
