import { NODE, OTHER_NODE, placeOf } from './places.js';
import { NAMESPACE, selectorText } from './selector-tree.js';
import type { Labels } from './selector-tree.js';
import type { Endpoint, Entity, Policy, Rule, World } from './world.js';

const RESOURCES = '/calico/resources/v3/projectcalico.org';

/** The world as etcd has it: text by key, as real Calico clients write it. */
export function resources(world: World): ReadonlyMap<string, string> {
  return new Map([
    ...world.endpoints.map(endpointEntry),
    ...world.profiles.map(({ name, ...spec }) =>
      entry('Profile', 'profiles', { name }, { ...spec, ...rules(spec) }),
    ),
    ...world.tiers.map(({ name, ...spec }) => entry('Tier', 'tiers', { name }, spec, { status: {} })),
    ...world.policies.map(policyEntry),
    ...world.networkSets.map(({ name, namespace, labels, nets }) =>
      namespace === undefined
        ? entry('GlobalNetworkSet', 'globalnetworksets', { name, labels }, { nets })
        : entry('NetworkSet', 'networksets', { name, namespace, labels }, { nets }),
    ),
  ]);
}

/** Docker's id of a local endpoint, as far as it matters. */
export function endpointIdOf(place: string): string {
  return Buffer.from(place).toString('hex').padEnd(64, '0');
}

function endpointEntry(endpoint: Endpoint): [string, string] {
  const { place, namespace, labels, profiles, ports } = endpoint;
  const { wiring, addresses } = placeOf(place);
  const own = namespace === 'libnetwork';
  const node = wiring === undefined ? OTHER_NODE : NODE;
  const orchestrator = own ? 'libnetwork' : 'k8s';
  const workload = own ? 'libnetwork' : place;
  const id = own ? endpointIdOf(place) : 'eth0';
  const segments = [node, orchestrator, workload, id].map(segment => segment.replaceAll('-', '--'));
  return entry(
    'WorkloadEndpoint',
    'workloadendpoints',
    {
      name: segments.join('-'),
      namespace,
      labels: { ...labels, [NAMESPACE]: namespace, 'projectcalico.org/orchestrator': orchestrator },
    },
    {
      orchestrator,
      ...(own ? { workload } : { pod: place }),
      node,
      endpoint: id,
      ipNetworks: addresses.map(address => `${address}/${address.includes(':') ? 128 : 32}`),
      profiles,
      interfaceName: wiring?.hostInterface ?? `cali${place}`,
      mac: wiring?.mac ?? '02:42:0a:42:00:01',
      ...(ports.length > 0 ? { ports: ports.flatMap(port => portEntries(port, addresses)) } : {}),
    },
  );
}

/** A published port is published for each family, as dockerd asks for it. */
function portEntries(
  { name, protocol, port, hostPort }: Endpoint['ports'][number],
  addresses: readonly string[],
) {
  if (hostPort === undefined) return [{ name, protocol, port, hostPort: 0, hostIP: '' }];
  return addresses.map(address => ({
    ...{ name, protocol, port, hostPort },
    hostIP: address.includes(':') ? '::' : '0.0.0.0',
  }));
}

function policyEntry(policy: Policy): [string, string] {
  const { name, era, namespace, tier, order, selector, namespaceSelector, types, forHosts } = policy;
  // Only the default tier has a prefix that users do not type.
  const stored = era === 'prefixed' && (tier ?? 'default') === 'default' ? `default.${name}` : name;
  const annotations = { 'projectcalico.org/metadata': JSON.stringify({ name }) };
  const spec = {
    ...(tier === undefined ? {} : { tier }),
    ...(order === undefined ? {} : { order }),
    ...(selector === undefined ? {} : { selector: selectorText(selector) }),
    ...(namespaceSelector === undefined ? {} : { namespaceSelector }),
    ...(types === undefined ? {} : { types }),
    ...rules(policy),
    ...(forHosts === undefined ? {} : { [forHosts]: true, applyOnForward: true }),
  };
  const metadata = { name: stored, ...(era === 'annotated' ? { annotations } : {}) };
  return namespace === undefined
    ? entry('GlobalNetworkPolicy', 'globalnetworkpolicies', metadata, spec)
    : entry('NetworkPolicy', 'networkpolicies', { ...metadata, namespace }, spec);
}

function rules({ ingress, egress }: { ingress?: readonly Rule[]; egress?: readonly Rule[] }): object {
  return {
    ...(ingress === undefined ? {} : { ingress: ingress.map(ruleSpec) }),
    ...(egress === undefined ? {} : { egress: egress.map(ruleSpec) }),
  };
}

function ruleSpec({ source, destination, ...rest }: Rule): object {
  return { ...rest, source: entitySpec(source), destination: entitySpec(destination) };
}

function entitySpec({ selector, notSelector, ...rest }: Entity): object {
  return {
    ...rest,
    ...(selector === undefined ? {} : { selector: selectorText(selector) }),
    ...(notSelector === undefined ? {} : { notSelector: selectorText(notSelector) }),
  };
}

function entry(
  kind: string,
  plural: string,
  metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Labels;
    readonly annotations?: Labels;
  },
  spec: object,
  rest: object = {},
): [string, string] {
  const { name, namespace } = metadata;
  const key = [RESOURCES, plural, ...(namespace === undefined ? [] : [namespace]), name].join('/');
  const marks = { uid: '5f3a1c0e-6f0e-4a58-9a57-2d3b5a2f7c11', creationTimestamp: '2026-08-22T10:00:00Z' };
  const value = {
    kind,
    apiVersion: 'projectcalico.org/v3',
    metadata: { ...metadata, ...marks },
    spec,
    ...rest,
  };
  return [key, JSON.stringify(value)];
}
