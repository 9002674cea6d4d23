import type { Block } from '../model/block.js';
import type { IpPool } from '../model/ip-pool.js';
import type { Finding } from './check-finding.js';
import { covers, formatAddress, formatCidr, nth } from './cidr.js';
import type { Cidr } from './cidr.js';

/** What is remembered of a block once its allocations were looked at. */
export interface BlockFact {
  readonly key: string;
  readonly cidr: Cidr;
  readonly revision: string;
  /** By ordinal: 1 where in use. */
  readonly inUse: Uint8Array;
}

export function blockFact(key: string, block: Block, revision: string): BlockFact {
  const inUse = Uint8Array.from(block.allocations, index => (index === null ? 0 : 1));
  return { key, cidr: block.cidr, revision, inUse };
}

/** A pool and the key it was read from. */
export interface PoolFact {
  readonly key: string;
  readonly cidr: Cidr;
  readonly pool: IpPool;
}

/** Pools that overlap. */
export function poolOverlaps(pools: readonly PoolFact[]): Finding[] {
  return overlapping(pools).map(([a, b]) => ({
    kind: 'overlap',
    keys: [a.key, b.key],
    text: `IPPools ${a.pool.name} (${formatCidr(a.cidr)}) and ${b.pool.name} (${formatCidr(b.cidr)}) overlap: delete one of them`,
  }));
}

/** Blocks that overlap, and each address that is in use in both. */
export function blockOverlaps(blocks: readonly BlockFact[]): Finding[] {
  return overlapping(blocks).flatMap(([outer, inner]): Finding[] => {
    const keys = [outer.key, inner.key];
    const shift = Number(inner.cidr.base - outer.cidr.base);
    const both = Array.from(inner.inUse.keys()).filter(
      ordinal => inner.inUse[ordinal] === 1 && outer.inUse[ordinal + shift] === 1,
    );
    const names = `blocks ${formatCidr(outer.cidr)} and ${formatCidr(inner.cidr)}`;
    return [
      { kind: 'overlap', keys, text: `${names} overlap: free the addresses of one, then delete it` },
      ...both.map((ordinal): Finding => ({
        kind: 'address-twice',
        keys: [...keys, formatAddress(nth(inner.cidr, ordinal))],
        text: `address ${formatAddress(nth(inner.cidr, ordinal))} is in use in both of ${names}: remove one of the two containers`,
      })),
    ];
  });
}

/** What lies outside the pools, or has not the size of its pool's blocks. A pool that cannot be read has no blocks. */
export function poolFindings({ key, cidr }: BlockFact, pools: readonly PoolFact[]): Finding[] {
  const around = pools.filter(({ pool }) => covers(pool.cidr, cidr));
  const shown = formatCidr(cidr);
  if (around.length === 0)
    return [
      {
        kind: 'block-pool',
        keys: [key],
        text: `block ${shown} lies in no IPPool: create the pool again, or remove the containers that use it`,
      },
    ];
  if (around.some(({ pool }) => pool.blockSize === cidr.length)) return [];
  const [first] = around;
  return [
    {
      kind: 'block-size',
      keys: [key],
      text: `block ${shown} has not the size that IPPool ${first?.pool.name} gives its blocks (/${first?.pool.blockSize}): free its addresses, then delete it`,
    },
  ];
}

/** Pairs of ranges with something in common, the larger first. Ranges are aligned: they nest or are apart. */
function overlapping<T extends { readonly cidr: Cidr; readonly key: string }>(
  ranges: readonly T[],
): [T, T][] {
  const sorted = [...ranges].sort(
    (a, b) =>
      a.cidr.family - b.cidr.family ||
      (a.cidr.base === b.cidr.base ? a.cidr.length - b.cidr.length : a.cidr.base < b.cidr.base ? -1 : 1),
  );
  const pairs: [T, T][] = [];
  /** The ranges around the present one, each inside the one before. */
  const around: T[] = [];
  for (const range of sorted) {
    while (around.length > 0 && !isInside(range.cidr, around.at(-1)?.cidr)) around.pop();
    for (const outer of around) pairs.push([outer, range]);
    around.push(range);
  }
  return pairs;
}

function isInside(inner: Cidr, outer: Cidr | undefined): boolean {
  return outer !== undefined && covers(outer, inner);
}
