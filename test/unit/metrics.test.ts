import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadConfig, printConfig } from '../../src/config.js';
import { measuredStore } from '../../src/metrics/measured-store.js';
import { measuredApply, NO_METRICS } from '../../src/metrics/metrics.js';
import type { Metrics } from '../../src/metrics/metrics.js';
import { parseBlockUse, PoolUse } from '../../src/metrics/pool-use.js';
import { metricNames } from '../../src/metrics/prometheus.js';
import { BLOCKS_PREFIX } from '../../src/datastore/keys.js';
import { parseIpPool } from '../../src/model/ip-pool.js';
import { poll } from '../bed/poll.js';
import { MemoryStore } from '../fakes/memory-store.js';

const KEY = '/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26';

describe('the use of a block', () => {
  it('is what its list of allocations says, however it is written', () => {
    const ordinals = fc.array(fc.option(fc.nat(9)), { minLength: 0, maxLength: 64 });
    const attribute = fc.record({
      secondary: fc.dictionary(fc.string(), fc.string()),
      handle_id: fc.string(),
    });
    fc.assert(
      fc.property(ordinals, fc.array(attribute), fc.nat(4), (allocations, attributes, indent) => {
        // A label that looks like the list itself must not be taken for it.
        const trap = { secondary: { note: '"allocations":[1,2,3]' } };
        const block = {
          attributes: [trap, ...attributes],
          affinity: 'host:node-1',
          allocations,
          cidr: '10.0.0.0/26',
        };
        const text = JSON.stringify(block, undefined, indent);
        const use = parseBlockUse(KEY, text);
        expect(use?.inUse).toBe(allocations.filter(index => index !== null).length);
        expect(use?.owner).toBe('node-1');
      }),
    );
  });

  it('of what is no block is left out', () => {
    expect(parseBlockUse('/calico/ipam/v2/assignment/nonsense', '{}')).toBeUndefined();
    expect(parseBlockUse(KEY, '{"allocations":7}')).toBeUndefined();
    expect(parseBlockUse(KEY, 'no JSON')).toBeUndefined();
    // Not the numbers we know: counted all the same.
    expect(parseBlockUse(KEY, '{"allocations":[null,-1,1.5]}')?.inUse).toBe(2);
  });
});

describe('the use of pools', () => {
  const block = (used: number, owner = 'node-1') =>
    JSON.stringify({
      affinity: `host:${owner}`,
      allocations: [...Array.from({ length: used }, () => 0), null],
    });
  const key = (cidr: string) => `/calico/ipam/v2/assignment/ipv4/block/${cidr}`;
  const pool = parseIpPool(
    '{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},"spec":{"cidr":"10.0.0.0/24"}}',
  );

  it.each(['overheard from another watch', 'watched by itself'])('%s, follows every change', async way => {
    const use = new PoolUse('node-1');
    const memory = new MemoryStore();
    const store = measuredStore(memory, NO_METRICS, use);
    const put = (name: string, value: string) =>
      memory.transact({ compare: [], then: [{ put: key(name), value }] });
    await put('10.0.0.0-26', block(3));
    await put('10.9.0.0-26', block(7));
    const told: string[] = [];
    if (way.startsWith('overheard'))
      await store.watch(BLOCKS_PREFIX, {
        snapshot: ({ entries }) => told.push(...entries.map(entry => entry.value)),
        put: entry => told.push(entry.value),
        deleted: gone => told.push(gone),
      }).ready;
    const end = use.follow(store);
    const inUse = async () => (await use.figures(pool ? [pool] : []))?.[0];
    await poll('the listing', 5_000, async () => (await inUse()) !== undefined);
    expect(await inUse()).toMatchObject({ size: 256, inUse: 3, blocks: 1, ownBlocks: 1 });
    await put('10.0.0.64-26', block(5, 'node-2'));
    await poll('the put', 5_000, async () => (await inUse())?.inUse === 8);
    expect(await inUse()).toMatchObject({ blocks: 2, ownBlocks: 1 });
    await memory.transact({ compare: [], then: [{ delete: key('10.0.0.0-26') }] });
    await poll('the deletion', 5_000, async () => (await inUse())?.inUse === 5);
    // Who watches hears just what it would without us.
    if (way.startsWith('overheard'))
      expect(told).toEqual([block(3), block(7), block(5, 'node-2'), key('10.0.0.0-26')]);
    end();
    await store.close();
  });
});

describe('the port', () => {
  it('adds nothing to what nobody measures', () => {
    const apply = async () => undefined;
    expect(measuredApply(NO_METRICS, 'policy', apply)).toBe(apply);
  });

  it('tells success and failure of what is applied, and throws what that throws', async () => {
    const told: unknown[] = [];
    const metrics: Metrics = { ...NO_METRICS, applied: (part, isOk) => void told.push([part, isOk]) };
    await measuredApply(metrics, 'policy', async () => undefined)();
    const failing = measuredApply(metrics, 'host', () => Promise.reject(new Error('nft is missing')));
    await expect(failing()).rejects.toThrow('nft is missing');
    expect(told).toEqual([
      ['policy', true],
      ['host', false],
    ]);
  });

  it('times every kind of question to the store, and changes no answer', async () => {
    const asked: string[] = [];
    const metrics: Metrics = {
      ...NO_METRICS,
      asked: (operation, isOk) => void asked.push(`${operation} ${isOk}`),
    };
    const store = measuredStore(new MemoryStore(), metrics);
    const result = await store.transact({
      compare: [{ key: '/a', is: 'absent' }],
      then: [{ put: '/a', value: '1' }],
    });
    expect(result.succeeded).toBe(true);
    expect((await store.get('/a'))?.value).toBe('1');
    expect((await store.list('/')).entries).toHaveLength(1);
    const pages: number[] = [];
    for await (const { entries } of store.pages('/')) pages.push(entries.length);
    expect(pages).toEqual([1]);
    const lease = await store.lease(30);
    expect(await lease.keepAlive()).toBe(true);
    await lease.revoke();
    await store.ping();
    expect(new Set(asked)).toEqual(
      new Set([
        'transact true',
        'get true',
        'list true',
        'lease true',
        'keep-alive true',
        'revoke true',
        'ping true',
      ]),
    );
  });
});

describe('CALICO_LIBNETWORK_METRICS_ADDRESS', () => {
  const parsed = (text: string) => loadConfig({ CALICO_LIBNETWORK_METRICS_ADDRESS: text }).metricsAddress;

  it('is off where it is not set, on loopback where it is a port, and elsewhere only where that is written', () => {
    expect(loadConfig({}).metricsAddress).toBeUndefined();
    expect(parsed('9099')).toEqual({ host: '127.0.0.1', port: 9099 });
    expect(parsed('0.0.0.0:9099')).toEqual({ host: '0.0.0.0', port: 9099 });
    expect(parsed('[::1]:9099')).toEqual({ host: '::1', port: 9099 });
    expect(printConfig(loadConfig({ CALICO_LIBNETWORK_METRICS_ADDRESS: '[::]:80' }))).toContain('=[::]:80\n');
  });

  it.each([
    ':9099',
    '*:9099',
    '[]:9099',
    '[10.0.0.1]:9099',
    '::1:9099',
    'host:9099',
    '0',
    '65536',
    '10.0.0.1',
    '9099/',
  ])('refuses %s: nobody shall guess where it listens', text =>
    expect(() => parsed(text)).toThrow('CALICO_LIBNETWORK_METRICS_ADDRESS must be a port (of 127.0.0.1)'),
  );
});

describe('names of metrics', () => {
  it('follow conventions of Prometheus', () => {
    for (const name of metricNames()) expect(name).toMatch(/^calico_libnetwork_[a-z_]+$/);
  });
});
