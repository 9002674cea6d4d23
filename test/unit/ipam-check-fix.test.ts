import { afterEach, expect, test } from 'vitest';
import { affinityKey, handleKey } from '../../src/datastore/keys.js';
import { checkDatastore } from '../../src/ipam/check-datastore.js';
import { formatAffinity, formatHandle, parseBlock } from '../../src/model/block.js';
import { cidrOf, formatCidr } from '../../src/ipam/cidr.js';
import { address, cidr, closeNodes, put, remove } from './ipam-node.js';
import { changeBlock, inUse, keyOfBlock, ordinal, sound } from './sound-datastore.js';
import type { Damage, Hosts } from './sound-datastore.js';

afterEach(closeNodes);

const check = (hosts: Hosts, fix = false) => checkDatastore(hosts.store, { fix, settle: 0 });

/** What `--fix` repairs: the damage, what is found, and a word of its sentence. */
const REPAIRABLE: [string, Damage, string[], RegExp][] = [
  [
    'a free ordinal that is not in the free list',
    ({ hosts, one }) =>
      changeBlock(hosts, one, block => ({ ...block, unallocated: block.unallocated.slice(1) })),
    ['block-content'],
    /ordinal \d+ is free and 0 times in the free list/,
  ],
  [
    'an ordinal twice in the free list',
    ({ hosts, one }) =>
      changeBlock(hosts, one, block => ({
        ...block,
        unallocated: [...block.unallocated, ...block.unallocated],
      })),
    ['block-content'],
    /2 times in the free list, .* and 11 more/,
  ],
  [
    'an ordinal in use in the free list',
    ({ hosts, one }) =>
      changeBlock(hosts, one, block => ({ ...block, unallocated: [ordinal(one), ...block.unallocated] })),
    ['block-content'],
    /is in use and in the free list/,
  ],
  [
    'an attribute nobody refers to',
    ({ hosts, one }) =>
      changeBlock(hosts, one, block => ({
        ...block,
        attributes: [{ handle_id: 'gone' }, ...block.attributes],
        allocations: block.allocations.map(index => (index === null ? null : index + 1)),
      })),
    ['block-content'],
    /attribute 0 is not referred to/,
  ],
  [
    'a sequence number of a free ordinal',
    ({ hosts, one }) =>
      changeBlock(hosts, one, block => ({
        ...block,
        sequenceNumbers: new Map([...block.sequenceNumbers, [block.unallocated[0] ?? 0, 7n]]),
      })),
    ['block-content'],
    /free ordinal \d+ has a sequence number/,
  ],
  [
    'an affinity without its block',
    ({ hosts }) => put(hosts.store, affinityKey('node-1', cidr('192.0.2.240/28')), formatAffinity('pending')),
    ['affinity-stale'],
    /which does not exist/,
  ],
  [
    'an affinity to the block of another',
    ({ hosts, one }) =>
      put(hosts.store, affinityKey('node.2', cidrOf(address(one.address), 28)), formatAffinity('confirmed')),
    ['affinity-stale'],
    /node.2 .* which is of host:node-1/,
  ],
  [
    'an affinity to a block that is nobody’s',
    ({ hosts, one }) => changeBlock(hosts, one, block => ({ ...block, affinity: null })),
    ['affinity-stale'],
    /which is nobody's/,
  ],
  [
    'a block without its affinity',
    ({ hosts, one }) => remove(hosts.store, affinityKey('node-1', cidrOf(address(one.address), 28))),
    ['affinity-unconfirmed'],
    /its affinity is missing/,
  ],
  ...(['pending', 'pendingDeletion'] as const).map((state): [string, Damage, string[], RegExp] => [
    `an affinity that is ${state}`,
    ({ hosts, one }) =>
      put(hosts.store, affinityKey('node-1', cidrOf(address(one.address), 28)), formatAffinity(state)),
    ['affinity-unconfirmed'],
    new RegExp(`its affinity is ${state}`),
  ]),
  [
    'a handle that is missing',
    ({ hosts, one }) => remove(hosts.store, handleKey(one.handle)),
    ['handle-count'],
    /is missing, though/,
  ],
  [
    'a handle that counts too many',
    ({ hosts, one }) =>
      put(
        hosts.store,
        handleKey(one.handle),
        formatHandle({ [formatCidr(cidrOf(address(one.address), 28))]: 2 }),
      ),
    ['handle-count'],
    /counts 2 in block .* which has 1/,
  ],
  [
    'a handle that counts in a block that does not exist, too',
    ({ hosts, one }) =>
      put(
        hosts.store,
        handleKey(one.handle),
        formatHandle({ [formatCidr(cidrOf(address(one.address), 28))]: 1, '192.0.2.240/28': 1 }),
      ),
    ['handle-count'],
    /counts 1 in block 192.0.2.240\/28, which has 0/,
  ],
  [
    'a handle of no allocation',
    ({ hosts }) =>
      put(
        hosts.store,
        handleKey('libnetwork.node-1.024200000000.192.0.2.9'),
        formatHandle({ '192.0.2.0/28': 1 }),
      ),
    ['handle-unused'],
    /no address is allocated to handle/,
  ],
  [
    'a handle that counts nothing',
    ({ hosts }) => put(hosts.store, handleKey('libnetwork.gateway.192.0.2.9'), formatHandle({})),
    ['handle-unused'],
    /no address is allocated/,
  ],
];

test.each(REPAIRABLE)(
  '%s: found, and repaired without freeing anything',
  async (_name, damage, kinds, text) => {
    const parts = await sound();
    await damage(parts);
    const used = inUse(parts.hosts.store);
    const found = await check(parts.hosts);
    expect(found.findings.map(({ kind }) => kind)).toEqual(kinds);
    expect(found.findings[0]?.text).toMatch(text);
    expect(inUse(parts.hosts.store)).toEqual(used);
    const { findings, repaired } = await check(parts.hosts, true);
    expect(findings).toEqual([]);
    expect(repaired.map(({ kind }) => kind)).toEqual(kinds);
    expect(inUse(parts.hosts.store)).toEqual(used);
    expect((await check(parts.hosts)).findings).toEqual([]);
  },
);

test('a repair of what changed meanwhile is not made', async () => {
  const { hosts, one } = await sound();
  await remove(hosts.store, handleKey(one.handle));
  hosts.store.before(async transaction => {
    // Somebody frees the address at the moment of the repair.
    hosts.store.before(undefined);
    expect(transaction.then).toEqual([{ put: handleKey(one.handle), value: expect.any(String) }]);
    await changeBlock(hosts, one, block => ({
      ...block,
      allocations: block.allocations.map((index, at) => (at === ordinal(one) ? null : index)),
      unallocated: [...block.unallocated, ordinal(one)],
    }));
    await remove(hosts.store, one.endpoint);
  });
  expect((await check(hosts, true)).repaired).toEqual([]);
  expect(await hosts.store.get(handleKey(one.handle))).toBeUndefined();
});

test('an address that an endpoint uses is not put into the free list', async () => {
  const { hosts, one } = await sound();
  await changeBlock(hosts, one, block => ({
    ...block,
    allocations: block.allocations.map((index, at) => (at === ordinal(one) ? null : index)),
  }));
  const { findings } = await check(hosts, true);
  expect(findings.map(({ kind }) => kind).sort()).toEqual(['block-content', 'endpoint-address']);
  const block = parseBlock((await hosts.store.get(keyOfBlock(one)))?.value ?? '');
  expect(block?.unallocated).not.toContain(ordinal(one));
});
