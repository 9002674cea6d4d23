import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import {
  AFFINITIES_PREFIX,
  blockKey,
  NETWORKS_PREFIX,
  parseAffinityKey,
  POOL_CREATION_KEY,
  resourceKey,
  resourcesPrefix,
} from '../datastore/keys.js';
import type { Compare, Entry, Store } from '../datastore/store.js';
import { ConflictError, RequestError } from '../errors.js';
import type { ForeignRoute } from '../host/dataplane.js';
import {
  formatDisappearing,
  formatNewPool,
  newBlockSize,
  formatReturned,
  isDisappearing,
  parseIpPool,
} from '../model/ip-pool.js';
import type { AllocationAttribute } from '../model/block.js';
import type { Encapsulation, IpPool, NewPool } from '../model/ip-pool.js';
import { parseNetworkRecord } from '../model/network-record.js';
import { covers, formatCidr, overlap, parseCidr } from './cidr.js';
import type { Cidr } from './cidr.js';
import { isEmpty } from './block.js';
import { listBlocks } from './blocks.js';
import { releaseBlock } from './claim.js';
import { describePool } from './facts.js';
import type { IpamFacts } from './facts.js';

const ATTEMPTS = 20;
/** Milliseconds for live hosts to leave a pool with their addresses in the VXLAN, and between looks. */
const TUNNEL_PATIENCE = 2_000;
const TUNNEL_PAUSE = 100;

export interface PoolLifecycleOptions {
  /** A `--subnet` in no pool makes one. */
  readonly autoPools: boolean;
  /** For IPv4 pools we make. */
  readonly vxlanMode: Encapsulation;
}

/** What a user wants of a pool made on the fly. */
export interface PoolWish {
  readonly blockSize?: number;
  readonly natOutgoing?: boolean;
  readonly vxlanMode?: Encapsulation;
}

/** How IPPools come and go with `docker network create` and `docker network rm`. */
export class PoolLifecycle {
  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
    private readonly options: PoolLifecycleOptions,
    /** What this host reaches without us. */
    private readonly foreignRoutes: () => Promise<readonly ForeignRoute[]>,
    private readonly log: Logger,
  ) {}

  /**
   * The pool that serves a `--subnet`: the one it equals or lies in, else a new one. No round trip where a pool is
   * there, three where one is made. Throws RequestError where the subnet cannot be served, or the pool that is there is
   * not as wished.
   */
  async poolFor(subnet: Cidr, wish: PoolWish = {}): Promise<IpPool> {
    const known = this.facts.poolAround(subnet);
    if (known && !known.disabled) return fitting(usable(known), wish);
    const pool = await this.create(subnet, {
      name: poolName(subnet),
      cidr: subnet,
      vxlanMode: wish.vxlanMode ?? (subnet.family === 4 ? this.options.vxlanMode : 'Never'),
      natOutgoing: wish.natOutgoing ?? true,
      ...(wish.blockSize === undefined ? {} : { blockSize: wish.blockSize }),
      madeForDocker: true,
    });
    return fitting(pool, wish);
  }

  /** Makes a pool for all networks without a subnet, unless there is one of that family already. */
  async ensureDefault(cidr: Cidr): Promise<void> {
    const vxlanMode = cidr.family === 4 ? this.options.vxlanMode : 'Never';
    const name = `default-ipv${cidr.family}-ippool`;
    const isThere = (pools: readonly IpPool[]) =>
      pools.find(pool => pool.cidr.family === cidr.family && pool.automatic);
    await this.create(cidr, { name, cidr, vxlanMode, natOutgoing: true, madeForDocker: false }, isThere);
  }

  /** A pool on its way out that somebody needs after all (whoever removes it may have died half-way). */
  async putBack(pool: IpPool): Promise<void> {
    const entry = await this.store.get(resourceKey('ippools', pool.name));
    const found = entry && parseIpPool(entry.value);
    if (entry && found && isDisappearing(found)) await this.replace(entry, formatReturned(found));
  }

  /**
   * Removes a pool that we made, once no network and no address needs it. Two steps, as Calico deletes pools: disable
   * it, so that nobody can start to use it unseen; look again; delete, or put it back. `isNeeded` tells whether a
   * network refers to the pool; where not given, one of any host.
   */
  async removeIfUnused(
    name: string,
    isNeeded: (pool: IpPool) => Promise<boolean> = pool => this.isNeeded(pool),
  ): Promise<boolean> {
    const entry = await this.store.get(resourceKey('ippools', name));
    const pool = entry && parseIpPool(entry.value);
    if (!entry || !pool?.isOurs || (await isNeeded(pool))) return false;
    const going = isDisappearing(pool) ? entry : await this.replace(entry, formatDisappearing(pool));
    if (!going) return false;
    let isEmptied = false;
    try {
      isEmptied =
        !(await isNeeded(pool)) && (await this.leftByTunnels(pool)) && (await this.releaseBlocks(pool.cidr));
    } finally {
      if (!isEmptied) await this.putBack(pool);
    }
    if (!isEmptied) return false;
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

  /** {@link removeIfUnused} for the pool around a subnet that a network no longer has. */
  async removeAround(subnet: Cidr): Promise<void> {
    const pool = this.facts.poolAround(subnet);
    if (pool?.isOurs) await this.removeIfUnused(pool.name);
  }

  /** True where a network of any host takes addresses from the pool. One round trip: a mirror may lag. */
  private async isNeeded(pool: IpPool): Promise<boolean> {
    const { entries } = await this.store.list(NETWORKS_PREFIX);
    return entries.some(({ value }) => {
      const subnets = parseNetworkRecord(value)?.subnets ?? [];
      return subnets.flatMap(({ cidr }) => parseCidr(cidr) ?? []).some(subnet => covers(pool.cidr, subnet));
    });
  }

  /** `isThere` finds a pool that serves as well. */
  private async create(
    subnet: Cidr,
    fresh: NewPool,
    isThere = (pools: readonly IpPool[]) => pools.find(pool => covers(pool.cidr, subnet)),
  ): Promise<IpPool> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { pools, creation } = await this.read();
      const found = isThere(pools.map(({ pool }) => pool));
      if (found && isDisappearing(found)) {
        // Its last network went a moment ago; whoever removes it sees that it is back and stops.
        await this.putBack(found);
        continue;
      }
      if (found) return usable(found);
      const clash = pools.find(({ pool }) => overlap(pool.cidr, subnet));
      if (clash) throw new RequestError(overlapText(subnet, clash.pool));
      if (fresh.madeForDocker && !this.options.autoPools)
        throw new RequestError(
          `no IPPool contains ${formatCidr(subnet)} and CALICO_LIBNETWORK_AUTO_POOLS is off: create the pool first`,
        );
      if (fresh.madeForDocker) this.checkRoutes(subnet, await this.foreignRoutes());
      await this.checkBlocks(subnet, newBlockSize(fresh));
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

  /**
   * For a network that is new on this host: a pool that another host made for it was compared with that host's routes only.
   * Here what is on a wire counts; routes by others may well lead into the pool (BIRD's do). Throws RequestError. No round
   * trip.
   */
  async checkHere(subnets: readonly Cidr[]): Promise<void> {
    const made = subnets.filter(subnet => this.facts.poolAround(subnet)?.isOurs);
    if (made.length === 0) return;
    const onLink = (await this.foreignRoutes()).filter(route => route.onLink);
    for (const subnet of made) this.checkRoutes(subnet, onLink);
  }

  /**
   * Throws RequestError where a pool made on the fly would take addresses that this host reaches otherwise: its own
   * segment, another bridge's, or a more particular route. A part of what a router leads to is fine.
   */
  private checkRoutes(subnet: Cidr, foreign: readonly ForeignRoute[]): void {
    for (const { cidr: text, onLink } of foreign) {
      const route = parseCidr(text);
      if (!route || !(covers(subnet, route) || (onLink && covers(route, subnet)))) continue;
      throw new RequestError(
        `subnet ${formatCidr(subnet)} overlaps ${text}, which this host reaches by a route of its own: choose another subnet, or create the IPPool yourself`,
      );
    }
  }

  /**
   * Throws RequestError where blocks of another size lie in the range: what is left of a pool whose addresses were in
   * use when it went. Blocks of two sizes would hold the same address twice.
   */
  private async checkBlocks(subnet: Cidr, blockSize: number): Promise<void> {
    const other = (await listBlocks(this.store, subnet)).find(
      ({ block }) => overlap(block.cidr, subnet) && block.cidr.length !== blockSize,
    );
    if (other)
      throw new RequestError(
        `addresses of an earlier pool are in use in ${formatCidr(other.block.cidr)}, a block of another size: ` +
          `choose a subnet that does not overlap it, or --ipam-opt blockSize=${other.block.cidr.length}`,
      );
  }

  /**
   * Waits until hosts that have an address in the VXLAN from a disappearing pool have left it, as live ones do at once;
   * false where some stay. One listing of the blocks each time.
   */
  private async leftByTunnels({ cidr, vxlanMode }: IpPool): Promise<boolean> {
    if (vxlanMode === 'Never') return true;
    for (const until = Date.now() + TUNNEL_PATIENCE; ; await sleep(TUNNEL_PAUSE)) {
      const blocks = (await listBlocks(this.store, cidr)).filter(({ block }) => covers(cidr, block.cidr));
      if (!blocks.some(({ block }) => block.attributes.some(isTunnels))) return true;
      if (Date.now() > until) return false;
    }
  }

  /** Gives back all blocks in the range, whosever they are; false where one holds an address. */
  private async releaseBlocks(range: Cidr): Promise<boolean> {
    const inRange = (await listBlocks(this.store, range)).filter(({ block }) => covers(range, block.cidr));
    if (inRange.some(({ block }) => !isEmpty(block))) return false;
    const { entries } = await this.store.list(AFFINITIES_PREFIX);
    for (const { key } of entries) {
      const affinity = parseAffinityKey(key);
      if (!affinity || !covers(range, affinity.cidr)) continue;
      if ((await releaseBlock(this.store, affinity.node, affinity.cidr)) === 'not empty') return false;
    }
    for (const { block, revision } of inRange.filter(({ block }) => block.affinity === null)) {
      const key = blockKey(block.cidr);
      const compare: Compare[] = [{ key, is: 'revision', revision }];
      const result = await this.store.transact({ compare, then: [{ delete: key }], otherwise: [key] });
      // Another host that removes the same pool may have been quicker.
      if (!result.succeeded && result.found.get(key)) return false;
    }
    return true;
  }
}

/** An address of a host itself, inside Calico's VXLAN. */
function isTunnels({ secondary }: AllocationAttribute): boolean {
  return /^vxlan(V6)?TunnelAddress$/.test(secondary?.type ?? '');
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

function fitting(pool: IpPool, wish: PoolWish): IpPool {
  for (const field of ['blockSize', 'natOutgoing', 'vxlanMode'] as const)
    if (wish[field] !== undefined && wish[field] !== pool[field])
      throw new RequestError(
        `${describePool(pool)} is there already, with ${field} ${pool[field]}: leave out --ipam-opt ${field}, or choose another subnet`,
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
