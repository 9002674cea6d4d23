import type { Logger } from 'pino';
import { affinityKey, handleKey } from '../datastore/keys.js';
import type { Compare, Store } from '../datastore/store.js';
import { withoutDeadline } from '../deadline.js';
import { ConflictError, NoAddressError, RequestError } from '../errors.js';
import { KeyedLock } from '../keyed-lock.js';
import type { AllocationAttribute, Block } from '../model/block.js';
import type { IpPool } from '../model/ip-pool.js';
import { assignmentError } from './assignment-error.js';
import { holderOf, nextFree, ownedBy } from './block.js';
import type { BlockRequest } from './block-queue.js';
import { assignNextIn, assignTo, isHeldBy, releaseIn } from './block-requests.js';
import type { Assignment, Holder, NoAssignment } from './block-requests.js';
import { Blocks } from './blocks.js';
import { blockCidrs } from './candidates.js';
import {
  cidrOf,
  contains,
  covers,
  formatAddress,
  formatCidr,
  nth,
  ordinalOf,
  overlap,
  size,
} from './cidr.js';
import type { Address, Cidr, Family } from './cidr.js';
import { describePool } from './facts.js';
import type { IpamFacts } from './facts.js';
import { UnreadableBlockError } from './read-block.js';
import { reserveAt } from './reservation-request.js';
import { reservedFor, reservingNodes, reservingRequest } from './reservation.js';

/** Any free address is asked for. */
export interface AnyAddress {
  readonly family: Family;
  /** Only addresses in here (a `--subnet` or `--ip-range`); undefined: any pool that may be used without naming it. */
  readonly within?: Cidr;
  /** Only from these IPPools, by name. */
  readonly pools?: readonly string[];
  /** What for, as a pool's `allowedUses` has it; a container where nothing is said. */
  readonly use?: 'Tunnel';
  readonly holder: Holder;
}

/** What the allocator asks of its host. */
export interface AllocatorHost {
  /** Docker's scope is global, and any host may be told to release a network's reservation. */
  readonly isGlobal: boolean;
  /** A container of this host has the address, whatever the datastore says: it may have been put back to older times. */
  isRouted(address: string): boolean;
}

/** Claims of the block of one address before giving up. */
const ATTEMPTS = 20;
/** New blocks are tried by claiming them; after so many that were somebody's, all blocks are listed instead. */
const BLIND_CLAIMS = 8;
/** How long after a lost answer we go on trying to take back what it may have given, in milliseconds. */
const UNDO_DELAYS = [1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 120_000];

/**
 * Gives out and takes back addresses in Calico's IPAM data. In the common case (a block of ours with a free address)
 * each call is one etcd round trip; claiming a new block adds one; borrowing adds a listing of all blocks.
 */
export class Allocator {
  private readonly blocks: Blocks;
  private readonly claims = new KeyedLock();

  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
    private readonly host: AllocatorHost,
    private readonly log: Logger,
  ) {
    this.blocks = new Blocks(store, facts);
  }

  /** Throws NoAddressError where nothing is left, RequestError where no pool may be used, DatastoreError. */
  async assign(request: AnyAddress): Promise<Address> {
    await this.facts.ready();
    const pools = this.poolsFor(request);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const owned = await this.assignFromOwn(request, pools, true);
      if (owned) return owned;
      // One at a time: those who find the block full together must not claim a block each. Under the lock there is only
      // the claim; the address itself is got outside, where requests travel together.
      const claimed = await this.claims.run(
        `ipv${request.family}`,
        async () => this.hasRoom(request, pools) || (await this.claimAnother(request, pools)),
      );
      if (!claimed) break;
    }
    const rest =
      (await this.assignBorrowed(request, pools)) ?? (await this.assignFromOwn(request, pools, false));
    if (rest) return rest;
    throw this.exhausted(request, pools);
  }

  /** Assigns one address. Throws AddressInUseError, RequestError, DatastoreError. */
  async assignAddress(address: Address, holder: Holder): Promise<void> {
    await this.take(address, ordinal => assignTo(this.facts, ordinal, holder, this.undoLater));
  }

  /**
   * Keeps an address back for a network (`type`: what for). The same reservation by other nodes is shared and counted
   * by node; a second by this node is another network's, and refused. Throws as {@link assignAddress} does.
   */
  async reserve(address: Address, type: string, secondary: Readonly<Record<string, string>>): Promise<void> {
    await this.take(address, ordinal => reserveAt(this.facts, ordinal, type, secondary, this.undoLater));
  }

  /**
   * Frees an address if this node holds it: its attributes name the node, or name none and the block is ours. Anything
   * else (free, another node's, in no block) changes nothing and answers false.
   */
  async release(address: Address): Promise<boolean> {
    const { node } = this.facts;
    const isOurs = (holder: AllocationAttribute, block: Block): boolean => {
      if (reservedFor(holder) !== undefined)
        return this.host.isGlobal || reservingNodes(holder).includes(node);
      const owner = holder.secondary?.node;
      return owner === undefined ? block.affinity === ownedBy(node) : owner === node;
    };
    return this.releaseWhere(address, isOurs, this.host.isGlobal ? undefined : node);
  }

  /**
   * Frees an address if it is held under just this handle, and where a revision is given, if the handle still is that
   * one: of just one allocation. Answers whether it was; one round trip.
   */
  async releaseHandle(address: Address, handle: string, revision?: string): Promise<boolean> {
    const isIt = (holder: AllocationAttribute) => holder.handle_id === handle;
    const only = revision === undefined ? {} : { handle: { id: handle, revision, otherwise: false } };
    return this.releaseWhere(address, isIt, undefined, only);
  }

  /** Removes a handle of that revision that holds nothing. Answers whether it did; two round trips. */
  async dropStrayHandle(address: Address, handle: string, revision: string): Promise<boolean> {
    if ((await this.holder(address))?.handle_id === handle) return false;
    const key = handleKey(handle);
    const compare: Compare[] = [{ key, is: 'revision', revision }];
    return (await this.store.transact({ compare, then: [{ delete: key }] })).succeeded;
  }

  /** Gives up this node's part of a reservation if it still is the one with this mark. One round trip. */
  async releaseReservation(address: Address, handle: string, request: string): Promise<boolean> {
    const { node } = this.facts;
    const isIt = (holder: AllocationAttribute) =>
      holder.handle_id === handle && reservingRequest(holder, node) === request;
    return this.releaseWhere(address, isIt, node);
  }

  /** Who holds an address now; undefined where nobody does. One round trip, or two where its pool is gone. */
  async holder(address: Address): Promise<AllocationAttribute | undefined> {
    await this.facts.ready();
    const cidr = await this.blocks.around(address);
    const block = cidr && (await this.blocks.read(cidr));
    return block && holderOf(block, ordinalOf(block.cidr, address));
  }

  /** `node`: of a reservation that other nodes share, only its part goes. */
  private async releaseWhere(
    address: Address,
    isIt: (holder: AllocationAttribute, block: Block, ordinal: number) => boolean,
    node: string | undefined,
    only: Pick<BlockRequest<boolean>, 'handle'> = {},
  ): Promise<boolean> {
    await this.facts.ready();
    const cidr = await this.blocks.around(address);
    if (!cidr) return false;
    const ordinal = ordinalOf(cidr, address);
    const request = releaseIn(this.facts, ordinal, (holder, block) => isIt(holder, block, ordinal), node);
    return this.blocks.queue(cidr).submit({ ...request, ...only });
  }

  private async take(
    address: Address,
    request: (ordinal: number) => BlockRequest<Assignment | NoAssignment>,
  ): Promise<void> {
    await this.facts.ready();
    const text = formatAddress(address);
    const pool = this.facts.poolOf(address);
    if (!pool) throw new RequestError(`address ${text} is in no IPPool`);
    if (pool.disabled) throw new RequestError(`address ${text}: ${describePool(pool)} is disabled`);
    if (!pool.allowsWorkloads)
      throw new RequestError(
        `address ${text}: ${describePool(pool)} is not meant for containers (allowedUses)`,
      );
    const cidr = cidrOf(address, pool.blockSize);
    const queue = this.blocks.queue(cidr);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const result = await queue.submit(request(ordinalOf(cidr, address)));
      if (isAssignment(result)) return;
      if (result !== 'gone') throw assignmentError(address, result, this.facts.node);
      await this.blocks.claim(cidr);
    }
    throw new ConflictError(`block ${formatCidr(cidr)} comes and goes: try again`);
  }

  private poolsFor({ family, within, pools: names, use }: AnyAddress): IpPool[] {
    const usable = this.facts
      .allPools()
      .filter(pool => pool.cidr.family === family && !pool.disabled)
      .filter(pool => (use === 'Tunnel' ? pool.allowsTunnels : pool.allowsWorkloads))
      .filter(pool => !names || names.includes(pool.name));
    if (names && usable.length === 0)
      throw new RequestError(`none of the IPPools ${names.join(', ')} exists and is enabled`);
    if (within) {
      const around = usable.filter(pool => covers(pool.cidr, within));
      if (around.length === 0) throw new RequestError(`no enabled IPPool contains ${formatCidr(within)}`);
      return around;
    }
    const labels = this.facts.nodeLabels;
    const automatic = names ? usable : usable.filter(pool => pool.automatic && pool.selectsNode(labels));
    if (automatic.length === 0)
      throw new RequestError(
        `no IPv${family} IPPool may be used by this node: create one, or give the network a --subnet`,
      );
    return automatic;
  }

  /** From the blocks this node has. A full block is skipped by memory alone, so a node with many is as fast as one
   *  with a single block; only when `trusting` nothing is left is each asked again. */
  private async assignFromOwn(
    request: AnyAddress,
    pools: IpPool[],
    trusting: boolean,
  ): Promise<Address | undefined> {
    const allowed = this.allowed(request);
    for (const cidr of this.ownBlocks(request, pools)) {
      const known = this.blocks.queue(cidr).remembered;
      if (trusting && known && nextFree(known, allowed) === undefined) continue;
      const confirmed = this.facts.isConfirmed(affinityKey(this.facts.node, cidr));
      if (!confirmed && (await this.blocks.claim(cidr)) === 'taken') continue;
      try {
        const address = await this.assignFromOne(cidr, request, trusting);
        if (address) return address;
      } catch (error) {
        // Somebody damaged it; there are others.
        if (!(error instanceof UnreadableBlockError)) throw error;
      }
    }
    return undefined;
  }

  private ownBlocks({ within }: AnyAddress, pools: IpPool[]): Cidr[] {
    // An affinity to a block of another size would make one that holds addresses of the pool's blocks a second time.
    const blocks = pools.flatMap(pool =>
      this.facts.ownBlocks(pool.cidr).filter(({ length }) => length === pool.blockSize),
    );
    return within ? blocks.filter(cidr => overlap(within, cidr)) : blocks;
  }

  /** From a block that is said to be ours. Where it is not, or not there, the claim is renewed or dropped. */
  private async assignFromOne(
    cidr: Cidr,
    request: AnyAddress,
    trusting: boolean,
  ): Promise<Address | undefined> {
    const next = () =>
      this.blocks
        .queue(cidr)
        .submit(
          assignNextIn(this.facts, true, this.allowed(request), request.holder, trusting, this.undoLater),
        );
    const first = await next();
    if (isAssignment(first)) return first.address;
    if (first !== 'gone' && first !== 'foreign') return undefined;
    if ((await this.blocks.claim(cidr)) === 'taken') return undefined;
    const second = await next();
    return isAssignment(second) ? second.address : undefined;
  }

  /** True where a block of ours, as far as we remember it, has an address for the request. */
  private hasRoom(request: AnyAddress, pools: IpPool[]): boolean {
    const allowed = this.allowed(request);
    return this.ownBlocks(request, pools).some(cidr => {
      const known = this.blocks.queue(cidr).remembered;
      return known !== undefined && nextFree(known, allowed) !== undefined;
    });
  }

  /** Claims a block that has an address for the request; false where none can be had. */
  private async claimAnother(request: AnyAddress, pools: IpPool[]): Promise<boolean> {
    const allowed = this.allowed(request);
    for (const pool of pools) {
      for await (const cidr of this.unclaimed(pool, request.within)) {
        const { autoAllocateBlocks, maxBlocksPerHost } = this.facts.ipamConfig;
        if (!autoAllocateBlocks || this.facts.blockCount(request.family) >= maxBlocksPerHost) return false;
        if (!hasAny(cidr, allowed) || (await this.blocks.claim(cidr)) === 'taken') continue;
        const block = this.blocks.queue(cidr).remembered;
        // One that was ours before may be full.
        if (block && nextFree(block, allowed) !== undefined) return true;
      }
    }
    return false;
  }

  /** Blocks of the pool that nobody may have yet, in this node's order. */
  private async *unclaimed(pool: IpPool, within: Cidr | undefined): AsyncGenerator<Cidr> {
    const { node } = this.facts;
    const reserved = (block: Cidr) => this.facts.reservationAround(block);
    let tried = 0;
    let existing: Set<string> | undefined;
    for (const cidr of blockCidrs(blockRange(pool, within), pool.blockSize, node, reserved)) {
      if (tried >= BLIND_CLAIMS)
        existing ??= new Set((await this.blocks.list(pool.cidr)).map(({ block }) => formatCidr(block.cidr)));
      if (this.facts.affinities.get(affinityKey(node, cidr)) || existing?.has(formatCidr(cidr))) continue;
      tried += 1;
      yield cidr;
    }
  }

  /** From blocks of others, or of nobody. */
  private async assignBorrowed(request: AnyAddress, pools: IpPool[]): Promise<Address | undefined> {
    if (this.facts.ipamConfig.strictAffinity) return undefined;
    const allowed = this.allowed(request);
    for (const pool of pools) {
      for (const { block, revision } of await this.blocks.list(pool.cidr)) {
        if (block.affinity === ownedBy(this.facts.node) || nextFree(block, allowed) === undefined) continue;
        const queue = this.blocks.queue(block.cidr);
        if (!queue.remembered) queue.remember(block, revision);
        const result = await queue.submit(
          assignNextIn(this.facts, false, allowed, request.holder, false, this.undoLater),
        );
        if (isAssignment(result)) return result.address;
      }
    }
    return undefined;
  }

  private allowed(request: AnyAddress): (address: Address) => boolean {
    const { within } = request;
    return address =>
      !this.facts.isReserved(address) &&
      (!within || contains(within, address)) &&
      !this.host.isRouted(formatAddress(address));
  }

  private exhausted(request: AnyAddress, pools: IpPool[]): NoAddressError {
    const { strictAffinity, maxBlocksPerHost } = this.facts.ipamConfig;
    const where = request.within ? formatCidr(request.within) : pools.map(describePool).join(', ');
    const why =
      strictAffinity && this.facts.blockCount(request.family) >= maxBlocksPerHost
        ? `this node has reached its limit of ${maxBlocksPerHost} blocks (maxBlocksPerHost)`
        : 'all are in use';
    return new NoAddressError(
      `no free address in ${where}: ${why}. Remove containers, or use a network with a larger subnet`,
    );
  }

  /**
   * Takes back, once etcd answers again, an address that a transaction with a lost answer may have given to a request
   * that has failed. It is ours to free only while it is held by just that request: the same container may have asked
   * again, with the same handle, and have it.
   */
  private readonly undoLater = (assignment: Assignment): void => {
    const { address, handle } = assignment;
    withoutDeadline(async () => {
      for (const delay of UNDO_DELAYS) {
        await new Promise(resolve => setTimeout(resolve, delay).unref());
        try {
          // Only our part of a reservation: other nodes may have come to share it meanwhile.
          const undone = await this.releaseWhere(
            address,
            (_holder, block, ordinal) => isHeldBy(block, ordinal, assignment),
            this.facts.node,
          );
          if (undone)
            this.log.info(
              { address: formatAddress(address), handle },
              'took back an address whose request had failed',
            );
          return;
        } catch {
          // Still unreachable: the next delay.
        }
      }
    });
  };
}

/** The part of a pool whose blocks can hold addresses of `within`: at least one block. */
function blockRange(pool: IpPool, within: Cidr | undefined): Cidr {
  if (!within) return pool.cidr;
  return cidrOf(nth(within, 0), Math.min(within.length, pool.blockSize));
}

/** False where every address of the block is reserved, or outside the range that was asked for. */
function hasAny(block: Cidr, allowed: (address: Address) => boolean): boolean {
  const count = Number(size(block));
  for (let ordinal = 0; ordinal < count; ordinal += 1) if (allowed(nth(block, ordinal))) return true;
  return false;
}

function isAssignment(result: Assignment | NoAssignment): result is Assignment {
  return typeof result === 'object' && 'address' in result;
}
