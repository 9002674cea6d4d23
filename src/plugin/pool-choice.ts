import { RequestError } from '../errors.js';
import { cover, formatCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';
import { describePool } from '../ipam/facts.js';
import type { IpamFacts } from '../ipam/facts.js';
import type { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import type { IpPool } from '../model/ip-pool.js';
import type { PoolChoice } from './pool-id.js';
import type { PoolRequest } from './pool-request.js';

/** What choosing needs of the drivers' parts. */
export interface PoolChoiceParts {
  readonly facts: IpamFacts;
  readonly pools: PoolLifecycle;
  /** Makes the default pools if there are none. */
  ensureDefaultPools(): Promise<void>;
}

/** The pools for a RequestPool; makes one where a subnet needs it. Throws RequestError where there is none to be had. */
export async function choosePools(request: PoolRequest, parts: PoolChoiceParts): Promise<PoolChoice> {
  const { family, subnet, range, options } = request;
  const named = options.pools && namedPools(options.pools, family, parts.facts);
  if (subnet) {
    const known = parts.facts.poolAround(subnet);
    if (named && !(known && named.includes(known.name))) {
      const where = known ? `lies in ${describePool(known)}` : 'lies in no IPPool';
      throw new RequestError(
        `--subnet ${formatCidr(subnet)} ${where}: --ipam-opt ippools has to name the pool around it`,
      );
    }
    await parts.pools.poolFor(subnet, options);
    return { family, subnet, ...(range ? { range } : {}) };
  }
  if (named) return { family, pools: named };
  if (defaultPools(family, parts.facts).length === 0) await parts.ensureDefaultPools();
  if (defaultPools(family, parts.facts).length > 0) return { family };
  const remedy = family === 4 ? 'create an IPPool' : 'set CALICO_IPV6POOL_CIDR for the daemon';
  throw new RequestError(
    `there is no IPv${family} pool for networks without a subnet: give the network an IPv${family} --subnet, or ${remedy}`,
  );
}

/** Those of the named pools that are of the family. All must exist and be usable, whatever their family. */
function namedPools(names: readonly string[], family: Family, facts: IpamFacts): string[] {
  const found = names.map(name => {
    const pool = facts.allPools().find(candidate => candidate.name === name);
    if (!pool) throw new RequestError(`--ipam-opt ippools: there is no IPPool ${name}`);
    if (pool.disabled) throw new RequestError(`--ipam-opt ippools: ${describePool(pool)} is disabled`);
    if (!pool.allowsWorkloads)
      throw new RequestError(
        `--ipam-opt ippools: ${describePool(pool)} is not meant for containers (allowedUses)`,
      );
    return pool;
  });
  const ours = found.filter(pool => pool.cidr.family === family).map(pool => pool.name);
  if (ours.length === 0)
    throw new RequestError(`--ipam-opt ippools=${names.join(',')}: none of them is IPv${family}`);
  return ours;
}

function defaultPools(family: Family, facts: IpamFacts): IpPool[] {
  const labels = facts.nodeLabels;
  return facts
    .allPools()
    .filter(
      pool =>
        pool.cidr.family === family &&
        !pool.disabled &&
        pool.automatic &&
        pool.allowsWorkloads &&
        pool.selectsNode(labels),
    );
}

/** The pools a network without subnet takes its addresses from. */
export function poolsOf(choice: PoolChoice, facts: IpamFacts): IpPool[] {
  const { pools, family } = choice;
  return pools ? facts.allPools().filter(pool => pools.includes(pool.name)) : defaultPools(family, facts);
}

/**
 * The range dockerd is shown for a network without subnet. IPv4: 0.0.0.0/0, which every engine exempts from its checks
 * (they would ask again and again). IPv6 has no such exemption before 27: the range around the pools, which contains no
 * nameserver of the host.
 */
export function shownPool(choice: PoolChoice, facts: IpamFacts): Cidr {
  const everything: Cidr = { family: choice.family, base: 0n, length: 0 };
  if (choice.family === 4) return everything;
  return cover(poolsOf(choice, facts).map(pool => pool.cidr)) ?? everything;
}
