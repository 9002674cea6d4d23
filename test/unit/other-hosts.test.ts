import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { OtherHosts, mirrorOfNodes } from '../../src/agent/other-hosts.js';
import { blockKey, resourceKey } from '../../src/datastore/keys.js';
import { IpamFacts } from '../../src/ipam/facts.js';
import { createBlock } from '../../src/ipam/block.js';
import { formatBlock } from '../../src/model/block.js';
import { formatNewPool } from '../../src/model/ip-pool.js';
import type { Encapsulation } from '../../src/model/ip-pool.js';
import { formatNewNode } from '../../src/model/node.js';
import { poll } from '../bed/poll.js';
import { FakePeers } from '../fakes/dataplane.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { cidr } from './ipam-node.js';

const NOW = new Date('2026-08-22T10:00:01Z');
const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach(part => part.close()));

async function put(store: MemoryStore, key: string, value: string): Promise<void> {
  await store.transact({ compare: [], then: [{ put: key, value }] });
}
const putNode = (store: MemoryStore, name: string, address: string) =>
  put(store, resourceKey('nodes', name), formatNewNode(name, { addresses: { 4: address } }, NOW));
const putBlock = (store: MemoryStore, range: string, owner: string) =>
  put(store, blockKey(cidr(range)), formatBlock(createBlock(cidr(range), owner, NOW)));
const putPool = (store: MemoryStore, vxlanMode: Encapsulation) => {
  const pool = { name: 'p', cidr: cidr('10.65.0.0/16'), vxlanMode, natOutgoing: false, madeForDocker: false };
  return put(store, resourceKey('ippools', 'p'), formatNewPool(pool, NOW));
};

/** Host h1, following a store; what it was told to route, and what it logged. */
function following(store: MemoryStore, prepare: (peers: FakePeers) => void = () => undefined) {
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
  const peers = new FakePeers();
  prepare(peers);
  const facts = new IpamFacts(store, 'h1', log);
  const nodes = mirrorOfNodes(store, log);
  const others = new OtherHosts(store, { node: 'h1', pools: facts.pools, nodes, peers, log });
  open.push(others, nodes, facts);
  others.start();
  const routed = () => [...peers.routes].map(([destination, { via }]) => `${destination} ${via}`).sort();
  const become = (...expected: string[]) =>
    poll(`routes ${expected.join()}`, 3_000, () => routed().join() === expected.join());
  return { peers, lines, routed, become };
}

test('routes follow the datastore, and stay while it is away', async () => {
  const store = new MemoryStore();
  await putNode(store, 'h1', '10.0.0.1/24');
  await putBlock(store, '10.65.0.64/26', 'h2');
  const { become, routed } = following(store);
  await putNode(store, 'h2', '10.0.0.2/24');
  await become('10.65.0.64/26 10.0.0.2');
  const { again } = store.interruptWatches();
  await putBlock(store, '10.65.0.128/26', 'h2');
  await new Promise(resolve => setTimeout(resolve, 50));
  expect(routed()).toEqual(['10.65.0.64/26 10.0.0.2']);
  await store.transact({ compare: [], then: [{ delete: blockKey(cidr('10.65.0.64/26')) }] });
  again();
  await become('10.65.0.128/26 10.0.0.2');
  await store.transact({ compare: [], then: [{ delete: resourceKey('nodes', 'h2') }] });
  await become();
});

test('routes of a daemon before stay until this host is registered', async () => {
  const store = new MemoryStore();
  await putNode(store, 'h2', '10.0.0.2/24');
  await putBlock(store, '10.65.0.64/26', 'h2');
  const { peers, become, routed } = following(store);
  peers.routes.set('10.65.0.64/26', { via: '10.0.0.2', by: 'underlay' });
  peers.routes.set('10.65.9.0/26', { via: '10.0.0.9', by: 'underlay' });
  await new Promise(resolve => setTimeout(resolve, 50));
  expect(routed()).toHaveLength(2);
  await putNode(store, 'h1', '10.0.0.1/24');
  await become('10.65.0.64/26 10.0.0.2');
  // Deleted, it is registered again: no reason to take routes away.
  await store.transact({ compare: [], then: [{ delete: resourceKey('nodes', 'h1') }] });
  await new Promise(resolve => setTimeout(resolve, 50));
  expect(routed()).toHaveLength(1);
});

test('a daemon that starts again takes no route away that is to stay', async () => {
  const store = new MemoryStore();
  await putNode(store, 'h1', '10.0.0.1/24');
  await putNode(store, 'h2', '10.0.0.2/24');
  for (let n = 0; n < 20; n += 1) await putBlock(store, `10.65.${n}.0/26`, 'h2');
  const seen: number[] = [];
  const { peers } = following(store, made => {
    const routeAll = made.routeAll.bind(made);
    made.routeAll = async routes => {
      seen.push(routes.size);
      await routeAll(routes);
    };
  });
  await poll('routes', 3_000, () => peers.routes.size === 20);
  expect(seen).toEqual([20]);
});

test('a failure of the kernel is made up for by comparing everything', async () => {
  const store = new MemoryStore();
  await putNode(store, 'h1', '10.0.0.1/24');
  await putNode(store, 'h2', '10.0.0.2/24');
  const { peers, become } = following(store);
  await putBlock(store, '10.65.0.64/26', 'h2');
  await become('10.65.0.64/26 10.0.0.2');
  const route = peers.route.bind(peers);
  peers.route = async () => {
    peers.route = route;
    throw new Error('injected');
  };
  await putBlock(store, '10.65.0.128/26', 'h2');
  await become('10.65.0.128/26 10.0.0.2', '10.65.0.64/26 10.0.0.2');
});

test('a tunnel that cannot be made costs no comparison of all routes, and does not hide who is out of reach', async () => {
  const store = new MemoryStore();
  const tunnels = { 4: { address: '10.65.0.0', mac: '66:00:00:00:00:01' } };
  const own = formatNewNode('h1', { addresses: { 4: '10.0.0.1/24' }, tunnels }, NOW);
  await put(store, resourceKey('nodes', 'h1'), own);
  await putNode(store, 'h2', '10.0.0.2/24');
  await putNode(store, 'far', '10.9.0.1/24');
  await putBlock(store, '10.65.64.0/26', 'far');
  await putPool(store, 'CrossSubnet');
  let [whole, isBroken] = [0, true];
  const { peers, lines, become } = following(store, made => {
    const [routeAll, tunnel] = [made.routeAll.bind(made), made.tunnel.bind(made)];
    made.routeAll = routes => ((whole += 1), routeAll(routes));
    made.tunnel = async (...args) => {
      if (isBroken && args[1]) throw new Error('injected');
      await tunnel(...args);
    };
  });
  await putBlock(store, '10.65.0.64/26', 'h2');
  await become('10.65.0.64/26 10.0.0.2');
  await putBlock(store, '10.65.0.128/26', 'h2');
  await become('10.65.0.128/26 10.0.0.2', '10.65.0.64/26 10.0.0.2');
  expect(whole).toBe(1);
  await poll('who is out of reach', 3_000, () => lines.some(line => line.includes('"peer":"far"')));
  isBroken = false;
  await poll('the tunnel', 5_000, () => peers.tunnels.get(4));
});

test('each host out of reach is named once, again when the reason changes, and when it is over', async () => {
  const store = new MemoryStore();
  await putNode(store, 'h1', '10.0.0.1/24');
  await putNode(store, 'far', '10.9.0.1/24');
  await putBlock(store, '10.65.0.64/26', 'far');
  await putBlock(store, '10.65.0.128/26', 'far');
  const { lines } = following(store);
  const naming = () => lines.filter(line => line.includes('cannot be reached'));
  await poll('one line', 3_000, () => naming().length > 0);
  expect(naming()).toHaveLength(1);
  expect(naming()[0]).toMatch(/"peer":"far".*CrossSubnet/);
  await putPool(store, 'Always');
  await poll('another reason', 3_000, () => naming().length > 1);
  expect(naming()[1]).toContain('tunnel');
  await putPool(store, 'Never');
  await putNode(store, 'far', '10.0.0.9/24');
  await poll('the end', 3_000, () => lines.some(line => line.includes('no longer out of reach')));
});
