import type { Logger } from 'pino';
import { handleKey } from '../datastore/keys.js';
import type { Compare, Store } from '../datastore/store.js';
import { withoutDeadline } from '../deadline.js';
import { ConflictError, RequestError } from '../errors.js';
import type { AllocationAttribute, Block } from '../model/block.js';
import { AnyAddresses } from './any-address.js';
import type { AnyAddress } from './any-address.js';
import { assignmentError } from './assignment-error.js';
import { holderOf, ownedBy } from './block.js';
import type { BlockRequest } from './block-queue.js';
import { assignTo, isAssignment, isHeldBy, releaseIn } from './block-requests.js';
import type { Assignment, Holder, NoAssignment } from './block-requests.js';
import { Blocks } from './blocks.js';
import { cidrOf, formatAddress, formatCidr, ordinalOf } from './cidr.js';
import type { Address } from './cidr.js';
import { describePool } from './facts.js';
import type { IpamFacts } from './facts.js';
import { reserveAt } from './reservation-request.js';
import { reservedFor, reservingNodes, reservingRequest } from './reservation.js';

/** What the allocator asks of its host. */
export interface AllocatorHost {
  /** Docker's scope is global, and any host may be told to release a network's reservation. */
  readonly isGlobal: boolean;
  /** A container of this host has the address, whatever the datastore says: it may have been put back to older times. */
  isRouted(address: string): boolean;
}

/** Claims of the block of one address before giving up. */
const ATTEMPTS = 20;
/** How long after a lost answer we go on trying to take back what it may have given, in milliseconds. */
const UNDO_DELAYS = [1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 120_000];

/**
 * Gives out and takes back addresses in Calico's IPAM data. In the common case (a block of ours with a free address)
 * each call is one etcd round trip; claiming a new block adds one; borrowing adds a listing of all blocks.
 */
export class Allocator {
  private readonly blocks: Blocks;
  private readonly anyAddresses: AnyAddresses;

  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
    private readonly host: AllocatorHost,
    private readonly log: Logger,
  ) {
    this.blocks = new Blocks(store, facts);
    this.anyAddresses = new AnyAddresses({
      blocks: this.blocks,
      facts,
      isRouted: address => host.isRouted(address),
      inDoubt: this.undoLater,
    });
  }

  /** Throws NoAddressError where nothing is left, RequestError where no pool may be used, DatastoreError. */
  assign(request: AnyAddress): Promise<Address> {
    return this.anyAddresses.assign(request);
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
