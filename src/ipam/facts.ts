import type { Logger } from 'pino';
import {
  IPAM_CONFIG_KEY,
  nodeAffinitiesPrefix,
  parseAffinityKey,
  resourceKey,
  resourcesPrefix,
} from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import type { Compare, Entry, Store } from '../datastore/store.js';
import { inTime } from '../deadline.js';
import { DatastoreError } from '../errors.js';
import { parseAffinityState, parseIpamConfig } from '../model/block.js';
import type { AffinityState, IpamConfig } from '../model/block.js';
import { parseIpPool } from '../model/ip-pool.js';
import type { IpPool } from '../model/ip-pool.js';
import { textList } from '../model/json.js';
import { parseResource } from '../model/resource.js';
import { contains, covers, formatCidr, parseCidr } from './cidr.js';
import type { Address, Cidr, Family } from './cidr.js';

/** Milliseconds a call waits for a datastore that was never reached; less than dockerd's caller is promised. */
const PATIENCE = 8_000;
const UNREACHABLE = 'the datastore is unreachable: check that etcd runs and that ETCD_ENDPOINTS names it';

/**
 * What an allocation is decided on, kept in memory by watches so that deciding costs no round trip: pools,
 * reservations, configuration, this node's labels and blocks. A fact may be stale by the time it is used; those that
 * matter (the pool, the configuration) are therefore compared in the very transaction that allocates, see
 * {@link IpamFacts.guards}.
 */
export class IpamFacts {
  readonly pools: Mirror<IpPool>;
  private readonly reservations: Mirror<readonly Cidr[]>;
  private readonly config: Mirror<IpamConfig>;
  private readonly nodes: Mirror<Readonly<Record<string, string>>>;
  /** By key; see {@link parseAffinityKey}. */
  readonly affinities: Mirror<{ cidr: Cidr; state: AffinityState }>;
  private isRead = false;

  constructor(
    store: Store,
    readonly node: string,
    log: Logger,
  ) {
    this.pools = new Mirror(
      store,
      resourcesPrefix('ippools'),
      (key, text) => {
        const pool = parseIpPool(text);
        // Guards name the pool's key by its name.
        return pool && resourceKey('ippools', pool.name) === key ? pool : undefined;
      },
      log,
    );
    this.reservations = new Mirror(
      store,
      resourcesPrefix('ipreservations'),
      (_key, text) => reservedBy(text),
      log,
    );
    this.config = new Mirror(store, IPAM_CONFIG_KEY, (_key, text) => parseIpamConfig(text), log);
    this.nodes = new Mirror(
      store,
      resourceKey('nodes', node),
      (_key, text) => parseResource(text)?.labels,
      log,
    );
    this.affinities = new Mirror(
      store,
      nodeAffinitiesPrefix(node),
      (key, text) => {
        const cidr = parseAffinityKey(key)?.cidr;
        return cidr && { cidr, state: parseAffinityState(text) };
      },
      log,
    );
  }

  /** Resolves when everything was read once, however long that takes. */
  async whenRead(): Promise<void> {
    await Promise.all(this.mirrors().map(mirror => mirror.ready));
    this.isRead = true;
  }

  /** The same for a call that somebody waits for. Throws DatastoreError. */
  async ready(): Promise<void> {
    if (this.isRead) return;
    const trouble = () => this.mirrors().find(mirror => mirror.trouble !== undefined)?.trouble;
    await inTime(this.whenRead(), PATIENCE, () => new DatastoreError(trouble() ?? UNREACHABLE));
  }

  /** False while the datastore is out of sight: what is known may be old. */
  get isCurrent(): boolean {
    return this.mirrors().every(mirror => mirror.isCurrent);
  }

  /** Runs `changed` after any of the facts changed. */
  onChange(changed: () => void): void {
    for (const mirror of this.mirrors()) mirror.onChange(changed);
  }

  close(): void {
    for (const mirror of this.mirrors()) mirror.close();
  }

  /** Calico's configuration; the defaults where there is none. */
  get ipamConfig(): IpamConfig {
    return this.config.get(IPAM_CONFIG_KEY) ?? parseIpamConfig(undefined);
  }

  get nodeLabels(): Readonly<Record<string, string>> {
    return this.nodes.get(resourceKey('nodes', this.node)) ?? {};
  }

  /** All pools by name, as Calico orders them. */
  allPools(): IpPool[] {
    return [...this.pools.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The pool an address lies in, disabled ones too. */
  poolOf(address: Address): IpPool | undefined {
    return this.allPools().find(pool => contains(pool.cidr, address));
  }

  poolAround(cidr: Cidr): IpPool | undefined {
    return this.allPools().find(pool => covers(pool.cidr, cidr));
  }

  /** True where an IPReservation keeps the address back. */
  isReserved(address: Address): boolean {
    for (const cidrs of this.reservations.values())
      if (cidrs.some(cidr => contains(cidr, address))) return true;
    return false;
  }

  /** The reservation that covers all of a block, if one does. */
  reservationAround(block: Cidr): Cidr | undefined {
    for (const cidrs of this.reservations.values()) {
      const around = cidrs.find(cidr => covers(cidr, block));
      if (around) return around;
    }
    return undefined;
  }

  /** How many blocks this node has of a family. */
  blockCount(family: Family): number {
    return [...this.affinities.values()].filter(({ cidr }) => cidr.family === family).length;
  }

  /** This node's blocks inside a range, in key order. Not only confirmed ones: what is pending is ours to finish. */
  ownBlocks(within: Cidr): Cidr[] {
    return [...this.affinities.entries()]
      .filter(([, { cidr, state }]) => state !== 'pendingDeletion' && covers(within, cidr))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { cidr }]) => cidr);
  }

  /** This node's blocks that others may know of: the pending ones are not ours yet. */
  confirmedBlocks(): Cidr[] {
    return [...this.affinities.values()].filter(({ state }) => state === 'confirmed').map(({ cidr }) => cidr);
  }

  isConfirmed(key: string): boolean {
    return this.affinities.get(key)?.state === 'confirmed';
  }

  /** What an allocation in this block relies on, as compares for its transaction. */
  guards(block: Cidr): Compare[] {
    const pool = this.poolAround(block);
    return [
      ...(pool ? [unchanged(resourceKey('ippools', pool.name), this.pools)] : []),
      unchanged(IPAM_CONFIG_KEY, this.config),
    ];
  }

  /** Takes over what a failed transaction found, at `revision`, at the keys of its guards. */
  observe(found: ReadonlyMap<string, Entry | undefined>, revision: string): void {
    for (const [key, entry] of found)
      for (const mirror of this.mirrors()) {
        if (entry) mirror.observe(entry);
        else if (mirror.get(key) !== undefined) mirror.observeDeleted(key, revision);
      }
  }

  private mirrors(): Mirror<unknown>[] {
    return [this.pools, this.reservations, this.config, this.nodes, this.affinities];
  }
}

/** Text of a fact for messages: `docker-192-0-2-0-24 (192.0.2.0/24)`. */
export function describePool(pool: IpPool): string {
  return `IPPool ${pool.name} (${formatCidr(pool.cidr)})`;
}

function unchanged(key: string, mirror: Mirror<unknown>): Compare {
  const revision = mirror.revisionOf(key);
  return revision === undefined ? { key, is: 'absent' } : { key, is: 'revision', revision };
}

function reservedBy(text: string): readonly Cidr[] | undefined {
  const resource = parseResource(text);
  return resource && textList(resource.spec.reservedCIDRs).flatMap(cidr => parseCidr(cidr) ?? []);
}
