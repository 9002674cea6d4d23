import { AFFINITIES_PREFIX, aliveKey, parseAffinityKey } from '../datastore/keys.js';
import { covers, formatCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import type { IpPool } from '../model/ip-pool.js';
import type { CalicoNode } from '../model/node.js';
import { MODES } from '../routing/networking-mode.js';
import { ok, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** How many of those that are not reached are named. */
const NAMED = 5;

/**
 * Containers of all live hosts are reached, as far as Nodes and pools tell. Two round trips, and one for each 1,000 blocks.
 */
export const peers: Check<Pick<Subject, 'config' | 'store' | 'nodes' | 'pools'>> = {
  name: 'other hosts',
  async look({ config, store, nodes, pools }) {
    const prefix = aliveKey('');
    const alive = await store().list(prefix);
    const blocks = new Map<string, Cidr[]>();
    for (const { key } of alive.entries) blocks.set(key.slice(prefix.length), []);
    for await (const { entries } of store().pages(AFFINITIES_PREFIX))
      for (const { key } of entries) {
        const affinity = parseAffinityKey(key);
        if (affinity) blocks.get(affinity.node)?.push(affinity.cidr);
      }
    return judgePeers(config.nodeName, await nodes(), blocks, await pools());
  },
};

/** `blocks`: of each live host, by its name. */
export function judgePeers(
  own: string,
  nodes: readonly CalicoNode[],
  blocks: ReadonlyMap<string, readonly Cidr[]>,
  pools: readonly IpPool[],
): Verdict[] {
  const byName = new Map(nodes.map(node => [node.name, node]));
  const here = byName.get(own);
  const others = [...blocks].filter(([name]) => name !== own);
  // That there is none is another check's.
  if (!here || others.length === 0) return [ok(`${others.length} are alive`)];
  const found = others.flatMap(([name, theirs]) => {
    const why = whyNot(here, byName.get(name), theirs, pools);
    return why === undefined ? [] : [`containers on ${name}: ${why}`];
  });
  if (found.length === 0)
    return [ok(`${others.length} are alive, and there is a way to the containers of each`)];
  const more = found.length > NAMED ? [`and ${found.length - NAMED} more are not reached`] : [];
  return [...found.slice(0, NAMED), ...more].map(text =>
    warning(
      text,
      'calico-libnetwork node status shows the way to each host; docs/cluster.md says what it takes',
    ),
  );
}

/** Why containers of another host are not reached; undefined where they are, or it has none yet. */
function whyNot(
  own: CalicoNode,
  peer: CalicoNode | undefined,
  blocks: readonly Cidr[],
  pools: readonly IpPool[],
): string | undefined {
  if (blocks.length === 0) return undefined;
  if (!peer) return 'not reached, as it has no Node: see the log of its daemon';
  for (const pool of pools) {
    if (!blocks.some(block => covers(pool.cidr, block))) continue;
    const hop = MODES[pool.vxlanMode](own, peer, pool.cidr.family);
    if (!('via' in hop))
      return `those of IPPool ${formatCidr(pool.cidr)} are not reached: ${hop.unreachable}`;
  }
  return undefined;
}
