import { BLOCKS_PREFIX, parseBlockKey } from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import type { Store } from '../datastore/store.js';
import { covers, formatCidr, size } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import type { Logger } from '../log.js';
import type { IpPool } from '../model/ip-pool.js';
import { isObject } from '../model/json.js';

/** What is used of an IPPool, by all hosts. */
export interface PoolFigures {
  readonly pool: string;
  /** CIDR text. */
  readonly cidr: string;
  /** Addresses that it has. */
  readonly size: number;
  /** Addresses that are allocated, reservations of networks among them. */
  readonly inUse: number;
  readonly blocks: number;
  /** Blocks of this node. */
  readonly ownBlocks: number;
}

interface BlockUse {
  readonly cidr: Cidr;
  readonly inUse: number;
  readonly owner: string;
}

/** Others get a turn after so many blocks: a cluster may have a hundred thousand. */
const AT_ONCE = 2_000;
/** What a digest begins with; no JSON does. */
const DIGEST = '=';

/**
 * How full the pools are: a copy of what counts of all blocks, kept by a watch of its own, so that a scrape asks nobody.
 * Made only where somebody measures; it costs the memory of two numbers and a name per block.
 */
export class PoolUse {
  private readonly blocks: Mirror<BlockUse>;

  /** Begins to follow. */
  constructor(
    store: Store,
    private readonly node: string,
    log: Logger,
  ) {
    this.blocks = new Mirror(store, BLOCKS_PREFIX, parseBlockUse, log, digestBlockUse);
  }

  /** The figures of these pools, from memory; blocks in none of them do not count. Undefined before all was read. */
  async figures(pools: readonly IpPool[]): Promise<readonly PoolFigures[] | undefined> {
    if (!this.blocks.isCurrent && this.blocks.size === 0) return undefined;
    const sums = pools.map(pool => ({ pool, inUse: 0, blocks: 0, ownBlocks: 0 }));
    let count = 0;
    for (const { cidr, inUse, owner } of this.blocks.values()) {
      count += 1;
      if (count % AT_ONCE === 0) await new Promise(resolve => setImmediate(resolve));
      const sum = sums.find(({ pool }) => covers(pool.cidr, cidr));
      if (!sum) continue;
      sum.inUse += inUse;
      sum.blocks += 1;
      if (owner === this.node) sum.ownBlocks += 1;
    }
    return sums.map(({ pool, ...sum }) => ({
      pool: pool.name,
      cidr: formatCidr(pool.cidr),
      size: Number(size(pool.cidr)),
      ...sum,
    }));
  }

  close(): void {
    this.blocks.close();
  }
}

/** The part of a block's text that is counted, for {@link parseBlockUse}. */
export function digestBlockUse(key: string, text: string): string {
  const use = parseBlockUse(key, text);
  return use ? `${DIGEST}${use.inUse} ${use.owner}` : text;
}

/** Reads that of a block or of its digest; undefined where it is neither. */
export function parseBlockUse(key: string, text: string): BlockUse | undefined {
  const cidr = parseBlockKey(key);
  if (!cidr) return undefined;
  if (text.startsWith(DIGEST)) {
    const [inUse = '', owner = ''] = text.slice(1).split(' ');
    return { cidr, inUse: Number(inUse), owner };
  }
  const inUse = allocated(text);
  if (inUse === undefined) return undefined;
  return { cidr, inUse, owner: /"affinity"\s*:\s*"host:([^"\\ ]+)"/.exec(text)?.[1] ?? '' };
}

/**
 * How many addresses of a block are allocated. Blocks come with every address that anybody takes, and to parse the whole of
 * one takes ten times as long as to look at the one list that matters: of small numbers and nulls, whoever wrote it. Within
 * a string the quotes around the name would be escaped.
 */
function allocated(text: string): number | undefined {
  const [, items] = /"allocations"\s*:\s*\[([\d,\s]*(?:null[\d,\s]*)*)\]/.exec(text) ?? [];
  if (items !== undefined) return items.match(/\d+/g)?.length ?? 0;
  const value: unknown = JSON.parse(text);
  if (!isObject(value) || !Array.isArray(value.allocations)) return undefined;
  return value.allocations.filter(index => index !== null).length;
}
