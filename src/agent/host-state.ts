import type { HostState } from '../host/dataplane.js';
import { formatCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import type { IpPool } from '../model/ip-pool.js';

/** What should be true on the host beyond single endpoints, from what the datastore says. Pure. */
export function hostState(pools: readonly IpPool[], ownBlocks: readonly Cidr[]): HostState {
  return {
    ownBlocks: ownBlocks.map(formatCidr).sort(),
    pools: pools.map(pool => formatCidr(pool.cidr)).sort(),
    masqueradeFrom: pools
      .filter(pool => pool.natOutgoing)
      .map(pool => formatCidr(pool.cidr))
      .sort(),
  };
}
