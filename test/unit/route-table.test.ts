import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import type { PeerHop } from '../../src/host/peers.js';
import { assignAt, createBlock } from '../../src/ipam/block.js';
import { ordinalOf, parseAddress } from '../../src/ipam/cidr.js';
import { blockKey } from '../../src/datastore/keys.js';
import { formatBlock } from '../../src/model/block.js';
import type { Encapsulation } from '../../src/model/ip-pool.js';
import { formatNewNode, parseNode } from '../../src/model/node.js';
import type { CalicoNode } from '../../src/model/node.js';
import { RouteTable } from '../../src/routing/route-table.js';
import { digestBlock, parseRoutedBlock } from '../../src/routing/routed-block.js';
import type { RoutedBlock } from '../../src/routing/routed-block.js';
import { cidr } from './ipam-node.js';

const NOW = new Date('2026-08-22T10:00:01Z');

function node(name: string, address?: string, tunnel?: string): CalicoNode {
  const family = address?.includes(':') === true ? 6 : 4;
  const end = { address: tunnel ?? '', mac: '66:00:00:00:00:01' };
  const text = formatNewNode(
    name,
    {
      ...(address === undefined ? {} : { addresses: { [family]: address } }),
      ...(tunnel === undefined ? {} : { tunnels: { [family]: end } }),
    },
    NOW,
  );
  const parsed = parseNode(text);
  if (!parsed) throw new Error(text);
  return parsed;
}

/** A block as etcd has it; `used`: by whom, by address. */
function block(
  range: string,
  owner: string | null,
  used: Record<string, Record<string, string>> = {},
): RoutedBlock {
  const place = cidr(range);
  let made = { ...createBlock(place, 'x', NOW), affinity: owner === null ? null : `host:${owner}` };
  for (const [text, secondary] of Object.entries(used)) {
    const address = parseAddress(text);
    if (!address) throw new Error(text);
    made = assignAt(made, ordinalOf(place, address), { handle_id: text, secondary });
  }
  const parsed = parseRoutedBlock(blockKey(place), formatBlock(made));
  if (!parsed) throw new Error(range);
  // A digest says the same, and may be made of one.
  const digest = digestBlock(blockKey(place), formatBlock(made));
  expect(parseRoutedBlock(blockKey(place), digest)).toEqual(parsed);
  expect(digestBlock(blockKey(place), digest)).toBe(digest);
  return parsed;
}

function table(
  nodes: readonly CalicoNode[],
  blocks: readonly RoutedBlock[],
  vxlanMode: Encapsulation = 'Never',
): RouteTable {
  const made = new RouteTable('h1');
  made.setPools(['10.65.0.0/16', 'fd65::/64'].map(text => ({ cidr: cidr(text), vxlanMode })));
  for (const one of nodes) made.setNode(one.name, one);
  for (const one of blocks) made.setBlock(one.cidr, one);
  made.takeChanges();
  return made;
}

const H1 = node('h1', '10.0.0.1/24', '10.65.0.0');
const H2 = node('h2', '10.0.0.2/24', '10.65.0.64');
const FAR = node('far', '10.9.9.9/24', '10.65.0.128');
const under = (via: string): PeerHop => ({ via, by: 'underlay' });
const routes = (made: RouteTable) => Object.fromEntries(made.routes);

describe('routes to other hosts', () => {
  it('lead a block to its owner on the same segment, and none leads to a block of our own', () => {
    const made = table([H1, H2], [block('10.65.0.0/26', 'h1'), block('10.65.0.64/26', 'h2')]);
    expect(routes(made)).toEqual({ '10.65.0.64/26': under('10.0.0.2') });
    expect(made.unreachable().size).toBe(0);
  });

  it('lead a borrowed address to the node that uses it, out of whichever block', () => {
    const used = { '10.65.0.3': { node: 'h2' }, '10.65.0.4': { node: 'h1' } };
    const theirs = {
      '10.65.0.65': { node: 'h1' },
      '10.65.0.66': { node: 'h3' },
      '10.65.0.67': { node: 'h2' },
    };
    const nobodys = { '10.65.0.200': { node: 'h2' } };
    const made = table(
      [H1, H2, node('h3', '10.0.0.3/24')],
      [
        block('10.65.0.0/26', 'h1', used),
        block('10.65.0.64/26', 'h2', theirs),
        block('10.65.0.192/26', null, nobodys),
      ],
    );
    expect(routes(made)).toEqual({
      '10.65.0.3/32': under('10.0.0.2'),
      '10.65.0.64/26': under('10.0.0.2'),
      '10.65.0.66/32': under('10.0.0.3'),
      '10.65.0.200/32': under('10.0.0.2'),
    });
  });

  it('do not lead to an address that a network keeps back', () => {
    const kept = { '10.65.0.1': { node: 'h2', type: 'docker-gateway' } };
    expect(routes(table([H1, H2], [block('10.65.0.0/26', 'h1', kept)]))).toEqual({});
  });

  it('name the node that another subnet hides, and why', () => {
    const made = table([H1, FAR], [block('10.65.0.128/26', 'far')]);
    expect(routes(made)).toEqual({});
    expect([...made.unreachable()]).toEqual([['far', expect.stringContaining('another subnet')]]);
    expect([...table([H1], [block('10.65.0.128/26', 'far')]).unreachable()]).toEqual([
      ['far', expect.stringContaining('no Node')],
    ]);
  });

  it.each(['Never', 'CrossSubnet', 'Always'] as const)(
    'with vxlanMode %s lead to no Node with the address of this host, which a former name of it may have left',
    mode => {
      const former = block('10.65.0.64/26', 'former');
      const made = table([H1, node('former', '10.0.0.1/24', '10.65.0.64')], [former], mode);
      expect(routes(made)).toEqual({});
      expect(made.unreachable().get('former')).toContain('calico-libnetwork node remove');
      made.setNode('h1', node('h1', '10.0.0.7/24', '10.65.0.0'));
      expect([...made.takeChanges().keys()]).toEqual(['10.65.0.64/26']);
    },
  );

  it.each([
    ['Never', '10.0.0.2', undefined],
    ['CrossSubnet', '10.0.0.2', '10.65.0.128'],
    ['Always', '10.65.0.64', '10.65.0.128'],
  ] as const)('with vxlanMode %s go by %s nearby and by %s far away', (mode, near, far) => {
    const made = table([H1, H2, FAR], [block('10.65.0.64/26', 'h2'), block('10.65.0.128/26', 'far')], mode);
    expect(made.routes.get('10.65.0.64/26')).toEqual({
      via: near,
      by: mode === 'Always' ? 'vxlan' : 'underlay',
    });
    expect(made.routes.get('10.65.0.128/26')).toEqual(far && { via: far, by: 'vxlan' });
  });

  it('are the same for IPv6', () => {
    const [h1, h2] = [node('h1', 'fd00::1/64'), node('h2', 'fd00::2/64')];
    const made = table(
      [h1, h2],
      [block('fd65::40/122', 'h2'), block('fd65::/122', 'h1', { 'fd65::5': { node: 'h2' } })],
    );
    expect(routes(made)).toEqual({ 'fd65::40/122': under('fd00::2'), 'fd65::5/128': under('fd00::2') });
  });

  it('come and go with what they follow from, and nothing else changes', () => {
    const made = table([H1, H2], [block('10.65.0.64/26', 'h2'), block('10.65.0.128/26', 'h3')]);
    made.setNode('h3', node('h3', '10.0.0.3/24'));
    expect([...made.takeChanges()]).toEqual([['10.65.0.128/26', under('10.0.0.3')]]);
    made.setNode('h3', node('h3', '10.0.0.33/24'));
    expect([...made.takeChanges()]).toEqual([['10.65.0.128/26', under('10.0.0.33')]]);
    made.setBlock('10.65.0.64/26', block('10.65.0.64/26', 'h2', { '10.65.0.70': { node: 'h3' } }));
    expect([...made.takeChanges()]).toEqual([['10.65.0.70/32', under('10.0.0.33')]]);
    made.setNode('h2', undefined);
    expect([...made.takeChanges()]).toEqual([['10.65.0.64/26', undefined]]);
    made.setBlock('10.65.0.128/26', undefined);
    expect([...made.takeChanges()]).toEqual([['10.65.0.128/26', undefined]]);
  });

  it('are not for keys and values that do not agree', () => {
    const text = formatBlock(createBlock(cidr('10.65.0.0/26'), 'h2', NOW));
    expect(parseRoutedBlock(blockKey(cidr('10.65.0.0/26')), text)).toBeDefined();
    expect(parseRoutedBlock(blockKey(cidr('10.65.0.64/26')), text)).toBeUndefined();
    expect(digestBlock(blockKey(cidr('10.65.0.64/26')), text)).toBe(text);
    expect(digestBlock(blockKey(cidr('10.65.0.64/26')), 'nonsense')).toBe('nonsense');
    // What is kept of a block instead of its text, written to etcd by somebody else.
    for (const strange of ['0.0.0.0/0', '10.65.0.64/32', '10.65.0.0/27', '10.65.0.01/32', 'x'])
      expect(parseRoutedBlock(blockKey(cidr('10.65.0.0/26')), `=h2 ${strange} h2`)).toBeUndefined();
    const wide = text.replace('10.65.0.0/26', '0.0.0.0/0');
    expect(parseRoutedBlock('/calico/ipam/v2/assignment/ipv4/block/0.0.0.0-0', wide)).toBeUndefined();
  });
});

const NAMES = ['h1', 'h2', 'h3', 'h4'] as const;
const RANGES = ['10.65.0.0/30', '10.65.0.4/30', '10.66.0.0/30', 'fd65::/126', 'fd65::4/126'];
const name = fc.constantFrom(...NAMES);
const aNode = fc.record({
  what: fc.constant('node' as const),
  name,
  address: fc.option(
    fc.constantFrom('10.0.0.9/24', '10.0.1.9/24', '10.0.0.8/8', 'fd00::9/64', 'fd01::9/64'),
    { nil: undefined },
  ),
  tunnel: fc.boolean(),
  gone: fc.boolean(),
});
const aBlock = fc.record({
  what: fc.constant('block' as const),
  range: fc.constantFrom(...RANGES),
  owner: fc.option(name),
  users: fc.array(fc.option(name), { maxLength: 4 }),
  gone: fc.boolean(),
});
const pools = fc.record({
  what: fc.constant('pools' as const),
  modes: fc.array(fc.constantFrom<Encapsulation>('Never', 'Always', 'CrossSubnet'), {
    minLength: 3,
    maxLength: 3,
  }),
});

test('whatever happens in whichever order: kept up by changes is the same as made from what there is', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(aNode, aBlock, pools), { maxLength: 40 }),
      fc.array(fc.boolean()),
      (steps, looks) => {
        const kept = new RouteTable('h1');
        const kernel = new Map<string, PeerHop>();
        const nodes = new Map<string, CalicoNode>();
        const blocks = new Map<string, RoutedBlock>();
        let known: { cidr: ReturnType<typeof cidr>; vxlanMode: Encapsulation }[] = [];
        const look = (): void => {
          for (const [destination, hop] of kept.takeChanges())
            if (hop) kernel.set(destination, hop);
            else kernel.delete(destination);
        };
        for (const [index, step] of steps.entries()) {
          if (step.what === 'node') {
            const tunnel = step.address?.includes(':') === true ? 'fd65::1' : '10.65.0.1';
            if (step.gone) nodes.delete(step.name);
            else
              nodes.set(
                step.name,
                node(step.name, step.address, step.address !== undefined && step.tunnel ? tunnel : undefined),
              );
            kept.setNode(step.name, nodes.get(step.name));
          } else if (step.what === 'block') {
            const base = step.range.replace(/[0-9]*\/.*$/, '');
            const last = Number(/([0-9]*)\//.exec(step.range)?.[1] ?? 0);
            const used = step.users.flatMap((user, at) =>
              user === null ? [] : [[`${base}${last + at}`, { node: user }] as const],
            );
            if (step.gone) blocks.delete(step.range);
            else blocks.set(step.range, block(step.range, step.owner, Object.fromEntries(used)));
            kept.setBlock(step.range, blocks.get(step.range));
          } else {
            const ranges = ['10.65.0.0/16', '10.66.0.0/16', 'fd65::/64'];
            known = ranges.map((text, at) => ({ cidr: cidr(text), vxlanMode: step.modes[at] ?? 'Never' }));
            kept.setPools(known);
          }
          if (looks[index] === true) look();
        }
        look();
        const fresh = new RouteTable('h1');
        for (const [key, value] of blocks) fresh.setBlock(key, value);
        fresh.setPools(known);
        for (const [key, value] of nodes) fresh.setNode(key, value);
        fresh.takeChanges();
        const sorted = (map: ReadonlyMap<string, unknown>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
        expect(sorted(kernel)).toEqual(sorted(fresh.routes));
        expect(sorted(kept.routes)).toEqual(sorted(fresh.routes));
        expect(sorted(kept.unreachable())).toEqual(sorted(fresh.unreachable()));
        // Nothing leads to this host, and every way goes by an address the peer's Node has.
        const own = nodes.get('h1');
        for (const [destination, { via, by }] of kernel) {
          const family = destination.includes(':') ? 6 : 4;
          const peer = [...nodes.values()].find(candidate =>
            by === 'vxlan'
              ? candidate.tunnels[family]?.address === via
              : candidate.addresses[family]?.address === via,
          );
          expect(peer).toBeDefined();
          expect(own?.addresses[family]).toBeDefined();
        }
      },
    ),
    { numRuns: 300 },
  );
});
