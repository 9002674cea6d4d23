import type { DockerEndpoint, DockerNetwork } from '../docker/engine.js';
import { AddressInUseError, ConflictError } from '../errors.js';
import type { Allocator } from '../ipam/allocator.js';
import { allocationMetadata, goTime } from '../ipam/block.js';
import { formatCidr, parseAddress, parseCidr } from '../ipam/cidr.js';
import type { Address } from '../ipam/cidr.js';
import type { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import type { NetworkRecord } from '../model/network-record.js';
import { hostInterfaceOf } from '../model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import { removeEndpoint } from '../plugin/endpoint-removal.js';
import type { EndpointRemovalParts } from '../plugin/endpoint-removal.js';
import { endpointHandle } from '../ipam/handles.js';
import { networkOptions } from '../plugin/network-options.js';
import type { Networks } from '../plugin/networks.js';
import { LABEL } from '../plugin/protocol.js';
import type { Observed, Repair } from './deviations.js';

export interface RepairParts extends EndpointRemovalParts {
  readonly node: string;
  readonly allocator: Allocator;
  readonly networks: Networks;
  readonly pools: PoolLifecycle;
  profileOf(networkId: string): string | undefined;
}

/**
 * Does what the reconciler found to be needed. Each is safe to repeat and changes only what is as it was seen: an
 * allocation is freed by the revision of its handle, so never one that was made since. Answers whether it changed anything.
 */
export async function carryOut(parts: RepairParts, repair: Repair, observed: Observed): Promise<boolean> {
  const { allocator, networks, pools, dataplane } = parts;
  switch (repair.kind) {
    case 'release allocation': {
      const { address, handle, revision } = repair.allocation;
      // Its endpoint goes first; one that could not be taken away keeps its address.
      if (parts.endpoints.own().some(({ addresses }) => addresses.includes(address)))
        throw new ConflictError(`an endpoint still has ${address}`);
      return (
        (await allocator.releaseHandle(parsed(address), handle, revision)) ||
        allocator.dropStrayHandle(parsed(address), handle, revision)
      );
    }
    case 'release reservation': {
      const { address, handle, request } = repair.reservation;
      return allocator.releaseReservation(parsed(address), handle, request);
    }
    case 'remove pool':
      return pools.removeIfUnused(repair.name);
    case 'remove endpoint':
      await parts.perEndpoint.run(repair.endpointId, () => removeEndpoint(parts, repair.endpointId));
      break;
    case 'remove interface':
      await dataplane.detach(repair.name);
      break;
    case 'remove network':
      await networks.remove(repair.id);
      break;
    case 'record network':
      await networks.create(recordOf(repair.network, parts.node));
      break;
    case 'take address':
      await takeAddress(parts, repair);
      break;
    case 'reserve':
      await allocator.reserve(parsed(repair.address), repair.type, allocationMetadata(parts.node));
      break;
    case 'rewire':
      await parts.perEndpoint.run(repair.endpoint.endpointId, async () => {
        const endpoint = await parts.endpoints.get(repair.endpoint.endpointId);
        const network = endpoint && (await networks.get(endpoint.networkId));
        if (endpoint && network) await parts.joiner.rewire(endpoint, network);
      });
      break;
    case 'record endpoint': {
      const { endpoint } = repair;
      const remembered = observed.remembered.get(endpoint.endpointId);
      await parts.perEndpoint.run(endpoint.endpointId, () =>
        parts.endpoints.create(remembered ?? endpointOf(endpoint, parts)),
      );
    }
  }
  return true;
}

async function takeAddress(
  { allocator, node }: RepairParts,
  { mac, address, endpointId }: Extract<Repair, { kind: 'take address' }>,
): Promise<void> {
  try {
    await allocator.assignAddress(parsed(address), {
      handle: given => endpointHandle(node, mac, given),
      secondary: allocationMetadata(node),
    });
  } catch (error) {
    if (!(error instanceof AddressInUseError)) throw error;
    throw new ConflictError(
      `endpoint ${endpointId} of this host uses ${address}, but: ${error.message}. Restart one of the two containers`,
      { cause: error },
    );
  }
}

function parsed(text: string): Address {
  const address = parseAddress(text);
  if (!address) throw new Error(`"${text}" is no address`);
  return address;
}

/** The record of a network as far as Docker tells. */
function recordOf(network: DockerNetwork, node: string): NetworkRecord {
  const { options } = networkOptions({ [LABEL.generic]: network.options });
  return {
    id: network.id,
    node,
    name: network.name,
    created: goTime(new Date()),
    internal: network.internal,
    subnets: network.ipam.flatMap(({ subnet, range }) => {
      const cidr = parseCidr(subnet);
      // What Docker shows for the default pools.
      if (!cidr || cidr.length === 0) return [];
      const inner = range === undefined ? undefined : parseCidr(range);
      return [{ cidr: formatCidr(cidr), ...(inner ? { range: formatCidr(inner) } : {}) }];
    }),
    options,
    rest: {},
  };
}

/** An endpoint as far as Docker tells; labels are copied later, published ports are not known. */
function endpointOf(endpoint: DockerEndpoint, { node, profileOf }: RepairParts): WorkloadEndpoint {
  const { endpointId, networkId, mac, addresses } = endpoint;
  const profile = profileOf(networkId);
  return {
    node,
    endpointId,
    interfaceName: hostInterfaceOf(endpointId),
    mac,
    addresses,
    profiles: profile === undefined ? [] : [profile],
    networkId,
    labels: {},
    ports: [],
  };
}
