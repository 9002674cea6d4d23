import { hostState } from '../agent/host-state.js';
import type { NetworkRecord } from '../model/network-record.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';

/**
 * Why networks with `--internal` let nothing pass from one address to another, in words; undefined where they do not mind.
 * Before and after policy, which cannot change it: what one of its endpoints sends goes to members only, what one gets comes
 * from members only, and the host is none.
 *
 * @param endpoints of all hosts
 */
export function keptApart(
  networks: readonly NetworkRecord[],
  endpoints: readonly WorkloadEndpoint[],
  source: string,
  destination: string,
): string | undefined {
  const outsider = (inside: string, other: string): string | undefined => {
    const endpoint = endpoints.find(({ addresses }) => addresses.includes(inside));
    const network = networks.find(({ id, internal }) => internal && id === endpoint?.networkId);
    if (!endpoint || !network) return undefined;
    // As its own host has it.
    const facts = { node: endpoint.node, pools: [], ownBlocks: [], endpoints, internal: [network] };
    if (hostState(facts).internal.some(({ members }) => members.includes(other))) return undefined;
    return `network ${network.name ?? network.id} of ${inside} is internal, and ${other} is not in it: denied`;
  };
  return outsider(source, destination) ?? outsider(destination, source);
}
