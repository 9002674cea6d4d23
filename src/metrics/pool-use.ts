import { BLOCKS_PREFIX, parseBlockKey } from '../datastore/keys.js';
import type { Store, Watcher } from '../datastore/store.js';
import { covers, formatCidr, size } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
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

/**
 * How full the pools are: what counts of all blocks, in memory, so that a scrape asks nobody. It listens to the watch of
 * blocks that the daemon has for its routes ({@link overhear}): blocks come with every address that anybody takes, and to
 * receive each twice would cost a call more than all counters do.
 */
export class PoolUse {
  private readonly blocks = new Map<string, BlockUse>();
  private isRead = false;
  private overheard: Watcher | undefined;

  constructor(private readonly node: string) {}

  /** The same watcher, where `prefix` is that of all blocks: what it is told is counted as well. */
  overhear(prefix: string, watcher: Watcher): Watcher {
    if (prefix !== BLOCKS_PREFIX || this.overheard) return watcher;
    this.overheard = watcher;
    const { digest } = watcher;
    let isDigested = false;
    return {
      digest: (key, value) => {
        isDigested = true;
        this.see(key, value);
        return digest ? digest(key, value) : value;
      },
      snapshot: listing => {
        const keys = new Set<string>();
        for (const { key, value } of listing.entries) {
          keys.add(key);
          // Not every store makes digests.
          if (!isDigested) this.see(key, value);
        }
        isDigested = false;
        for (const key of this.blocks.keys()) if (!keys.has(key)) this.blocks.delete(key);
        this.isRead = true;
        watcher.snapshot(listing);
      },
      put: entry => {
        this.see(entry.key, entry.value);
        watcher.put(entry);
      },
      deleted: (key, revision) => {
        this.blocks.delete(key);
        watcher.deleted(key, revision);
      },
      lost: error => watcher.lost?.(error),
    };
  }

  /** Watches by itself, unless somebody does already. Returns what ends it. */
  follow(store: Store): () => void {
    if (this.overheard) return () => undefined;
    const nothing = (): void => undefined;
    const watch = store.watch(
      BLOCKS_PREFIX,
      this.overhear(BLOCKS_PREFIX, { digest: () => '', snapshot: nothing, put: nothing, deleted: nothing }),
    );
    return () => watch.close();
  }

  /** The figures of these pools; blocks in none of them do not count. Undefined before all was read. */
  async figures(pools: readonly IpPool[]): Promise<readonly PoolFigures[] | undefined> {
    if (!this.isRead) return undefined;
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

  private see(key: string, value: string): void {
    const use = parseBlockUse(key, value);
    if (use) this.blocks.set(key, use);
    else this.blocks.delete(key);
  }
}

/** Reads what counts of a block; undefined where it is none. */
export function parseBlockUse(key: string, text: string): BlockUse | undefined {
  const cidr = parseBlockKey(key);
  const inUse = cidr && allocated(text);
  if (!cidr || inUse === undefined) return undefined;
  return { cidr, inUse, owner: shared(/"affinity"\s*:\s*"host:([^"\\ ]+)"/.exec(text)?.[1] ?? '') };
}

/** A name as a text of its own: a part of a block's text would keep all of that in memory. */
const names = new Map<string, string>();

function shared(name: string): string {
  const known = names.get(name);
  if (known !== undefined) return known;
  const own = Buffer.from(name).toString();
  names.set(own, own);
  return own;
}

/**
 * How many addresses of a block are allocated. Blocks come with every address that anybody takes, and to parse the whole of
 * one takes ten times as long as to look at the one list that matters: of small numbers and nulls, whoever wrote it. Within
 * a string the quotes around the name would be escaped.
 */
function allocated(text: string): number | undefined {
  const [, items] = /"allocations"\s*:\s*\[([\d,\s]*(?:null[\d,\s]*)*)\]/.exec(text) ?? [];
  if (items !== undefined) return items.match(/\d+/g)?.length ?? 0;
  const value = valueOf(text);
  if (!isObject(value) || !Array.isArray(value.allocations)) return undefined;
  return value.allocations.filter(index => index !== null).length;
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
