import type { Block } from '../model/block.js';
import type { IpPool } from '../model/ip-pool.js';
import { covers, formatCidr, size } from './cidr.js';

/** How much of pools and blocks is in use. Pure. */

/** A range, and what of it is in use. */
export interface Usage {
  /** `pool`, `block`, or `block without pool`: what is left of a pool that was deleted. */
  readonly kind: 'pool' | 'block' | 'block without pool';
  /** A pool's name; of a block, the host it belongs to, or nothing. */
  readonly name: string;
  readonly cidr: string;
  readonly total: bigint;
  /** In cooldown, too. */
  readonly used: number;
  /** Of a pool: how many there are. */
  readonly blocks?: number;
  /** Of a pool. */
  readonly isDisabled?: boolean;
}

/** Adds blocks up, one after the other, as there may be a hundred thousand. */
export class UsageCount {
  private readonly pools: { readonly pool: IpPool; used: number; blocks: number; readonly list: Usage[] }[];
  private readonly stray: Usage[] = [];

  /** `keepsBlocks`: list each block, too. */
  constructor(
    pools: readonly IpPool[],
    private readonly keepsBlocks: boolean,
  ) {
    this.pools = pools.map(pool => ({ pool, used: 0, blocks: 0, list: [] }));
  }

  add({ cidr, affinity, allocations }: Block): void {
    const used = allocations.reduce<number>((count, index) => (index === null ? count : count + 1), 0);
    const around = this.pools.find(({ pool }) => covers(pool.cidr, cidr));
    const name = affinity?.replace(/^host:/, '') ?? '';
    const block = { name, cidr: formatCidr(cidr), total: size(cidr), used };
    if (!around) {
      this.stray.push({ kind: 'block without pool', ...block });
      return;
    }
    around.used += used;
    around.blocks += 1;
    if (this.keepsBlocks) around.list.push({ kind: 'block', ...block });
  }

  /** Pools in the order given, each followed by its blocks; then the blocks of no pool. */
  result(): Usage[] {
    const inPools = this.pools.flatMap(({ pool: { name, cidr, disabled }, used, blocks, list }): Usage[] => [
      { kind: 'pool', name, cidr: formatCidr(cidr), total: size(cidr), used, blocks, isDisabled: disabled },
      ...list,
    ]);
    return [...inPools, ...this.stray];
  }
}

/** A share in percent, for a person: at least 1 where anything is in use. */
export function percent(used: number, total: bigint): string {
  if (used === 0) return '0%';
  const share = Number((BigInt(used) * 100n) / total);
  return share === 0 ? '<1%' : `${share}%`;
}
