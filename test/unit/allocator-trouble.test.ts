import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { affinityKey, blockKey, handleKey, IPAM_CONFIG_KEY, resourceKey } from '../../src/datastore/keys.js';
import { etcdRevisionOf } from '../../src/datastore/revision.js';
import { DatastoreError } from '../../src/errors.js';
import { createBlock, ownedBy } from '../../src/ipam/block.js';
import { cidrOf, formatAddress, formatCidr } from '../../src/ipam/cidr.js';
import { endpointHandle } from '../../src/ipam/handles.js';
import { formatBlock, formatHandle, parseBlock } from '../../src/model/block.js';
import { Endpoints } from '../../src/plugin/endpoints.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { addPool, address, audit, cidr, closeNodes, holder, node, put, remove } from './ipam-node.js';

/** Each of these was a way to lose an address, share one, or hang. */

let store: MemoryStore;
beforeEach(() => {
  store = new MemoryStore();
});
afterEach(() => {
  vi.useRealTimers();
  closeNodes();
});

describe('an address is never freed under who has it', () => {
  it('by the undo of an earlier request of the same container', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const a = await node(store, 'a');
    await a.take('10.0.0.1', 'other');
    vi.useFakeTimers();
    store.failNext('transact', new DatastoreError('lost'));
    await expect(a.take('10.0.0.33', 'mac')).rejects.toThrow('lost');
    await a.take('10.0.0.33', 'mac');
    await vi.advanceTimersByTimeAsync(300_000);
    expect(audit(store)).toEqual(['10.0.0.1', '10.0.0.33']);
  });

  it('but what a failed request did take is taken back', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const a = await node(store, 'a');
    await a.take('10.0.0.1');
    vi.useFakeTimers();
    // Applied, and then the answer is lost for good.
    store.before(async transaction => {
      store.before(undefined);
      await store.transact(transaction);
      throw new DatastoreError('lost');
    });
    await expect(a.take('10.0.0.33')).rejects.toThrow('lost');
    expect(audit(store)).toEqual(['10.0.0.1', '10.0.0.33']);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(audit(store)).toEqual(['10.0.0.1']);
  });
});

describe('a datastore put back to an earlier state', () => {
  it('is believed: no remembered block is written over what it says, however its revisions fall', async () => {
    await addPool(store, 'p', '10.0.0.0/26');
    const [a, b] = [await node(store, 'a'), await node(store, 'b')];
    const first = await a.any();
    const saved = store.save();
    const lost = [await a.any(), await a.any()];
    const revision = (await store.get(blockKey(cidr('10.0.0.0/26'))))?.revision;
    store.restore(saved);
    // Others bring the block to just the revision that `a` remembers, with other content.
    await b.take('10.0.0.50');
    await b.take('10.0.0.51');
    const entry = await store.get(blockKey(cidr('10.0.0.0/26')));
    expect(entry && etcdRevisionOf(entry.revision)).toBe(revision);
    const again = [await a.any(), await a.any(), await a.any()];
    expect(audit(store)).toEqual([first, '10.0.0.50', '10.0.0.51', ...again].sort());
    expect(again).toEqual(expect.arrayContaining(lost)); // they are free again
    // What it gave out afterwards it can free.
    expect(await a.free(again[0] ?? '')).toBe(true);
    expect(audit(store)).not.toContain(again[0]);
  });
});

describe('what others leave in etcd', () => {
  it('an affinity without its block is claimed anew', async () => {
    await addPool(store, 'p', '10.0.0.0/26');
    await put(store, affinityKey('a', cidr('10.0.0.0/26')), '{"state":"confirmed","deleted":false}');
    const a = await node(store, 'a');
    expect(await a.any()).toBe('10.0.0.0');
  });

  it("an affinity to another's block is dropped", async () => {
    await addPool(store, 'p', '10.0.0.0/25');
    await put(store, affinityKey('a', cidr('10.0.0.0/26')), '{"state":"confirmed","deleted":false}');
    await put(
      store,
      blockKey(cidr('10.0.0.0/26')),
      formatBlock(createBlock(cidr('10.0.0.0/26'), 'b', new Date())),
    );
    const a = await node(store, 'a');
    expect(await a.any()).toMatch(/^10\.0\.0\.(6[4-9]|[7-9]\d|1\d\d)$/);
    expect(a.facts.confirmedBlocks()).toHaveLength(1);
  });

  it('a block that lists a used ordinal as free does not stop the node', async () => {
    await addPool(store, 'p', '10.0.0.0/26');
    const a = await node(store, 'a');
    await a.any();
    const key = blockKey(cidr('10.0.0.0/26'));
    const block = parseBlock(store.dump()[key] ?? '');
    if (!block) throw new Error('no block');
    await put(store, key, formatBlock({ ...block, unallocated: [0, ...block.unallocated] }));
    expect(await a.any()).toBe('10.0.0.1');
  });

  it('a reservation of more blocks than one can count is stepped over at once', async () => {
    await addPool(store, 'six', 'fd80::/48');
    const reservation = {
      kind: 'IPReservation',
      metadata: { name: 'r' },
      spec: { reservedCIDRs: ['fd80::/64'] },
    };
    await put(store, resourceKey('ipreservations', 'r'), JSON.stringify(reservation));
    const a = await node(store, 'a');
    const given = await a.allocator.assign({ family: 6, holder: holder('a') });
    expect(formatAddress(given)).toBe('fd80:0:0:1::');
  });

  it('reservations that cover blocks in pieces do not cost a block each', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const reservedCIDRs = [
      '10.0.0.0/27',
      '10.0.0.32/27',
      '10.0.0.64/27',
      '10.0.0.96/27',
      '10.0.0.128/27',
      '10.0.0.160/27',
    ];
    await put(
      store,
      resourceKey('ipreservations', 'r'),
      JSON.stringify({ metadata: { name: 'r' }, spec: { reservedCIDRs } }),
    );
    const a = await node(store, 'a');
    expect(await a.any()).toBe('10.0.0.192');
    expect(a.facts.confirmedBlocks()).toHaveLength(1);
  });

  it('a namespace selector keeps a pool from Docker, which has no namespaces', async () => {
    await addPool(store, 'p', '10.0.0.0/24', { namespaceSelector: 'has(prod)' });
    const a = await node(store, 'a');
    await expect(a.any()).rejects.toThrow('no IPv4 IPPool');
  });
});

describe('while the watches are silent', () => {
  it('a configuration that was deleted is noticed by its compare, and a release needs neither', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    await put(store, IPAM_CONFIG_KEY, '{"strict_affinity":false,"auto_allocate_blocks":true}');
    const a = await node(store, 'a');
    const first = await a.any();
    store.interruptWatches();
    await remove(store, IPAM_CONFIG_KEY);
    const before = store.calls.transact;
    const second = await a.any();
    expect(store.calls.transact - before).toBe(2);
    await remove(store, resourceKey('ippools', 'p'));
    expect(await a.free(first)).toBe(true);
    expect(audit(store)).toEqual([second]);
    expect(
      parseBlock(Object.values(store.dump()).find(value => value.includes('"allocations"')) ?? '')?.affinity,
    ).toBe(ownedBy('a'));
  });
});

describe('a reservation', () => {
  it('is shared by nodes and freed by the last, but not by two networks of one node', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const [a, b] = [await node(store, 'a'), await node(store, 'b')];
    await a.reserve('10.0.0.1');
    await expect(a.reserve('10.0.0.1')).rejects.toThrow('reserved as gateway by a network of this host');
    await expect(b.reserve('10.0.0.1', 'aux')).rejects.toThrow('reserved as gateway');
    await b.reserve('10.0.0.1');
    await expect(b.take('10.0.0.1')).rejects.toThrow('reserved as gateway');
    expect(await a.free('10.0.0.1')).toBe(true);
    expect(await a.free('10.0.0.1')).toBe(false);
    expect(audit(store)).toEqual(['10.0.0.1']);
    expect(await b.free('10.0.0.1')).toBe(true);
    expect(audit(store)).toEqual([]);
    expect(await b.take('10.0.0.1')).toBeUndefined();
  });

  /** The next transaction is applied, and then its answer is lost for good. */
  const loseAnswerForGood = () =>
    store.before(async transaction => {
      store.before(undefined);
      await store.transact(transaction);
      throw new DatastoreError('lost');
    });

  it('that a failed request made and another node shares meanwhile stays for that node', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const [a, b] = [await node(store, 'a'), await node(store, 'b')];
    await a.take('10.0.0.9');
    vi.useFakeTimers();
    loseAnswerForGood();
    await expect(a.reserve('10.0.0.1')).rejects.toThrow('lost');
    await b.reserve('10.0.0.1');
    await vi.advanceTimersByTimeAsync(300_000);
    expect(audit(store)).toEqual(['10.0.0.1', '10.0.0.9']);
    // Of the failed request nothing is left: the same network can be made again.
    await a.reserve('10.0.0.1');
    expect(await b.free('10.0.0.1')).toBe(true);
    expect(audit(store)).toEqual(['10.0.0.1', '10.0.0.9']);
    expect(await a.free('10.0.0.1')).toBe(true);
    expect(audit(store)).toEqual(['10.0.0.9']);
  });

  it('of another node that a failed request joined is left again', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const [a, b] = [await node(store, 'a'), await node(store, 'b')];
    await b.reserve('10.0.0.1');
    vi.useFakeTimers();
    loseAnswerForGood();
    await expect(a.reserve('10.0.0.1')).rejects.toThrow('lost');
    await vi.advanceTimersByTimeAsync(300_000);
    await a.reserve('10.0.0.1');
    expect(await a.free('10.0.0.1')).toBe(true);
    expect(await b.free('10.0.0.1')).toBe(true);
    expect(audit(store)).toEqual([]);
  });

  it('is not left by the undo of an earlier, failed request of the same node', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const [a, b] = [await node(store, 'a'), await node(store, 'b')];
    await b.reserve('10.0.0.1');
    vi.useFakeTimers();
    store.failNext('transact', new DatastoreError('lost'));
    await expect(a.reserve('10.0.0.1')).rejects.toThrow('lost');
    await a.reserve('10.0.0.1');
    await vi.advanceTimersByTimeAsync(300_000);
    expect(await b.free('10.0.0.1')).toBe(true);
    expect(audit(store)).toEqual(['10.0.0.1']);
  });

  it('of which one node leaves says so, also when the answer is lost', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const [a, b] = [await node(store, 'a'), await node(store, 'b')];
    await b.reserve('10.0.0.1');
    await a.reserve('10.0.0.1');
    store.loseNextAnswer(() => b.take('10.0.0.3'));
    expect(await a.free('10.0.0.1')).toBe(true);
  });

  it('of an address in use is refused', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    const a = await node(store, 'a');
    await a.take('10.0.0.1');
    await expect(a.reserve('10.0.0.1')).rejects.toThrow('already assigned on node a');
    expect(formatAddress(address('10.0.0.1'))).toBe('10.0.0.1');
  });
});

describe('an address that looks unused', () => {
  it('is not freed under an endpoint that came to have it since it was looked at', async () => {
    await addPool(store, 'p', '192.0.2.0/24');
    const a = await node(store, 'a');
    const mac = '02:42:00:00:00:0a';
    const given = await a.allocator.assign({
      family: 4,
      holder: { handle: text => endpointHandle('a', mac, text), secondary: { node: 'a' } },
    });
    const text = formatAddress(given);
    const handle = endpointHandle('a', mac, text);
    const seen = (await store.get(handleKey(handle)))?.revision;
    const newHandle = () => formatHandle({ [formatCidr(cidrOf(given, 26))]: 1 });
    const endpoints = new Endpoints(
      store,
      'a',
      { createProfiles: false, newHandle },
      pino({ level: 'silent' }),
    );
    await endpoints.ready;
    const endpointId = 'e'.repeat(64);
    await endpoints.create({
      ...{ node: 'a', endpointId, mac, addresses: [text], networkId: 'n', interfaceName: 'cali1' },
      ...{ profiles: [], labels: {}, ports: [] },
    });
    expect(await a.allocator.releaseHandle(given, handle, seen)).toBe(false);
    const now = (await store.get(handleKey(handle)))?.revision;
    expect(await a.allocator.releaseHandle(given, handle, now)).toBe(true);
    endpoints.close();
  });
});
