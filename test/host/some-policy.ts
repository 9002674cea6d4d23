import fc from 'fast-check';
import type {
  AddressSet,
  EndpointPolicy,
  HostEntity,
  HostPolicy,
  HostRule,
  Judgement,
} from '../../src/host/policy.js';

/** Random policies: small, so that two of them have much in common, and with everything that a rule can say. */

const ADDRESSES = [
  '10.65.0.1',
  '10.65.0.2',
  '10.65.0.3',
  '0.0.0.0',
  '255.255.255.255',
  'fd65::1',
  'fd65::ffff',
  '::1',
];
const NETS = [
  ...['10.65.0.0/30', '10.65.0.4/30', '10.0.0.0/8', '0.0.0.0/0', '255.255.255.0/24', '192.0.2.7/32'],
  ...['fd65::/64', 'fd00::/8', '::/0', 'fd65::1/128', 'ffff::/16'],
];
const SETS = ['web', 'all()', "role == 'db'"];
const PORT_SETS = ['http', 'metrics'];
const POLICIES = ['default.a', 'default.b', 'tier "x"; drop', 'kubernetes'];
const PROFILES = ['net1', 'net2'];
const NAMES = ['cali1', 'cali2', 'cali3'];

const ports = fc
  .tuple(fc.integer({ min: 0, max: 65_535 }), fc.integer({ min: 0, max: 9 }))
  .map(([first, more]) => ({ first, last: Math.min(65_535, first + more) }));
const someOf = <T>(values: readonly T[]): fc.Arbitrary<T[]> => fc.subarray([...values]);
const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(value, { nil: undefined, freq: 3 });
/** Without what is undefined, as the types have it. */
function clean<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never;
}

const entity: fc.Arbitrary<HostEntity> = fc
  .record({
    nets: maybe(someOf(NETS)),
    notNets: maybe(someOf(NETS)),
    sets: maybe(someOf(SETS)),
    notSets: maybe(someOf(SETS)),
    ports: maybe(fc.array(ports, { maxLength: 3 })),
    namedPorts: maybe(someOf(PORT_SETS)),
    notPorts: maybe(fc.array(ports, { maxLength: 2 })),
    notNamedPorts: maybe(someOf(PORT_SETS)),
  })
  .map(clean);
const icmp = fc
  .record({
    type: maybe(fc.integer({ min: 0, max: 255 })),
    code: maybe(fc.integer({ min: 0, max: 255 })),
  })
  .map(clean);
const rule: fc.Arbitrary<HostRule> = fc
  .record({
    action: fc.constantFrom('allow', 'deny', 'log', 'pass' as const),
    ipVersion: maybe(fc.constantFrom(4, 6 as const)),
    protocol: maybe(fc.constantFrom(1, 6, 17, 58, 132)),
    notProtocol: maybe(fc.constantFrom(6, 47)),
    icmp: maybe(icmp),
    notIcmp: maybe(icmp),
    source: fc.oneof(fc.constant({}), entity),
    destination: fc.oneof(fc.constant({}), entity),
  })
  .map(clean);
const addressSet: fc.Arbitrary<AddressSet> = fc.record({
  addresses: someOf(ADDRESSES).map(addresses => new Set(addresses)),
  nets: fc.oneof(fc.constant([]), someOf(NETS)),
});
const portSet = fc
  .array(fc.tuple(fc.constantFrom(...ADDRESSES), fc.constantFrom(6, 17), fc.constantFrom(80, 443)), {
    maxLength: 4,
  })
  .map(members => new Set(members.map(member => member.join(' '))));

function judgement(direction: string): fc.Arbitrary<Judgement> {
  return fc.record({
    tiers: fc.array(
      fc.record({
        policies: someOf(POLICIES.map(name => `${name}/${direction}`)).filter(list => list.length > 0),
        otherwise: fc.constantFrom('deny', 'pass' as const),
      }),
      { maxLength: 2 },
    ),
    profiles: someOf(PROFILES.map(name => `profile ${name}/${direction}`)),
  });
}
const endpoint: fc.Arbitrary<EndpointPolicy> = fc.record({
  mac: fc.constantFrom('02:42:0a:41:00:01', '02:42:0a:41:00:ff'),
  sources: someOf(ADDRESSES),
  ingress: judgement('ingress'),
  egress: judgement('egress'),
});

const directed = (names: readonly string[]): string[] =>
  names.flatMap(name => [`${name}/ingress`, `${name}/egress`]);
const lists = directed([...POLICIES, ...PROFILES.map(name => `profile ${name}`)]);

/** A policy that holds together: all that it names is there. */
export const somePolicy: fc.Arbitrary<HostPolicy> = fc
  .record({
    endpoints: fc.dictionary(fc.constantFrom(...NAMES), endpoint, { noNullPrototype: true }),
    rules: fc.tuple(...lists.map(id => fc.tuple(fc.constant(id), fc.array(rule, { maxLength: 3 })))),
    addressSets: fc.tuple(...SETS.map(id => fc.tuple(fc.constant(id), addressSet))),
    portSets: fc.tuple(...PORT_SETS.map(id => fc.tuple(fc.constant(id), portSet))),
    consented: fc.array(
      fc.record({
        address: fc.constantFrom(...ADDRESSES),
        protocol: fc.constantFrom(6, 17),
        port: fc.constantFrom(80, 8080),
      }),
      { maxLength: 3 },
    ),
    fromHost: fc.constantFrom('allow', 'policy', 'deny' as const),
  })
  .map(({ endpoints, rules, addressSets, portSets, ...rest }) => ({
    ...needed(new Map(Object.entries(endpoints)), new Map(rules), new Map(addressSets), new Map(portSets)),
    ...rest,
  }));

/** Without what nobody names. */
export function needed(
  endpoints: HostPolicy['endpoints'],
  rules: HostPolicy['rules'],
  addressSets: HostPolicy['addressSets'],
  portSets: HostPolicy['portSets'],
): Pick<HostPolicy, 'endpoints' | 'rules' | 'addressSets' | 'portSets'> {
  const judgements = [...endpoints.values()].flatMap(({ ingress, egress }) => [ingress, egress]);
  const named = new Set(
    judgements.flatMap(({ tiers, profiles }) => [...tiers.flatMap(({ policies }) => policies), ...profiles]),
  );
  const used = new Map([...rules].filter(([id]) => named.has(id)));
  const entities = [...used.values()].flat().flatMap(({ source, destination }) => [source, destination]);
  const sets = new Set(entities.flatMap(each => [...(each.sets ?? []), ...(each.notSets ?? [])]));
  const named2 = new Set(
    entities.flatMap(each => [...(each.namedPorts ?? []), ...(each.notNamedPorts ?? [])]),
  );
  return {
    endpoints,
    rules: used,
    addressSets: new Map([...addressSets].filter(([id]) => sets.has(id))),
    portSets: new Map([...portSets].filter(([id]) => named2.has(id))),
  };
}
