import { describe, expect, test } from 'vitest';
import type { HostEntity, HostPolicy, HostRule, HostTier } from '../../src/host/policy.js';
import { ALL, HOST4, HOST6, freshPort, letIn, policy, usePolicyBed } from './policy-bed.js';
import { endpoint } from './pretend-host.js';

/** What the policy table lets pass, packet by packet. */

const bed = usePolicyBed();

test('all is closed until there is a policy, and open as it says then', async () => {
  const reached = async (): Promise<boolean[]> =>
    Promise.all([
      ...['10.65.0.2', 'fd65::2', HOST4, HOST6, '10.65.0.3'].map(address =>
        bed().container(1).reaches(address),
      ),
      bed().container(3).reaches(HOST4),
      ...['10.65.0.1', 'fd65::1', '10.65.0.3'].map(address => bed().host.reaches(address)),
      bed().outside.reaches('10.65.0.1'),
    ]);
  expect(await reached()).toEqual([false, false, false, false, false, false, false, false, false, false]);
  await bed().enforce(policy([1, 2]));
  expect(await reached()).toEqual([true, true, true, true, false, false, true, true, false, false]);
  await bed().enforce(policy([1, 2, 3]));
  expect(await reached()).toEqual([true, true, true, true, false, true, true, true, true, false]);
});

test('only a container’s own addresses leave it, from its own interface', async () => {
  await bed().enforce(policy([1, 2, 3]));
  await bed()
    .container(3)
    .all(['ip addr add 10.65.0.1/32 dev cali0', 'ip addr add fd65::1/128 dev cali0 nodad']);
  const ping = (address: string, from: string): Promise<string> =>
    bed()
      .container(3)
      .run(`busybox ping ${address.includes(':') ? '-6' : '-4'} -c 1 -W 1 -I ${from} ${address}`)
      .then(
        () => 'passed',
        () => 'dropped',
      );
  // The host's route to these leads to the first container: seen is whether the question arrives.
  const before = await bed().container(2).run('cat /proc/net/snmp');
  await Promise.all([ping('10.65.0.2', '10.65.0.1'), ping('fd65::2', 'fd65::1')]);
  expect(/Icmp: (\d+)/.exec(await bed().container(2).run('cat /proc/net/snmp'))).toEqual(
    /Icmp: (\d+)/.exec(before),
  );
  await bed().container(3).all(['ip addr del 10.65.0.1/32 dev cali0', 'ip addr del fd65::1/128 dev cali0']);
  expect(await ping(HOST4, '10.65.0.3')).toBe('passed');
  await bed().container(3).run('ip link set cali0 address 02:42:0a:41:00:99');
  expect(await ping(HOST4, '10.65.0.3')).toBe('dropped');
  await bed()
    .container(3)
    .run(`ip link set cali0 address ${endpoint(3).mac}`);
});

describe('a rule', () => {
  /** What the first container gets through to the second. */
  const probes: Readonly<Record<string, () => Promise<boolean>>> = {
    ping: () => bed().container(1).reaches('10.65.0.2'),
    ping6: () => bed().container(1).reaches('fd65::2'),
    tcp: async () => (await bed().who(1, 'tcp', '10.65.0.2', 80)) === 'two',
    tcp6: async () => (await bed().who(1, 'tcp', 'fd65::2', 80)) === 'two',
    tcp81: async () => (await bed().who(1, 'tcp', '10.65.0.2', 81)) === 'two',
    udp: async () => (await bed().who(1, 'udp', '10.65.0.2', 80)) === 'two',
    udp6: async () => (await bed().who(1, 'udp', 'fd65::2', 80)) === 'two',
  };
  const passed = async (): Promise<string[]> => {
    const names = Object.keys(probes);
    const found = await Promise.all(names.map(name => probes[name]?.()));
    return names.filter((_name, at) => found[at] === true);
  };
  const EVERYTHING = Object.keys(probes);
  const V4 = ['ping', 'tcp', 'tcp81', 'udp'];
  const V6 = ['ping6', 'tcp6', 'udp6'];
  const without = (...names: string[]): string[] => EVERYTHING.filter(name => !names.includes(name));
  const from = (source: HostEntity): HostRule => ({ ...ALL, source });
  const to = (destination: HostEntity, protocol?: number): HostRule => ({
    ...ALL,
    destination,
    ...(protocol === undefined ? {} : { protocol }),
  });
  const one = (n: number): { first: number; last: number } => ({ first: n, last: n });
  const deny = (rule: HostRule): HostRule[] => [{ ...rule, action: 'deny' }, ALL];
  const SETS: Partial<HostPolicy> = {
    addressSets: new Map([
      ['first', { addresses: new Set(['10.65.0.1', 'fd65::1']), nets: [] }],
      ['others', { addresses: new Set(['10.65.0.2']), nets: ['fd65::2/127'] }],
      ['nets', { addresses: new Set(['10.65.0.7']), nets: ['10.65.0.0/30', 'fd65::/64'] }],
    ]),
    portSets: new Map([['http', new Set(['10.65.0.2 6 80', 'fd65::2 17 80'])]]),
  };
  const cases: readonly (readonly [string, readonly HostRule[], readonly string[]])[] = [
    ['that says nothing', [ALL], EVERYTHING],
    ['of none', [], []],
    ['of a protocol', [{ ...ALL, protocol: 6 }], ['tcp', 'tcp6', 'tcp81']],
    ['of not a protocol', [{ ...ALL, notProtocol: 6 }], without('tcp', 'tcp6', 'tcp81')],
    ['of an IP version', [{ ...ALL, ipVersion: 6 }], V6],
    ['of ports', [to({ ports: [one(81), { first: 90, last: 99 }] }, 6)], ['tcp81']],
    ['of not ports', [to({ notPorts: [one(81)] }, 6)], ['tcp', 'tcp6']],
    ['of ports by name', [to({ namedPorts: ['http'] })], ['tcp', 'udp6']],
    ['of ports by name or number', [to({ namedPorts: ['http'], ports: [one(81)] }, 6)], ['tcp', 'tcp81']],
    ['of not ports by name', [to({ notNamedPorts: ['http'] }, 6)], ['tcp6', 'tcp81']],
    ['of no protocol, and not ports by name', [to({ notNamedPorts: ['http'] })], without('tcp', 'udp6')],
    [
      'of source ports',
      [{ ...from({ ports: [{ first: 20_000, last: 30_000 }] }), protocol: 17 }],
      ['udp', 'udp6'],
    ],
    ['of nets of one family', [from({ nets: ['10.65.0.0/31', '192.0.2.0/24'] })], V4],
    ['of nets that overlap', [from({ nets: ['10.0.0.0/8', '10.65.0.0/16', '::/0'] })], EVERYTHING],
    ['of not nets', [from({ notNets: ['10.65.0.0/16', 'fd66::/16'] })], V6],
    // As Felix: it leaves the rule out of the table of the other family.
    ['of not nets of one family', [from({ notNets: ['192.0.2.0/24'] })], V4],
    ['of a set', [from({ sets: ['first'] })], EVERYTHING],
    ['of a set of others', [from({ sets: ['others'] })], []],
    ['of not a set', [from({ notSets: ['first'] })], []],
    ['of two sets, one of nets', [from({ sets: ['first', 'nets'] })], EVERYTHING],
    ['of a set, and not another', [from({ sets: ['nets'], notSets: ['others'] })], EVERYTHING],
    ['of the destination', [to({ nets: ['10.65.0.2/32'], sets: ['others'] })], V4],
    ['of ICMP', [{ ...ALL, icmp: { type: 8, code: 0 } }], ['ping']],
    ['of ICMP for IPv6', [{ ...ALL, icmp: { type: 128 } }], ['ping6']],
    ['of not this ICMP', [{ ...ALL, notIcmp: { type: 8 } }], without('ping')],
    ['of ICMP, but not this', [{ ...ALL, protocol: 58, notIcmp: { type: 8, code: 1 } }], ['ping6']],
    ['that denies, before one that allows', deny({ ...ALL, protocol: 17 }), without('udp', 'udp6')],
    [
      'that denies what another allowed already',
      [{ ...ALL, protocol: 6 }, ...deny(ALL)],
      ['tcp', 'tcp6', 'tcp81'],
    ],
    [
      'that logs',
      [
        { ...ALL, action: 'log' },
        { ...ALL, protocol: 6 },
      ],
      ['tcp', 'tcp6', 'tcp81'],
    ],
    ['that passes on to the profile', [{ ...ALL, action: 'pass', protocol: 6 }], ['tcp', 'tcp6', 'tcp81']],
  ];
  test.each(cases)('%s', async (_what, rules, expected) => {
    await bed().enforce(letIn(rules, SETS));
    // With the consent out of the way: nothing here is translated.
    expect(await passed()).toEqual(expected);
  });
});

test('tiers are asked one after another, then the profiles', async () => {
  const pass = { ...ALL, action: 'pass' } as const;
  const rules = new Map<string, readonly HostRule[]>([
    ['a', [{ ...pass, protocol: 6 }]],
    ['b', [{ ...ALL, protocol: 17 }]],
    ['c', [{ ...ALL, action: 'deny', protocol: 6, destination: { ports: [{ first: 81, last: 81 }] } }]],
  ]);
  const tiers = (first: HostTier['otherwise'], second: HostTier['otherwise']): HostTier[] => [
    { policies: ['a', 'b'], otherwise: first },
    { policies: ['c'], otherwise: second },
  ];
  const seen = async (): Promise<string[]> =>
    Promise.all([
      bed().who(1, 'tcp', '10.65.0.2', 80),
      bed().who(1, 'tcp', '10.65.0.2', 81),
      bed().who(1, 'udp', '10.65.0.2', 80),
    ]);
  await bed().enforce(policy([1, 2, 3], tiers('deny', 'pass'), { rules }));
  expect(await seen()).toEqual(['two', 'nobody', 'two']);
  expect(await bed().container(1).reaches('10.65.0.2')).toBe(false);
  await bed().enforce(policy([1, 2, 3], tiers('deny', 'deny'), { rules }));
  expect(await seen()).toEqual(['nobody', 'nobody', 'two']);
  await bed().enforce(policy([1, 2, 3], tiers('pass', 'pass'), { rules }));
  expect(await seen()).toEqual(['two', 'nobody', 'two']);
  expect(await bed().container(1).reaches('10.65.0.2')).toBe(true);
});

describe('a published port', () => {
  const asked = (): Promise<string[]> =>
    Promise.all([
      bed().who(0, 'tcp', HOST4, 8002),
      bed().who(0, 'udp', HOST4, 8002),
      // Of another network, of its own, itself, and the host by two ways.
      bed().who(3, 'tcp', HOST4, 8002),
      bed().who(1, 'tcp', HOST4, 8002),
      bed().who(2, 'tcp', HOST4, 8002),
      bed().who(4, 'tcp', '127.0.0.1', 8002),
      bed().who(4, 'tcp', HOST4, 8002),
      // Past the host's address nobody is let in.
      bed().who(0, 'tcp', '10.65.0.2', 80),
      bed().who(3, 'tcp', '10.65.0.2', 80),
    ]);

  test('is a consent that the profile does not overrule', async () => {
    await bed().enforce(policy([1, 2, 3]));
    expect(await asked()).toEqual(['two', 'two', 'two', 'two', 'two', 'two', 'two', 'nobody', 'nobody']);
    await bed().enforce(policy([1, 2, 3], [], { fromHost: 'policy' }));
    expect(await asked()).toEqual(['two', 'two', 'two', 'two', 'two', 'two', 'two', 'nobody', 'nobody']);
  });

  test('is closed by a policy', async () => {
    await bed().enforce(letIn([{ ...ALL, source: { nets: ['10.65.0.3/32'] } }]));
    expect((await asked()).map(answer => answer === 'two')).toEqual([
      ...[false, false, true, false, false, true, true],
      ...[false, true],
    ]);
  });

  test('that nobody consented to is none', async () => {
    await bed().enforce(policy([1, 2, 3], [], { consented: [] }));
    expect((await asked()).slice(0, 3)).toEqual(['nobody', 'nobody', 'nobody']);
  });
});

test('what the host sends is let in, judged, or dropped', async () => {
  const seen = (): Promise<unknown[]> =>
    Promise.all([
      bed().who(4, 'tcp', '10.65.0.2', 80),
      bed().who(4, 'tcp', 'fd65::2', 80),
      bed().who(4, 'tcp', '127.0.0.1', 8002),
      bed().host.reaches('fd65::1'),
      // The other way it is the sender's egress that counts.
      bed().who(1, 'tcp', HOST4, 90),
    ]);
  await bed().enforce(policy([1, 2, 3]));
  expect(await seen()).toEqual(['two', 'two', 'two', true, 'host']);
  await bed().enforce(policy([1, 2, 3], [], { fromHost: 'policy' }));
  expect(await seen()).toEqual(['nobody', 'nobody', 'two', false, 'host']);
  await bed().enforce(policy([1, 2, 3], [], { fromHost: 'deny' }));
  expect(await seen()).toEqual(['nobody', 'nobody', 'nobody', false, 'host']);
  await bed().enforce(policy([1, 2, 3], [], { rules: new Map([['all/out', [{ ...ALL, protocol: 17 }]]]) }));
  expect(await seen()).toEqual(['two', 'two', 'two', true, 'nobody']);
});

test('no container sends what another host would unpack', async () => {
  await bed().talker(0).serve(4789, 'tunnel');
  await bed().talker(0).serve(4790, 'other');
  await bed().enforce(policy([1, 2, 3]));
  expect(await bed().who(1, 'udp', '198.51.100.2', 4790)).toBe('other');
  expect(await bed().who(1, 'udp', '198.51.100.2', 4789)).toBe('nobody');
});

test('what is established stays when a policy denies it', async () => {
  await bed().enforce(policy([1, 2, 3]));
  const port = freshPort();
  expect(await bed().talker(1).who('udp', '10.65.0.2', 80, port)).toBe('two');
  await bed().enforce(letIn([]));
  expect(await bed().talker(1).who('udp', '10.65.0.2', 80, port)).toBe('two');
  expect(await bed().who(1, 'udp', '10.65.0.2', 80)).toBe('nobody');
});
