import { ENDPOINT_NAMESPACE } from '../datastore/keys.js';
import { textList } from './json.js';
import type { JsonObject } from './json.js';
import { formatChangedResource, formatNewResource, parseResource } from './resource.js';
import type { Resource } from './resource.js';

/** Calico's WorkloadEndpoint of one Docker endpoint. */
export interface WorkloadEndpoint {
  readonly node: string;
  /** Docker's EndpointID. */
  readonly endpointId: string;
  readonly interfaceName: string;
  /** Lower-case colon form. */
  readonly mac: string;
  /** Without prefix length. */
  readonly addresses: readonly string[];
  /** Names of profiles: the Docker network's. */
  readonly profiles: readonly string[];
  /** Docker's NetworkID, in an annotation of ours. */
  readonly networkId: string;
  readonly labels: Readonly<Record<string, string>>;
}

const ORCHESTRATOR = 'libnetwork';
const NETWORK_ANNOTATION = 'org.projectcalico.libnetwork/network-id';
/** Calico sets these on every endpoint, over what a user says. */
const FIXED_LABELS = {
  'projectcalico.org/namespace': ENDPOINT_NAMESPACE,
  'projectcalico.org/orchestrator': ORCHESTRATOR,
};

/** `<node>-libnetwork-libnetwork-<endpoint>`, each part with its dashes doubled; Felix takes it apart again. */
export function endpointName(node: string, endpointId: string): string {
  return endpointNamePrefix(node) + escaped(endpointId);
}

/** What all endpoint names of a node begin with. Also a prefix of names of nodes whose name goes on with a dash:
 *  compare `node` as well. */
export function endpointNamePrefix(node: string): string {
  return `${escaped(node)}-${ORCHESTRATOR}-${ORCHESTRATOR}-`;
}

/** The veth's host side: Linux allows 15 characters, Felix wants the prefix. */
export function hostInterfaceOf(endpointId: string): string {
  return `cali${endpointId.slice(0, 11)}`;
}

/** The veth's other end until dockerd renames it. */
export function containerInterfaceOf(endpointId: string): string {
  return `temp${endpointId.slice(0, 11)}`;
}

export function formatNewEndpoint(endpoint: WorkloadEndpoint, now: Date): string {
  return formatNewResource(
    'WorkloadEndpoint',
    {
      name: endpointName(endpoint.node, endpoint.endpointId),
      namespace: ENDPOINT_NAMESPACE,
      labels: { ...endpoint.labels, ...FIXED_LABELS },
      annotations: { [NETWORK_ANNOTATION]: endpoint.networkId },
    },
    endpointSpec(endpoint),
    now,
  );
}

/** The text of an endpoint whose profiles are now known. */
export function formatWithProfiles(resource: Resource, profiles: readonly string[]): string {
  return formatChangedResource(resource, { spec: { ...resource.spec, profiles } });
}

export function parseEndpoint(text: string): (WorkloadEndpoint & { resource: Resource }) | undefined {
  const resource = parseResource(text);
  if (!resource) return undefined;
  const { node, endpoint, interfaceName, mac, ipNetworks, profiles } = resource.spec;
  if (typeof node !== 'string' || typeof endpoint !== 'string' || typeof interfaceName !== 'string')
    return undefined;
  return {
    node,
    endpointId: endpoint,
    interfaceName,
    mac: typeof mac === 'string' ? mac : '',
    addresses: textList(ipNetworks).map(network => network.split('/')[0] ?? network),
    profiles: textList(profiles),
    networkId: resource.annotations[NETWORK_ANNOTATION] ?? '',
    labels: resource.labels,
    resource,
  };
}

function endpointSpec(endpoint: WorkloadEndpoint): JsonObject {
  return {
    orchestrator: ORCHESTRATOR,
    workload: ORCHESTRATOR,
    node: endpoint.node,
    endpoint: endpoint.endpointId,
    ipNetworks: endpoint.addresses.map(address => `${address}/${address.includes(':') ? 128 : 32}`),
    profiles: endpoint.profiles,
    interfaceName: endpoint.interfaceName,
    mac: endpoint.mac,
  };
}

function escaped(segment: string): string {
  return segment.replaceAll('-', '--');
}
