import type { Logger } from 'pino';
import { affinityKey, blocksPrefix } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import { withoutDeadline } from '../deadline.js';
import { AddressInUseError, NoAddressError, RequestError } from '../errors.js';
import { KeyedLock } from '../keyed-lock.js';
import { parseBlock } from '../model/block.js';
import type { AllocationAttribute, Block } from '../model/block.js';
import type { IpPool } from '../model/ip-pool.js';
import { nextFree, ownedBy } from './block.js';
import { assignTo, assignNextIn, releaseIn } from './block-requests.js';
import type { Assignment, Holder } from './block-requests.js';
import { BlockQueue } from './block-queue.js';
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
  parseCidr,
} from './cidr.js';
import type { Address, Cidr, Family } from './cidr.js';
import { claimBlock } from './claim.js';
import { describePool } from './facts.js';
import type { IpamFacts } from './facts.js';

/** Any free address is asked for. */
export interface AnyAddress {
  readonly family: Family;
  /** Only addresses in here (a `--subnet` or `--ip-range`); undefined: any pool that may be used without naming it. */
  readonly within?: Cidr;
  readonly holder: Holder;
}

/** New blocks are tried by claiming them; after so many that were somebody's, all blocks are listed instead. */
const BLIND_CLAIMS = 8;
/** How long after a lost answer we go on trying to take back what it may have given, in milliseconds. */
const UNDO_DELAYS = [1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 120_000];

/**
 * Gives out and takes back addresses in Calico's IPAM data. In the common case (a block of ours with a free address)
 * each call is one etcd round trip; claiming a new block adds one; borrowing adds a listing of all blocks.
 */
export class Allocator {
  private readonly queues = new Map<string, BlockQueue>();
  private readonly claims = new KeyedLock();

  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
    private readonly log: Logger,
  ) {}

  /** Throws NoAddressError where nothing is left, RequestError where no pool may be used, DatastoreError. */
  async assign(request: AnyAddress): Promise<Address> {
    await this.facts.ready();
    const pools = this.poolsFor(request);
    const owned = await this.assignFromOwn(request, pools, true);
    if (owned) return owned;
    // One at a time: those who find the block full together must not claim a block each.
    const claimed = await this.claims.run(`ipv${request.family}`, async () => {
      const meanwhile = await this.assignFromOwn(request, pools, true);
      return meanwhile ?? this.assignFromNew(request, pools);
    });
    if (claimed) return claimed;
    const rest =
      (await this.assignBorrowed(request, pools)) ?? (await this.assignFromOwn(request, pools, false));
    if (rest) return rest;
    throw this.exhausted(request, pools);
  }

  /** Assigns one address. Throws AddressInUseError, RequestError, DatastoreError. */
  async assignAddress(address: Address, holder: Holder): Promise<void> {
    await this.facts.ready();
    const pool = this.facts.poolOf(address);
    if (!pool) throw new RequestError(`address ${formatAddress(address)} is in no IPPool`);
    if (pool.disabled)
      throw new RequestError(`address ${formatAddress(address)}: ${describePool(pool)} is disabled`);
    if (!pool.allowsWorkloads)
      throw new RequestError(
        `address ${formatAddress(address)}: ${describePool(pool)} is not meant for containers (allowedUses)`,
      );
    const cidr = cidrOf(address, pool.blockSize);
    const queue = this.queue(cidr);
    for (;;) {
      const request = assignTo(this.facts, ordinalOf(cidr, address), holder, this.undoLater);
      const result = await queue.submit(request);
      if (result === 'gone') {
        await this.claim(cidr);
        continue;
      }
      if (typeof result === 'object' && 'address' in result) return;
      throw assignmentError(address, result);
    }
  }

  /**
   * Frees an address if this node holds it: its attributes name the node, or name none and the block is ours. Anything
   * else (free, another node's, in no block) changes nothing and answers false.
   */
  async release(
    address: Address,
    only: (holder: AllocationAttribute) => boolean = () => true,
  ): Promise<boolean> {
    await this.facts.ready();
    const cidr = await this.blockOf(address);
    if (!cidr) return false;
    const node = this.facts.node;
    return this.queue(cidr).submit(
      releaseIn(this.facts, ordinalOf(cidr, address), (holder, block) => {
        const owner = holder.secondary?.node;
        return (owner === undefined ? block.affinity === ownedBy(node) : owner === node) && only(holder);
      }),
    );
  }

  private poolsFor({ family, within }: AnyAddress): IpPool[] {
    const usable = this.facts
      .allPools()
      .filter(pool => pool.cidr.family === family && !pool.disabled && pool.allowsWorkloads);
    if (within) {
      const around = usable.filter(pool => covers(pool.cidr, within));
      if (around.length === 0) throw new RequestError(`no enabled IPPool contains ${formatCidr(within)}`);
      return around;
    }
    const labels = this.facts.nodeLabels;
    const automatic = usable.filter(pool => pool.automatic && pool.selectsNode(labels));
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
    for (const pool of pools) {
      for (const cidr of this.facts.ownBlocks(pool.cidr)) {
        if (request.within && !overlap(request.within, cidr)) continue;
        const queue = this.queue(cidr);
        const known = queue.remembered;
        if (trusting && known && nextFree(known, allowed) === undefined) continue;
        if (
          !this.facts.isConfirmed(affinityKey(this.facts.node, cidr)) &&
          (await this.claim(cidr)) === 'taken'
        )
          continue;
        const result = await queue.submit(
          assignNextIn(this.facts, true, allowed, request.holder, trusting, this.undoLater),
        );
        if (typeof result === 'object' && 'address' in result) return result.address;
      }
    }
    return undefined;
  }

  private async assignFromNew(request: AnyAddress, pools: IpPool[]): Promise<Address | undefined> {
    const { autoAllocateBlocks, maxBlocksPerHost } = this.facts.ipamConfig;
    if (!autoAllocateBlocks) return undefined;
    const owned = [...this.facts.affinities.values()].filter(
      ({ cidr }) => cidr.family === request.family,
    ).length;
    if (owned >= maxBlocksPerHost) return undefined;
    const allowed = this.allowed(request);
    for (const pool of pools) {
      for await (const cidr of this.unclaimed(pool, request.within)) {
        if (this.facts.isWhollyReserved(cidr) || (await this.claim(cidr)) === 'taken') continue;
        const result = await this.queue(cidr).submit(
          assignNextIn(this.facts, true, allowed, request.holder, false, this.undoLater),
        );
        if (typeof result === 'object' && 'address' in result) return result.address;
      }
    }
    return undefined;
  }

  /** Blocks of the pool that nobody may have yet, in this node's order. */
  private async *unclaimed(pool: IpPool, within: Cidr | undefined): AsyncGenerator<Cidr> {
    let tried = 0;
    let existing: Set<string> | undefined;
    for (const cidr of blockCidrs(blockRange(pool, within), pool.blockSize, this.facts.node)) {
      if (tried >= BLIND_CLAIMS)
        existing ??= new Set((await this.listBlocks(pool.cidr)).map(({ block }) => formatCidr(block.cidr)));
      if (existing?.has(formatCidr(cidr))) continue;
      tried += 1;
      yield cidr;
    }
  }

  /** From blocks of others, or of nobody. */
  private async assignBorrowed(request: AnyAddress, pools: IpPool[]): Promise<Address | undefined> {
    if (this.facts.ipamConfig.strictAffinity) return undefined;
    const allowed = this.allowed(request);
    for (const pool of pools) {
      for (const { block, revision } of await this.listBlocks(pool.cidr)) {
        if (block.affinity === ownedBy(this.facts.node) || nextFree(block, allowed) === undefined) continue;
        const queue = this.queue(block.cidr);
        if (!queue.remembered) queue.remember(block, revision);
        const result = await queue.submit(
          assignNextIn(this.facts, false, allowed, request.holder, false, this.undoLater),
        );
        if (typeof result === 'object' && 'address' in result) return result.address;
      }
    }
    return undefined;
  }

  private allowed(request: AnyAddress): (address: Address) => boolean {
    const { within } = request;
    return address => !this.facts.isReserved(address) && (!within || contains(within, address));
  }

  private async claim(cidr: Cidr): Promise<'ours' | 'taken'> {
    const claim = await claimBlock(this.store, this.facts.node, cidr);
    if (claim === 'taken') return 'taken';
    this.facts.affinities.observe(claim.affinity);
    this.queue(cidr).remember(claim.block, claim.revision);
    return 'ours';
  }

  private async listBlocks(within: Cidr): Promise<{ block: Block; revision: string }[]> {
    const { entries } = await this.store.list(blocksPrefix(within.family));
    return entries.flatMap(({ value, revision }) => {
      const block = parseBlock(value);
      return block && covers(within, block.cidr) ? [{ block, revision }] : [];
    });
  }

  /** The block an address is in, by its pool (a disabled one too) or, where that is gone, by looking at all. */
  private async blockOf(address: Address): Promise<Cidr | undefined> {
    const pool = this.facts.poolOf(address);
    if (pool) return cidrOf(address, pool.blockSize);
    const whole = parseCidr(address.family === 4 ? '0.0.0.0/0' : '::/0');
    const blocks = whole ? await this.listBlocks(whole) : [];
    return blocks.find(({ block }) => contains(block.cidr, address))?.block.cidr;
  }

  private queue(cidr: Cidr): BlockQueue {
    const key = formatCidr(cidr);
    let queue = this.queues.get(key);
    if (!queue) this.queues.set(key, (queue = new BlockQueue(this.store, this.facts, cidr)));
    return queue;
  }

  private exhausted(request: AnyAddress, pools: IpPool[]): NoAddressError {
    const { strictAffinity, maxBlocksPerHost } = this.facts.ipamConfig;
    const where = request.within ? formatCidr(request.within) : pools.map(describePool).join(', ');
    const owned = [...this.facts.affinities.values()].filter(
      ({ cidr }) => cidr.family === request.family,
    ).length;
    const why =
      owned >= maxBlocksPerHost && strictAffinity
        ? `this node has reached its limit of ${maxBlocksPerHost} blocks (maxBlocksPerHost)`
        : 'all are in use';
    return new NoAddressError(
      `no free address in ${where}: ${why}. Remove containers, or use a network with a larger subnet`,
    );
  }

  /**
   * Takes back, once etcd answers again, an address that a transaction with a lost answer may have given to a request
   * that has failed. It is ours to free only while handle *and* sequence number are those of that transaction: the same
   * container asking again gets a new sequence number.
   */
  private readonly undoLater = ({ address, handle, sequence }: Assignment): void => {
    withoutDeadline(async () => {
      for (const delay of UNDO_DELAYS) {
        await new Promise(resolve => setTimeout(resolve, delay).unref());
        try {
          const cidr = await this.blockOf(address);
          if (!cidr) return;
          const ordinal = ordinalOf(cidr, address);
          const undone = await this.queue(cidr).submit(
            releaseIn(
              this.facts,
              ordinal,
              (holder, block) =>
                holder.handle_id === handle && block.sequenceNumbers.get(ordinal) === sequence,
            ),
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

function assignmentError(address: Address, result: Exclude<Assignment | object | string, 'gone'>): Error {
  const text = formatAddress(address);
  if (typeof result === 'object' && 'heldBy' in result) {
    const heldBy = result.heldBy as AllocationAttribute;
    if (heldBy.releasedAt !== undefined)
      return new AddressInUseError(
        `address ${text} was released a moment ago and is kept back for a while (ipCooldownSeconds): try again later`,
      );
    const node = heldBy.secondary?.node;
    return new AddressInUseError(
      `address ${text} is already assigned${node === undefined ? '' : ` on node ${node}`}: choose another, or remove the container that has it`,
    );
  }
  if (result === 'foreign')
    return new RequestError(
      `address ${text} belongs to a block of another node and strict affinity is on: choose another`,
    );
  return new RequestError(`address ${text} cannot be used: its IPPool was removed or disabled`);
}
