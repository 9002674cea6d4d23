import fc from 'fast-check';
import { parseNetworkSet } from '../../src/model/network-set.js';
import { parsePolicy } from '../../src/model/policy.js';
import { parseProfile } from '../../src/model/profile.js';
import type { NetworkSet } from '../../src/model/network-set.js';
import type { Policy } from '../../src/model/policy.js';
import type { Profile } from '../../src/model/profile.js';
import type { Tier } from '../../src/model/tier.js';
import type { PolicyEndpoint } from '../../src/policy/facts.js';
import type { Packet } from '../../src/policy/packet.js';

/** Random resources as users write them, out of so few names, addresses and ports that they meet. */

export const NODE = 'h1';
const KEYS = ['role', 'env', 'net1', 'net2'];
const VALUES = ['', 'a', 'b', 'ab'];
const PORTS = [0, 53, 80, 81, 443, 65_535];
const PORT_NAMES = ['http', 'dns'];
const PROTOCOLS = ['TCP', 'udp', 'ICMP', 'ICMPv6', 'SCTP', 'UDPLite', 6, 17, 89];
const TIERS = ['default', 'first', 'last', 'missing'];
const PROFILES = ['net1', 'net2', 'absent', 'projectcalico-default-allow'];
const V4 = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.1.1', '192.0.2.9'];
const V6 = ['fd00::1', 'fd00::2', 'fd00:1::1', '2001:db8::9'];
const NETS4 = ['10.0.0.0/24', '10.0.0.2/32', '10.0.0.0/16', '0.0.0.0/0', '192.0.2.0/25'];
const NETS6 = ['fd00::/64', 'fd00::2/128', '::/0'];

const maybe = <T>(value: fc.Arbitrary<T>, often = 1): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: often, arbitrary: value }, { weight: 3, arbitrary: fc.constant(undefined) });

const labels = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), { maxKeys: 3 });

const term = fc
  .tuple(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), fc.constantFrom(...VALUES))
  .chain(([key, a, b]) =>
    fc.constantFrom(
      `${key} == '${a}'`,
      `${key} == '${b}'`,
      `${key} != '${a}'`,
      `has(${key})`,
      `!has(${key})`,
      `${key} in {'${a}', '${b}'}`,
      `${key} not in {'${a}'}`,
      `${key} starts with '${a}'`,
      `${key} contains '${b}'`,
      'all()',
    ),
  );

export const selectorText = fc.oneof(
  { weight: 4, arbitrary: term },
  { weight: 1, arbitrary: fc.tuple(term, term).map(([a, b]) => `${a} && ${b}`) },
  { weight: 1, arbitrary: fc.tuple(term, term).map(([a, b]) => `${a} || !(${b})`) },
);

const nets = fc.oneof(
  fc.array(fc.constantFrom(...NETS4), { minLength: 1, maxLength: 2 }),
  fc.array(fc.constantFrom(...NETS6), { minLength: 1, maxLength: 2 }),
  fc.array(fc.constantFrom(...NETS4, ...NETS6), { minLength: 1, maxLength: 3 }),
);
const ports = fc.array(
  fc.oneof(fc.constantFrom(...PORTS), fc.constantFrom('80:443', '0:53', '81:81', ...PORT_NAMES)),
  { minLength: 1, maxLength: 3 },
);
const icmp = fc.record(
  { type: fc.constantFrom(8, 0, 128), code: fc.constantFrom(0, 1) },
  { requiredKeys: ['type'] },
);

const entity = fc.record({
  nets: maybe(nets),
  notNets: maybe(nets),
  selector: maybe(selectorText, 3),
  notSelector: maybe(selectorText),
  namespaceSelector: maybe(fc.constantFrom('all()', 'global()', "role == 'a'", '!has(x)')),
  ports: maybe(ports),
  notPorts: maybe(ports),
});

/** A rule as JSON has it. */
export const ruleJson = fc.record({
  action: fc.constantFrom('Allow', 'Allow', 'Deny', 'Pass', 'Log', 'allow'),
  ipVersion: maybe(fc.constantFrom(4, 6)),
  protocol: maybe(fc.constantFrom(...PROTOCOLS), 3),
  notProtocol: maybe(fc.constantFrom(...PROTOCOLS)),
  icmp: maybe(icmp),
  notICMP: maybe(icmp),
  http: fc.oneof(
    { weight: 1, arbitrary: fc.constant({ methods: ['GET'] }) },
    { weight: 20, arbitrary: fc.constant(undefined) },
  ),
  source: maybe(entity, 6),
  destination: maybe(entity, 6),
});

const rules = maybe(fc.array(ruleJson, { maxLength: 4 }), 9);
const order = maybe(fc.constantFrom(1, 2, 10, -1.5), 6);
const names = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'default.a');

/** A policy as a user writes it, with its namespace. */
export const policy: fc.Arbitrary<readonly [string, Policy]> = fc
  .record({
    name: names,
    namespace: fc.constantFrom('', '', 'libnetwork', 'other'),
    tier: maybe(fc.constantFrom(...TIERS), 4),
    order,
    selector: maybe(selectorText, 3),
    types: maybe(fc.subarray(['Ingress', 'Egress'])),
    ingress: rules,
    egress: rules,
  })
  .map(({ name, namespace, ...spec }) => {
    const { value } = parsePolicy(resource({ name, namespace }, spec), namespace);
    if (!value) throw new Error('a policy does not parse');
    return [`${namespace}/${name}`, value] as const;
  });

export const profile: fc.Arbitrary<readonly [string, Profile]> = fc
  .record({ name: fc.constantFrom('net1', 'net2'), ingress: rules, egress: rules, labelsToApply: labels })
  .map(({ name, ...spec }) => {
    const { value } = parseProfile(resource({ name }, spec));
    if (!value) throw new Error('a profile does not parse');
    return [name, value] as const;
  });

export const tier: fc.Arbitrary<readonly [string, Tier]> = fc
  .record({
    name: fc.constantFrom('default', 'first', 'last'),
    order: fc.constantFrom(1, 100, Infinity),
    otherwise: fc.constantFrom('deny', 'pass'),
  })
  .map(value => [value.name, value] as const);

export const networkSet: fc.Arbitrary<readonly [string, NetworkSet]> = fc
  .record({ name: fc.constantFrom('s1', 's2'), namespace: fc.constantFrom('', 'libnetwork'), nets, labels })
  .map(({ name, namespace, nets: list, labels: of }) => {
    const { value } = parseNetworkSet(resource({ name, labels: of }, { nets: list }), namespace);
    if (!value) throw new Error('a network set does not parse');
    return [`${namespace}/${name}`, value] as const;
  });

const endpointNames = ['e1', 'e2', 'e3', 'e4'];
export const endpoint: fc.Arbitrary<readonly [string, PolicyEndpoint]> = fc
  .record({
    name: fc.constantFrom(...endpointNames),
    node: fc.constantFrom(NODE, NODE, 'h2'),
    addresses: fc.uniqueArray(fc.constantFrom(...V4, ...V6), { maxLength: 2 }),
    profiles: fc.uniqueArray(fc.constantFrom(...PROFILES), { maxLength: 2 }),
    labels,
    namedPorts: fc.array(
      fc.record({
        name: fc.constantFrom(...PORT_NAMES),
        protocol: fc.constantFrom(6, 17),
        port: fc.constantFrom(...PORTS),
      }),
      { maxLength: 2 },
    ),
  })
  .map(({ name, addresses, labels: own, ...rest }) => [
    name,
    {
      ...rest,
      addresses,
      labels: { ...own, 'projectcalico.org/namespace': 'libnetwork' },
      interfaceName: `cali${name}`,
      mac: '02:42:00:00:00:01',
      // By address: where two have the same, what one lets in comes to the other as well.
      published: addresses
        .filter(address => address.endsWith('1'))
        .map(address => ({ address, protocol: 6, port: 80 })),
    },
  ]);

const packetOf = (family: 4 | 6, protocol: number): fc.Arbitrary<Packet> =>
  fc.record({
    family: fc.constant(family),
    source: fc.constantFrom(...(family === 4 ? V4 : V6)),
    destination: fc.constantFrom(...(family === 4 ? V4 : V6)),
    protocol: fc.constant(protocol),
    isTranslated: fc.boolean(),
    ...([6, 17, 132, 136].includes(protocol)
      ? { sourcePort: fc.constantFrom(...PORTS), destinationPort: fc.constantFrom(...PORTS) }
      : {}),
    ...(protocol === 1 || protocol === 58
      ? { icmp: fc.record({ type: fc.constantFrom(8, 0, 128), code: fc.constantFrom(0, 1) }) }
      : {}),
  });

export const packet: fc.Arbitrary<Packet> = fc
  .tuple(fc.constantFrom(4, 6), fc.constantFrom(6, 6, 17, 132, 136, 1, 58, 89))
  .chain(([family, protocol]) => packetOf(family === 4 ? 4 : 6, protocol));

function resource(metadata: object, spec: object): string {
  return JSON.stringify({ kind: 'Any', apiVersion: 'projectcalico.org/v3', metadata, spec });
}
