import { describe, expect, it } from 'vitest';
import { parsePolicy } from '../../src/model/policy.js';
import { parseNetworkSet } from '../../src/model/network-set.js';
import { formatNewProfile, parseProfile } from '../../src/model/profile.js';
import { evaluate, evaluatePath } from '../../src/policy/evaluate.js';
import type { PolicyEndpoint, PolicyFacts } from '../../src/policy/facts.js';
import type { Packet } from '../../src/policy/packet.js';

/** The rules of evaluation, one by one. */

const resource = (name: string, spec: object, metadata: object = {}) =>
  JSON.stringify({ metadata: { name, ...metadata }, spec });

interface World {
  tiers?: Record<string, [number, 'deny' | 'pass']>;
  policies?: Record<string, object>;
  profiles?: Record<string, object>;
}

const WEB: PolicyEndpoint = {
  node: 'h1',
  interfaceName: 'caliweb',
  mac: '02:42:00:00:00:01',
  addresses: ['10.0.0.1', 'fd00::1'],
  profiles: ['net1'],
  labels: { role: 'web' },
  namedPorts: [
    { name: 'http', protocol: 6, port: 8080 },
    { name: 'dns', protocol: 6, port: 53 },
    { name: 'dns', protocol: 17, port: 53 },
  ],
  published: [{ address: '10.0.0.1', protocol: 6, port: 80 }],
};
const DB: PolicyEndpoint = {
  ...WEB,
  interfaceName: 'calidb',
  addresses: ['10.0.0.2'],
  labels: { role: 'db' },
  namedPorts: [],
  published: [],
};
const OTHER: PolicyEndpoint = {
  ...DB,
  interfaceName: 'caliother',
  addresses: ['10.0.0.3'],
  profiles: ['net2'],
  labels: {},
};

function facts({ tiers = { default: [1e6, 'deny'] }, policies = {}, profiles = {} }: World): PolicyFacts {
  const parsed = <T>({ value }: { value?: T }): T => {
    if (!value) throw new Error('does not parse');
    return value;
  };
  return {
    tiers: new Map(
      Object.entries(tiers).map(([name, [order, otherwise]]) => [name, { name, order, otherwise }]),
    ),
    policies: new Map(
      Object.entries(policies).map(([path, spec]) => {
        const [namespace, name] = path.includes('/') ? path.split('/') : ['', path];
        return [path, parsed(parsePolicy(resource(name ?? '', spec), namespace ?? ''))];
      }),
    ),
    profiles: new Map([
      ...['net1', 'net2'].map(
        name => [name, parsed(parseProfile(formatNewProfile(name, new Date())))] as const,
      ),
      ...Object.entries(profiles).map(
        ([name, spec]) => [name, parsed(parseProfile(resource(name, spec)))] as const,
      ),
    ]),
    networkSets: new Map([
      [
        's',
        parsed(
          parseNetworkSet(resource('s', { nets: ['203.0.113.0/24'] }, { labels: { kind: 'office' } }), ''),
        ),
      ],
    ]),
    endpoints: new Map([
      ['web', WEB],
      ['db', DB],
      ['other', OTHER],
    ]),
  };
}

const TCP: Packet = {
  family: 4,
  source: '10.0.0.2',
  destination: '10.0.0.1',
  protocol: 6,
  sourcePort: 40_000,
  destinationPort: 80,
};
const allow = { ingress: [{ action: 'Allow' }] };
const deny = { ingress: [{ action: 'Deny' }] };
const pass = { ingress: [{ action: 'Pass' }] };
const nothing = { ingress: [] };

const into = (world: World, packet: Partial<Packet> = {}, endpoint = WEB) =>
  evaluate(facts(world), endpoint, 'ingress', { ...TCP, ...packet });

describe('without policies', () => {
  it.each([
    ['from the same network', {}, 'allow'],
    ['from another network', { source: '10.0.0.3' }, 'deny'],
    ['from outside', { source: '203.0.113.1' }, 'deny'],
    ['from outside to a published port', { source: '203.0.113.1', isTranslated: true }, 'allow'],
    [
      'from outside to another port',
      { source: '203.0.113.1', isTranslated: true, destinationPort: 81 },
      'deny',
    ],
    ['straight to the port that is published', { source: '203.0.113.1' }, 'deny'],
  ] as const)('a packet %s: %j is %s', (_what, packet, verdict) =>
    expect(into({}, packet).verdict).toBe(verdict),
  );

  it('everything goes out', () =>
    expect(
      evaluate(facts({}), WEB, 'egress', { ...TCP, source: '10.0.0.1', destination: '8.8.8.8' }).verdict,
    ).toBe('allow'));

  it.each([
    [[], 'deny'],
    [['absent'], 'deny'],
    [['absent', 'projectcalico-default-allow'], 'deny'],
    [['empty', 'projectcalico-default-allow'], 'allow'],
    [['passing', 'projectcalico-default-allow'], 'allow'],
    [['projectcalico-default-allow'], 'allow'],
  ])('an endpoint with the profiles %j: %s', (profiles, verdict) =>
    expect(into({ profiles: { empty: {}, passing: pass } }, {}, { ...WEB, profiles }).verdict).toBe(verdict),
  );
});

describe('tiers and policies', () => {
  const two = { first: [1, 'deny'], default: [1e6, 'deny'] } as const satisfies World['tiers'];
  const T1 = { tier: 'first' };
  it.each<[string, World, string]>([
    ['an Allow decides', { policies: { a: allow } }, 'allow'],
    ['a Deny decides', { policies: { a: deny } }, 'deny'],
    ['a policy that decides nothing: its tier denies', { policies: { a: nothing } }, 'deny'],
    [
      'a tier of default action Pass goes on',
      { tiers: { default: [1, 'pass'] }, policies: { a: nothing } },
      'allow',
    ],
    ['Pass goes to the profiles after the last tier', { policies: { a: pass } }, 'allow'],
    ['Log goes on', { policies: { a: { ingress: [{ action: 'Log' }, { action: 'Deny' }] } } }, 'deny'],
    [
      'a policy that selects others is none',
      { policies: { a: { ...deny, selector: "role == 'db'" } } },
      'allow',
    ],
    ['a policy for the other direction is none', { policies: { a: { types: ['Egress'] } } }, 'allow'],
    [
      'a lower order comes first',
      { policies: { a: { ...deny, order: 2 }, b: { ...allow, order: 1 } } },
      'allow',
    ],
    ['one without order comes last', { policies: { a: deny, b: { ...allow, order: 1e9 } } }, 'allow'],
    ['names decide between equals', { policies: { b: deny, a: allow } }, 'allow'],
    ['an earlier tier comes first', { tiers: two, policies: { a: { ...T1, ...deny }, b: allow } }, 'deny'],
    ['Pass goes to the next tier', { tiers: two, policies: { a: { ...T1, ...pass }, b: allow } }, 'allow'],
    [
      'Pass skips the rest of its tier',
      { tiers: two, policies: { a: { ...T1, ...pass }, b: { ...T1, ...deny }, c: allow } },
      'allow',
    ],
    [
      'an Allow in an earlier tier is the last word',
      { tiers: two, policies: { a: { ...T1, ...allow }, b: deny } },
      'allow',
    ],
    [
      'policies of a missing tier come last',
      { policies: { a: { ...deny, tier: 'gone' }, b: allow } },
      'allow',
    ],
    ['and its end denies', { policies: { a: { ...nothing, tier: 'gone' } } }, 'deny'],
    ['a NetworkPolicy of another namespace is none', { policies: { 'other/a': deny } }, 'allow'],
  ])('%s', (_what, world, verdict) => {
    const labels = { ...WEB.labels, 'projectcalico.org/namespace': 'libnetwork' };
    expect(into(world, {}, { ...WEB, labels }).verdict).toBe(verdict);
  });

  it('a published port does not get around them', () => {
    const packet = { source: '203.0.113.1', isTranslated: true };
    expect(into({ policies: { a: deny } }, packet).verdict).toBe('deny');
    expect(into({ policies: { a: nothing } }, packet).verdict).toBe('deny');
    expect(into({ policies: { a: pass } }, packet).verdict).toBe('allow');
  });
});

describe('a rule', () => {
  it.each<[object, Partial<Packet>, boolean]>([
    [{ protocol: 'TCP' }, {}, true],
    [{ protocol: 'UDP' }, {}, false],
    [{ notProtocol: 'TCP' }, {}, false],
    [{ ipVersion: 6 }, {}, false],
    [{ source: { nets: ['10.0.0.0/24'] } }, {}, true],
    [{ source: { nets: ['10.0.1.0/24', 'fd00::/8'] } }, {}, false],
    [{ source: { nets: ['fd00::/8'] } }, {}, false],
    [{ source: { notNets: ['10.0.0.0/24'] } }, {}, false],
    [{ source: { notNets: ['10.0.1.0/24'] } }, {}, true],
    [{ source: { notNets: ['fd00::/8'] } }, {}, false],
    [{ source: { notNets: ['0.0.0.0/0'] } }, {}, false],
    [{ source: { selector: "role == 'db'" } }, {}, true],
    [{ source: { selector: 'has(net1)' } }, {}, true],
    [{ source: { selector: 'has(net1)' } }, { source: '10.0.0.3' }, false],
    [{ source: { selector: "kind == 'office'" } }, { source: '203.0.113.9' }, true],
    [{ source: { selector: 'all()' } }, { source: '8.8.8.8' }, false],
    [{ source: { notSelector: 'all()' } }, { source: '8.8.8.8' }, true],
    [{ source: { notSelector: "role == 'db'" } }, {}, false],
    [{ source: { selector: 'all()', notSelector: "role == 'web'" } }, {}, true],
    [{ protocol: 'TCP', destination: { ports: [80] } }, {}, true],
    [{ protocol: 'TCP', destination: { ports: ['70:79', 443] } }, {}, false],
    [{ protocol: 'TCP', destination: { notPorts: [80] } }, {}, false],
    [{ protocol: 'TCP', source: { ports: ['32768:65535'] } }, {}, true],
    [{ destination: { ports: [80] } }, { protocol: 17 }, true],
    [{ destination: { notPorts: [81] } }, { protocol: 1, icmp: { type: 8, code: 0 } }, false],
    [{ protocol: 'TCP', destination: { ports: ['http'] } }, { destinationPort: 8080 }, true],
    [{ protocol: 'TCP', destination: { ports: ['http'] } }, {}, false],
    [{ protocol: 'UDP', destination: { ports: ['http'] } }, { protocol: 17, destinationPort: 8080 }, false],
    [{ destination: { ports: ['http', 80] } }, {}, true],
    // Without a protocol a name is one of TCP, though the endpoint calls a port of UDP so, too.
    [{ destination: { ports: ['dns'] } }, { destinationPort: 53 }, true],
    [{ destination: { ports: ['dns'] } }, { protocol: 17, destinationPort: 53 }, false],
    [{ protocol: 'UDP', destination: { ports: ['dns'] } }, { protocol: 17, destinationPort: 53 }, true],
    [{ destination: { notPorts: ['dns'] } }, { protocol: 17, destinationPort: 53 }, true],
    [{ destination: { ports: ['http'], selector: "role == 'db'" } }, { destinationPort: 8080 }, false],
    [{ destination: { notPorts: ['http'] } }, { destinationPort: 8080 }, false],
    [{ protocol: 'ICMP', icmp: { type: 8 } }, { protocol: 1, icmp: { type: 8, code: 0 } }, true],
    [{ protocol: 'ICMP', icmp: { type: 8, code: 1 } }, { protocol: 1, icmp: { type: 8, code: 0 } }, false],
    [{ protocol: 'ICMP', notICMP: { type: 8 } }, { protocol: 1, icmp: { type: 8, code: 0 } }, false],
    [{ protocol: 'ICMP', notICMP: { type: 8 } }, { protocol: 1, icmp: { type: 0, code: 0 } }, true],
    [{ icmp: { type: 8 } }, {}, false],
    [{ notICMP: { type: 8 } }, {}, false],
    [
      { icmp: { type: 128 } },
      { family: 6, source: 'fd00::2', destination: 'fd00::1', protocol: 58, icmp: { type: 128, code: 0 } },
      true,
    ],
    [{ http: { methods: ['GET'] } }, {}, false],
  ])('%j and a packet with %j: matches is %s', (fields, packet, matches) => {
    const world = { policies: { a: { ingress: [{ action: 'Allow', ...fields }] } } };
    expect(into(world, packet).verdict).toBe(matches ? 'allow' : 'deny');
  });

  it("gives the endpoint's own label before a profile's, the first profile's before the second's", () => {
    const profiles = {
      p: { ...allow, labelsToApply: { role: 'p', x: 'p' } },
      q: { labelsToApply: { x: 'q', y: 'q' } },
    };
    const endpoint = { ...WEB, profiles: ['p', 'q'] };
    const selected = (selector: string) =>
      into({ profiles, policies: { a: { ...deny, selector } } }, {}, endpoint).verdict === 'deny';
    expect(["role == 'web'", "x == 'p'", "y == 'q'", "role == 'p'", "x == 'q'"].map(selected)).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it('does not see labels of namespaces and accounts that an endpoint claims', () => {
    const labels = { 'pcns.team': 'x', 'pcsa.name': 'y' };
    const world = { policies: { a: { ...deny, selector: 'has(pcns.team) || has(pcsa.name)' } } };
    expect(into(world, {}, { ...WEB, labels }).verdict).toBe('allow');
  });
});

describe('a whole path', () => {
  it("is judged by the sender's egress, then by the receiver's ingress", () => {
    const world = facts({
      policies: {
        out: {
          selector: "role == 'db'",
          types: ['Egress'],
          egress: [{ action: 'Allow', destination: { ports: [80] } }],
        },
      },
    });
    const open = evaluatePath(world, TCP);
    expect(open.verdict).toBe('allow');
    expect(open.egress?.steps.map(({ what, tier, rule, outcome }) => [tier, what, rule, outcome])).toEqual([
      ['default', 'policy out', 1, 'allow'],
    ]);
    expect(open.ingress?.steps.at(-1)).toEqual({ what: 'profile net1', rule: 1, outcome: 'allow' });
    const closed = evaluatePath(world, { ...TCP, destinationPort: 81 });
    expect(closed).toMatchObject({
      verdict: 'deny',
      egress: {
        steps: [
          { outcome: { mismatch: 'the destination port is another' } },
          { what: 'end of tier default', outcome: 'deny' },
        ],
      },
    });
    expect(closed.ingress).toBeUndefined();
  });

  it('is not judged where neither end is an endpoint', () =>
    expect(evaluatePath(facts({}), { ...TCP, source: '8.8.8.8', destination: '9.9.9.9' })).toEqual({
      verdict: 'allow',
    }));
});
