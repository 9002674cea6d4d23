import { POOL_CREATION_KEY } from '../datastore/keys.js';
import type { Entry, Store } from '../datastore/store.js';
import { listBlocks } from '../ipam/blocks.js';
import type { Cidr } from '../ipam/cidr.js';
import { ipPool } from './ip-pool.js';
import type { Kind, ResourceDocument } from './kind.js';
import { tier } from './policy.js';
import { listResources } from './stored-resource.js';

/** What a resource has to fit to: the pools and tiers that there are, and those of the same file. */
export class Surroundings {
  private constructor(
    private readonly store: Store,
    private readonly byKind: ReadonlyMap<Kind, Map<string, ResourceDocument>>,
    /** Compared when a pool is made, so that no other comes unseen. */
    readonly poolCreation: Entry | undefined,
  ) {}

  /** Three round trips. */
  static async read(store: Store): Promise<Surroundings> {
    // Before the pools: one that is made in between changes it.
    const poolCreation = await store.get(POOL_CREATION_KEY);
    const byKind = new Map<Kind, Map<string, ResourceDocument>>();
    for (const kind of [ipPool, tier]) {
      const { resources } = await listResources(store, kind);
      byKind.set(kind, new Map(resources.map(({ document }) => [document.name, document])));
    }
    return new Surroundings(store, byKind, poolCreation);
  }

  /** A resource that will be there by the time those after it are written. */
  add(document: ResourceDocument): void {
    this.byKind.get(document.kind)?.set(document.name, document);
  }

  get pools(): readonly ResourceDocument[] {
    return [...(this.byKind.get(ipPool)?.values() ?? [])];
  }

  hasTier(name: string): boolean {
    return this.byKind.get(tier)?.has(name) === true;
  }

  /** The ranges of all blocks of a family; one round trip per 1,000. */
  async blocks(range: Cidr): Promise<Cidr[]> {
    return (await listBlocks(this.store, range)).map(({ block }) => block.cidr);
  }
}
