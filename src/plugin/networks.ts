import type { Logger } from 'pino';
import { networkKey, NETWORKS_PREFIX, resourceKey } from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import type { Compare, Entry, Store } from '../datastore/store.js';
import { ConflictError, reason, RequestError } from '../errors.js';
import { formatCidr, parseCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';
import type { IpamFacts } from '../ipam/facts.js';
import type { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import { formatNetworkRecord, parseNetworkRecord } from '../model/network-record.js';
import type { NetworkRecord } from '../model/network-record.js';

const ATTEMPTS = 20;

/** The Docker networks that are ours, as recorded in etcd. */
export class Networks {
  private readonly mirror: Mirror<NetworkRecord>;

  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
    private readonly pools: PoolLifecycle,
    /** Docker's scope is global: the networks of all hosts are one host's. */
    private readonly isGlobal: boolean,
    private readonly log: Logger,
  ) {
    this.mirror = new Mirror(store, NETWORKS_PREFIX, (_key, text) => parseNetworkRecord(text), log);
  }

  /** Networks that this dockerd has used or made since it is up: it must have them. */
  readonly served = new Set<string>();

  get ready(): Promise<void> {
    return this.mirror.ready;
  }

  /** The record, if the mirror has it. */
  known(id: string): NetworkRecord | undefined {
    return this.mirror.get(networkKey(id));
  }

  /** Runs `changed` after any record changed. */
  onChange(changed: () => void): void {
    this.mirror.onChange(changed);
  }

  /** False while the datastore is out of sight: what is known may be old. */
  get isCurrent(): boolean {
    return this.mirror.isCurrent;
  }

  /** The records of all hosts that are known now. */
  all(): NetworkRecord[] {
    return [...this.mirror.values()];
  }

  /** Those of this host. */
  own(): NetworkRecord[] {
    return this.all().filter(record => this.concerns(record));
  }

  /** Networks of this host whose endpoints reach only each other. */
  internal(): NetworkRecord[] {
    return [...this.mirror.values()].filter(record => record.internal && this.concerns(record));
  }

  /** The record of a network; no round trip where the mirror has it, else one. */
  async get(id: string): Promise<NetworkRecord | undefined> {
    const known = this.mirror.get(networkKey(id));
    if (known) return known;
    const entry = await this.store.get(networkKey(id));
    if (entry) this.mirror.observe(entry);
    return entry && parseNetworkRecord(entry.value);
  }

  /**
   * Records a network. Its pools are compared in the same transaction: one that goes at this moment with the network
   * that used it before is made again first. A network that is refused leaves no pool behind. One round trip in the
   * common case.
   */
  async create(record: NetworkRecord): Promise<void> {
    const missing = subnetsOf(record).filter(subnet => !this.facts.poolAround(subnet));
    try {
      await this.write(record);
    } catch (error) {
      if (error instanceof RequestError) for (const subnet of missing) await this.pools.removeAround(subnet);
      throw error;
    }
  }

  private async write(record: NetworkRecord): Promise<void> {
    const key = networkKey(record.id);
    const value = formatNetworkRecord(record);
    this.checkShape(record);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const compare: Compare[] = [{ key, is: 'absent' }];
      for (const subnet of subnetsOf(record)) {
        const pool = await this.pools.poolFor(subnet);
        const poolKey = resourceKey('ippools', pool.name);
        const revision = this.facts.pools.revisionOf(poolKey);
        compare.push(
          revision === undefined
            ? { key: poolKey, is: 'present' }
            : { key: poolKey, is: 'revision', revision },
        );
      }
      const result = await this.store.transact({
        compare,
        then: [{ put: key, value }],
        otherwise: compare.map(item => item.key),
      });
      if (result.succeeded) {
        this.mirror.observe({ key, value, revision: result.revision });
        return;
      }
      const existing = result.found.get(key);
      if (existing) this.mirror.observe(existing);
      const known = existing && parseNetworkRecord(existing.value);
      // The same CreateNetwork again; dockerd's ids are random, so it is the same network.
      if (existing && (this.isGlobal || known?.node === record.node)) return;
      // Recorded under a name that this host had before.
      if (existing && known) return this.moveHere(existing, known, record.node);
      this.facts.observe(result.found, result.revision);
    }
    throw new ConflictError('the IPPools of the network are being changed by too many at once: try again');
  }

  private async moveHere(entry: Entry, record: NetworkRecord, node: string): Promise<void> {
    const value = formatNetworkRecord({ ...record, node });
    const { key, revision } = entry;
    const compare: Compare[] = [{ key, is: 'revision', revision }];
    const result = await this.store.transact({ compare, then: [{ put: key, value }] });
    if (!result.succeeded) throw new ConflictError('the network is being changed by another host: try again');
    this.mirror.observe({ key, value, revision: result.revision });
  }

  /** True where a network of this host has the subnet. */
  hasSubnet(subnet: Cidr): boolean {
    const text = formatCidr(subnet);
    return [...this.mirror.values()].some(
      record => this.concerns(record) && record.subnets.some(({ cidr }) => cidr === text),
    );
  }

  /**
   * The ranges that follow a subnet in the network that begins with it: RequestAddress names only the first, and
   * Docker does not hear from us that it is full.
   */
  furtherRanges(first: Cidr): Cidr[] {
    for (const record of this.mirror.values()) {
      const ours = ofFamily(record, first.family);
      if (!this.concerns(record) || ours.length < 2 || ours[0]?.cidr !== formatCidr(first)) continue;
      return ours.slice(1).flatMap(({ cidr, range }) => parseCidr(range ?? cidr) ?? []);
    }
    return [];
  }

  /**
   * Throws RequestError where another network of this host begins with the same subnet and goes on with others: nothing
   * in a request for an address would tell which of them is meant.
   */
  private checkShape(record: NetworkRecord): void {
    for (const family of [4, 6] as const) {
      const [first, ...more] = ofFamily(record, family);
      const clash = [...this.mirror.values()].find(other => {
        const theirs = ofFamily(other, family);
        const severalHere = more.length > 0 || theirs.length > 1;
        return (
          other.id !== record.id &&
          this.concerns(other) &&
          severalHere &&
          theirs[0]?.cidr === first?.cidr &&
          shape(other, family) !== shape(record, family)
        );
      });
      if (first && clash)
        throw new RequestError(
          `network ${clash.name ?? clash.id} of this host has --subnet ${first.cidr} too, but not the same further ones: give both networks the same, or choose another first subnet`,
        );
    }
  }

  /** Networks of this host; all, where Docker's hosts share theirs. */
  private concerns(record: NetworkRecord): boolean {
    return record.node === this.facts.node || this.isGlobal;
  }

  /** Forgets a network and removes pools that were made for it. Missing is fine. Two round trips and more for a pool. */
  async remove(id: string): Promise<void> {
    const record = await this.get(id);
    const key = networkKey(id);
    const result = await this.store.transact({ compare: [{ key, is: 'present' }], then: [{ delete: key }] });
    if (result.succeeded) this.mirror.observeDeleted(key, result.revision);
    for (const subnet of record ? subnetsOf(record) : []) await this.pools.removeAround(subnet);
  }

  /** Adds Docker's name to the record, where there is one. Called in the background: failures are logged. */
  async name(id: string, name: string): Promise<void> {
    const key = networkKey(id);
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const entry: Entry | undefined = await this.store.get(key);
        const record = entry && parseNetworkRecord(entry.value);
        if (!entry || !record || record.name === name) return;
        const value = formatNetworkRecord({ ...record, name });
        const result = await this.store.transact({
          compare: [{ key, is: 'revision', revision: entry.revision }],
          then: [{ put: key, value }],
        });
        if (result.succeeded) return this.mirror.observe({ key, value, revision: result.revision });
      }
    } catch (error) {
      this.log.warn({ network: id, name, reason: reason(error) }, "cannot record a network's name");
    }
  }

  close(): void {
    this.mirror.close();
  }
}

function subnetsOf(record: NetworkRecord): Cidr[] {
  return record.subnets.flatMap(({ cidr }) => parseCidr(cidr) ?? []);
}

function ofFamily(record: NetworkRecord, family: Family): NetworkRecord['subnets'] {
  return record.subnets.filter(({ cidr }) => parseCidr(cidr)?.family === family);
}

/** The subnets of one family as text, to compare. */
function shape(record: NetworkRecord, family: Family): string {
  return ofFamily(record, family)
    .map(({ cidr, range }) => `${cidr} ${range ?? ''}`)
    .join();
}
