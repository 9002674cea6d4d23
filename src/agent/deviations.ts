import type { DockerEndpoint, DockerNetwork } from '../docker/engine.js';
import type { DockerView } from '../docker/view.js';
import type { HostInterface } from '../host/dataplane.js';
import type { NetworkRecord } from '../model/network-record.js';
import { hostInterfaceOf } from '../model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import { endpointHandle } from '../ipam/handles.js';
import { reservationHandle } from '../ipam/reservation.js';

/** An allocation of this node, as its handle tells. */
export interface OwnAllocation {
  readonly handle: string;
  /** Of the handle, which is written once: another allocation has another. */
  readonly revision: string;
  readonly mac: string;
  readonly address: string;
}

/** An address that this node's networks keep back. */
export interface OwnReservation {
  readonly handle: string;
  /** The mark of this allocation; another has another. */
  readonly request: string;
  readonly address: string;
}

/** What there is, seen at about the same time: the datastore first, then Docker. */
export interface Observed {
  readonly node: string;
  /** Docker's scope is global: its networks, and records of them, are all hosts'. */
  readonly isGlobal: boolean;
  readonly docker: DockerView;
  /** This node's. */
  readonly endpoints: readonly WorkloadEndpoint[];
  readonly allocations: readonly OwnAllocation[];
  readonly reservations: readonly OwnReservation[];
  /** Handles of the reservations of all nodes. */
  readonly reservationHandles: ReadonlySet<string>;
  readonly networks: readonly NetworkRecord[];
  /** IPPools made for Docker that no network refers to; `cidr` is CIDR text, `revision` that of the key. */
  readonly unneededPools: readonly {
    readonly name: string;
    readonly cidr: string;
    readonly revision: string;
  }[];
  readonly interfaces: readonly HostInterface[];
  /** Endpoints as they were when last seen, by id: to put back what was lost. */
  readonly remembered: ReadonlyMap<string, WorkloadEndpoint>;
  /** Ids, addresses and subnets that Docker itself has said are gone: it would not come back to them. */
  readonly saidGone: ReadonlySet<string>;
}

/** What brings things right. */
export type Repair =
  | { readonly kind: 'remove endpoint'; readonly endpointId: string; readonly interfaceName: string }
  | { readonly kind: 'release allocation'; readonly allocation: OwnAllocation }
  | { readonly kind: 'release reservation'; readonly reservation: OwnReservation }
  | { readonly kind: 'remove interface'; readonly name: string }
  | { readonly kind: 'remove network'; readonly id: string }
  | { readonly kind: 'remove pool'; readonly name: string }
  | { readonly kind: 'reserve'; readonly address: string; readonly type: 'gateway' | 'aux' }
  | { readonly kind: 'record network'; readonly network: DockerNetwork }
  | { readonly kind: 'record endpoint'; readonly endpoint: DockerEndpoint }
  | { readonly kind: 'rewire'; readonly endpoint: WorkloadEndpoint }
  | {
      readonly kind: 'take address';
      readonly mac: string;
      readonly address: string;
      readonly endpointId: string;
    };

/**
 * Something that is not as Docker has it. `gone`: Docker lacks it, and it is freed when two views a grace time apart did.
 * `lost`: Docker has it and we lack it. `said`: Docker lacks it and said so, in vain. `left`: the same, but somebody may just
 * be about to use it again.
 */
export interface Deviation {
  /** The same deviation seen again has the same key. */
  readonly key: string;
  readonly is: 'gone' | 'lost' | 'said' | 'left';
  /** For the log: why. */
  readonly reason: string;
  readonly repair: Repair;
}

/** Everything that is not as Docker has it. Pure. */
export function deviations(observed: Observed): Deviation[] {
  return [
    ...lostNetworks(observed),
    ...lostAddresses(observed),
    ...lostReservations(observed),
    ...lostEndpoints(observed),
    ...lostInterfaces(observed),
    ...goneEndpoints(observed),
    ...goneAllocations(observed),
    ...goneReservations(observed),
    ...goneInterfaces(observed),
    ...goneNetworks(observed),
    ...observed.unneededPools.map(({ name, cidr, revision }): Deviation => ({
      key: `pool ${name} ${revision}`,
      is: observed.saidGone.has(cidr) ? 'left' : 'gone',
      reason: `IPPool ${name} was made for a network that is not there`,
      repair: { kind: 'remove pool', name },
    })),
  ];
}

/** Interfaces whose other end a container has, whatever Docker says: nothing live is ever freed. */
function inUse({ interfaces }: Observed): Set<string> {
  return new Set(interfaces.filter(({ isInUse }) => isInUse).map(({ name }) => name));
}

function goneEndpoints(observed: Observed): Deviation[] {
  const { docker, endpoints, saidGone } = observed;
  const used = inUse(observed);
  return endpoints
    .filter(
      ({ endpointId, interfaceName }) => !docker.endpointIds.has(endpointId) && !used.has(interfaceName),
    )
    .map(({ endpointId, interfaceName, addresses }) => ({
      key: `endpoint ${endpointId}`,
      is:
        saidGone.has(endpointId) ||
        (addresses.length > 0 && addresses.every(address => saidGone.has(address)))
          ? 'said'
          : 'gone',
      reason: `Docker has no endpoint ${endpointId} (${addresses.join(', ')})`,
      repair: { kind: 'remove endpoint', endpointId, interfaceName },
    }));
}

function goneAllocations(observed: Observed): Deviation[] {
  const { docker, endpoints, allocations, saidGone } = observed;
  const used = inUse(observed);
  const live = new Set(
    endpoints
      .filter(
        ({ endpointId, interfaceName }) => docker.endpointIds.has(endpointId) || used.has(interfaceName),
      )
      .flatMap(({ addresses }) => addresses),
  );
  return allocations
    .filter(({ address }) => !docker.addresses.has(address) && !live.has(address))
    .map(allocation => ({
      key: `allocation ${allocation.handle} ${allocation.revision}`,
      is: saidGone.has(allocation.address) ? 'said' : 'gone',
      reason: `Docker has no endpoint with address ${allocation.address}`,
      repair: { kind: 'release allocation', allocation },
    }));
}

function goneReservations({ docker, reservations, saidGone }: Observed): Deviation[] {
  return reservations
    .filter(({ address }) => !docker.reserved.has(address))
    .map(reservation => ({
      key: `reservation ${reservation.handle} ${reservation.request}`,
      is: saidGone.has(reservation.address) ? 'said' : 'gone',
      reason: `no network of Docker's keeps ${reservation.address} back`,
      repair: { kind: 'release reservation', reservation },
    }));
}

function goneInterfaces({ docker, endpoints, interfaces }: Observed): Deviation[] {
  const known = new Set([
    ...endpoints.map(({ interfaceName }) => interfaceName),
    ...[...docker.endpointIds].map(hostInterfaceOf),
  ]);
  return interfaces
    .filter(({ name, isInUse }) => !known.has(name) && !isInUse)
    .map(({ name }) => ({
      key: `interface ${name}`,
      is: 'gone',
      reason: `interface ${name} is no endpoint's`,
      repair: { kind: 'remove interface', name },
    }));
}

/** Those with endpoints on record stay until these have gone. */
function goneNetworks({ docker, networks, endpoints, isGlobal, saidGone }: Observed): Deviation[] {
  const there = new Set(docker.networks.map(({ id }) => id));
  const inUse = new Set(endpoints.map(({ networkId }) => networkId));
  return networks
    .filter(({ id }) => !isGlobal && !there.has(id) && !inUse.has(id))
    .map(({ id, name }) => ({
      key: `network ${id}`,
      is: saidGone.has(id) ? 'said' : 'gone',
      reason: `Docker has no network ${name ?? id}`,
      repair: { kind: 'remove network', id },
    }));
}

function lostNetworks({ docker, networks }: Observed): Deviation[] {
  const known = new Set(networks.map(({ id }) => id));
  return docker.networks
    .filter(({ id }) => !known.has(id))
    .map(network => ({
      key: `lost network ${network.id}`,
      is: 'lost',
      reason: `network ${network.name} is not in the datastore`,
      repair: { kind: 'record network', network },
    }));
}

function lostReservations({ docker, reservationHandles, isGlobal }: Observed): Deviation[] {
  return [...docker.reserved]
    .filter(([address, type]) => !isGlobal && !reservationHandles.has(reservationHandle(type, address)))
    .map(([address, type]) => ({
      key: `lost reservation ${address}`,
      is: 'lost',
      reason: `${address}, ${type === 'gateway' ? 'the gateway' : 'an auxiliary address'} of a network, is not kept back`,
      repair: { kind: 'reserve', address, type },
    }));
}

/** Of live endpoints, of those that are about to be written again, and on networks of other drivers with our IPAM. */
function lostAddresses(observed: Observed): Deviation[] {
  const { node, docker, endpoints, allocations, isGlobal } = observed;
  const ours = new Set(docker.networks.map(({ id }) => id));
  const held = new Set(allocations.map(({ handle }) => handle));
  const live = [
    ...endpoints.filter(({ endpointId }) => docker.endpointIds.has(endpointId)),
    ...unrecorded(observed),
    ...(isGlobal ? [] : docker.addressed.filter(({ networkId }) => !ours.has(networkId))),
  ];
  return live.flatMap(({ endpointId, mac, addresses }) =>
    addresses
      .filter(address => !held.has(endpointHandle(node, mac, address)))
      .map((address): Deviation => ({
        key: `lost address ${endpointId} ${address}`,
        is: 'lost',
        reason: `address ${address} of endpoint ${endpointId} is not allocated`,
        repair: { kind: 'take address', mac, address, endpointId },
      })),
  );
}

function lostEndpoints(observed: Observed): Deviation[] {
  return unrecorded(observed).map(endpoint => ({
    key: `lost endpoint ${endpoint.endpointId}`,
    is: 'lost',
    reason: `endpoint ${endpoint.endpointId} (${endpoint.addresses.join(', ')}) is not in the datastore`,
    repair: { kind: 'record endpoint', endpoint },
  }));
}

/** Of endpoints that were joined to a container, and that Docker still has. */
function lostInterfaces({ docker, endpoints, interfaces }: Observed): Deviation[] {
  const there = new Set(interfaces.map(({ name }) => name));
  return endpoints
    .filter(
      ({ endpointId, interfaceName, sandbox }) =>
        sandbox !== undefined && docker.endpointIds.has(endpointId) && !there.has(interfaceName),
    )
    .map(endpoint => ({
      key: `lost interface ${endpoint.endpointId}`,
      is: 'lost',
      reason: `interface ${endpoint.interfaceName} (${endpoint.addresses.join(', ')}) is gone while its container runs`,
      repair: { kind: 'rewire', endpoint },
    }));
}

/** Docker's endpoints that are in use on this host and in no record: with a global scope it lists all hosts'. */
function unrecorded(observed: Observed): DockerEndpoint[] {
  const used = inUse(observed);
  const recorded = new Set(observed.endpoints.map(({ endpointId }) => endpointId));
  return observed.docker.endpoints.filter(
    ({ endpointId }) => !recorded.has(endpointId) && used.has(hostInterfaceOf(endpointId)),
  );
}
