import type { AllocationAttribute, Block } from '../model/block.js';
import { nth, size } from './cidr.js';
import type { Address, Cidr } from './cidr.js';

/** Pure operations on a block, as Calico's IPAM does them. None changes its argument. */

/** How `affinity` names a node as owner. */
export function ownedBy(node: string): string {
  return `host:${node}`;
}

/** A new block of a node: all addresses free, in order. The first and last are ordinary addresses. */
export function createBlock(cidr: Cidr, node: string, now: Date): Block {
  const addresses = Number(size(cidr));
  return {
    cidr,
    affinity: ownedBy(node),
    affinityClaimTime: goTime(now),
    allocations: new Array<number | null>(addresses).fill(null),
    unallocated: Array.from({ length: addresses }, (_, ordinal) => ordinal),
    attributes: [],
    sequenceNumber: BigInt(now.getTime()) * 1_000_000n,
    sequenceNumbers: new Map(),
    rest: {},
  };
}

/** A time as Calico writes it: RFC 3339, whole seconds, UTC. */
export function goTime(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

/** What every allocation of a node says of itself. The time is written as Calico's own clients do. */
export function allocationMetadata(node: string): Readonly<Record<string, string>> {
  return { node, timestamp: goTime(new Date()).replace('T', ' ').replace('Z', ' +0000 UTC') };
}

/** The first free address in order of release that `allowed` takes; undefined where there is none. */
export function nextFree(block: Block, allowed: (address: Address) => boolean): number | undefined {
  // A damaged block may list an ordinal that is in use.
  return block.unallocated.find(ordinal => isFree(block, ordinal) && allowed(nth(block.cidr, ordinal)));
}

export function isFree(block: Block, ordinal: number): boolean {
  return block.allocations[ordinal] === null;
}

/** True where no address is in use; one in cooldown is. */
export function isEmpty(block: Block): boolean {
  return block.allocations.every(index => index === null);
}

/** Who holds an ordinal: `{}` where it is in use and nobody said by whom, undefined where it is free. */
export function holderOf(block: Block, ordinal: number): AllocationAttribute | undefined {
  const index = block.allocations[ordinal];
  return index == null ? undefined : (block.attributes[index] ?? {});
}

/** Assigns a free ordinal. The sequence number recorded is the block's before {@link bump}. */
export function assignAt(block: Block, ordinal: number, holder: AllocationAttribute): Block {
  if (!isFree(block, ordinal)) throw new Error(`ordinal ${ordinal} is in use`);
  const known = block.attributes.findIndex(attribute => sameAttribute(attribute, holder));
  const index = known < 0 ? block.attributes.length : known;
  return {
    ...block,
    allocations: replaced(block.allocations, ordinal, index),
    unallocated: block.unallocated.filter(free => free !== ordinal),
    attributes: known < 0 ? [...block.attributes, holder] : block.attributes,
    sequenceNumbers: new Map(block.sequenceNumbers).set(ordinal, block.sequenceNumber),
  };
}

/** Gives an ordinal in use to another holder, at the same sequence number: the allocation is the same. */
export function reassign(block: Block, ordinal: number, holder: AllocationAttribute): Block {
  const attributes = [...block.attributes, holder];
  return pruned({
    ...block,
    attributes,
    allocations: replaced(block.allocations, ordinal, attributes.length - 1),
  });
}

/**
 * Frees an ordinal: it goes to the tail of the free list. With a cooldown it stays in use, marked with the time of
 * release, until {@link collectCooled} frees it (Calico's `ipCooldownSeconds`, 2026).
 */
export function release(block: Block, ordinal: number, now: Date, cooldownSeconds: number): Block {
  if (isFree(block, ordinal)) return block;
  if (cooldownSeconds <= 0) return pruned(freed(block, ordinal));
  const attributes = [...block.attributes, { releasedAt: goTime(now) }];
  return pruned({
    ...block,
    attributes,
    allocations: replaced(block.allocations, ordinal, attributes.length - 1),
    sequenceNumbers: new Map(block.sequenceNumbers).set(ordinal, block.sequenceNumber),
  });
}

/** Frees what has cooled down. */
export function collectCooled(block: Block, now: Date, cooldownSeconds: number): Block {
  const limit = now.getTime() - cooldownSeconds * 1000;
  const cooled = block.allocations.flatMap((_, ordinal) => {
    const time = holderOf(block, ordinal)?.releasedAt;
    return time !== undefined && Date.parse(time) <= limit ? [ordinal] : [];
  });
  return cooled.length === 0 ? block : pruned(cooled.reduce(freed, block));
}

/** The block as the next write must have it: every update raises the sequence number by one. */
export function bump(block: Block): Block {
  return { ...block, sequenceNumber: block.sequenceNumber + 1n };
}

/** Everything a block must satisfy, as a list of what it does not: for tests and `ipam check`. */
export function violations(block: Block): string[] {
  const found: string[] = [];
  const free = new Map<number, number>();
  for (const ordinal of block.unallocated) free.set(ordinal, (free.get(ordinal) ?? 0) + 1);
  block.allocations.forEach((index, ordinal) => {
    const times = free.get(ordinal) ?? 0;
    if (index === null && times !== 1)
      found.push(`ordinal ${ordinal} is free and ${times} times in the free list`);
    if (index !== null && times !== 0) found.push(`ordinal ${ordinal} is in use and in the free list`);
    if (index !== null && index >= block.attributes.length)
      found.push(`ordinal ${ordinal} refers to no attribute`);
  });
  block.attributes.forEach((_, index) => {
    if (!block.allocations.includes(index)) found.push(`attribute ${index} is not referred to`);
  });
  for (const ordinal of block.sequenceNumbers.keys())
    if (block.allocations[ordinal] == null) found.push(`free ordinal ${ordinal} has a sequence number`);
  return found;
}

function freed(block: Block, ordinal: number): Block {
  const sequenceNumbers = new Map(block.sequenceNumbers);
  sequenceNumbers.delete(ordinal);
  return {
    ...block,
    allocations: replaced(block.allocations, ordinal, null),
    unallocated: [...block.unallocated, ordinal],
    sequenceNumbers,
  };
}

/** Without the attributes nobody refers to, all indexes renumbered. */
export function pruned(block: Block): Block {
  const used = new Set(block.allocations);
  const renumbered = new Map<number, number>();
  const attributes = block.attributes.filter((_, index) => {
    if (!used.has(index)) return false;
    renumbered.set(index, renumbered.size);
    return true;
  });
  if (attributes.length === block.attributes.length) return block;
  return {
    ...block,
    attributes,
    allocations: block.allocations.map(index => (index === null ? null : (renumbered.get(index) ?? index))),
  };
}

function replaced(
  allocations: readonly (number | null)[],
  ordinal: number,
  index: number | null,
): readonly (number | null)[] {
  const copy = allocations.slice();
  copy[ordinal] = index;
  return copy;
}

function sameAttribute(a: AllocationAttribute, b: AllocationAttribute): boolean {
  return a.handle_id === b.handle_id && canonical(a) === canonical(b);
}

/** Text that is equal for deep-equal attributes. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
