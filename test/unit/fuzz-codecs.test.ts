import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hostState } from '../../src/agent/host-state.js';
import { AFFINITIES_PREFIX, parseAffinityKey } from '../../src/datastore/keys.js';
import { RequestError } from '../../src/errors.js';
import { assignAt, collectCooled, nextFree, release, violations } from '../../src/ipam/block.js';
import { parseAddress } from '../../src/ipam/cidr.js';
import {
  formatBlock,
  parseAffinityState,
  parseBlock,
  parseHandle,
  parseIpamConfig,
} from '../../src/model/block.js';
import { parseIpPool } from '../../src/model/ip-pool.js';
import { parseJson } from '../../src/model/json.js';
import { formatNetworkRecord, parseNetworkRecord } from '../../src/model/network-record.js';
import { parseResource } from '../../src/model/resource.js';
import { parseSelector } from '../../src/model/selector.js';
import { formatChangedEndpoint, parseEndpoint } from '../../src/model/workload-endpoint.js';
import { parsePoolId } from '../../src/plugin/pool-id.js';
import { anyText, ENDLESS, runs } from '../fuzz/garbage.js';
import { damaged, NOW } from '../fuzz/samples.js';

/** Whatever stands under our prefixes in etcd, and whoever wrote it: it is read or left out, and never stops us. */

const RUNS = { numRuns: runs(400) };

describe('a codec takes any text', () => {
  it('block: and what it reads as a block can be worked with and written', () =>
    fc.assert(
      fc.property(damaged('block'), text => {
        const block = parseBlock(text);
        if (!block) return;
        violations(block);
        const free = nextFree(block, () => true);
        const holder = { handle_id: 'x', secondary: { node: 'a' } };
        const assigned = free === undefined ? block : assignAt(block, free, holder);
        collectCooled(release(assigned, 0, NOW, 10), NOW, 5);
        const again = parseBlock(formatBlock(assigned));
        expect(again && parseBlock(formatBlock(again))).toEqual(again);
        expect(again?.allocations).toEqual(assigned.allocations);
      }),
      RUNS,
    ));

  it('handle, affinity and its key, configuration', () =>
    fc.assert(
      fc.property(
        damaged('handle'),
        damaged('affinity'),
        damaged('config'),
        anyText,
        (handle, state, config, key) => {
          for (const count of Object.values(parseHandle(handle))) expect(typeof count).toBe('number');
          expect(['pending', 'confirmed', 'pendingDeletion']).toContain(parseAffinityState(state));
          const { maxBlocksPerHost, cooldownSeconds } = parseIpamConfig(config);
          expect(maxBlocksPerHost).toBeGreaterThan(0);
          expect(cooldownSeconds).toBeGreaterThanOrEqual(0);
          parseAffinityKey(`${AFFINITIES_PREFIX}a/ipv4/block/${key}`);
          parseAffinityKey(key);
        },
      ),
      RUNS,
    ));

  it('pool: and its selector answers', () =>
    fc.assert(
      fc.property(damaged('pool'), text => {
        const found = parseIpPool(text);
        if (!found) return;
        expect(typeof found.selectsNode({ a: 'b' })).toBe('boolean');
        expect(found.blockSize).toBeGreaterThanOrEqual(found.cidr.length);
      }),
      RUNS,
    ));

  it('endpoint: and the state of the host follows from it', () =>
    fc.assert(
      fc.property(damaged('endpointInUse'), text => {
        const found = parseEndpoint(text);
        formatChangedEndpoint(text, { labels: { a: 'b' } });
        if (!found) return;
        for (const address of found.addresses) expect(parseAddress(address)).toBeDefined();
        hostState({ node: 'a', pools: [], ownBlocks: [], endpoints: [found], internal: [] });
      }),
      RUNS,
    ));

  it('network record, profile and other resources', () =>
    fc.assert(
      fc.property(damaged('record'), damaged('profile'), (network, resource) => {
        const found = parseNetworkRecord(network);
        if (found) expect(parseNetworkRecord(formatNetworkRecord(found))).toEqual(found);
        parseResource(resource);
      }),
      RUNS,
    ));

  it('selector and PoolID: what is none is refused', () => {
    const selector = fc.oneof(
      anyText,
      fc
        .array(fc.constantFrom('!', '(', ')', '{', '}', '&&', '||', '==', '"', "'", 'a', ' in ', 'has(', ','))
        .map(parts => parts.join('')),
    );
    const id = fc.oneof(
      anyText,
      fc
        .array(
          fc.constantFrom(
            'calico:v1:',
            '?',
            '&',
            'family=',
            'pools=',
            'range=',
            '10.0.0.0/24',
            '4',
            '::',
            '%',
            'constructor',
            '__proto__',
          ),
        )
        .map(parts => `calico:v1:${parts.join('')}`),
    );
    const orElse = (type: new (message: string) => Error, work: () => unknown) => {
      try {
        return work();
      } catch (error) {
        expect(error).toBeInstanceOf(type);
        return undefined;
      }
    };
    fc.assert(
      fc.property(selector, id, (text, poolId) => {
        orElse(SyntaxError, () => parseSelector(text).matches({}));
        const choice = orElse(RequestError, () => parsePoolId(poolId, () => undefined));
        if (choice) expect([4, 6]).toContain(Object(choice).family);
      }),
      RUNS,
    );
  });
});

describe('no text takes long', () => {
  it.each(Object.entries(ENDLESS))('%s', (_name, text) => {
    const started = performance.now();
    for (const parse of [
      parseBlock,
      parseHandle,
      parseAffinityState,
      parseIpamConfig,
      parseIpPool,
      parseEndpoint,
    ])
      parse(text);
    expect(() => {
      try {
        parseJson(text);
      } catch (error) {
        if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error;
      }
    }).not.toThrow();
    for (const selector of [text, '!'.repeat(200_000), '('.repeat(200_000), ' '.repeat(1_000_000) + '#'])
      parseIpPool(
        JSON.stringify({ metadata: { name: 'p' }, spec: { cidr: '10.0.0.0/24', nodeSelector: selector } }),
      );
    expect(performance.now() - started).toBeLessThan(8_000);
  });
});
