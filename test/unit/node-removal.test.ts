import { afterEach, expect, test } from 'vitest';
import {
  aliveKey,
  blockKey,
  endpointKey,
  handleKey,
  networkKey,
  resourceKey,
  resourcesPrefix,
} from '../../src/datastore/keys.js';
import { isHandleOf, isHeldByNode, nobodys } from '../../src/ipam/node-holdings.js';
import { NodeRemoval, whileGone } from '../../src/ipam/node-removal.js';
import { createBlock } from '../../src/ipam/block.js';
import { parseBlock } from '../../src/model/block.js';
import { formatNetworkRecord } from '../../src/model/network-record.js';
import { formatPresence } from '../../src/model/presence.js';
import { formatNewResource } from '../../src/model/resource.js';
import { endpointName, formatNewEndpoint } from '../../src/model/workload-endpoint.js';
import { endpointHandle } from '../../src/ipam/handles.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { addPool, address, audit, cidr, closeNodes, node, put } from './ipam-node.js';

afterEach(closeNodes);

/** Names that begin alike, with dashes and dots: what is one's must not be taken for another's. */
const DEAD = 'a.1';
const OTHERS = ['a', 'a.1.b', 'a.1-b'];

const endpointOf = (host: string, id: string, addresses: string[], mac: string) => ({
  node: host,
  endpointId: id,
  interfaceName: 'cali1',
  mac,
  addresses,
  profiles: [],
  networkId: `net-${host}`,
  labels: {},
  ports: [],
});

/** One host's share: addresses of all kinds, endpoints, networks. `index` keeps MACs apart. */
async function populate(store: MemoryStore, host: string, index: number): Promise<void> {
  const at = await node(store, host);
  const take = async (text: string, mac: string) => {
    const holder = {
      handle: (value: string) => endpointHandle(host, mac, value),
      secondary: { node: host },
    };
    await at.allocator.assignAddress(address(text), holder);
    const endpoint = endpointOf(host, `${mac.replaceAll(':', '')}`, [text], mac);
    const key = endpointKey(endpointName(host, endpoint.endpointId));
    await put(store, key, formatNewEndpoint(endpoint, new Date()));
  };
  // Its own block, one that all share, and one of a pool made for its network alone.
  await take(`10.0.${index}.1`, `02:00:00:00:0${index}:01`);
  await take(`10.0.${index}.2`, `02:00:00:00:0${index}:02`);
  await take(`10.0.9.${index + 1}`, `02:00:00:00:0${index}:03`);
  await at.pools.poolFor(cidr(`198.51.${index}.0/24`));
  await take(`198.51.${index}.5`, `02:00:00:00:0${index}:04`);
  await at.reserve('10.0.9.100'); // shared by all
  await at.reserve(`198.51.${index}.1`);
  const tunnel = {
    handle: () => `vxlan-tunnel-addr-${host}`,
    secondary: { node: host, type: 'vxlanTunnelAddress' },
  };
  await at.allocator.assignAddress(address(`10.0.${index}.60`), tunnel);
  const record = { id: `net-${host}`, node: host, created: '', internal: false, options: {}, rest: {} };
  await put(
    store,
    networkKey(record.id),
    formatNetworkRecord({ ...record, subnets: [{ cidr: `198.51.${index}.0/24` }] }),
  );
  await put(store, resourceKey('nodes', host), formatNewResource('Node', { name: host }, {}, new Date()));
  closeNodes();
}

async function population(hosts: readonly string[]): Promise<MemoryStore> {
  const store = new MemoryStore();
  await addPool(store, 'p', '10.0.0.0/16', { blockSize: 26 });
  // The shared block is nobody's own but the first one's.
  for (const [index, host] of ['first', DEAD, ...OTHERS].entries())
    if (hosts.includes(host)) await populate(store, host, index);
  return store;
}

async function removal(store: MemoryStore, dryRun = false, isGlobal = false): Promise<string[]> {
  const guarded = whileGone(store, DEAD);
  const { facts, pools } = await node(guarded, DEAD);
  const lines: string[] = [];
  const work = new NodeRemoval(guarded, facts, {
    node: DEAD,
    dryRun,
    isGlobal,
    removePool: (pool, isNeeded) => pools.removeIfUnused(pool.name, isNeeded),
    freed: text => lines.push(text),
    note: text => lines.push(`note: ${text}`),
  });
  try {
    await work.run();
  } finally {
    closeNodes();
  }
  return lines;
}

/** What the datastore says, without what differs from run to run by itself. */
function essence(store: MemoryStore): Record<string, unknown> {
  const entries = Object.entries(store.dump()).map(([key, value]): [string, unknown] => {
    const block = key.includes('/assignment/') ? parseBlock(value) : undefined;
    if (!block) return [key, JSON.parse(value, (name, part) => (name === 'uid' || name === 'creationTimestamp' ? '' : part))]; // prettier-ignore
    const holders = block.allocations.map(index => {
      const { request: _, ...secondary } = block.attributes[index ?? -1]?.secondary ?? {};
      return index === null ? null : { handle: block.attributes[index]?.handle_id, secondary };
    });
    return [key, { affinity: block.affinity, holders }];
  });
  return Object.fromEntries(entries.filter(([key]) => !key.endsWith('/pool-creation')));
}

const ALL = ['first', DEAD, ...OTHERS];

test('a host with endpoints of another orchestrator is refused before anything of it is gone', async () => {
  const store = await population(ALL);
  const pod = { name: `${DEAD}-k8s-pod-eth0`, namespace: 'default' };
  const spec = { node: DEAD, orchestrator: 'k8s' };
  const value = formatNewResource('WorkloadEndpoint', pod, spec, new Date());
  await put(store, `${resourcesPrefix('workloadendpoints')}default/${pod.name}`, value);
  const before = store.dump();
  await expect(removal(store)).rejects.toThrow('1 endpoints of another orchestrator');
  expect(store.dump()).toEqual(before);
});

test('all that a dead host held is freed, nothing of the others, and they may still free what is theirs', async () => {
  const store = await population(ALL);
  const before = audit(store);
  const stray = endpointHandle(DEAD, '02:00:00:00:00:ff', '10.0.0.99');
  await put(store, handleKey(stray), '{"block":{"10.0.0.64/26":1},"deleted":false}');
  const lines = await removal(store);
  const expected = await population(['first', ...OTHERS]);
  expect(essence(store)).toEqual(essence(expected));
  expect(audit(store)).toEqual(
    before.filter(
      text => !['10.0.1.1', '10.0.1.2', '10.0.1.60', '10.0.9.2', '198.51.1.5', '198.51.1.1'].includes(text),
    ),
  );
  expect(lines.filter(line => line.startsWith('address'))).toHaveLength(7);
  expect(lines.filter(line => line.startsWith('endpoint'))).toHaveLength(4);
  expect(lines).toEqual(
    expect.arrayContaining([
      'block 10.0.1.0/26 (deleted)',
      'handle libnetwork.a.1.0200000000ff.10.0.0.99',
      'network net-a.1',
      'IPPool docker-198-51-1-0-24 (198.51.1.0/24)',
      'Node resource a.1',
    ]),
  );
  expect(await removal(store)).toEqual([]);
  const b = await node(store, 'a.1.b');
  expect(await b.free('10.0.9.4')).toBe(true);
});

test('its block in which others have addresses stays for them, without owner, until they are done', async () => {
  const store = await population([DEAD]);
  const other = await node(store, 'b');
  await other.take('10.0.1.30');
  await removal(store);
  const block = parseBlock(store.dump()[blockKey(cidr('10.0.1.0/26'))] ?? '');
  expect(block).toMatchObject({ affinity: null, rest: {} });
  expect(block).not.toHaveProperty('affinityClaimTime');
  expect(audit(store)).toEqual(['10.0.1.30']);
  const another = await node(store, 'b');
  expect(await another.free('10.0.1.30')).toBe(true);
  expect(store.dump()[blockKey(cidr('10.0.1.0/26'))]).toBeUndefined();
});

test('a dry run says the same and writes nothing', async () => {
  const store = await population(ALL);
  const [before, writes] = [store.dump(), store.calls.transact];
  const lines = await removal(store, true);
  expect([store.dump(), store.calls.transact]).toEqual([before, writes]);
  const done = await removal(store);
  const bare = (line: string) => line.replace(/ \((its affinity|deleted|without owner)\)$/, '');
  expect(lines.map(bare).sort()).toEqual(done.map(bare).sort());
});

test('a live host is refused, with since when and what to do', async () => {
  const store = await population([DEAD]);
  await put(
    store,
    aliveKey(DEAD),
    formatPresence({ id: 'x', since: '2026-01-01T00:00:00.000Z', version: '1' }),
  );
  const before = store.dump();
  await expect(removal(store)).rejects.toThrow(
    /^host a\.1 is alive \(since 2026-01-01T00:00:00\.000Z\): remove its containers and stop its daemon first/,
  );
  expect(store.dump()).toEqual(before);
});

test('the networks of a global scope are all hosts’, whoever created them', async () => {
  const store = await population([DEAD]);
  await removal(store, false, true);
  expect(Object.keys(store.dump()).filter(key => key.includes('/networks/'))).toHaveLength(1);
});

/** How many transactions a whole run makes. */
async function transactions(): Promise<number> {
  const store = await population(ALL);
  const before = store.calls.transact;
  await removal(store);
  return store.calls.transact - before;
}

test('killed before or after any transaction and run again, it comes to the same end', async () => {
  const count = await transactions();
  expect(count).toBeGreaterThan(8);
  const expected = essence(await population(['first', ...OTHERS]));
  for (let at = 0; at < count; at += 1)
    for (const isApplied of [false, true]) {
      const store = await population(ALL);
      let left = at;
      store.before(async transaction => {
        if ((left -= 1) >= 0) return;
        if (isApplied) await store.transact(transaction);
        throw new Error('killed');
      });
      await expect(removal(store)).rejects.toThrow('killed');
      store.before(undefined);
      audit(store);
      await removal(store);
      expect(essence(store)).toEqual(expected);
    }
});

test('a host that comes alive in between stops it there', async () => {
  const count = await transactions();
  for (let at = 0; at < count; at += 1) {
    const store = await population(ALL);
    let left = at;
    let after: Record<string, string> = {};
    store.before(async () => {
      if ((left -= 1) >= 0 || aliveKey(DEAD) in store.dump()) return;
      await put(store, aliveKey(DEAD), formatPresence({ id: 'x', since: 'now', version: '1' }));
      after = store.dump();
    });
    await expect(removal(store)).rejects.toThrow('host a.1 is alive (since now)');
    expect(store.dump()).toEqual(after);
    audit(store);
  }
});

test('whose a handle and a holder are', () => {
  const handle = endpointHandle('a.1', '02:00:00:00:00:01', '10.0.0.1');
  expect(['a.1', 'a', 'a.1.020000000001', '1'].map(name => isHandleOf(name, handle))).toEqual([true, false, false, false]); // prettier-ignore
  expect(isHandleOf('a', 'ipip-tunnel-addr-a')).toBe(true);
  expect(isHandleOf('a', 'ipip-tunnel-addr-a.1')).toBe(false);
  expect(isHandleOf('gateway', 'libnetwork.gateway.10.0.0.1')).toBe(false);
  expect(isHeldByNode({ handle_id: handle }, 'a.1')).toBe(true);
  expect(isHeldByNode({ handle_id: handle, secondary: { node: 'b' } }, 'a.1')).toBe(false);
  expect(isHeldByNode({ handle_id: 'k8s.pod', secondary: { node: 'a.1' } }, 'a.1')).toBe(true);
  expect(isHeldByNode({ releasedAt: '2026-01-01T00:00:00Z' }, 'a.1')).toBe(false);
  expect(isHeldByNode({}, 'a.1')).toBe(false);
  const block = { ...createBlock(cidr('10.0.0.0/30'), 'a.1', new Date()), attributes: [{}], allocations: [0, 0, null, null] }; // prettier-ignore
  expect([nobodys(block, 'a.1'), nobodys(block, 'b')]).toEqual([2, 0]);
});
