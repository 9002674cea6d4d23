import { ENDPOINT_NAMESPACE } from '../datastore/keys.js';
import type { PublishedPort } from '../host/dataplane.js';
import { parseAddress } from '../ipam/cidr.js';
import { protocolNumber } from './ip-protocol.js';
import { isObject, textList, textOr } from './json.js';
import type { JsonObject } from './json.js';
import { formatChangedResource, formatNewResource, parseResource } from './resource.js';

/** Calico's WorkloadEndpoint of one Docker endpoint. */
export interface WorkloadEndpoint {
  readonly node: string;
  /** Docker's EndpointID. */
  readonly endpointId: string;
  /** The veth's host side: always one of ours, whatever is written in the datastore. */
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
  /** Ports of the container that are open on the host, while Docker says so. */
  readonly ports: readonly PublishedPort[];
  /** Ports of the container that rules of policies may name; others write them. */
  readonly namedPorts?: readonly NamedPort[];
  /** The container it is in, once joined. */
  readonly sandbox?: {
    readonly key: string;
    /** 1 for the container's first endpoint of ours. */ readonly place: number;
  };
}

/** A port of an endpoint that has a name. */
export interface NamedPort {
  readonly name: string;
  /** IP protocol number. */
  readonly protocol: number;
  readonly port: number;
}

/** What of an endpoint changes after it was made. */
export type EndpointChange = Partial<
  Pick<WorkloadEndpoint, 'addresses' | 'profiles' | 'labels' | 'ports' | 'sandbox'>
>;

const ORCHESTRATOR = 'libnetwork';
const NETWORK_ANNOTATION = 'org.projectcalico.libnetwork/network-id';
const SANDBOX_ANNOTATION = 'org.projectcalico.libnetwork/sandbox';
/** What Felix, too, knows containers' interfaces by. */
const INTERFACE_PREFIX = 'cali';
/** Of those that Linux allows, the ones that mean nothing to anybody and are no interface of the host's own. */
const INTERFACE_NAME = new RegExp(`^${INTERFACE_PREFIX}[A-Za-z0-9_.-]{1,11}$`);
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
  return INTERFACE_PREFIX + endpointId.slice(0, 11);
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
      annotations: { [NETWORK_ANNOTATION]: endpoint.networkId, ...sandboxAnnotation(endpoint) },
    },
    // One that was lost and is written again has ports and a place already.
    {
      ...endpointSpec(endpoint),
      ...(endpoint.ports.length > 0 ? { ports: endpoint.ports.map(formatPort) } : {}),
    },
    now,
  );
}

/** The text of a changed endpoint; what the change does not name stays, also what others wrote. */
export function formatChangedEndpoint(text: string, change: EndpointChange): string | undefined {
  const resource = parseResource(text);
  if (!resource) return undefined;
  const { addresses, profiles, labels, ports, sandbox } = change;
  return formatChangedResource(resource, {
    metadata: {
      ...(labels ? { labels: { ...labels, ...FIXED_LABELS } } : {}),
      ...(sandbox ? { annotations: { ...resource.annotations, ...sandboxAnnotation({ sandbox }) } } : {}),
    },
    spec: {
      ...resource.spec,
      ...(addresses ? { ipNetworks: addresses.map(hostNetwork) } : {}),
      ...(profiles ? { profiles } : {}),
      ...(ports ? { ports: [...namedEntries(resource.spec.ports), ...ports.map(formatPort)] } : {}),
    },
  });
}

/** Calico's EndpointPort. Our container addresses are the endpoint's own, so only the family has to be told. */
function formatPort(port: PublishedPort): JsonObject {
  return {
    name: '',
    protocol: port.protocol.toUpperCase(),
    port: port.port,
    hostPort: port.hostPort,
    hostIP: port.hostAddress ?? (port.address.includes(':') ? '::' : '0.0.0.0'),
  };
}

/** Entries with a name are others', and are for policy. */
function namedEntries(ports: unknown): JsonObject[] {
  return Array.isArray(ports) ? ports.filter(isObject).filter(({ name }) => textOr(name) !== '') : [];
}

function parseNamedPorts(value: unknown): Pick<WorkloadEndpoint, 'namedPorts'> {
  const namedPorts = namedEntries(value).flatMap(({ name, protocol, port }) => {
    const number = protocolNumber(protocol);
    return number !== undefined && isPort(port)
      ? [{ name: textOr(name), protocol: number, port: Number(port) }]
      : [];
  });
  return namedPorts.length > 0 ? { namedPorts } : {};
}

function parsePorts(value: unknown, addresses: readonly string[]): PublishedPort[] {
  if (!Array.isArray(value)) return [];
  return value.filter(isObject).flatMap(({ name, protocol, port, hostPort, hostIP }) => {
    if (textOr(name) !== '') return [];
    const kind = (['tcp', 'udp', 'sctp'] as const).find(
      candidate => candidate === textOr(protocol).toLowerCase(),
    );
    const host = textOr(hostIP);
    const address = addresses.find(candidate => candidate.includes(':') === host.includes(':'));
    if (!kind || !address || !isPort(port) || !isPort(hostPort)) return [];
    if (host !== '' && !parseAddress(host)) return [];
    const everywhere = host === '' || host === '0.0.0.0' || host === '::';
    return [
      {
        protocol: kind,
        ...(everywhere ? {} : { hostAddress: host }),
        hostPort: Number(hostPort),
        address,
        port: Number(port),
      },
    ];
  });
}

function isPort(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) > 0 && Number(value) <= 65_535;
}

function sandboxAnnotation({ sandbox }: Pick<WorkloadEndpoint, 'sandbox'>): Record<string, string> {
  return sandbox ? { [SANDBOX_ANNOTATION]: `${sandbox.place} ${sandbox.key}` } : {};
}

function parseSandbox(annotation: string | undefined): Pick<WorkloadEndpoint, 'sandbox'> {
  const match = /^(\d+) (.+)$/.exec(annotation ?? '');
  return match?.[2] === undefined ? {} : { sandbox: { key: match[2], place: Number(match[1]) } };
}

/** Parses an endpoint of any node; undefined where the text is none. */
export function parseEndpoint(text: string): WorkloadEndpoint | undefined {
  const resource = parseResource(text);
  if (!resource) return undefined;
  const { node, endpoint, interfaceName: written, mac, ipNetworks, profiles, ports } = resource.spec;
  if (typeof node !== 'string' || typeof endpoint !== 'string' || typeof written !== 'string')
    return undefined;
  // All of this becomes routes and rules of the host: one entry that names eth0 must not cut the host off, nor may a
  // container that is there be lost sight of because of it.
  const interfaceName = INTERFACE_NAME.test(written) ? written : hostInterfaceOf(endpoint);
  if (!INTERFACE_NAME.test(interfaceName)) return undefined;
  const addresses = textList(ipNetworks)
    .map(network => network.split('/')[0] ?? network)
    .filter(address => parseAddress(address));
  return {
    node,
    endpointId: endpoint,
    interfaceName,
    mac: typeof mac === 'string' ? mac : '',
    addresses,
    profiles: textList(profiles),
    networkId: resource.annotations[NETWORK_ANNOTATION] ?? '',
    labels: resource.labels,
    ports: parsePorts(ports, addresses),
    ...parseNamedPorts(ports),
    ...parseSandbox(resource.annotations[SANDBOX_ANNOTATION]),
  };
}

function endpointSpec(endpoint: WorkloadEndpoint): JsonObject {
  return {
    orchestrator: ORCHESTRATOR,
    workload: ORCHESTRATOR,
    node: endpoint.node,
    endpoint: endpoint.endpointId,
    ipNetworks: endpoint.addresses.map(hostNetwork),
    profiles: endpoint.profiles,
    interfaceName: endpoint.interfaceName,
    mac: endpoint.mac,
  };
}

/** An address as Felix wants it: with its full prefix length. */
function hostNetwork(address: string): string {
  return `${address}/${address.includes(':') ? 128 : 32}`;
}

function escaped(segment: string): string {
  return segment.replaceAll('-', '--');
}
