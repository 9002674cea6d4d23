import { affinityKey } from '../datastore/keys.js';
import { NoAddressError, RequestError } from '../errors.js';
import { KeyedLock } from '../keyed-lock.js';
import type { IpPool } from '../model/ip-pool.js';
import { nextFree, ownedBy } from './block.js';
import { assignNextIn, isAssignment } from './block-requests.js';
import type { Assignment, Holder } from './block-requests.js';
import type { Blocks } from './blocks.js';
import { blockCidrs } from './candidates.js';
import { cidrOf, contains, covers, formatAddress, formatCidr, nth, overlap, size } from './cidr.js';
import type { Address, Cidr, Family } from './cidr.js';
import { describePool } from './facts.js';
import type { IpamFacts } from './facts.js';
import { UnreadableBlockError } from './read-block.js';

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

/** Blocks claimed for one request before giving up on those of nobody. */
const ATTEMPTS = 20;
/** New blocks are tried by claiming them; after so many that were somebody's, all blocks are listed instead. */
const BLIND_CLAIMS = 8;

/** What finding a free address needs besides the datastore. */
export interface AnyAddressParts {
  readonly blocks: Blocks;
  readonly facts: IpamFacts;
  /** A container of this host has the address, whatever the datastore says. */
  isRouted(address: string): boolean;
  /** Is told of what a transaction with a lost answer may have given. */
  readonly inDoubt: (assignment: Assignment) => void;
}

/**
 * Finds and assigns a free address: in a block this node has, in one it claims, in one of others (borrowed). The first is
 * one etcd round trip; claiming adds one; borrowing adds a listing of all blocks.
 */
export class AnyAddresses {
  private readonly claims = new KeyedLock();
  private readonly blocks: Blocks;
  private readonly facts: IpamFacts;

  constructor(private readonly parts: AnyAddressParts) {
    this.blocks = parts.blocks;
    this.facts = parts.facts;
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
          assignNextIn(this.facts, true, this.allowed(request), request.holder, trusting, this.parts.inDoubt),
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
          assignNextIn(this.facts, false, allowed, request.holder, false, this.parts.inDoubt),
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
      !this.parts.isRouted(formatAddress(address));
  }

  private exhausted(request: AnyAddress, pools: IpPool[]): NoAddressError {
    const { strictAffinity, maxBlocksPerHost } = this.facts.ipamConfig;
    const where = request.within ? formatCidr(request.within) : pools.map(describePool).join(', ');
    const usable = this.facts.allPools().filter(({ disabled }) => !disabled);
    if (!pools.some(pool => usable.some(({ name }) => name === pool.name)))
      return new NoAddressError(
        `no free address in ${where}: it has just been disabled or removed, as a pool that was made for a network is once no network uses it: try again, or create the network again`,
      );
    const why =
      strictAffinity && this.facts.blockCount(request.family) >= maxBlocksPerHost
        ? `this node has reached its limit of ${maxBlocksPerHost} blocks (maxBlocksPerHost)`
        : 'all are in use';
    return new NoAddressError(
      `no free address in ${where}: ${why}. Remove containers, or use a network with a larger subnet`,
    );
  }
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
