import type { Logger } from 'pino';
import { NETWORKS_PREFIX, SHARED_NETWORKS_PREFIX, sharedNetworkKey } from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import type { Compare, Store, Write } from '../datastore/store.js';
import { ConflictError } from '../errors.js';
import { parseNetworkRecord } from '../model/network-record.js';
import {
  differences,
  formatSharedNetwork,
  newSharedNetwork,
  parseSharedNetwork,
} from '../model/shared-network.js';
import type { SharedNetwork } from '../model/shared-network.js';
import type { HereNetwork, SharedEntry } from './network-sync.js';

/** The networks of the cluster as etcd has them. What is written builds on what was read, or is not written. */
export class SharedNetworks {
  private readonly mirror: Mirror<SharedNetwork>;

  constructor(
    private readonly store: Store,
    private readonly node: string,
    log: Logger,
  ) {
    this.mirror = new Mirror(
      store,
      SHARED_NETWORKS_PREFIX,
      (key, text) => {
        const network = parseSharedNetwork(text);
        return network && sharedNetworkKey(network.name) === key ? network : undefined;
      },
      log,
    );
  }

  /** False while the datastore is out of sight: what is known may be old. */
  get isCurrent(): boolean {
    return this.mirror.isCurrent;
  }

  /** Runs `changed` after any of them changed. */
  onChange(changed: () => void): void {
    this.mirror.onChange(changed);
  }

  /** By name. */
  all(): ReadonlyMap<string, SharedEntry> {
    return new Map(
      [...this.mirror.entries()].map(([key, network]) => [
        network.name,
        { ...network, revision: this.mirror.revisionOf(key) ?? '' },
      ]),
    );
  }

  /**
   * Makes a network of this host that of all. Of two hosts that do so at once one wins; the other sees that, here and in
   * what it then reads. One round trip.
   *
   * @returns the uid of which it is a copy now, another's where another host has made the same; undefined where it is none
   * @throws ConflictError where etcd has something there that is no network
   */
  async share(shared: HereNetwork, replaces?: SharedEntry): Promise<string | undefined> {
    const network = newSharedNetwork(shared, this.node, replaces?.old);
    if (await this.put(network, replaces)) return network.uid;
    const key = sharedNetworkKey(network.name);
    // A look that follows would see no network, and try the same again, without end.
    if (this.mirror.revisionOf(key) !== undefined && !this.mirror.get(key))
      throw new ConflictError(
        `${key} in etcd is no network of this version's: if no newer calico-libnetwork wrote it, delete it (etcdctl del ${key})`,
      );
    const winner = this.mirror.get(key);
    const isSame =
      winner && !winner.removed && differences(winner.definition, shared.definition).length === 0;
    return isSame ? winner.uid : undefined;
  }

  /**
   * Says that a network was removed: on this host, so on all. Where no other host has one it is gone with that. Two round
   * trips. Throws ConflictError where somebody else changed it meanwhile.
   */
  async bury(shared: SharedEntry): Promise<void> {
    const left = await this.recordedElsewhere(shared);
    const done =
      left.length === 0
        ? await this.delete(shared)
        : await this.put(
            { ...shared, old: left, removed: { by: this.node, at: new Date().toISOString() } },
            shared,
          );
    if (!done) throw new ConflictError(`network ${shared.name} was changed on another host meanwhile`);
  }

  /** Forgets what was removed; no harm where another host was quicker. One round trip. */
  async forget(shared: SharedEntry): Promise<void> {
    await this.delete(shared);
  }

  close(): void {
    this.mirror.close();
  }

  /** Ids of what other hosts have of it, or may: a record has no name for a moment. */
  private async recordedElsewhere({ name, old }: SharedEntry): Promise<string[]> {
    const { entries } = await this.store.list(NETWORKS_PREFIX);
    return entries.flatMap(({ value }) => {
      const record = parseNetworkRecord(value);
      if (!record) return [];
      const isNamed = record.node !== this.node && (record.name ?? name) === name;
      return isNamed || old.includes(record.id) ? [record.id] : [];
    });
  }

  private async put(network: SharedNetwork, before?: SharedEntry): Promise<boolean> {
    const key = sharedNetworkKey(network.name);
    const { revision: _revision, ...plain } = { revision: '', ...network };
    const value = formatSharedNetwork(plain);
    const result = await this.store.transact({
      compare: [unchanged(key, before)],
      then: [{ put: key, value }],
      otherwise: [key],
    });
    if (result.succeeded) {
      this.mirror.observe({ key, value, revision: result.revision });
      return true;
    }
    const found = result.found.get(key);
    if (found) this.mirror.observe(found);
    // The answer to our first try may have been lost.
    return found?.value === value;
  }

  private async delete(before: SharedEntry): Promise<boolean> {
    const key = sharedNetworkKey(before.name);
    const then: Write[] = [{ delete: key }];
    const result = await this.store.transact({ compare: [unchanged(key, before)], then, otherwise: [key] });
    if (result.succeeded) this.mirror.observeDeleted(key, result.revision);
    const found = result.succeeded ? undefined : result.found.get(key);
    if (found) this.mirror.observe(found);
    return !found;
  }
}

function unchanged(key: string, before: SharedEntry | undefined): Compare {
  return before ? { key, is: 'revision', revision: before.revision } : { key, is: 'absent' };
}
