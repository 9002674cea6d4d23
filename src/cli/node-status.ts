import { loadConfig } from '../config.js';
import {
  AFFINITIES_PREFIX,
  aliveKey,
  endpointKey,
  parseAffinityKey,
  resourcesPrefix,
} from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import { parseIpPool } from '../model/ip-pool.js';
import type { IpPool } from '../model/ip-pool.js';
import { parseNode } from '../model/node.js';
import type { CalicoNode } from '../model/node.js';
import { parsePresence } from '../model/presence.js';
import { parseEndpoint } from '../model/workload-endpoint.js';
import { MODES } from '../routing/networking-mode.js';
import { chosen, noMoreWords, parseArguments } from './arguments.js';
import type { Run } from './command.js';
import { withDatastore } from './datastore.js';
import { FORMATS, printList } from './format.js';
import type { ListColumn } from './format.js';

/** A host, as the datastore knows it and as this one reaches it. */
interface HostStatus {
  readonly name: string;
  readonly isThisHost: boolean;
  /** Since when its daemon has its name, RFC 3339; undefined: it is not alive. */
  readonly aliveSince?: string;
  readonly version?: string;
  readonly addresses: readonly string[];
  /** `direct`, `VXLAN`, or why it is not reached; one for each that the pools need. */
  readonly reachedBy: readonly string[];
  readonly isReached: boolean;
  readonly blocks: number;
  readonly endpoints: number;
}

const COLUMNS: readonly ListColumn<HostStatus>[] = [
  { title: 'NAME', of: ({ name, isThisHost }) => (isThisHost ? `${name} *` : name) },
  {
    title: 'ALIVE',
    of: ({ aliveSince }) =>
      aliveSince === undefined ? { text: 'no', color: 'red' } : { text: 'yes', color: 'green' },
  },
  { title: 'SINCE', isWide: true, of: ({ aliveSince = '' }) => aliveSince.replace(/\.\d+Z$/, 'Z') },
  { title: 'VERSION', isWide: true, of: ({ version = '' }) => version },
  { title: 'ADDRESS', of: ({ addresses }) => addresses.join(',') },
  { title: 'BLOCKS', of: ({ blocks }) => String(blocks) },
  { title: 'ENDPOINTS', of: ({ endpoints }) => String(endpoints) },
  {
    title: 'REACHED BY',
    of: ({ reachedBy, isReached }) =>
      isReached ? reachedBy.join(', ') : { text: reachedBy.join(', '), color: 'red' },
  },
];

/**
 * `node status`: this host, marked with a star, and all others. Exit status 0: all others that are alive are reached, as far
 * as the datastore tells; 1: one is not.
 */
export const run: Run = async (args, env, out) => {
  const { values, words } = parseArguments(args, { output: { type: 'string', short: 'o' } });
  noMoreWords(words);
  const format = chosen('-o', values.output, FORMATS, 'table');
  const config = loadConfig(env);
  const hosts = await withDatastore(config, store => statusOf(store, config.nodeName));
  printList(out, format, COLUMNS, hosts);
  return hosts.some(({ aliveSince, isReached }) => aliveSince !== undefined && !isReached) ? 1 : 0;
};

/** One round trip for each kind of thing, and one more per 1,000 of each. */
async function statusOf(store: Store, here: string): Promise<HostStatus[]> {
  const nodes = new Map<string, CalicoNode>();
  for (const { value } of (await store.list(resourcesPrefix('nodes'))).entries) {
    const node = parseNode(value);
    if (node) nodes.set(node.name, node);
  }
  const prefix = aliveKey('');
  const alive = new Map(
    (await store.list(prefix)).entries.map(({ key, value }) => [key.slice(prefix.length), value]),
  );
  const blocks = new Map<string, number>();
  for await (const { entries } of store.pages(AFFINITIES_PREFIX))
    for (const { key } of entries) count(blocks, parseAffinityKey(key)?.node);
  const endpoints = new Map<string, number>();
  for await (const { entries } of store.pages(endpointKey('')))
    for (const { value } of entries) count(endpoints, parseEndpoint(value)?.node);
  const pools = (await store.list(resourcesPrefix('ippools'))).entries.flatMap(
    ({ value }) => parseIpPool(value) ?? [],
  );
  const names = new Set([...nodes.keys(), ...alive.keys(), ...blocks.keys(), ...endpoints.keys()]);
  const own = nodes.get(here);
  return [...names].sort().map(name => {
    const node = nodes.get(name);
    const presence = parsePresence(alive.get(name) ?? '');
    const addresses = ([4, 6] as const).flatMap(family => node?.addresses[family]?.address ?? []);
    return {
      ...{ name, isThisHost: name === here, addresses },
      ...(presence ? { aliveSince: presence.since, version: presence.version } : {}),
      ...(name === here
        ? { reachedBy: ['this host'], isReached: true }
        : wayTo(own, node, presence !== undefined, pools)),
      ...{ blocks: blocks.get(name) ?? 0, endpoints: endpoints.get(name) ?? 0 },
    };
  });
}

/** How packets for the pools' addresses get to a host. */
function wayTo(
  own: CalicoNode | undefined,
  peer: CalicoNode | undefined,
  isAlive: boolean,
  pools: readonly IpPool[],
): Pick<HostStatus, 'reachedBy' | 'isReached'> {
  if (!peer) {
    const remedy = isAlive ? "see its daemon's log" : 'start its daemon';
    return { reachedBy: [`it has no Node: ${remedy}`], isReached: false };
  }
  if (!own) return { reachedBy: ['this host has no Node: start its daemon'], isReached: false };
  const ways = new Set<string>();
  let isReached = true;
  for (const { cidr, vxlanMode } of pools) {
    const hop = MODES[vxlanMode](own, peer, cidr.family);
    if ('via' in hop) ways.add(hop.by === 'vxlan' ? 'VXLAN' : 'direct');
    else {
      ways.add(`not: ${hop.unreachable}`);
      isReached = false;
    }
  }
  return { reachedBy: ways.size > 0 ? [...ways].sort() : ['there is no IPPool'], isReached };
}

function count(counts: Map<string, number>, name: string | undefined): void {
  if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
}
