import type { Logger } from 'pino';
import { NodeRegistration } from './agent/node-registration.js';
import { NodeWriter } from './agent/node-writer.js';
import { mirrorOfNodes, OtherHosts } from './agent/other-hosts.js';
import { TunnelAddresses } from './agent/tunnel-addresses.js';
import type { Config } from './config.js';
import type { Store } from './datastore/store.js';
import type { Dataplane } from './host/dataplane.js';
import { encapsulatedMtu } from './host/peers.js';
import type { Allocator } from './ipam/allocator.js';
import { parseAddress } from './ipam/cidr.js';
import type { Metrics } from './metrics/metrics.js';
import type { IpamFacts } from './ipam/facts.js';

export interface ClusterParts {
  readonly config: Config;
  readonly store: Store;
  readonly facts: IpamFacts;
  readonly allocator: Allocator;
  readonly dataplane: Dataplane;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** What makes a host part of a cluster: its Node, its routes to the others, its ends of their tunnels. */
export interface Cluster {
  start(): void;
  /** How many routes to other hosts there should be. */
  routes(): number;
  close(): void;
}

/** Puts it together. Beside a Felix only the Node is ours to look after. */
export function createCluster(parts: ClusterParts): Cluster {
  const { config, store, facts, allocator, dataplane, metrics, log } = parts;
  const logOf = (module: string) => log.child({ module });
  const { nodeName: node } = config;
  const { peers } = dataplane;
  const nodes = mirrorOfNodes(store, logOf('nodes'));
  const writer = new NodeWriter(store, node, nodes);
  const registration = new NodeRegistration({
    ...{ writer, nodes, host: peers, log: logOf('node') },
    source: { 4: config.ip, 6: config.ip6 },
    method: { 4: config.ipDetection, 6: config.ip6Detection },
  });
  const others = new OtherHosts(store, {
    ...{ node, pools: facts.pools, nodes, peers, metrics, log: logOf('routing') },
  });
  const tunnels = new TunnelAddresses({
    ...{ store, node, facts, allocator, writer, log: logOf('node') },
    onNodeChange: changed => nodes.onEntries(keys => keys.has(writer.key) && changed()),
  });
  return {
    routes: () => others.count,
    start() {
      registration.start();
      if (config.dataplane === 'native') for (const part of [others, tunnels]) part.start();
    },
    close() {
      for (const part of [registration, tunnels, others, nodes]) part.close();
    },
  };
}

/** The MTU in bytes that packets of an address can have where its pool encapsulates; undefined where it does not. */
export function pathMtu(
  facts: IpamFacts,
  peers: Dataplane['peers'],
  address: string,
  hostMtu: number,
): number | undefined {
  const parsed = parseAddress(address);
  const pool = parsed && facts.poolOf(parsed);
  return pool && pool.vxlanMode !== 'Never' ? encapsulatedMtu(peers, pool.cidr.family, hostMtu) : undefined;
}
