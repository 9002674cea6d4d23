import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { blockKey, IPAM_CONFIG_KEY } from '../../src/datastore/keys.js';
import { DatastoreError } from '../../src/errors.js';
import { createBlock } from '../../src/ipam/block.js';
import { formatBlock } from '../../src/model/block.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { addPool, audit, cidr, closeNodes, node, put } from './ipam-node.js';

let store: MemoryStore;
beforeEach(() => {
  store = new MemoryStore();
});
afterEach(closeNodes);

describe('a pool', () => {
  it('that is disabled while an address of it is asked for is not called full', async () => {
    await addPool(store, 'p', '10.0.0.0/24');
    await put(store, IPAM_CONFIG_KEY, JSON.stringify({ strict_affinity: true, auto_allocate_blocks: false }));
    const a = await node(store, 'a');
    const asked = a.any();
    await addPool(store, 'p', '10.0.0.0/24', { disabled: true });
    await expect(asked).rejects.toThrow(
      /^no free address in IPPool p .*: it has just been disabled or removed/,
    );
    expect(audit(store)).toEqual([]);
  });

  const leftOver = (range: string, ordinal = 0) => {
    const block = createBlock(cidr(range), 'gone', new Date());
    return formatBlock({
      ...block,
      affinity: null,
      allocations: block.allocations.map((_, index) => (index === ordinal ? 0 : null)),
      unallocated: block.unallocated.filter(free => free !== ordinal),
      attributes: [{ handle_id: 'h' }],
    });
  };

  it('is not made over blocks of another size, which would hold an address twice', async () => {
    await put(store, blockKey(cidr('192.0.2.0/28')), leftOver('192.0.2.0/28'));
    const a = await node(store, 'a');
    await expect(a.pools.poolFor(cidr('192.0.2.0/26'))).rejects.toThrow(
      '192.0.2.0/28, a block of another size',
    );
    expect((await a.pools.poolFor(cidr('192.0.2.0/26'), { blockSize: 28 })).blockSize).toBe(28);
  });

  it('is not removed while a block without owner holds an address of it', async () => {
    const a = await node(store, 'a');
    const pool = await a.pools.poolFor(cidr('192.0.2.0/26'));
    await put(store, blockKey(cidr('192.0.2.0/26')), leftOver('192.0.2.0/26'));
    expect(await a.pools.removeIfUnused(pool.name, async () => false)).toBe(false);
    expect(a.facts.poolAround(pool.cidr)?.disabled).toBe(false);
  });

  it('goes where another host that removes it, too, was quicker with a block that nobody owns', async () => {
    const a = await node(store, 'a');
    const pool = await a.pools.poolFor(cidr('192.0.2.0/26'));
    const key = blockKey(cidr('192.0.2.0/26'));
    await put(store, key, leftOver('192.0.2.0/26', -1));
    store.before(async ({ then }) => {
      if (!then.some(write => 'delete' in write && write.delete === key)) return;
      store.before(undefined);
      await store.transact({ compare: [], then: [{ delete: key }] });
    });
    expect(await a.pools.removeIfUnused(pool.name, async () => false)).toBe(true);
    expect(Object.keys(store.dump()).filter(found => /ippools|block/.test(found))).toEqual([]);
  });

  it('is enabled again when its removal fails half-way', async () => {
    const a = await node(store, 'a');
    const pool = await a.pools.poolFor(cidr('192.0.2.0/26'));
    let asked = 0;
    const failing = async () => {
      if ((asked += 1) === 2) throw new DatastoreError('away');
      return false;
    };
    await expect(a.pools.removeIfUnused(pool.name, failing)).rejects.toThrow('away');
    expect(a.facts.poolAround(pool.cidr)?.disabled).toBe(false);
  });

  it('for all networks is made once, whoever starts at the same time', async () => {
    const nodes = await Promise.all(['a', 'b', 'c'].map(name => node(store, name)));
    await Promise.all(nodes.map((each, i) => each.pools.ensureDefault(cidr(`10.${i}.0.0/16`))));
    expect(Object.keys(store.dump()).filter(key => key.includes('/ippools/'))).toHaveLength(1);
  });
});
