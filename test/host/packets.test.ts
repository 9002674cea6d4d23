import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { HostState } from '../../src/host/dataplane.js';
import { PretendHost, endpoint, prepare } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';

const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26', 'fd65::/122'],
  masqueradeFrom: ['10.65.0.0/16', 'fd65::/64'],
  pools: ['10.65.0.0/16', '10.66.0.0/16', 'fd65::/64', 'fd66::/64'],
  published: [],
  internal: [],
};

let host: PretendHost;
let [web, db]: Namespace[] = [];
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
  await host.call('apply', STATE);
  web = await host.container(endpoint(1, ['10.65.0.1', 'fd65::1']));
  db = await host.container(endpoint(2, ['10.65.0.2', 'fd65::2']));
});
afterEach(() => host.shutDown());

test('containers reach each other and the host, without a default route on the host', async () => {
  await host.outside();
  expect(await host.run('ip route show default')).toBe('');
  expect(await web?.reaches('10.65.0.2')).toBe(true);
  expect(await db?.reaches('10.65.0.1')).toBe(true);
  expect(await web?.reaches('fd65::2')).toBe(true);
  expect(await host.reaches('10.65.0.1')).toBe(true);
  expect(await host.reaches('fd65::1')).toBe(true);
  expect(await web?.run('ip neigh show 169.254.1.1')).toContain('ee:ee:ee:ee:ee:ee');
});

test('they go on when the uplink goes down with the default route', async () => {
  await host.outside();
  await host.run('ip route add default via 198.51.100.2');
  expect(await web?.reaches('10.65.0.2')).toBe(true);
  await host.run('ip link set uplink down');
  await web?.run('ip neigh flush all');
  expect(await web?.reaches('10.65.0.2')).toBe(true);
  expect(await web?.reaches('fd65::2')).toBe(true);
});

test('the gateway answers ARP at once, and what is sent to it goes nowhere', async () => {
  await web?.run('ip neigh flush all');
  const started = Date.now();
  expect(await web?.reaches('10.65.0.2')).toBe(true);
  expect(Date.now() - started).toBeLessThan(400);
  await expect(web?.run('busybox ping -c 1 -W 1 169.254.1.1')).rejects.toThrow('100% packet loss');
  // Not even round and round on lo until its TTL ends.
  const [names = '', values = ''] = (await host.run('busybox grep Icmp: /proc/net/snmp')).split('\n');
  expect(values.split(' ')[names.split(' ').indexOf('OutTimeExcds')]).toBe('0');
});

test('a packet that comes too early holds back none that come after it', async () => {
  await host.outside();
  for (const address of ['10.65.0.3', 'fd65::3']) {
    const wiring = endpoint(3, [address]);
    await host.call('attach', wiring);
    expect(await host.reaches(address)).toBe(false);
    await host.container(wiring);
    const started = Date.now();
    expect(await host.reaches(address)).toBe(true);
    expect(Date.now() - started, address).toBeLessThan(400);
    await host.call('detach', wiring.hostInterface);
  }
});

test('a container cannot send with an address that is not its own', async () => {
  await web?.run('ip addr add 10.65.0.9/32 dev cali0');
  await expect(web?.run('busybox ping -c 1 -W 1 -I 10.65.0.9 10.65.0.2')).rejects.toThrow('100% packet loss');
});

test('a free address of an own block is refused here and not sent to the default gateway', async () => {
  const outside = await host.outside();
  await host.all(['ip route add default via 198.51.100.2', 'ip -6 route add default via 2001:db8::2']);
  await outside.run('ip addr add 10.65.0.60/32 dev lo');
  expect(await web?.reaches('10.65.0.60')).toBe(false);
  await expect(host.run('ip route get 10.65.0.60')).rejects.toThrow();
  await expect(host.run('ip route get fd65::3')).rejects.toThrow();
  await host.call('apply', { ...STATE, ownBlocks: [] });
  expect(await host.run('ip route get 10.65.0.60')).toContain('uplink');
  expect(await web?.reaches('10.65.0.2')).toBe(true);
});

describe('masquerading', () => {
  test('towards the outside, whose way back knows the host only', async () => {
    const outside = await host.outside();
    expect(await outside.run('ip route show default')).toBe('');
    expect(await web?.reaches('198.51.100.2')).toBe(true);
    expect(await web?.reaches('2001:db8::2')).toBe(true);
    await host.call('apply', { ...STATE, masqueradeFrom: [] });
    expect(await db?.reaches('198.51.100.2')).toBe(false);
  });

  test('not towards pools, wherever they are', async () => {
    const outside = await host.outside();
    await outside.all(['ip addr add 10.66.0.1/32 dev lo', 'ip route add 10.65.0.0/26 via 198.51.100.1']);
    await host.run('ip route add 10.66.0.0/16 via 198.51.100.2');
    await outside.run(
      'nft -f -',
      'table ip seen { chain in { type filter hook input priority 0; ip saddr 10.65.0.1 counter accept; counter drop; }; }',
    );
    expect(await web?.reaches('10.66.0.1')).toBe(true);
    expect(await web?.reaches('198.51.100.2')).toBe(false);
  });
});
