import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadConfig, printConfig } from '../../src/config.js';
import { measuredStore } from '../../src/metrics/measured-store.js';
import { measuredApply, NO_METRICS } from '../../src/metrics/metrics.js';
import type { Metrics } from '../../src/metrics/metrics.js';
import { digestBlockUse, parseBlockUse } from '../../src/metrics/pool-use.js';
import { metricNames } from '../../src/metrics/prometheus.js';
import { MemoryStore } from '../fakes/memory-store.js';

const KEY = '/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26';

describe('the use of a block', () => {
  it('is what its list of allocations says, however it is written, and its digest says the same', () => {
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
        expect(parseBlockUse(KEY, digestBlockUse(KEY, text))).toEqual(use);
      }),
    );
  });

  it('of what is no block is left out', () => {
    expect(parseBlockUse('/calico/ipam/v2/assignment/nonsense', '{}')).toBeUndefined();
    expect(parseBlockUse(KEY, '{"allocations":7}')).toBeUndefined();
    expect(digestBlockUse(KEY, '{"allocations":7}')).toBe('{"allocations":7}');
    expect(() => parseBlockUse(KEY, 'no JSON')).toThrow();
    // Not the numbers we know: counted all the same.
    expect(parseBlockUse(KEY, '{"allocations":[null,-1,1.5]}')?.inUse).toBe(2);
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
