import { afterEach, expect, test } from 'vitest';
import {
  affinityKey,
  blockKey,
  endpointKey,
  handleKey,
  IPAM_CONFIG_KEY,
  networkKey,
  resourceKey,
} from '../../src/datastore/keys.js';
import { checkDatastore } from '../../src/ipam/check-datastore.js';
import { createBlock, goTime } from '../../src/ipam/block.js';
import type { Block } from '../../src/model/block.js';
import { formatAffinity, formatBlock, formatHandle } from '../../src/model/block.js';
import { cidrOf, formatCidr } from '../../src/ipam/cidr.js';
import { addPool, address, cidr, closeNodes, put, remove } from './ipam-node.js';
import { changeBlock, changeJson, keyOfBlock, LONG_AGO, sound } from './sound-datastore.js';
import type { Damage, Hosts } from './sound-datastore.js';

afterEach(closeNodes);

const check = (hosts: Hosts, fix = false, grace = 60_000) =>
  checkDatastore(hosts.store, { fix, grace, settle: 0 });

test('what the allocator leaves has no findings, and nothing is written', async () => {
  const { hosts } = await sound();
  const before = hosts.store.dump();
  expect(await check(hosts, true)).toEqual({
    blocks: 4,
    inUse: 5,
    inProgress: 0,
    findings: [],
    repaired: [],
  });
  expect(hosts.store.dump()).toEqual(before);
});

const foreignBlock = (range: string, node = 'node.2') =>
  formatBlock(createBlock(cidr(range), node, new Date()));

/** A block of `node.2` with its affinity. */
async function addBlock(hosts: Hosts, range: string, change: (block: Block) => Block = block => block) {
  const block = change(createBlock(cidr(range), 'node.2', new Date()));
  await put(hosts.store, blockKey(cidr(range)), formatBlock(block));
  await put(hosts.store, affinityKey('node.2', cidr(range)), formatAffinity('confirmed'));
}

/** What is only reported. */
const REPORTED: [string, Damage, string[], RegExp][] = [
  ...(
    [
      ['block', blockKey(cidr('192.0.2.240/28'))],
      ['block', '/calico/ipam/v2/assignment/ipv4/block/nonsense'],
      ['affinity', '/calico/ipam/v2/host/node-1/ipv6/block/192.0.2.240-28'],
      ['affinity', affinityKey('node-1', cidr('192.0.2.240/28'))],
      ['handle', handleKey('x')],
      ['IPPool', resourceKey('ippools', 'x')],
      ['endpoint', endpointKey('x')],
      ['network record', networkKey('x')],
      ['IPAM configuration', IPAM_CONFIG_KEY],
    ] as const
  ).map(([what, key]): [string, Damage, string[], RegExp] => [
    `garbage at ${key}`,
    ({ hosts }) => put(hosts.store, key, '{"'),
    ['unreadable'],
    new RegExp(`holds no ${what} that can be read`),
  ]),
  [
    'the garbage of a block that others refer to',
    ({ hosts, one }) => put(hosts.store, keyOfBlock(one), 'garbage'),
    ['unreadable'],
    /holds no block/,
  ],
  [
    'the garbage of a handle that has an allocation',
    ({ hosts, one }) => put(hosts.store, handleKey(one.handle), '[]'),
    ['unreadable'],
    /holds no handle/,
  ],
  [
    'a block at the key of another',
    ({ hosts }) => put(hosts.store, blockKey(cidr('192.0.2.224/28')), foreignBlock('192.0.2.240/28')),
    ['key-mismatch'],
    /holds block 192.0.2.240\/28/,
  ],
  [
    'a pool at the key of another',
    async ({ hosts }) => {
      await addPool(hosts.store, 'other', '198.51.100.0/24');
      const { value = '' } = (await hosts.store.get(resourceKey('ippools', 'other'))) ?? {};
      await remove(hosts.store, resourceKey('ippools', 'other'));
      await put(hosts.store, resourceKey('ippools', 'another'), value);
    },
    ['key-mismatch'],
    /holds IPPool other/,
  ],
  [
    'a network at the key of another',
    async ({ hosts }) => {
      const { value = '' } = (await hosts.store.get(networkKey(hosts.networks[0]?.id ?? ''))) ?? {};
      await put(hosts.store, networkKey('x'), value);
    },
    ['key-mismatch'],
    /holds the record of network/,
  ],
  [
    'an endpoint at the key of another',
    async ({ hosts, one }) => {
      const { value = '' } = (await hosts.store.get(one.endpoint)) ?? {};
      await put(hosts.store, `${one.endpoint}x`, value);
    },
    ['key-mismatch'],
    /holds endpoint/,
  ],
  [
    'a block of another size than its pool says',
    ({ hosts }) => addBlock(hosts, '192.0.2.240/29'),
    ['block-size'],
    /not the size that IPPool pool gives its blocks \(\/28\)/,
  ],
  [
    'a block in no pool',
    ({ hosts }) => addBlock(hosts, '198.51.100.0/26'),
    ['block-pool'],
    /lies in no IPPool/,
  ],
  [
    'blocks that overlap, with an address in use in both',
    async ({ hosts, one }) => {
      await addBlock(hosts, formatCidr(cidrOf(address(one.address), 27)), block => ({
        ...block,
        allocations: block.allocations.map((_, at) =>
          at === Number(address(one.address).value & 31n) ? 0 : null,
        ),
        unallocated: block.unallocated.filter(at => at !== Number(address(one.address).value & 31n)),
        attributes: [{}],
      }));
    },
    ['address-twice', 'block-size', 'overlap'],
    /./,
  ],
  [
    'pools that overlap',
    ({ hosts }) => addPool(hosts.store, 'part', '192.0.2.128/25', { blockSize: 28 }),
    ['overlap'],
    /IPPools pool .* and part .* overlap/,
  ],
  [
    'an ordinal in use that refers to no attribute',
    ({ hosts, one }) =>
      changeBlock(hosts, one, block => ({
        ...block,
        allocations: block.allocations.map((index, at) => (at === block.unallocated[0] ? 9 : index)),
        unallocated: block.unallocated.slice(1),
      })),
    ['block-content'],
    /refers to no attribute; nothing tells/,
  ],
  [
    'an allocation of ours without endpoint',
    ({ hosts, one }) => remove(hosts.store, one.endpoint),
    ['allocation-unowned'],
    /the daemon of node node-1 frees it .*: calico-libnetwork node remove node-1/,
  ],
  [
    'a reservation without network',
    ({ hosts }) => remove(hosts.store, networkKey(hosts.networks.at(-1)?.id ?? '')),
    ['reservation-unowned'],
    /192.0.2.200 is kept back \(gateway\) .* node remove node-1/,
  ],
  [
    'a reservation of another node than the network’s',
    async ({ hosts }) => {
      const { id = '' } = hosts.networks.at(-1) ?? {};
      const { value = '' } = (await hosts.store.get(networkKey(id))) ?? {};
      await put(hosts.store, networkKey(id), value.replace('node-1', 'node-3'));
    },
    ['reservation-unowned'],
    /on node-1:/,
  ],
  [
    'an endpoint whose address is free',
    async ({ hosts, one }) => {
      await hosts.of('node-1').free(one.address);
    },
    ['endpoint-address'],
    /which is free: remove and start its container on node node-1/,
  ],
  [
    'an endpoint of another node than its allocation',
    ({ hosts, one }) =>
      changeJson(hosts, one.endpoint, value => ({
        ...value,
        spec: { ...value.spec, mac: '02:42:00:00:00:00' },
      })),
    ['allocation-unowned', 'endpoint-address'],
    /./,
  ],
  [
    'two endpoints with one address',
    ({ hosts, one, two }) =>
      changeJson(hosts, two.endpoint, value => ({
        ...value,
        spec: { ...value.spec, ipNetworks: [`${one.address}/32`] },
      })),
    ['address-twice', 'allocation-unowned', 'endpoint-address'],
    /./,
  ],
  [
    'an endpoint of no network',
    ({ hosts }) => remove(hosts.store, networkKey(hosts.networks[1]?.id ?? '')),
    ['endpoint-network'],
    /which has no record/,
  ],
  [
    'an address allocated to the handle of another',
    async ({ hosts, one, two }) => {
      await changeBlock(hosts, one, block => ({
        ...block,
        attributes: block.attributes.map(attribute =>
          attribute.handle_id === one.handle
            ? { ...attribute, handle_id: one.handle.replace(one.address, '192.0.2.99') }
            : attribute,
        ),
      }));
      await remove(hosts.store, handleKey(one.handle));
      await put(
        hosts.store,
        handleKey(one.handle.replace(one.address, '192.0.2.99')),
        formatHandle({ [formatCidr(cidrOf(address(two.address), 28))]: 1 }),
      );
    },
    ['endpoint-address', 'handle-address'],
    /./,
  ],
  [
    'a wrong count of a handle that is not ours',
    ({ hosts }) => put(hosts.store, handleKey('k8s-pod-network.x'), formatHandle({ '192.0.2.0/28': 1 })),
    ['handle-unused'],
    /not ours to correct/,
  ],
];

test.each(REPORTED)('%s: reported, and left alone', async (_name, damage, kinds, text) => {
  const parts = await sound();
  await damage(parts);
  const before = parts.hosts.store.dump();
  const { findings, repaired } = await check(parts.hosts, true);
  expect(findings.map(({ kind }) => kind).sort()).toEqual(kinds);
  expect(findings[0]?.text).toMatch(text);
  expect(findings.every(({ keys }) => keys.length > 0)).toBe(true);
  expect(repaired).toEqual([]);
  expect(parts.hosts.store.dump()).toEqual(before);
});

test('what has just begun is in progress and no finding', async () => {
  const { hosts } = await sound();
  const now = `${goTime(new Date()).replace('T', ' ').replace('Z', '')}.123456 +0000 UTC`;
  const holder = (mac: string, timestamp: string) => ({
    handle: (given: string) => `libnetwork.node-1.${mac}.${given}`,
    secondary: { node: 'node-1', timestamp },
  });
  const { allocator } = hosts.of('node-1');
  await allocator.assign({ family: 4, holder: holder('0242000000f1', now) });
  await hosts
    .of('node.2')
    .allocator.reserve(address('192.0.2.201'), 'aux', { node: 'node.2', timestamp: now });
  expect(await check(hosts)).toMatchObject({ inUse: 7, inProgress: 2, findings: [] });
  expect((await check(hosts, false, 0)).findings.map(({ kind }) => kind)).toEqual([
    'allocation-unowned',
    'reservation-unowned',
  ]);
  await allocator.assign({ family: 4, holder: holder('0242000000f2', LONG_AGO) });
  expect((await check(hosts)).findings.map(({ kind }) => kind)).toEqual(['allocation-unowned']);
});

test('allocations of others are owned: tunnels, other orchestrators, none named, drivers before us', async () => {
  const { hosts } = await sound();
  const { allocator } = hosts.of('node-1');
  for (const id of ['vxlan-tunnel-addr-node-1', 'k8s-pod-network.0123', 'libnetwork.9f2c1a77d0b3e4f5'])
    await allocator.assign({ family: 4, holder: { handle: () => id, secondary: { node: 'node-1' } } });
  await addBlock(hosts, '192.0.2.240/28', block => ({
    ...block,
    allocations: block.allocations.map((_, at) => (at < 2 ? 0 : null)),
    unallocated: block.unallocated.filter(at => at > 1),
    attributes: [{}],
  }));
  const old = {
    metadata: { name: 'node--1-libnetwork-libnetwork-aa', namespace: 'libnetwork' },
    spec: { orchestrator: 'libnetwork', node: 'node-1', endpoint: 'aa', interfaceName: 'caliaa', ipNetworks: ['192.0.2.241/32'] }, // prettier-ignore
  };
  await put(hosts.store, endpointKey(old.metadata.name), JSON.stringify(old));
  expect(await check(hosts)).toMatchObject({ blocks: 5, inUse: 10, findings: [] });
});

test('what is gone when looked at again is no finding', async () => {
  const { hosts, one } = await sound();
  const { value = '' } = (await hosts.store.get(handleKey(one.handle))) ?? {};
  await remove(hosts.store, handleKey(one.handle));
  let listings = 0;
  const result = await checkDatastore(hosts.store, {
    fix: false,
    settle: 0,
    // Between the two listings the other writer finishes.
    progress: () => void ((listings += 1) === 8 && put(hosts.store, handleKey(one.handle), value)),
  });
  expect(result.findings).toEqual([]);
  expect(listings).toBeGreaterThan(8);
});
