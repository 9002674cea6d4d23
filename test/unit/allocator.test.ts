import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { IPAM_CONFIG_KEY, resourceKey } from '../../src/datastore/keys.js';
import {
  AddressInUseError,
  CalicoError,
  DatastoreError,
  NoAddressError,
  RequestError,
} from '../../src/errors.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { addPool, audit, closeNodes, node, put } from './ipam-node.js';

afterEach(closeNodes);

describe('the allocator', () => {
  it('needs one round trip for an address and one for its release, once it has a block', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/16');
    const a = await node(store, 'a');
    await a.any();
    const before = { ...store.calls };
    const given = await a.any();
    expect(await a.free(given)).toBe(true);
    expect({ ...store.calls }).toEqual({ ...before, transact: before.transact + 2 });
  });

  it('lets requests that come together travel together', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/16');
    const a = await node(store, 'a');
    await a.any();
    const before = store.calls.transact;
    const given = await Promise.all(Array.from({ length: 32 }, () => a.any()));
    expect(new Set(given).size).toBe(32);
    expect(store.calls.transact - before).toBeLessThanOrEqual(3);
    audit(store);
  });

  it('claims a second block when the first is full, once, whoever asks at the same time', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/16');
    const a = await node(store, 'a');
    const given = await Promise.all(Array.from({ length: 100 }, () => a.any()));
    expect(new Set(given).size).toBe(100);
    expect([...a.facts.affinities.values()]).toHaveLength(2);
    expect(audit(store)).toEqual([...given].sort());
  });

  it('gives every address of a pool to exactly one of several nodes, borrowing at the end, then says what to do', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/24');
    const nodes = [await node(store, 'a'), await node(store, 'b'), await node(store, 'c')];
    const given = await Promise.all(Array.from({ length: 256 }, (_, i) => nodes[i % 3]?.any()));
    expect(new Set(given).size).toBe(256);
    audit(store);
    const [a] = nodes;
    await expect(a?.any()).rejects.toThrow(NoAddressError);
    await expect(a?.any()).rejects.toThrow(/10\.0\.0\.0\/24.*all are in use/);
  });

  it('borrows nothing where affinity is strict, and says which limit was met', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/25');
    await put(
      store,
      IPAM_CONFIG_KEY,
      '{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":1}',
    );
    const a = await node(store, 'a');
    for (let i = 0; i < 64; i += 1) await a.any();
    await expect(a.any()).rejects.toThrow('limit of 1 blocks');
    const b = await node(store, 'b');
    const theirs = await b.any();
    await expect(a.take(theirs.replace(/\d+$/, last => String(Number(last) + 1)))).rejects.toThrow(
      'strict affinity',
    );
  });

  it('gives a wanted address, refuses it while it is in use, and takes it back', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/24');
    const a = await node(store, 'a');
    await a.take('10.0.0.77');
    await expect(a.take('10.0.0.77')).rejects.toThrow(AddressInUseError);
    expect(await a.free('10.0.0.77')).toBe(true);
    await a.take('10.0.0.77');
    await expect(a.take('10.0.1.77')).rejects.toThrow(RequestError);
    expect(audit(store)).toEqual(['10.0.0.77']);
  });

  it('frees only what this node holds', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/24');
    const [a, b] = [await node(store, 'a'), await node(store, 'b')];
    await a.take('10.0.0.1');
    expect(await b.free('10.0.0.1')).toBe(false);
    expect(await b.free('10.0.0.2')).toBe(false);
    expect(await b.free('172.16.0.1')).toBe(false);
    expect(audit(store)).toEqual(['10.0.0.1']);
    await b.take('10.0.0.3');
    expect(await a.free('10.0.0.3')).toBe(false);
    expect(await b.free('10.0.0.3')).toBe(true);
  });

  it('keeps inside a range smaller than a block, and out of reservations', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/24');
    await put(
      store,
      resourceKey('ipreservations', 'r'),
      '{"kind":"IPReservation","metadata":{"name":"r"},"spec":{"reservedCIDRs":["10.0.0.130","nonsense"]}}',
    );
    const a = await node(store, 'a');
    const given = [await a.any('10.0.0.128/30'), await a.any('10.0.0.128/30'), await a.any('10.0.0.128/30')];
    expect(given).toEqual(['10.0.0.128', '10.0.0.129', '10.0.0.131']);
    await expect(a.any('10.0.0.128/30')).rejects.toThrow('10.0.0.128/30');
  });

  it('uses the pools meant for this node and nothing disabled, manual or for tunnels only', async () => {
    const store = new MemoryStore();
    await addPool(store, 'a-off', '10.1.0.0/24', { disabled: true });
    await addPool(store, 'b-manual', '10.2.0.0/24', { assignmentMode: 'Manual' });
    await addPool(store, 'c-tunnel', '10.3.0.0/24', { allowedUses: ['Tunnel'] });
    await addPool(store, 'd-rack', '10.4.0.0/24', { nodeSelector: 'rack == "2"' });
    const a = await node(store, 'a');
    await expect(a.any()).rejects.toThrow('no IPv4 IPPool');
    await expect(a.take('10.1.0.1')).rejects.toThrow('a-off (10.1.0.0/24) is disabled');
    expect(await a.any('10.2.0.0/24')).toMatch(/^10\.2\./);
    await put(
      store,
      resourceKey('nodes', 'a'),
      '{"kind":"Node","metadata":{"name":"a","labels":{"rack":"2"}},"spec":{}}',
    );
    await new Promise(resolve => setTimeout(resolve, 10));
    expect(await a.any()).toMatch(/^10\.4\./);
  });

  it('notices in the same transaction that a pool was disabled', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/24');
    const a = await node(store, 'a');
    await a.any();
    const watches = store.interruptWatches();
    await addPool(store, 'p', '10.0.0.0/24', { disabled: true });
    await expect(a.any()).rejects.toThrow();
    watches.again();
    expect(audit(store)).toHaveLength(1);
  });

  it('finishes a claim that a crash left pending', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/26');
    await put(store, '/calico/ipam/v2/host/a/ipv4/block/10.0.0.0-26', '{"state":"pending","deleted":false}');
    const a = await node(store, 'a');
    expect(await a.any()).toBe('10.0.0.0');
    expect(a.facts.isConfirmed('/calico/ipam/v2/host/a/ipv4/block/10.0.0.0-26')).toBe(true);
  });

  it('takes its own first try for what it is when the answer was lost', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/24');
    const [a, b] = [await node(store, 'a'), await node(store, 'b')];
    const first = await a.any();
    const beside = first.replace(/\d+$/, last => String(Number(last) + 9));
    store.loseNextAnswer(() => b.take(beside));
    const second = await a.any();
    expect(audit(store)).toEqual([first, second, beside].sort());
    store.loseNextAnswer(async () => void (await b.take(second).catch(() => undefined)));
    expect(await a.free(second)).toBe(true);
  });

  it('fails in words when the datastore does, and works when it is back', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/24');
    const a = await node(store, 'a');
    const first = await a.any();
    store.failNext('transact');
    await expect(a.any()).rejects.toThrow(DatastoreError);
    const second = await a.any();
    expect(audit(store)).toEqual([first, second].sort());
  });

  it('stays consistent under any interleaving of two nodes and a third writer', async () => {
    const step = fc.record({
      who: fc.nat({ max: 1 }),
      what: fc.constantFrom('any', 'take', 'free'),
      pick: fc.nat({ max: 31 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(step, { maxLength: 6 }), { maxLength: 8 }), async rounds => {
        const store = new MemoryStore();
        await addPool(store, 'p', '10.0.0.0/27', { blockSize: 29 });
        const nodes = [await node(store, 'a'), await node(store, 'b')];
        const uses = new Map<string, number>();
        const count = (text: string, by: number) => uses.set(text, (uses.get(text) ?? 0) + by);
        for (const round of rounds) {
          const work = round.map(async ({ who, what, pick }) => {
            const actor = nodes[who];
            const picked = `10.0.0.${pick}`;
            if (!actor) return;
            if (what === 'free') return (await actor.free(picked)) && count(picked, -1);
            const giving = what === 'any' ? actor.any() : actor.take(picked).then(() => picked);
            const got = await giving.catch(
              (error: unknown) => void expect(error).toBeInstanceOf(CalicoError),
            );
            return got !== undefined && count(got, 1);
          });
          await Promise.all(work);
          // Given and not freed, each address is held once; and etcd holds just those.
          expect([...uses.values()].every(times => times === 0 || times === 1)).toBe(true);
          expect(audit(store)).toEqual(
            [...uses]
              .filter(([, times]) => times === 1)
              .map(([text]) => text)
              .sort(),
          );
        }
      }),
      { numRuns: 40 },
    );
  });
});
