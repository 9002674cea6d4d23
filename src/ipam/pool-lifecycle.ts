import type { Logger } from 'pino';
import {
  AFFINITIES_PREFIX,
  parseAffinityKey,
  POOL_CREATION_KEY,
  resourceKey,
  resourcesPrefix,
} from '../datastore/keys.js';
import type { Entry, Store } from '../datastore/store.js';
import { ConflictError, RequestError } from '../errors.js';
import {
  formatDisappearing,
  formatNewPool,
  formatReturned,
  isDisappearing,
  parseIpPool,
} from '../model/ip-pool.js';
import type { Encapsulation, IpPool, NewPool } from '../model/ip-pool.js';
import { covers, formatCidr, overlap } from './cidr.js';
import type { Cidr } from './cidr.js';
import { releaseBlock } from './claim.js';
import { describePool } from './facts.js';
import type { IpamFacts } from './facts.js';

const ATTEMPTS = 20;

export interface PoolLifecycleOptions {
  /** A `--subnet` in no pool makes one. */
  readonly autoPools: boolean;
  /** For IPv4 pools we make. */
  readonly vxlanMode: Encapsulation;
}

/** How IPPools come and go with `docker network create` and `docker network rm`. */
export class PoolLifecycle {
  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
    private readonly options: PoolLifecycleOptions,
    private readonly log: Logger,
  ) {}

  /**
   * The pool that serves a `--subnet`: the one it equals or lies in, else a new one. No round trip where a pool is
   * there, three where one is made. Throws RequestError where the subnet cannot be served.
   */
  async poolFor(subnet: Cidr): Promise<IpPool> {
    const known = this.facts.poolAround(subnet);
    if (known && !known.disabled) return usable(known);
    return this.create(subnet, {
      name: poolName(subnet),
      cidr: subnet,
      vxlanMode: subnet.family === 4 ? this.options.vxlanMode : 'Never',
      natOutgoing: true,
      madeForDocker: true,
    });
  }

  /** Makes a pool for all networks without a subnet, unless there is one of that family already. */
  async ensureDefault(cidr: Cidr): Promise<void> {
    const { pools } = await this.read();
    if (pools.some(({ pool }) => pool.cidr.family === cidr.family && pool.automatic)) return;
    const name = `default-ipv${cidr.family}-ippool`;
    const vxlanMode = cidr.family === 4 ? this.options.vxlanMode : 'Never';
    await this.create(cidr, { name, cidr, vxlanMode, natOutgoing: true, madeForDocker: false });
  }

  /**
   * Removes a pool that we made, once no network and no address needs it. Two steps, as Calico deletes pools: disable
   * it, so that nobody can start to use it unseen; look again; delete, or put it back. `isNeeded` tells whether a
   * network refers to the pool.
   */
  async removeIfUnused(name: string, isNeeded: (pool: IpPool) => Promise<boolean>): Promise<boolean> {
    const entry = await this.store.get(resourceKey('ippools', name));
    const pool = entry && parseIpPool(entry.value);
    if (!entry || !pool?.isOurs || (await isNeeded(pool))) return false;
    const going = isDisappearing(pool) ? entry : await this.replace(entry, formatDisappearing(pool));
    if (!going) return false;
    const emptied = !(await isNeeded(pool)) && (await this.releaseBlocks(pool.cidr));
    const again = parseIpPool(going.value);
    if (!emptied) {
      if (again) await this.replace(going, formatReturned(again));
      return false;
    }
    const result = await this.store.transact({
      compare: [{ key: going.key, is: 'revision', revision: going.revision }],
      then: [{ delete: going.key }],
    });
    if (result.succeeded) {
      this.facts.pools.observeDeleted(going.key, result.revision);
      this.log.info(
        { pool: name, cidr: formatCidr(pool.cidr) },
        'removed the IPPool of the last network that used it',
      );
    }
    return result.succeeded;
  }

  private async create(subnet: Cidr, fresh: NewPool): Promise<IpPool> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { pools, creation } = await this.read();
      const around = pools.find(({ pool }) => covers(pool.cidr, subnet));
      if (around && isDisappearing(around.pool)) {
        // Its last network went a moment ago; whoever removes it sees that it is back and stops.
        const back = await this.replace(around.entry, formatReturned(around.pool));
        const pool = back && parseIpPool(back.value);
        if (pool) return usable(pool);
        continue;
      }
      if (around) return usable(around.pool);
      const clash = pools.find(({ pool }) => overlap(pool.cidr, subnet));
      if (clash) throw new RequestError(overlapText(subnet, clash.pool));
      if (fresh.madeForDocker && !this.options.autoPools)
        throw new RequestError(
          `no IPPool contains ${formatCidr(subnet)} and CALICO_LIBNETWORK_AUTO_POOLS is off: create the pool first`,
        );
      const taken = pools.some(({ pool }) => pool.name === fresh.name);
      const name = taken ? `${fresh.name}-${attempt + 2}` : fresh.name;
      const key = resourceKey('ippools', name);
      const value = formatNewPool({ ...fresh, name }, new Date());
      const result = await this.store.transact({
        compare: [
          { key, is: 'absent' },
          creation
            ? { key: POOL_CREATION_KEY, is: 'revision', revision: creation.revision }
            : { key: POOL_CREATION_KEY, is: 'absent' },
        ],
        then: [
          { put: key, value },
          { put: POOL_CREATION_KEY, value: JSON.stringify({ pool: name, node: this.facts.node }) },
        ],
      });
      const pool = parseIpPool(value);
      if (result.succeeded && pool) {
        this.facts.pools.observe({ key, value, revision: result.revision });
        this.log.info({ pool: name, cidr: formatCidr(subnet) }, 'created an IPPool');
        return pool;
      }
    }
    throw new ConflictError(
      `an IPPool for ${formatCidr(subnet)} could not be created: pools are being changed by too many at once`,
    );
  }

  /** Pools as they are now, and what to compare so that nobody adds one unseen. */
  private async read(): Promise<{ pools: { pool: IpPool; entry: Entry }[]; creation: Entry | undefined }> {
    const creation = await this.store.get(POOL_CREATION_KEY);
    const { entries } = await this.store.list(resourcesPrefix('ippools'));
    const pools = entries.flatMap(entry => {
      const pool = parseIpPool(entry.value);
      return pool ? [{ pool, entry }] : [];
    });
    return { pools, creation };
  }

  private async replace(entry: Entry, value: string): Promise<Entry | undefined> {
    const result = await this.store.transact({
      compare: [{ key: entry.key, is: 'revision', revision: entry.revision }],
      then: [{ put: entry.key, value }],
    });
    if (!result.succeeded) return undefined;
    const replaced = { key: entry.key, value, revision: result.revision };
    this.facts.pools.observe(replaced);
    return replaced;
  }

  /** Gives back all empty blocks in the range, whosever they are; false where one holds an address. */
  private async releaseBlocks(range: Cidr): Promise<boolean> {
    const { entries } = await this.store.list(AFFINITIES_PREFIX);
    for (const { key } of entries) {
      const affinity = parseAffinityKey(key);
      if (!affinity || !covers(range, affinity.cidr)) continue;
      if ((await releaseBlock(this.store, affinity.node, affinity.cidr)) === 'not empty') return false;
    }
    return true;
  }
}

function usable(pool: IpPool): IpPool {
  if (pool.disabled)
    throw new RequestError(`${describePool(pool)} is disabled: enable it, or choose another subnet`);
  if (!pool.allowsWorkloads)
    throw new RequestError(
      `${describePool(pool)} is not meant for containers (allowedUses): choose another subnet`,
    );
  return pool;
}

function overlapText(subnet: Cidr, pool: IpPool): string {
  return (
    `subnet ${formatCidr(subnet)} overlaps ${describePool(pool)}, which lies in it: ` +
    `use --subnet=${formatCidr(pool.cidr)} or a part of it, or a subnet that overlaps no pool`
  );
}

/** `docker-192-0-2-0-24`; a resource name may hold no colon and no slash. */
function poolName(cidr: Cidr): string {
  const [address = '', length = ''] = formatCidr(cidr).split('/');
  return `docker-${address.replaceAll('::', '-x-').replaceAll(/[.:]/g, '-').replaceAll(/-+/g, '-')}-${length}`;
}
