import type { PeerHop } from '../host/peers.js';
import { covers, formatCidr, parseCidr } from '../ipam/cidr.js';
import type { Family } from '../ipam/cidr.js';
import type { Encapsulation, IpPool } from '../model/ip-pool.js';
import type { CalicoNode } from '../model/node.js';
import { MODES } from './networking-mode.js';
import type { Unreachable } from './networking-mode.js';
import { destinationsOf } from './routed-block.js';
import type { RoutedBlock } from './routed-block.js';

/** What became of destinations since the last look; undefined: no route any more. */
export type RouteChanges = ReadonlyMap<string, PeerHop | undefined>;

/** What of a pool decides how its blocks are reached. */
export type RoutedPool = Pick<IpPool, 'cidr' | 'vxlanMode'>;

/** How one node is reached from here, by mode and family; made when it is first asked for. */
type Ways = Record<Family, Partial<Record<Encapsulation, PeerHop | Unreachable>>>;

/**
 * The routes to other hosts that should exist, from what the datastore says: blocks, Nodes, IPPools. Does no I/O. Given
 * one change it computes anew only what depends on it, as a cluster may have a hundred thousand blocks.
 *
 * - a block leads to its owner;
 * - an address that another node uses (borrowed) leads there by itself, also out of a block of our own;
 * - what this host uses or owns is none of this table's business.
 */
export class RouteTable {
  private readonly nodes = new Map<string, CalicoNode>();
  private readonly ways = new Map<string, Ways>();
  private readonly blocks = new Map<string, RoutedBlock>();
  /** Keys of the blocks whose routes lead to a node. */
  private readonly dependents = new Map<string, Set<string>>();
  private pools: readonly RoutedPool[] = [];
  private readonly found = new Map<string, PeerHop>();
  /** By destination, the node it should lead to. */
  private readonly missing = new Map<string, string>();
  private changed = new Map<string, PeerHop | undefined>();
  /** Keys of blocks whose routes may be others than before. */
  private readonly stale = new Set<string>();
  private isAllStale = false;

  /** `own`: this node's name. */
  constructor(private readonly own: string) {}

  /** A Node appeared, changed, or went. */
  setNode(name: string, node: CalicoNode | undefined): void {
    const before = this.nodes.get(name);
    if (node) this.nodes.set(name, node);
    else this.nodes.delete(name);
    if (name === this.own) {
      // What is reached through this host's own subnet may be anything; its labels and tunnel matter to no route.
      if (addressesText(before) !== addressesText(node)) this.isAllStale = true;
      return;
    }
    this.ways.delete(name);
    for (const key of this.dependents.get(name) ?? []) this.stale.add(key);
  }

  /** A block appeared, changed, or went. `key`: anything that tells it from others. */
  setBlock(key: string, block: RoutedBlock | undefined): void {
    const before = this.blocks.get(key);
    if (before && block && isSame(before, block)) return;
    const wanted = block ? lastOfEach(destinationsOf(block)) : [];
    if (before) {
      const kept = new Set(wanted.map(([destination]) => destination));
      for (const [destination, node] of destinationsOf(before)) {
        this.depend(node, key, false);
        if (!kept.has(destination)) this.drop(destination);
      }
    }
    for (const [, node] of wanted) this.depend(node, key, true);
    if (block) this.blocks.set(key, block);
    else this.blocks.delete(key);
    this.stale.add(key);
  }

  /** The pools, all of them. */
  setPools(pools: readonly RoutedPool[]): void {
    // A block in no pool is reached as one in a pool that does not encapsulate: containers outlive pools.
    const encapsulating = pools
      .filter(({ vxlanMode }) => vxlanMode !== 'Never')
      .map(({ cidr, vxlanMode }) => ({ cidr, vxlanMode }));
    if (poolsText(encapsulating) === poolsText(this.pools)) return;
    this.pools = encapsulating;
    this.isAllStale = true;
  }

  /** Everything that should be routed, by destination. Up to date after {@link takeChanges}. */
  get routes(): ReadonlyMap<string, PeerHop> {
    return this.found;
  }

  /** What changed since the last call. */
  takeChanges(): RouteChanges {
    if (this.isAllStale) {
      this.ways.clear();
      for (const key of this.blocks.keys()) this.stale.add(key);
    }
    this.isAllStale = false;
    for (const key of this.stale) {
      const block = this.blocks.get(key);
      if (block) this.route(block);
    }
    this.stale.clear();
    const changes = this.changed;
    this.changed = new Map();
    return changes;
  }

  /** Nodes that have addresses to which no route leads, with the reason. Up to date after {@link takeChanges}. */
  unreachable(): ReadonlyMap<string, string> {
    const reasons = new Map<string, string>();
    for (const [destination, node] of this.missing) {
      const way = this.wayTo(node, destination);
      // Where there are several, always the same one.
      const known = reasons.get(node);
      if ('unreachable' in way && (known === undefined || way.unreachable < known))
        reasons.set(node, way.unreachable);
    }
    return reasons;
  }

  private route(block: RoutedBlock): void {
    const mode = this.modeOf(block);
    for (const [destination, node] of lastOfEach(destinationsOf(block))) {
      const way = node === this.own ? undefined : this.way(node, mode, block.family);
      if (!way) this.drop(destination);
      else if ('via' in way) {
        this.missing.delete(destination);
        this.put(destination, way);
      } else {
        this.missing.set(destination, node);
        this.put(destination, undefined);
      }
    }
  }

  private drop(destination: string): void {
    this.missing.delete(destination);
    this.put(destination, undefined);
  }

  private put(destination: string, hop: PeerHop | undefined): void {
    const before = this.found.get(destination);
    if (before === hop || (before && hop && before.via === hop.via && before.by === hop.by)) return;
    if (hop) this.found.set(destination, hop);
    else this.found.delete(destination);
    this.changed.set(destination, hop);
  }

  private wayTo(node: string, destination: string): PeerHop | Unreachable {
    const family = destination.includes(':') ? 6 : 4;
    return this.way(node, this.modeOf({ cidr: destination }), family);
  }

  private way(node: string, mode: Encapsulation, family: Family): PeerHop | Unreachable {
    let ways = this.ways.get(node);
    if (!ways) this.ways.set(node, (ways = { 4: {}, 6: {} }));
    let way = ways[family][mode];
    if (!way) {
      const [own, peer] = [this.nodes.get(this.own), this.nodes.get(node)];
      if (!own) way = { unreachable: 'this host has no Node resource yet' };
      else way = peer ? MODES[mode](own, peer, family) : { unreachable: 'it has no Node resource' };
      ways[family][mode] = way;
    }
    return way;
  }

  private modeOf({ cidr }: { readonly cidr: string }): Encapsulation {
    if (this.pools.length === 0) return 'Never';
    const range = parseCidr(cidr);
    return (range && this.pools.find(pool => covers(pool.cidr, range))?.vxlanMode) ?? 'Never';
  }

  private depend(node: string, key: string, does: boolean): void {
    if (node === this.own) return;
    const keys = this.dependents.get(node);
    if (does && keys) keys.add(key);
    else if (does) this.dependents.set(node, new Set([key]));
    else if (keys?.delete(key) && keys.size === 0) this.dependents.delete(node);
  }
}

/** Of equal destinations the last counts; most blocks have just one. */
function lastOfEach(destinations: readonly [string, string][]): readonly [string, string][] {
  return destinations.length > 1 ? [...new Map(destinations)] : destinations;
}

function isSame(one: RoutedBlock, other: RoutedBlock): boolean {
  return (
    one.owner === other.owner &&
    one.borrowed.length === other.borrowed.length &&
    one.borrowed.every(({ destination, node }, index) => {
      const its = other.borrowed[index];
      return its?.destination === destination && its.node === node;
    })
  );
}

function addressesText(node: CalicoNode | undefined): string {
  const texts = ([4, 6] as const).map(family => {
    const own = node?.addresses[family];
    return own ? `${own.address} ${formatCidr(own.subnet)}` : '';
  });
  return node ? texts.join() : 'none';
}

function poolsText(pools: readonly RoutedPool[]): string {
  return pools
    .map(({ cidr, vxlanMode }) => `${formatCidr(cidr)} ${vxlanMode}`)
    .sort()
    .join();
}
