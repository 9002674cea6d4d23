import type { HostState, InternalNetwork } from '../host/dataplane.js';
import { formatCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import type { IpPool } from '../model/ip-pool.js';
import type { NetworkRecord } from '../model/network-record.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';

/** What the datastore says, as far as a host's state follows from it. */
export interface HostFacts {
  readonly node: string;
  readonly pools: readonly IpPool[];
  /** This node's confirmed blocks. */
  readonly ownBlocks: readonly Cidr[];
  /** Of all nodes. */
  readonly endpoints: readonly WorkloadEndpoint[];
  /** This node's networks with `--internal`. */
  readonly internal: readonly NetworkRecord[];
}

/** What should be true on the host beyond single endpoints. Pure. */
export function hostState({ node, pools, ownBlocks, endpoints, internal }: HostFacts): HostState {
  const own = endpoints.filter(endpoint => endpoint.node === node);
  return {
    ownBlocks: ownBlocks.map(formatCidr).sort(),
    pools: pools.map(pool => formatCidr(pool.cidr)).sort(),
    masqueradeFrom: pools
      .filter(pool => pool.natOutgoing)
      .map(pool => formatCidr(pool.cidr))
      .sort(),
    published: own.flatMap(endpoint =>
      endpoint.ports.map(port => ({ ...port, containerAddresses: containerAddresses(endpoint, own) })),
    ),
    internal: internal.map(network => internalNetwork(network, own, endpoints)),
  };
}

/** All addresses of the container that an endpoint is in. */
function containerAddresses(endpoint: WorkloadEndpoint, own: readonly WorkloadEndpoint[]): readonly string[] {
  const { sandbox } = endpoint;
  if (!sandbox) return endpoint.addresses;
  return own.filter(other => other.sandbox?.key === sandbox.key).flatMap(({ addresses }) => addresses);
}

/** The network's endpoints on other hosts are known by its profile: its id is another there. */
function internalNetwork(
  network: NetworkRecord,
  own: readonly WorkloadEndpoint[],
  all: readonly WorkloadEndpoint[],
): InternalNetwork {
  const profile = network.options.profile ?? network.name;
  const isMember = ({ networkId, profiles }: WorkloadEndpoint) =>
    networkId === network.id || (profile !== undefined && profiles.includes(profile));
  return {
    interfaces: own
      .filter(({ networkId }) => networkId === network.id)
      .map(endpoint => endpoint.interfaceName),
    members: all.filter(isMember).flatMap(endpoint => endpoint.addresses),
  };
}
