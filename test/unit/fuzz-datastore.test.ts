import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { affinityKey, blockKey, blocksPrefix, IPAM_CONFIG_KEY } from '../../src/datastore/keys.js';
import { ownedBy } from '../../src/ipam/block.js';
import { contains, formatAddress, parseAddress } from '../../src/ipam/cidr.js';
import { formatBlock, parseBlock } from '../../src/model/block.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { runs } from '../fuzz/garbage.js';
import { sampleBlock, texts } from '../fuzz/samples.js';
import { isOurs, stray } from '../fuzz/stray.js';
import { addPool, cidr, closeNodes, node, put } from './ipam-node.js';

describe('with garbage under our prefixes', () => {
  afterEach(closeNodes);

  it('a node gives out addresses of the pool that nobody has, and touches nothing that is not its own', () =>
    fc.assert(
      fc.asyncProperty(fc.array(stray, { minLength: 1, maxLength: 8 }), async entries => {
        const store = new MemoryStore();
        await addPool(store, 'p', '10.0.0.0/27', { blockSize: 29 });
        for (const [key, value] of entries) await put(store, key, value);
        const before = store.dump();
        const taken = new Map<string, string>();
        for (const [key, value] of Object.entries(before)) {
          const block = key.startsWith(blocksPrefix(4)) ? parseBlock(value) : undefined;
          if (!block || blockKey(block.cidr) !== key) continue;
          block.allocations.forEach((index, ordinal) => {
            const address = { family: block.cidr.family, value: block.cidr.base + BigInt(ordinal) };
            if (index !== null && block.cidr.length === 29) taken.set(formatAddress(address), key);
          });
        }
        const a = await node(store, 'a');
        const given: string[] = [];
        for (let count = 0; count < 3; count += 1) given.push(await a.any('10.0.0.0/27').catch(() => 'none'));
        for (const text of given.filter(each => each !== 'none')) {
          const address = parseAddress(text);
          expect(address && contains(cidr('10.0.0.0/27'), address)).toBe(true);
          expect(taken.has(text)).toBe(false);
        }
        const real = given.filter(each => each !== 'none');
        expect(new Set(real).size).toBe(real.length);
        const after = store.dump();
        for (const [key, value] of Object.entries(before)) {
          if (!isOurs(key, value)) expect({ key, value: after[key] }).toEqual({ key, value });
        }
        for (const [key, value] of Object.entries(after)) {
          const block = key in before || !key.startsWith(blocksPrefix(4)) ? undefined : parseBlock(value);
          if (block)
            expect([key, block.cidr.length, block.affinity]).toEqual([
              blockKey(block.cidr),
              29,
              ownedBy('a'),
            ]);
        }
        closeNodes();
      }),
      { numRuns: runs(300) },
    ));

  it('a block under the key of another is none', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/27', { blockSize: 29 });
    for (const start of [0, 8, 16])
      await put(store, blockKey(cidr(`10.0.0.${start}/29`)), formatBlock(sampleBlock('a', '10.9.0.0/29')));
    const a = await node(store, 'a');
    expect(await a.any()).toMatch(/^10\.0\.0\.(2[4-9]|3[01])$/);
  });

  it('an affinity to a block of another size is not followed: it would hold addresses twice', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/27', { blockSize: 29 });
    await put(store, affinityKey('a', cidr('10.0.0.0/30')), texts.affinity);
    const a = await node(store, 'a');
    await a.any();
    expect(Object.keys(store.dump()).filter(key => key.startsWith(blocksPrefix(4)))).toEqual([
      expect.stringMatching(/-29$/),
    ]);
  });

  it('a configuration that is none stops no node', async () => {
    const store = new MemoryStore();
    await addPool(store, 'p', '10.0.0.0/27', { blockSize: 29 });
    await put(store, IPAM_CONFIG_KEY, '{"maxBlocksPerHost":{"toString":1}}');
    const a = await node(store, 'a');
    expect(await a.any().catch(String)).toMatch(/^10\.0\.0\.|no free address/);
  });
});
