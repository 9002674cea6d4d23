import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { PeerHop } from '../../src/host/peers.js';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';

const under = (via: string): PeerHop => ({ via, by: 'underlay' });
const NEAR = under('198.51.100.2');
const NEAR6 = under('2001:db8::2');

let host: PretendHost;
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
  await host.outside();
});
afterEach(() => host.shutDown());

/** Routes of our protocol number with a next hop, sorted, without what varies. */
async function routes(): Promise<string[]> {
  const all = (await host.run('ip route show proto 81')) + (await host.run('ip -6 route show proto 81'));
  return all
    .split('\n')
    .filter(line => line.includes(' via '))
    .map(line => line.replace(/ (linkdown|pref medium|metric 1024)/g, '').trim())
    .sort();
}

test('routes lead to next hops, move, and go; others of ours and of anybody stay', async () => {
  await host.all([
    'ip route add 10.70.0.0/26 via 198.51.100.2 proto bird',
    'ip route add blackhole 10.65.0.0/26 proto 81',
  ]);
  await host.run('ip route add 10.71.0.0/26 via 198.51.100.2 proto 81');
  await host.call('routeAll', [
    ['10.65.0.64/26', NEAR],
    ['10.65.0.3/32', NEAR],
    ['fd65::40/122', NEAR6],
  ]);
  const first = [
    '10.65.0.3 via 198.51.100.2 dev uplink',
    '10.65.0.64/26 via 198.51.100.2 dev uplink',
    'fd65::40/122 via 2001:db8::2 dev uplink',
  ];
  expect(await routes()).toEqual(first);
  await host.call('route', [
    ['10.65.0.64/26', under('198.51.100.3')],
    ['10.65.0.3/32', null],
    ['10.65.0.128/26', NEAR],
  ]);
  expect(await routes()).toEqual([
    '10.65.0.128/26 via 198.51.100.2 dev uplink',
    '10.65.0.64/26 via 198.51.100.3 dev uplink',
    'fd65::40/122 via 2001:db8::2 dev uplink',
  ]);
  const all = await host.run('ip route');
  expect(all).toContain('10.70.0.0/26 via 198.51.100.2 dev uplink proto bird');
  expect(all).toContain('blackhole 10.65.0.0/26 proto 81');
  expect(all).not.toContain('10.71.0.0/26');
});

test('what somebody deletes comes back within a second, and nothing that is not wanted', async () => {
  await host.call('routeAll', [
    ['10.65.0.64/26', NEAR],
    ['10.65.0.128/26', NEAR],
    ['fd65::40/122', NEAR6],
  ]);
  const before = await routes();
  await host.run('ip route del 10.65.0.64/26');
  await until(async () => (await routes()).length === 3, 1000);
  await host.all(['ip route flush proto 81', 'ip -6 route flush proto 81']);
  await until(async () => (await routes()).length === 3, 1000);
  await host.all([
    'ip link set uplink down',
    'ip link set uplink up',
    'ip -6 addr add 2001:db8::1/64 dev uplink nodad',
  ]);
  await until(async () => (await routes()).length === 3, 2000);
  expect(await routes()).toEqual(before);
  await host.call('route', [['10.65.0.64/26', null]]);
  await new Promise(resolve => setTimeout(resolve, 1500));
  expect(await routes()).toHaveLength(2);
});

test('a route of somebody else stays in its place, is named, and ours comes when it goes', async () => {
  await host.run('ip route add 10.65.0.64/26 via 198.51.100.9 proto bird');
  await host.call('routeAll', [['10.65.0.64/26', NEAR]]);
  await host.call('route', [['10.65.0.64/26', under('198.51.100.3')]]);
  expect(await host.run('ip route show 10.65.0.64/26')).toContain('via 198.51.100.9 dev uplink proto bird');
  expect(JSON.stringify(await host.call('logged'))).toContain('another program has a route there');
  await host.run('ip route del 10.65.0.64/26');
  await until(async () => (await routes()).length === 1, 2500);
  expect(await routes()).toEqual(['10.65.0.64/26 via 198.51.100.3 dev uplink']);
});

test('a next hop out of reach is named, does not keep others back, and is tried again', async () => {
  await host.call('routeAll', [
    ['10.65.0.64/26', under('203.0.113.7')],
    ['10.65.0.128/26', NEAR],
  ]);
  expect(await routes()).toEqual(['10.65.0.128/26 via 198.51.100.2 dev uplink']);
  expect(JSON.stringify(await host.call('logged'))).toContain('10.65.0.64/26 via 203.0.113.7');
  await host.run('ip addr add 203.0.113.1/24 dev uplink');
  await until(async () => (await routes()).length === 2, 1000);
});

test('routes follow an address that moves to another interface', async () => {
  await host.call('routeAll', [['10.65.0.64/26', NEAR]]);
  await host.all([
    'ip link add bridge0 type bridge',
    'ip link set bridge0 up',
    'ip link set uplink master bridge0',
  ]);
  await host.all(['ip addr del 198.51.100.1/24 dev uplink', 'ip addr add 198.51.100.1/24 dev bridge0']);
  await until(async () => (await routes())[0] === '10.65.0.64/26 via 198.51.100.2 dev bridge0', 2000);
});

test('a block and an address change hands: the blackhole and the container first, then the other host, and back', async () => {
  const state = { ownBlocks: ['10.65.0.0/26'], masqueradeFrom: [], pools: [], published: [], internal: [] };
  await host.call('routeAll', []);
  await host.call('apply', state);
  await host.call('attach', endpoint(1));
  // The other host uses an address of our block, and has the whole block a moment later.
  await host.call('route', [
    ['10.65.0.1/32', NEAR],
    ['10.65.0.9/32', NEAR],
    ['10.65.0.0/26', NEAR],
  ]);
  const shown = async () => (await host.run('ip route show proto 81')).replace(/ linkdown/g, '');
  expect(await shown()).toContain('10.65.0.1 dev cali1');
  expect(await shown()).toContain('blackhole 10.65.0.0/26');
  expect(await shown()).toContain('10.65.0.9 via 198.51.100.2');
  await host.call('apply', { ...state, ownBlocks: [] });
  await host.call('detach', 'cali1');
  await until(async () => (await routes()).length === 3, 1000);
  await host.call('apply', state);
  await host.call('route', [
    ['10.65.0.1/32', null],
    ['10.65.0.0/26', null],
  ]);
  await until(async () => (await shown()).includes('blackhole 10.65.0.0/26'), 1000);
  await host.call('attach', endpoint(1));
  expect(await shown()).toContain('10.65.0.1 dev cali1');
  expect(await routes()).toEqual(['10.65.0.9 via 198.51.100.2 dev uplink']);
});

test('beside Felix nothing is routed', async () => {
  const felix = await PretendHost.boot('felix');
  await felix.outside();
  await felix.call('routeAll', [['10.65.0.64/26', NEAR]]);
  expect(await felix.run('ip route')).not.toContain('10.65.0.64');
  expect(await felix.call('sourceTo', '198.51.100.2')).toBe('198.51.100.1');
  felix.shutDown();
});

test('removeAll takes them away, and they stay away', async () => {
  await host.call('routeAll', [['10.65.0.64/26', NEAR]]);
  await host.call('removeAll');
  await new Promise(resolve => setTimeout(resolve, 1500));
  expect(await routes()).toEqual([]);
});

test('addresses of the host are told with their interface, and which of them last', async () => {
  // The kernel gives a link-local one when the link is up.
  const linkLocal = async () =>
    (await host.call('addresses')).find(({ address }) => address.startsWith('fe80'));
  await until(async () => (await linkLocal()) !== undefined);
  const found = await host.call('addresses');
  expect(
    found
      .filter(({ isLasting }) => isLasting)
      .map(one => `${one.interfaceName} ${one.address}/${one.prefixLength}`),
  ).toEqual(expect.arrayContaining(['uplink 198.51.100.1/24', 'uplink 2001:db8::1/64']));
  expect((await linkLocal())?.isLasting).toBe(false);
  expect(await host.call('sourceTo', '198.51.100.77')).toBe('198.51.100.1');
  expect(await host.call('sourceTo', '203.0.113.1')).toBeUndefined();
});

test('ten thousand routes that go at once come back, and nothing breaks', async () => {
  const many = Array.from(
    { length: 10_000 },
    (_, n) => [`10.${128 + (n >> 14)}.${(n >> 6) & 255}.${(n & 63) * 4}/30`, NEAR] as const,
  );
  await host.call('routeAll', many);
  expect(await routes()).toHaveLength(many.length);
  await host.run('ip route flush proto 81');
  await until(async () => (await routes()).length === many.length, 15_000);
});
