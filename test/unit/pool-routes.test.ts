import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import type { ForeignRoute } from '../../src/host/dataplane.js';
import { PoolLifecycle } from '../../src/ipam/pool-lifecycle.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { cidr, closeNodes, node } from './ipam-node.js';

afterEach(closeNodes);

describe('a pool made on the fly', () => {
  it.each([
    ["the host's own segment", '10.99.0.0/24', '10.99.0.0/24'],
    ["a part of the host's segment", '10.99.0.128/25', '10.99.0.0/24'],
    ['a range around a route', '10.0.0.0/8', '10.20.0.0/16'],
  ])('does not take %s from the host', async (_what, subnet, route) => {
    const routes = [
      { cidr: '10.20.0.0/16', onLink: false },
      { cidr: '10.99.0.0/24', onLink: true },
    ];
    const store = new MemoryStore();
    const { facts } = await node(store, 'a');
    const pools = new PoolLifecycle(
      store,
      facts,
      { autoPools: true, vxlanMode: 'Never' },
      async () => routes,
      pino({ level: 'silent' }),
    );
    await expect(pools.poolFor(cidr(subnet))).rejects.toThrow(
      `${route}, which this host reaches by a route of its own`,
    );
    expect(Object.keys(store.dump())).toEqual([]);
    // What a router leads to as a whole may be given out in part.
    expect((await pools.poolFor(cidr('10.20.5.0/24'))).name).toBe('docker-10-20-5-0-24');
  });

  it('by another host does not take what is on a wire of this one; what is routed into it may be of its own hosts', async () => {
    const store = new MemoryStore();
    const lifecycle = async (name: string, routes: readonly ForeignRoute[]) => {
      const { facts } = await node(store, name);
      const options = { autoPools: true, vxlanMode: 'Never' } as const;
      return new PoolLifecycle(store, facts, options, async () => routes, pino({ level: 'silent' }));
    };
    const subnet = cidr('198.51.100.0/24');
    await (await lifecycle('a', [])).poolFor(subnet);
    const [bridged, routed] = [
      await lifecycle('b', [{ cidr: '198.51.100.0/24', onLink: true }]),
      await lifecycle('c', [{ cidr: '198.51.100.64/26', onLink: false }]),
    ];
    await expect(bridged.checkHere([subnet])).rejects.toThrow('198.51.100.0/24, which this host reaches');
    await expect(routed.checkHere([subnet])).resolves.toBeUndefined();
    await expect(bridged.checkHere([cidr('203.0.113.0/24')])).resolves.toBeUndefined();
  });
});
