import type { Logger } from 'pino';
import { BLOCKS_PREFIX, resourceKey, resourcesPrefix } from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import type { Store } from '../datastore/store.js';
import type { Family } from '../ipam/cidr.js';
import type { Peers } from '../host/peers.js';
import { measuredApply, NO_METRICS } from '../metrics/metrics.js';
import type { Metrics } from '../metrics/metrics.js';
import type { IpPool } from '../model/ip-pool.js';
import { parseNode } from '../model/node.js';
import type { CalicoNode } from '../model/node.js';
import { RouteTable } from '../routing/route-table.js';
import { digestBlock, parseRoutedBlock } from '../routing/routed-block.js';
import type { RoutedBlock } from '../routing/routed-block.js';
import { growHeapFreely } from '../heap.js';
import { tunnelEnds } from '../routing/tunnel-ends.js';
import { keepApplied } from './keep-applied.js';

/** Hosts that cannot be reached are named a moment after a change, so that what passes by itself is not. */
const REPORT_AFTER = 1_000;
/** So many of them at once, and then how many more. */
const REPORTED = 20;
const FAMILIES = [4, 6] as const;

export interface OtherHostsParts {
  /** This node's name. */
  readonly node: string;
  readonly pools: Mirror<IpPool>;
  readonly nodes: Mirror<CalicoNode>;
  readonly peers: Pick<Peers, 'routeAll' | 'route' | 'tunnel'>;
  /** None where not given. */
  readonly metrics?: Metrics;
  readonly log: Logger;
}

/** All Nodes, as far as routing needs them. */
export function mirrorOfNodes(store: Store, log: Logger): Mirror<CalicoNode> {
  const parse = (key: string, text: string): CalicoNode | undefined => {
    const node = parseNode(text);
    return node && resourceKey('nodes', node.name) === key ? node : undefined;
  };
  return new Mirror(store, resourcesPrefix('nodes'), parse, log);
}

/**
 * Keeps the routes to other hosts as the datastore says: follows blocks, Nodes and IPPools, and hands on what differs.
 * While the datastore is out of sight everything stays.
 */
export class OtherHosts {
  private blocks: Mirror<RoutedBlock> | undefined;
  private readonly table: RouteTable;
  private readonly kept;
  private readonly endings: (() => void)[] = [];
  private settled: () => void = () => undefined;
  private isWhole = false;
  private areTunnelsStale = true;
  private report: NodeJS.Timeout | undefined;
  /** By node, why it cannot be reached. */
  private reported: ReadonlyMap<string, string> = new Map();

  constructor(
    private readonly store: Store,
    private readonly parts: OtherHostsParts,
  ) {
    this.table = new RouteTable(parts.node);
    const apply = measuredApply(parts.metrics ?? NO_METRICS, 'peers', () => this.apply());
    this.kept = keepApplied('routes to other hosts', apply, parts.log);
  }

  /** How many routes there should be. */
  get count(): number {
    return this.table.routes.size;
  }

  /** Begins once everything was read; returns at once. */
  start(): void {
    // A hundred thousand blocks make a hundred megabytes; while they come there is nothing to collect.
    this.settled = growHeapFreely();
    this.endings.push(() => this.settled());
    this.blocks = new Mirror(this.store, BLOCKS_PREFIX, parseRoutedBlock, this.parts.log, digestBlock);
    this.begin(this.blocks).catch(() => undefined);
  }

  close(): void {
    this.kept.stop();
    clearTimeout(this.report);
    this.blocks?.close();
    for (const end of this.endings.splice(0)) end();
  }

  private async begin(blocks: Mirror<RoutedBlock>): Promise<void> {
    const { table, kept } = this;
    const { nodes, pools, node: own } = this.parts;
    await Promise.all([blocks.ready, nodes.ready, pools.ready]);
    const prefix = resourcesPrefix('nodes');
    const takePools = (): void => {
      table.setPools([...pools.values()]);
      this.areTunnelsStale = true;
    };
    const takeNodes = (keys: Iterable<string>): void => {
      for (const key of keys) {
        const [name, node] = [key.slice(prefix.length), nodes.get(key)];
        // This host's is registered again at once where somebody deletes it; its routes need not flicker for that.
        if (node || name !== own) table.setNode(name, node);
      }
      this.areTunnelsStale = true;
    };
    // All of it before anything is applied: half of it would take away routes that only have to stay.
    takePools();
    for (const [key] of nodes.entries()) takeNodes([key]);
    for (const [key, block] of blocks.entries()) table.setBlock(key, block);
    const follow = <T>(mirror: Mirror<T>, take: (keys: ReadonlySet<string>) => void): void =>
      void this.endings.push(
        mirror.onEntries(keys => {
          take(keys);
          kept.changed();
        }),
      );
    follow(pools, takePools);
    follow(nodes, takeNodes);
    follow(blocks, keys => {
      for (const key of keys) table.setBlock(key, blocks.get(key));
    });
    kept.changed();
  }

  private async apply(): Promise<void> {
    const { table } = this;
    const { peers, nodes, node } = this.parts;
    // Before this node is registered nothing is known of its subnets: routes of the daemon before us stay.
    if (nodes.get(resourceKey('nodes', node)) === undefined && !this.isWhole) return;
    const changes = table.takeChanges();
    const isWhole = this.isWhole;
    const tunnels = !isWhole || this.areTunnelsStale ? FAMILIES.map(family => this.tunnelOf(family)) : [];
    // A failure may leave anything: the next time everything is compared.
    this.isWhole = false;
    this.areTunnelsStale = false;
    // Routes need the device, so it comes first and goes last. Without it the others are routed all the same.
    const failures: unknown[] = [];
    const failed = (error: unknown): void => void failures.push(error);
    for (const { family, ends } of tunnels)
      if (typeof ends === 'object') await peers.tunnel(family, ends.own, ends.others).catch(failed);
    if (!isWhole) await peers.routeAll(table.routes);
    else if (changes.size > 0) await peers.route(changes);
    for (const { family, ends } of tunnels)
      if (ends === 'none') await peers.tunnel(family, undefined, []).catch(failed);
    this.settled();
    this.settled = () => undefined;
    this.isWhole = true;
    this.report ??= setTimeout(() => this.reportUnreachable(), REPORT_AFTER).unref();
    // The routes are as they should be: to compare them all at each change would keep the host busy meanwhile.
    this.areTunnelsStale ||= failures.length > 0;
    if (failures.length > 0) throw failures[0];
  }

  private tunnelOf(family: Family) {
    const { nodes, node, pools } = this.parts;
    const own = nodes.get(resourceKey('nodes', node));
    return { family, ends: tunnelEnds(own, nodes.values(), [...pools.values()], family) };
  }

  private reportUnreachable(): void {
    this.report = undefined;
    const now = this.table.unreachable();
    const news = [...now].filter(([name, reason]) => this.reported.get(name) !== reason);
    for (const [name, reason] of news.slice(0, REPORTED))
      this.parts.log.warn({ peer: name, reason }, 'containers on another host cannot be reached');
    if (news.length > REPORTED)
      this.parts.log.warn({ hosts: news.length - REPORTED }, 'containers on more hosts cannot be reached');
    const again = [...this.reported.keys()].filter(name => !now.has(name));
    if (again.length > 0)
      this.parts.log.info({ peers: again.slice(0, REPORTED), count: again.length }, 'no longer out of reach');
    this.reported = now;
  }
}
