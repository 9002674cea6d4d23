import { afterEach, expect, test } from 'vitest';
import { NodeWriter } from '../../src/agent/node-writer.js';
import { mirrorOfNodes } from '../../src/agent/other-hosts.js';
import { TunnelAddresses } from '../../src/agent/tunnel-addresses.js';
import { blockKey, handleKey, IPAM_CONFIG_KEY, resourceKey } from '../../src/datastore/keys.js';
import { Allocator } from '../../src/ipam/allocator.js';
import { createBlock } from '../../src/ipam/block.js';
import { parseAddress } from '../../src/ipam/cidr.js';
import { IpamFacts } from '../../src/ipam/facts.js';
import { PoolLifecycle } from '../../src/ipam/pool-lifecycle.js';
import { createLogger } from '../../src/log.js';
import { formatBlock } from '../../src/model/block.js';
import { formatNewPool } from '../../src/model/ip-pool.js';
import type { Encapsulation } from '../../src/model/ip-pool.js';
import { formatNewNode, parseNode } from '../../src/model/node.js';
import { tunnelEnds } from '../../src/routing/tunnel-ends.js';
import { poll } from '../bed/poll.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { cidr } from './ipam-node.js';

const NOW = new Date('2026-08-22T10:00:01Z');
const quiet = createLogger('silent');
const KEY = resourceKey('nodes', 'h1');
const HANDLE = handleKey('vxlan-tunnel-addr-h1');
const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach(part => part.close()));

async function put(store: MemoryStore, key: string, value: string): Promise<void> {
  await store.transact({ compare: [], then: [{ put: key, value }] });
}
function putPool(
  store: MemoryStore,
  range: string,
  vxlanMode: Encapsulation,
  name = 'p',
  madeForDocker = false,
) {
  const pool = { name, cidr: cidr(range), vxlanMode, natOutgoing: false, madeForDocker };
  return put(store, resourceKey('ippools', name), formatNewPool(pool, NOW));
}
const putNode = (store: MemoryStore) =>
  put(store, KEY, formatNewNode('h1', { addresses: { 4: '10.0.0.1/24' } }, NOW));
const tunnel = (store: MemoryStore) => parseNode(store.dump()[KEY] ?? '')?.tunnels[4];

/** A daemon of node h1, as far as this goes. */
function daemon(store: MemoryStore) {
  const facts = new IpamFacts(store, 'h1', quiet);
  const nodes = mirrorOfNodes(store, quiet);
  const allocator = new Allocator(store, facts, { isGlobal: false, isRouted: () => false }, quiet);
  const writer = new NodeWriter(store, 'h1', nodes);
  const tunnels = new TunnelAddresses({
    ...{ store, node: 'h1', facts, allocator, writer, log: quiet },
    onNodeChange: changed => nodes.onEntries(() => changed()),
  });
  open.push(tunnels, nodes, facts);
  tunnels.start();
  const pools = new PoolLifecycle(
    store,
    facts,
    { autoPools: true, vxlanMode: 'Never' },
    async () => [],
    quiet,
  );
  return { allocator, pools, facts, end: () => [tunnels, nodes, facts].forEach(part => part.close()) };
}
const published = (store: MemoryStore) =>
  poll('a tunnel address', 2_000, () => (HANDLE in store.dump() ? tunnel(store)?.address : undefined));
const gone = (store: MemoryStore) =>
  poll('no tunnel address', 2_000, () => !tunnel(store) && !(HANDLE in store.dump()));

test('an address is allocated as Calico does, published, kept over restarts, and freed when no pool wants it', async () => {
  const store = new MemoryStore();
  await putPool(store, '10.65.0.0/16', 'CrossSubnet');
  await putNode(store);
  const first = daemon(store);
  const address = await published(store);
  expect(tunnel(store)?.mac).toMatch(/^66(:[0-9a-f]{2}){5}$/);
  const parsed = parseAddress(address);
  if (!parsed) throw new Error(address);
  expect(await first.allocator.holder(parsed)).toMatchObject({
    handle_id: 'vxlan-tunnel-addr-h1',
    secondary: { node: 'h1', type: 'vxlanTunnelAddress' },
  });
  first.end();
  daemon(store);
  await new Promise(resolve => setTimeout(resolve, 50));
  expect(tunnel(store)?.address).toBe(address);
  expect(Object.keys(store.dump()).filter(key => key.includes('/handle/'))).toEqual([HANDLE]);
  // A Node that somebody made anew gets the same address.
  await putNode(store);
  expect(await published(store)).toBe(address);
  await putPool(store, '10.65.0.0/16', 'Never');
  await gone(store);
});

test('without a pool that wants it nothing is written, and what others published stays', async () => {
  const store = new MemoryStore();
  await putPool(store, '10.65.0.0/16', 'Never');
  const theirs = {
    addresses: { 4: '10.0.0.1/24' },
    tunnels: { 4: { address: '10.66.0.1', mac: '66:00:00:00:00:09' } },
  };
  await put(store, KEY, formatNewNode('h1', theirs, NOW));
  daemon(store);
  await new Promise(resolve => setTimeout(resolve, 100));
  expect(store.calls.transact).toBe(2);
  expect(tunnel(store)?.address).toBe('10.66.0.1');
});

test('a pool of a network can still go: its tunnel addresses leave it first', async () => {
  const store = new MemoryStore();
  await putPool(store, '10.65.0.0/24', 'Always', 'docker-10-65-0-0-24', true);
  await putNode(store);
  const { pools, facts } = daemon(store);
  await facts.whenRead();
  expect(await published(store)).toMatch(/^10\.65\.0\./);
  expect(await pools.removeIfUnused('docker-10-65-0-0-24', async () => false)).toBe(true);
  await gone(store);
  expect(Object.keys(store.dump()).filter(key => /ippools|block/.test(key))).toEqual([]);
});

test('a lasting pool is preferred to one of a network', async () => {
  const store = new MemoryStore();
  await putPool(store, '10.65.0.0/24', 'Always', 'docker-10-65-0-0-24', true);
  await putPool(store, '10.66.0.0/16', 'Always', 'zzz');
  await putNode(store);
  daemon(store);
  expect(await published(store)).toMatch(/^10\.66\./);
});

test('the ends of the tunnel are those of all hosts that have one', () => {
  const node = (name: string, more: object) => {
    const parsed = parseNode(formatNewNode(name, more, NOW));
    if (!parsed) throw new Error(name);
    return parsed;
  };
  const end = (n: number) => ({ address: `10.65.0.${n}`, mac: `66:00:00:00:00:0${n}` });
  const own = node('h1', { addresses: { 4: '10.0.0.1/24' }, tunnels: { 4: end(1) } });
  const nodes = [
    own,
    node('h2', { addresses: { 4: '10.0.0.2/24' }, tunnels: { 4: end(2) } }),
    node('h3', { addresses: { 4: '10.0.0.3/24' } }),
    node('h4', { tunnels: { 4: end(4) } }),
  ];
  const pools = [{ cidr: cidr('10.65.0.0/16'), vxlanMode: 'CrossSubnet' }] as const;
  expect(tunnelEnds(own, nodes, pools, 4)).toEqual({
    own: { ...end(1), host: '10.0.0.1' },
    others: [{ ...end(2), host: '10.0.0.2' }],
  });
  expect(tunnelEnds(own, nodes, pools, 6)).toBe('none');
  expect(tunnelEnds(nodes[2], nodes, pools, 4)).toBe('later');
  expect(tunnelEnds(undefined, nodes, pools, 4)).toBe('later');
});

test('pools of one family that are full do not keep the other from its tunnel', async () => {
  const store = new MemoryStore();
  await putPool(store, '10.65.0.0/26', 'Always');
  await putPool(store, 'fd65::/112', 'Always', 'p6');
  await putNode(store);
  // Its one block is another's, who does not lend.
  const block = createBlock(cidr('10.65.0.0/26'), 'h2', NOW);
  await put(store, blockKey(cidr('10.65.0.0/26')), formatBlock(block));
  await put(store, IPAM_CONFIG_KEY, '{"strict_affinity":true,"auto_allocate_blocks":true}');
  daemon(store);
  const address = () => parseNode(store.dump()[KEY] ?? '')?.tunnels[6]?.address;
  expect(await poll('an IPv6 tunnel address', 2_000, address)).toMatch(/^fd65::/);
  expect(tunnel(store)).toBeUndefined();
});
