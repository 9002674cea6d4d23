import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesOf } from '../../src/host/bytes.js';
import { changeMessages, keyBytes } from '../../src/host/nft-messages.js';
import { baseChains } from '../../src/host/nft-policy-base.js';
import { NOTHING, PolicyDiff, isEmpty } from '../../src/host/nft-policy-diff.js';
import { logPrefix, rulesChain } from '../../src/host/nft-policy-names.js';
import { isLarge } from '../../src/host/nft-policy-size.js';
import { renderRules } from '../../src/host/nft-policy-rules.js';
import { changeScript, tableScript } from '../../src/host/nft-policy-script.js';
import type { EndpointPolicy, HostPolicy, HostRule } from '../../src/host/policy.js';
import { run } from '../../src/host/run.js';
import { following, mergeRanges, rangeOf, rangeText } from '../../src/host/ranges.js';
import { somePolicy } from '../host/some-policy.js';

const ALL: HostRule = { action: 'allow', source: {}, destination: {} };
const render = (rule: HostRule, isRanges = false): string[] =>
  renderRules('policy/in', [rule], () => isRanges);

describe('ranges', () => {
  test.each([
    ['10.65.3.7/22', '10.65.0.0-10.65.3.255'],
    ['10.0.0.1', '10.0.0.1'],
    ['0.0.0.0/0', '0.0.0.0-255.255.255.255'],
    ['fd65::7/127', 'fd65::6-fd65::7'],
    ['::/0', '::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ])('%s is %s', (cidr, text) => expect(rangeText(rangeOf(cidr))).toBe(text));

  test.each(['10.0.0.0/33', '10.0.0.0/', 'fd65::/129', 'x', '10.0.0.0/8; drop'])('%s is none', cidr =>
    expect(() => rangeOf(cidr)).toThrow(/is no/),
  );

  test('merged hold the same addresses, apart and in order', () => {
    const small = fc.tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: 26, max: 32 }));
    fc.assert(
      fc.property(fc.array(small, { maxLength: 8 }), cidrs => {
        const ranges = cidrs.map(([last, length]) => rangeOf(`10.0.0.${last}/${length}`));
        const merged = mergeRanges(ranges);
        for (let last = 0; last < 64; last += 1) {
          const { first: address } = rangeOf(`10.0.0.${last}`);
          const isIn = (list: typeof ranges): boolean =>
            list.some(range => range.first <= address && address <= range.last);
          expect(isIn(merged)).toBe(isIn(ranges));
        }
        merged.slice(1).forEach((range, at) => {
          expect((following(merged[at]?.last ?? '') ?? '') < range.first).toBe(true);
        });
      }),
    );
  });
});

describe('a rule is', () => {
  test.each<[string, Partial<HostRule>, string[]]>([
    ['one line where it speaks of no family', { protocol: 6 }, ['meta l4proto 6 accept']],
    [
      'a line for each family',
      { source: { nets: ['10.0.0.0/8', '10.1.0.0/16', 'fd65::/64'] } },
      [
        'meta nfproto ipv4 ip saddr { 10.0.0.0-10.255.255.255 } accept',
        'meta nfproto ipv6 ip6 saddr { fd65::-fd65::ffff:ffff:ffff:ffff } accept',
      ],
    ],
    [
      'left out of a family that its nets are not of',
      { destination: { notNets: ['10.0.0.0/8'] } },
      ['meta nfproto ipv4 ip daddr != { 10.0.0.0-10.255.255.255 } accept'],
    ],
    ['left out where it contradicts itself', { protocol: 6, notProtocol: 6 }, []],
    ['left out where no address is left', { source: { notNets: ['0.0.0.0/0'] } }, []],
    [
      'of protocols with ports where it names ports',
      { notProtocol: 17, destination: { ports: [{ first: 1, last: 2 }] } },
      ['meta l4proto { 6, 33, 132, 136 } th dport { 1-2 } accept'],
    ],
    ['a rule to pass on', { action: 'pass' }, ['return']],
    [
      'a rule to write down, some times a second',
      { action: 'log' },
      ['limit rate 10/second burst 100 packets log prefix "calico policy/in: " level info'],
    ],
  ])('%s', (_what, rule, lines) => expect(render({ ...ALL, ...rule })).toEqual(lines));

  test('a product where ports have names', () => {
    const lines = render({
      ...ALL,
      protocol: 6,
      ipVersion: 4,
      source: { namedPorts: ['a', 'b'] },
      destination: { ports: [{ first: 80, last: 80 }], namedPorts: ['c'] },
    });
    expect(lines).toHaveLength(4);
  });

  test('no script, whatever it is made of', () => {
    expect(() => render({ ...ALL, source: { nets: ['10.0.0.0/8 } accept'] } })).toThrow(/is no/);
    expect(() => render({ ...ALL, protocol: 256 })).toThrow(/is no number/);
    expect(rulesChain('a"; drop')).toMatch(/^rules_a_drop_[0-9a-f]{16}$/);
    expect(logPrefix('x"\n'.repeat(200))).toMatch(/^calico [x_]{110}: $/);
  });
});

test('keys are bytes as the kernel has them', () => {
  expect(
    keyBytes(['ifname', 'ether_addr', 'ipv4_addr'], '"cali1" . 02:42:0a:41:00:01 . 10.65.0.1').toString(
      'hex',
    ),
  ).toBe(`63616c6931${'00'.repeat(11)}02420a4100010000${bytesOf('10.65.0.1').toString('hex')}`);
  expect(keyBytes(['ipv4_addr', 'inet_proto', 'inet_service'], '10.0.0.1 . 6 . 80').toString('hex')).toBe(
    '0a000001060000000050' + '0000',
  );
});

describe('a change', () => {
  const diff = new PolicyDiff();
  const endpoint = (n: number, more: Partial<EndpointPolicy> = {}): EndpointPolicy => ({
    mac: '02:42:0a:41:00:01',
    sources: [`10.65.0.${n}`],
    ingress: { tiers: [], profiles: ['net1/in'] },
    egress: { tiers: [], profiles: [] },
    ...more,
  });
  const policy = (endpoints: readonly number[]): HostPolicy => ({
    ...NOTHING.policy,
    endpoints: new Map(endpoints.map(n => [`cali${n}`, endpoint(n)])),
    rules: new Map([['net1/in', [{ ...ALL, source: { sets: ['net1'] } }]]]),
    addressSets: new Map([['net1', { addresses: new Set(endpoints.map(n => `10.65.0.${n}`)), nets: [] }]]),
  });

  test('to the same is none', () => {
    fc.assert(
      fc.property(somePolicy, some => {
        const copy: HostPolicy = { ...some, endpoints: new Map(some.endpoints), rules: new Map(some.rules) };
        expect(isEmpty(diff.change(diff.render(some), diff.render(copy)))).toBe(true);
      }),
    );
  });

  test('of a container like others is elements only', () => {
    const change = diff.change(diff.render(policy([1])), diff.render(policy([1, 2])));
    expect(change.fillChains.size + change.addSets.size + change.removeElements.length).toBe(0);
    expect(change.addElements.map(({ set }) => set)).toEqual([
      ...['macs', 'sources4', 'egress', 'ingress', 'from_host'],
      expect.stringMatching(/^addresses4_net1_/),
    ]);
    expect(changeMessages(change)).toHaveLength(6);
  });

  test('there and back cancels', () => {
    fc.assert(
      fc.property(somePolicy, somePolicy, (one, other) => {
        const [a, b] = [diff.render(one), diff.render(other)];
        const [there, back] = [diff.change(a, b), diff.change(b, a)];
        expect(new Set(back.addChains)).toEqual(new Set(there.removeChains));
        expect(new Set(back.removeSets)).toEqual(new Set(there.addSets.keys()));
        expect(back.addElements.length + there.addElements.length).toBeGreaterThanOrEqual(
          back.removeElements.length,
        );
      }),
    );
  });

  test('never says that something is gone which is still named', () => {
    fc.assert(
      fc.property(somePolicy, somePolicy, (one, other) => {
        const after = diff.render(other);
        const change = diff.change(diff.render(one), after);
        const lines = [...after.chains.values()].flat().join('\n');
        for (const gone of [...change.removeChains, ...change.removeSets]) expect(lines).not.toContain(gone);
      }),
    );
  });

  test('names the table, and nothing that is not its own', () => {
    const change = diff.change(NOTHING, diff.render(policy([1])));
    for (const line of changeScript(change).trimEnd().split('\n'))
      expect(line).toMatch(/^\w+ \w+ inet calico_policy /);
    expect(tableScript(change, 'cali').match(/^delete .*$/gm)).toEqual(['delete table inet calico_policy']);
  });
});

test('what conntrack can make nothing of is dropped of and to containers, and nobody else', () => {
  const lines = [...baseChains('cali').values()].flat().filter(line => line.includes('invalid'));
  expect(lines).toEqual(['iifname "cali*" ct state invalid drop', 'oifname "cali*" ct state invalid drop']);
});

test('a table of few chains with many rules is a large one', () => {
  const diff = new PolicyDiff();
  const of = (count: number): HostPolicy => ({
    ...NOTHING.policy,
    endpoints: new Map([
      [
        'cali1',
        {
          mac: '02:42:0a:41:00:01',
          sources: [],
          ingress: { tiers: [], profiles: ['net1/in'] },
          egress: { tiers: [], profiles: [] },
        },
      ],
    ]),
    rules: new Map([['net1/in', Array.from({ length: count }, () => ALL)]]),
  });
  expect(isLarge(diff.render(of(100)))).toBe(false);
  expect(isLarge(diff.render(of(2_000)))).toBe(true);
});

test('what failed to be rendered leaves nothing behind', () => {
  const good: readonly HostRule[] = [{ ...ALL, source: { sets: ['x'] } }];
  const judgement = { tiers: [], profiles: ['in'] };
  const endpoint1 = { mac: '02:42:0a:41:00:01', sources: [], ingress: judgement, egress: judgement };
  const bad = [{ ...ALL, destination: { ports: [{ first: 70_000, last: 70_000 }] } }];
  const of = (nets: readonly string[], rules: readonly HostRule[]): HostPolicy => ({
    ...NOTHING.policy,
    endpoints: new Map([['cali1', endpoint1]]),
    rules: new Map([['in', rules]]),
    addressSets: new Map([['x', { addresses: new Set<string>(), nets }]]),
  });
  const diff = new PolicyDiff();
  diff.render(of([], good));
  expect(() => diff.render(of(['10.0.0.0/8'], bad))).toThrow('70000');
  const { chains } = diff.render(of(['10.0.0.0/8'], good));
  expect([...chains]).toEqual([...new PolicyDiff().render(of(['10.0.0.0/8'], good)).chains]);
});

test('a command has the time it is given', async () => {
  await expect(run('sleep', ['5'], undefined, 50)).rejects.toThrow('no answer within 50 ms');
});
