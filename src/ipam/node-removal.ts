import {
  aliveKey,
  endpointKey,
  blocksPrefix,
  HANDLES_PREFIX,
  handleKey,
  nodeAffinitiesPrefix,
  NETWORKS_PREFIX,
  ownerKey,
  parseAffinityKey,
  resourceKey,
  resourcesPrefix,
} from '../datastore/keys.js';
import type { Entry, Store } from '../datastore/store.js';
import { withTransact } from '../datastore/with-transact.js';
import { ConflictError } from '../errors.js';
import type { Block } from '../model/block.js';
import type { IpPool } from '../model/ip-pool.js';
import { parseNetworkRecord } from '../model/network-record.js';
import { parsePresence } from '../model/presence.js';
import { parseResource } from '../model/resource.js';
import { holderOf, ownedBy } from './block.js';
import { releaseIn } from './block-requests.js';
import { Blocks } from './blocks.js';
import { covers, formatCidr, parseCidr } from './cidr.js';
import type { Cidr } from './cidr.js';
import { disownBlock } from './claim.js';
import { describePool } from './facts.js';
import type { IpamFacts } from './facts.js';
import { readBlock } from './read-block.js';
import { holdingsIn, isHandleOf, isHeldByNode, nobodys, tunnelHandles } from './node-holdings.js';

/** Deletes in one transaction; etcd takes 128 operations. */
const BATCH = 100;

export interface NodeRemovalOptions {
  readonly node: string;
  /** Only says what it would do. */
  readonly dryRun: boolean;
  /** Docker's scope is global: networks are all hosts', whoever created them. */
  readonly isGlobal: boolean;
  /** Removes a pool made on the fly if no network (`isNeeded`) and no address needs it; says whether it did. */
  removePool(pool: IpPool, isNeeded: () => Promise<boolean>): Promise<boolean>;
  /** Called for everything that was freed (or would be), with a line for a person. */
  freed(text: string): void;
  /** Called for what a person should know besides. */
  note(text: string): void;
}

/** The store, whose transactions are all refused once the node is alive. */
export function whileGone(store: Store, node: string): Store {
  const key = aliveKey(node);
  return withTransact(store, async transaction => {
    const result = await store.transact({
      ...transaction,
      compare: [...transaction.compare, { key, is: 'absent' }],
      otherwise: [...(transaction.otherwise ?? []), key],
    });
    const alive = result.succeeded ? undefined : result.found.get(key);
    if (alive) throw aliveError(node, alive);
    return result;
  });
}

/**
 * Frees all that a dead host held. It may be killed at any moment and run again: what it goes by is what is left, and
 * every transaction compares that the node is not alive.
 *
 * Round trips: one per 1,000 keys of endpoints, blocks, handles and networks; one per 100 endpoints or addresses; three
 * per block.
 */
export class NodeRemoval {
  private readonly blocks: Blocks;

  /** `store`: {@link whileGone}; `facts` of that node. */
  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
    private readonly options: NodeRemovalOptions,
  ) {
    this.blocks = new Blocks(store, facts);
  }

  /** Throws ConflictError where the node is alive, or becomes so; DatastoreError. Either may be followed by a new run. */
  async run(): Promise<void> {
    const { node } = this.options;
    const alive = await this.store.get(aliveKey(node));
    if (alive) throw aliveError(node, alive);
    await this.facts.ready();
    // Endpoints first: no address is ever free while an endpoint says that it has it.
    await this.endpoints();
    await this.addresses();
    await this.ownBlocks();
    await this.strayHandles();
    await this.networks();
    const entry = await this.store.get(resourceKey('nodes', node));
    if (entry) await this.delete([entry], () => `Node resource ${node}`);
    const owner = await this.store.get(ownerKey(node));
    if (owner) await this.delete([owner], () => `the name ${node}`);
  }

  private async endpoints(): Promise<void> {
    const isIts = ({ value }: Entry) => parseResource(value)?.spec.node === this.options.node;
    const its: Entry[] = [];
    for await (const { entries } of this.store.pages(resourcesPrefix('workloadendpoints')))
      its.push(...entries.filter(isIts));
    const ours = its.filter(({ key }) => key.startsWith(endpointKey('')));
    // Before anything is gone: a refusal leaves all as it was.
    if (its.length > ours.length)
      throw new ConflictError(
        `host ${this.options.node} has ${its.length - ours.length} endpoints of another orchestrator (Kubernetes?): remove those with its own tools first`,
      );
    await this.delete(ours, ({ key }) => `endpoint ${key.split('/').at(-1)}`);
  }

  private async addresses(): Promise<void> {
    const { node, dryRun, freed, note } = this.options;
    for await (const block of this.allBlocks()) {
      const queue = this.blocks.queue(block.cidr);
      const unknown = nobodys(block, node);
      if (unknown > 0)
        note(
          `${unknown} addresses in ${formatCidr(block.cidr)}, its block, do not say whose they are: they stay in use`,
        );
      // They travel together; the queue compares block and handles, and plans anew what was changed meanwhile.
      await Promise.all(
        holdingsIn(block, node).map(async ({ ordinal, text }) => {
          const request = releaseIn(this.facts, ordinal, holder => isHeldByNode(holder, node), node);
          if (dryRun || (await queue.submit(request))) freed(`address ${text}`);
        }),
      );
    }
  }

  private async ownBlocks(): Promise<void> {
    const { node, dryRun, freed, note } = this.options;
    const own = new Map<string, Cidr>();
    const { entries } = await this.store.list(nodeAffinitiesPrefix(node));
    for (const { key } of entries) {
      const cidr = parseAffinityKey(key)?.cidr;
      if (cidr) own.set(formatCidr(cidr), cidr);
    }
    for await (const block of this.allBlocks())
      if (block.affinity === ownedBy(node)) own.set(formatCidr(block.cidr), block.cidr);
    for (const [text, cidr] of own) {
      const outcome = dryRun ? 'its affinity' : await disownBlock(this.store, node, cidr);
      if (outcome === 'not readable') note(`${text} is no block that can be read: run ipam check`);
      else freed(`block ${text} (${outcome})`);
    }
  }

  /** Handles of the node that no block refers to any more. */
  private async strayHandles(): Promise<void> {
    const { node } = this.options;
    const stray = new Map<string, Entry>();
    for await (const { entries } of this.store.pages(`${HANDLES_PREFIX}libnetwork.${node}.`))
      for (const entry of entries)
        if (isHandleOf(node, entry.key.slice(HANDLES_PREFIX.length))) stray.set(entry.key, entry);
    for (const id of tunnelHandles(node)) {
      const entry = await this.store.get(handleKey(id));
      if (entry) stray.set(entry.key, entry);
    }
    if (stray.size === 0) return;
    for await (const block of this.allBlocks())
      block.allocations.forEach((_, ordinal) =>
        stray.delete(handleKey(holderOf(block, ordinal)?.handle_id ?? '')),
      );
    await this.delete([...stray.values()], ({ key }) => `handle ${key.slice(HANDLES_PREFIX.length)}`);
  }

  private async networks(): Promise<void> {
    const { node, isGlobal } = this.options;
    if (isGlobal) return;
    const { entries } = await this.store.list(NETWORKS_PREFIX);
    const its = entries.filter(({ value }) => parseNetworkRecord(value)?.node === node);
    // The pools first: without the records, a run after this one was killed would not know of them.
    for (const pool of this.facts.allPools())
      if (pool.isOurs && its.some(entry => usesPool(entry, pool))) await this.pool(pool);
    await this.delete(its, ({ value }) => {
      const record = parseNetworkRecord(value);
      return `network ${record?.name ?? record?.id ?? ''}`;
    });
  }

  /** A pool that was made for networks of the node, unless a network of another node or an address needs it. */
  private async pool(pool: IpPool): Promise<void> {
    const { node, dryRun, removePool, freed } = this.options;
    const isNeeded = async (): Promise<boolean> => {
      const { entries } = await this.store.list(NETWORKS_PREFIX);
      return entries.some(entry => usesPool(entry, pool) && parseNetworkRecord(entry.value)?.node !== node);
    };
    if (dryRun ? !(await isNeeded()) : await removePool(pool, isNeeded)) freed(describePool(pool));
  }

  private async *allBlocks(): AsyncGenerator<Block> {
    for (const family of [4, 6] as const)
      for await (const { entries } of this.store.pages(blocksPrefix(family)))
        for (const entry of entries) {
          const block = readBlock(entry);
          if (block) yield block;
        }
  }

  /** Deletes entries as they were read; one that was changed meanwhile is somebody's work and looked at again later. */
  private async delete(entries: readonly Entry[], text: (entry: Entry) => string): Promise<void> {
    for (let at = 0; at < entries.length; at += BATCH) {
      const batch = entries.slice(at, at + BATCH);
      if (!this.options.dryRun) {
        const { succeeded } = await this.store.transact({
          compare: batch.map(({ key, revision }) => ({ key, is: 'revision', revision })),
          then: batch.map(({ key }) => ({ delete: key })),
        });
        if (!succeeded)
          throw new ConflictError(
            `what was host ${this.options.node}'s is being changed by others at this moment: run it again`,
          );
      }
      for (const entry of batch) this.options.freed(text(entry));
    }
  }
}

function usesPool({ value }: Entry, { cidr }: IpPool): boolean {
  const subnets = parseNetworkRecord(value)?.subnets ?? [];
  return subnets.flatMap(subnet => parseCidr(subnet.cidr) ?? []).some(subnet => covers(cidr, subnet));
}

function aliveError(node: string, entry: Entry): ConflictError {
  const since = parsePresence(entry.value)?.since;
  return new ConflictError(
    `host ${node} is alive (${since === undefined ? 'it says so' : `since ${since}`}): remove its containers and stop its daemon first ` +
      '(SIGTERM to calico-libnetwork serve); a host that died or was cut off counts as gone after 30 seconds',
  );
}
