import type { Random } from '../chaos/random.js';
import { SERVED, SOURCE_PORTS } from './packets.js';
import type { SelectorTree } from './selector-tree.js';
import type { Entity, Rule } from './world.js';

/** Random selectors and rules over few labels, few nets and few ports, so that they often matter. */

const VALUES = {
  role: ['db', 'web', 'dbx', 'cache'],
  env: ['prod', 'test'],
  'example.com/team': ['a', 'b', 'ab'],
  net1: [''],
  net2: [''],
} as const;
const KEYS = ['role', 'env', 'example.com/team', 'net1', 'net2'] as const;
type Key = (typeof KEYS)[number];

/** Names of ports that endpoints have and rules mention. */
export const PORT_NAMES = ['http', 'sql', 'admin'] as const;

/** Addresses of places in all ways: alone, several together, a whole side, everything. */
export const NETS = [
  ...[
    '10.65.0.0/16',
    '10.65.0.0/30',
    '10.65.0.4/30',
    '10.65.0.5/32',
    '10.65.0.1',
    '10.66.0.0/24',
    '10.66.0.3/32',
  ],
  ...['203.0.113.0/24', '203.0.113.1/32', '0.0.0.0/0', '0.0.0.0/1', '198.51.100.1/32', '10.64.0.0/14'],
  ...['fd65::/64', 'fd65::4/126', 'fd65::5/128', 'fd65::7', 'fd66::/64', 'fd66::3/128', 'fd67::/64', '::/0'],
  ...['2001:db8::1/128', 'fd64::/14'],
] as const;

/** Labels such as endpoints and network sets have. */
export function someLabels(random: Random, likely = 0.6): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const key of ['role', 'env', 'example.com/team'] as const)
    if (random.chance(likely)) labels[key] = random.pick(VALUES[key]);
  return labels;
}

export function someSelector(random: Random, depth = 2): SelectorTree {
  const simple = (): SelectorTree => leaf(random);
  if (depth === 0 || random.chance(0.5)) return simple();
  const inner = (): SelectorTree => someSelector(random, depth - 1);
  return random.weighted<() => SelectorTree>([
    [2, () => ({ kind: 'and', of: [inner(), inner()] })],
    [3, () => ({ kind: 'or', of: [inner(), inner()] })],
    [1, () => ({ kind: 'or', of: [inner(), inner(), simple()] })],
    [2, () => ({ kind: 'not', of: inner() })],
  ])();
}

function leaf(random: Random): SelectorTree {
  const key: Key = random.pick(KEYS);
  const value = random.pick(VALUES[key]);
  return random.weighted<SelectorTree>([
    [1, { kind: 'all' }],
    [0.3, { kind: 'global' }],
    [4, { kind: 'has', key }],
    [5, { kind: 'equals', key, value }],
    [2, { kind: 'differs', key, value }],
    [2, { kind: 'in', key, values: [value, random.pick(VALUES[key])] }],
    [1, { kind: 'notIn', key, values: [value] }],
    [1, { kind: 'contains', key, value: value.slice(0, 1) }],
    [1, { kind: 'starts', key, value: value.slice(0, 2) }],
    [1, { kind: 'ends', key, value: value.slice(-1) }],
  ]);
}

/** One to three rules. `canPass`: a profile's rules cannot. */
export function someRules(random: Random, canPass: boolean): Rule[] {
  return Array.from({ length: random.pick([1, 1, 2, 3]) }, () => someRule(random, canPass));
}

function someRule(random: Random, canPass: boolean): Rule {
  const action = random.weighted<Rule['action']>([
    [6, 'Allow'],
    [4, 'Deny'],
    [0.5, 'Log'],
    [canPass ? 1.5 : 0, 'Pass'],
  ]);
  const protocol = random.weighted<ReturnType<typeof protocolPart>>([
    [4, {}],
    [6, protocolPart(random)],
  ]);
  const hasPorts = [protocol.protocol].some(is => is === 'TCP' || is === 'UDP' || is === 6 || is === 17);
  return {
    action,
    ...protocol,
    ...(random.chance(0.12) ? { ipVersion: random.pick([4, 6]) } : {}),
    source: someEntity(random, hasPorts, true),
    destination: someEntity(random, hasPorts, false),
  };
}

function protocolPart(
  random: Random,
): Pick<Rule, 'protocol' | 'notProtocol' | 'icmp' | 'notICMP' | 'ipVersion'> {
  const icmp = (): { type?: number; code?: number } =>
    random.pick([
      { type: 8 },
      { type: 128 },
      { type: 8, code: 0 },
      { type: 128, code: 0 },
      { type: 3 },
      { type: 8, code: 1 },
    ]);
  return random.weighted<() => ReturnType<typeof protocolPart>>([
    [5, () => ({ protocol: 'TCP' })],
    [5, () => ({ protocol: 'UDP' })],
    [1, () => ({ protocol: random.pick([6, 17, 1, 58, 132]) })],
    [1, () => ({ protocol: random.pick(['ICMP', 'ICMPv6', 'SCTP', 'UDPLite']) })],
    [1, () => ({ protocol: random.pick(['ICMP', 'ICMPv6']), icmp: icmp() })],
    [1, () => ({ protocol: random.pick(['ICMP', 'ICMPv6']), notICMP: icmp() })],
    [1, () => ({ notProtocol: random.pick(['TCP', 'UDP', 'ICMP', 17]) })],
  ])();
}

function someEntity(random: Random, hasPorts: boolean, isSource: boolean): Entity {
  const nets = (): string[] => Array.from({ length: random.pick([1, 1, 2, 3]) }, () => random.pick(NETS));
  return {
    ...(random.chance(0.2) ? { nets: nets() } : {}),
    ...(random.chance(0.1) ? { notNets: nets() } : {}),
    ...(random.chance(0.3) ? { selector: someSelector(random) } : {}),
    ...(random.chance(0.1) ? { notSelector: someSelector(random, 1) } : {}),
    ...(random.chance(0.06) ? { namespaceSelector: random.pick(['all()', 'global()']) } : {}),
    ...(hasPorts && random.chance(isSource ? 0.1 : 0.45) ? { ports: somePorts(random, isSource) } : {}),
    ...(hasPorts && random.chance(0.1) ? { notPorts: somePorts(random, isSource) } : {}),
  };
}

function somePorts(random: Random, isSource: boolean): (number | string)[] {
  const half = random.pick(SOURCE_PORTS);
  const one = (): number | string =>
    isSource
      ? random.weighted<number | string>([
          [4, `${half.first}:${half.last}`],
          [1, random.pick(PORT_NAMES)],
          [1, '1:19999'],
        ])
      : random.weighted<number | string>([
          [4, random.pick([80, ...SERVED])],
          [2, random.pick(['80:443', '3306:5000', '5000:5001', '1:65535', '0:79'])],
          [3, random.pick(PORT_NAMES)],
        ]);
  return Array.from({ length: random.pick([1, 1, 2, 3]) }, one);
}
