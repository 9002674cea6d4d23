import { blockKey, blocksPrefix } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import type { Block } from '../model/block.js';
import { BlockQueue } from './block-queue.js';
import { cidrOf, contains, covers, formatCidr } from './cidr.js';
import type { Address, Cidr } from './cidr.js';
import { claimBlock } from './claim.js';
import type { IpamFacts } from './facts.js';
import { readBlock } from './read-block.js';

/** A block as read. */
export interface ReadBlock {
  readonly block: Block;
  readonly revision: string;
}

/** The blocks of all nodes in etcd, with one queue for each that we write to. */
export class Blocks {
  private readonly queues = new Map<string, BlockQueue>();

  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
  ) {}

  /** The way to a block, whether it exists or not. */
  queue(cidr: Cidr): BlockQueue {
    const key = formatCidr(cidr);
    let queue = this.queues.get(key);
    if (!queue) this.queues.set(key, (queue = new BlockQueue(this.store, this.facts, cidr)));
    return queue;
  }

  /** Makes a block this node's: one round trip where nobody has it. */
  async claim(cidr: Cidr): Promise<'ours' | 'taken'> {
    const claim = await claimBlock(this.store, this.facts, cidr);
    if (claim === 'taken') return 'taken';
    this.facts.affinities.observe(claim.affinity);
    this.queue(cidr).remember(claim.block, claim.revision);
    return 'ours';
  }

  /** A block as it is now; undefined where it is none. One round trip. */
  async read(cidr: Cidr): Promise<Block | undefined> {
    const entry = await this.store.get(blockKey(cidr));
    return entry && readBlock(entry);
  }

  /** All blocks inside a range; one round trip per 1,000 blocks of the family. */
  async list(within: Cidr): Promise<ReadBlock[]> {
    return (await listBlocks(this.store, within)).filter(({ block }) => covers(within, block.cidr));
  }

  /** The block an address is in, by its pool (a disabled one too) or, where that is gone, by looking at all. */
  async around(address: Address): Promise<Cidr | undefined> {
    const pool = this.facts.poolOf(address);
    if (pool) return cidrOf(address, pool.blockSize);
    const blocks = await listBlocks(this.store, cidrOf(address, 0));
    return blocks.find(({ block }) => contains(block.cidr, address))?.block.cidr;
  }
}

/** All blocks of a range's family. What cannot be read is left out. */
export async function listBlocks(store: Store, { family }: Cidr): Promise<ReadBlock[]> {
  const { entries } = await store.list(blocksPrefix(family));
  return entries.flatMap(entry => {
    const block = readBlock(entry);
    return block ? [{ block, revision: entry.revision }] : [];
  });
}
