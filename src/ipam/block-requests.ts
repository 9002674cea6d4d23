import { randomBytes } from 'node:crypto';
import type { AllocationAttribute, Block } from '../model/block.js';
import { assignAt, holderOf, nextFree, ownedBy, reassign, release } from './block.js';
import { reservedFor, reservingNodes, withoutNode } from './reservation.js';
import type { BlockRequest } from './block-queue.js';
import { formatAddress, nth } from './cidr.js';
import type { Address } from './cidr.js';
import type { IpamFacts } from './facts.js';

/** The requests that are made of a block: next free address, this address, free this address. */

/** Who is to hold an address. */
export interface Holder {
  /** The handle of one allocation; no other allocation, of no other moment, may have the same. */
  handle(address: string): string;
  readonly secondary: Readonly<Record<string, string>>;
}

/** A planned or done allocation. */
export interface Assignment {
  readonly address: Address;
  readonly handle: string;
  /** Random; stored with the allocation, it tells it from every other, also of the same address to the same owner. */
  readonly request: string;
}

/** A new {@link Assignment.request}. */
export function newRequest(): string {
  return randomBytes(6).toString('hex');
}

/** True where an ordinal is held by just this allocation, or this one has a part in the reservation there. */
export function isHeldBy(block: Block, ordinal: number, { handle, request }: Assignment): boolean {
  const holder = holderOf(block, ordinal);
  return holder?.handle_id === handle && holder.secondary?.request?.split(',').includes(request) === true;
}

/** Why a block gave no address: it does not exist, has none free, is not ours to use, or its pool cannot be used. */
export type NoAssignment = 'gone' | 'full' | 'foreign' | 'no pool' | { readonly heldBy: AllocationAttribute };

/** Tells an assignment from the reason why there is none. */
export function isAssignment(result: Assignment | NoAssignment): result is Assignment {
  return typeof result === 'object' && 'address' in result;
}

type AssignRequest = BlockRequest<Assignment | NoAssignment>;
type InDoubt = (assignment: Assignment) => void;

/** The next free address that `allowed` takes. `affine`: only while the block is this node's. */
export function assignNextIn(
  facts: IpamFacts,
  affine: boolean,
  allowed: (address: Address) => boolean,
  holder: Holder,
  trustMemory: boolean,
  inDoubt: InDoubt,
): AssignRequest {
  return {
    ...assigning(facts, affine, holder, inDoubt, block => nextFree(block, allowed) ?? 'full'),
    trustMemory,
  };
}

/** One address; also from another's block, unless affinity is strict. */
export function assignTo(facts: IpamFacts, ordinal: number, holder: Holder, inDoubt: InDoubt): AssignRequest {
  return assigning(facts, false, holder, inDoubt, block => {
    const heldBy = holderOf(block, ordinal);
    return heldBy ? { heldBy } : ordinal;
  });
}

function assigning(
  facts: IpamFacts,
  affine: boolean,
  holder: Holder,
  inDoubt: InDoubt,
  choose: (block: Block) => number | NoAssignment,
): AssignRequest {
  const request = newRequest();
  return {
    gone: 'gone',
    reliesOnFacts: true,
    plan(block) {
      const pool = facts.poolAround(block.cidr);
      if (!pool || pool.disabled) return { nothing: 'no pool' };
      const mustBeOurs = affine || facts.ipamConfig.strictAffinity;
      if (mustBeOurs && block.affinity !== ownedBy(facts.node)) return { nothing: 'foreign' };
      const ordinal = choose(block);
      if (typeof ordinal !== 'number') return { nothing: ordinal };
      const address = nth(block.cidr, ordinal);
      const handle = holder.handle(formatAddress(address));
      return {
        block: assignAt(block, ordinal, { handle_id: handle, secondary: { ...holder.secondary, request } }),
        handle: { id: handle, by: 1 },
        result: { address, handle, request },
      };
    },
    wasApplied(block, { result }) {
      if (typeof result === 'string' || !('handle' in result)) return false;
      return isHeldBy(block, Number(result.address.value - block.cidr.base), result);
    },
    inDoubt({ result }) {
      if (typeof result === 'object' && 'handle' in result) inDoubt(result);
    },
  };
}

/**
 * Frees an ordinal if `isOurs` says so of who holds it; answers whether it did. Of a reservation that other nodes share,
 * only `node`'s part goes, if one is given.
 */
export function releaseIn(
  facts: IpamFacts,
  ordinal: number,
  isOurs: (holder: AllocationAttribute, block: Block) => boolean,
  node: string | undefined,
): BlockRequest<boolean> {
  let freed: AllocationAttribute | undefined;
  return {
    gone: false,
    plan(block) {
      const holder = holderOf(block, ordinal);
      if (!holder || holder.releasedAt !== undefined || !isOurs(holder, block)) return { nothing: false };
      freed = holder;
      const shared = node === undefined ? undefined : withoutNode(holder, node);
      if (shared) return { block: reassign(block, ordinal, shared), result: true };
      const id = holder.handle_id;
      return {
        block: release(block, ordinal, new Date(), facts.ipamConfig.cooldownSeconds),
        ...(id === undefined || id === '' ? {} : { handle: { id, by: -1 } }),
        result: true,
      };
    },
    // Nobody else frees what is ours: free again, or somebody else's by now, it was this request.
    wasApplied(block) {
      const holder = holderOf(block, ordinal);
      if (holder?.handle_id !== freed?.handle_id) return true;
      // A reservation keeps its handle while others share it.
      const isShared = holder !== undefined && node !== undefined && reservedFor(holder) !== undefined;
      return isShared && !reservingNodes(holder).includes(node);
    },
  };
}
