import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { HostState } from '../../src/host/dataplane.js';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';
import { Talker } from './talker.js';

/** Containers 1 and 2 of an internal network, 3 of another, 4 of one that is not; and a member of the first elsewhere. */
const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26', 'fd65::/122'],
  masqueradeFrom: ['10.65.0.0/16', 'fd65::/64'],
  pools: ['10.65.0.0/16', 'fd65::/64'],
  published: [1, 4].map(n => ({
    protocol: 'udp',
    hostPort: 8080 + n,
    address: `10.65.0.${n}`,
    port: 80,
  })),
  internal: [
    {
      interfaces: ['cali1', 'cali2'],
      members: ['10.65.0.1', 'fd65::1', '10.65.0.2', 'fd65::2', '10.65.9.1', 'fd65::9:1'],
    },
    { interfaces: ['cali3'], members: ['10.65.0.3', 'fd65::3'] },
  ],
};
const HOST4 = '198.51.100.1';
const HOST6 = '2001:db8::1';

let host: PretendHost;
let outside: Namespace;
const containers: Namespace[] = [];
let talkers: Talker[] = [];

function container(n: number): Namespace {
  const found = containers[n - 1];
  if (found === undefined) throw new Error(`no container ${n}`);
  return found;
}

/** Number 0 is the outside. */
function talker(n: number): Talker {
  const found = talkers[n];
  if (found === undefined) throw new Error(`no talker ${n}`);
  return found;
}

beforeAll(async () => {
  const clean = await prepare();
  host = await PretendHost.boot();
  outside = await host.outside();
  await host.call('apply', STATE);
  for (const n of [1, 2, 3, 4]) {
    containers.push(await host.container(endpoint(n, [`10.65.0.${n}`, `fd65::${n}`])));
  }
  talkers = [outside, ...containers].map(space => new Talker(space));
  for (const n of [1, 4]) await talker(n).serve(80, `container${n}`);
  // The other host's containers are outside's own addresses.
  await outside.all([
    'ip addr add 10.65.9.1/32 dev lo',
    'ip addr add fd65::9:1/128 dev lo nodad',
    'ip addr add 10.65.9.2/32 dev lo',
    `ip route add 10.65.0.0/26 via ${HOST4} src 10.65.9.1`,
    `ip -6 route add fd65::/122 via ${HOST6} src fd65::9:1`,
  ]);
  await host.all([
    'ip route add 10.65.9.0/26 via 198.51.100.2',
    'ip -6 route add fd65::9:0/122 via 2001:db8::2',
  ]);
  // The far side's link-local address is on probation for a second, and it asks for its neighbours with that.
  await until(() => outside.reaches(HOST6));
  return () => {
    host.shutDown();
    clean();
  };
});
afterAll(() => talkers.forEach(each => each.end()));

test('members reach each other, on this host and on another', async () => {
  for (const address of ['10.65.0.2', 'fd65::2', '10.65.9.1', 'fd65::9:1']) {
    expect(await container(1).reaches(address), address).toBe(true);
  }
  await container(1).run('ip neigh flush all');
  expect(await container(2).reaches('10.65.0.1')).toBe(true);
  expect(await container(2).reaches('fd65::1')).toBe(true);
  expect(await outside.reaches('10.65.0.1')).toBe(true);
  expect(await outside.reaches('fd65::1')).toBe(true);
});

/** What `space` reaches of these. */
async function reached(space: Namespace, addresses: readonly string[]): Promise<string[]> {
  const found = await Promise.all(addresses.map(address => space.reaches(address)));
  return addresses.filter((_address, index) => found[index]);
}

test('they reach nothing else, and nothing else them', async () => {
  const others = [
    '10.65.0.3',
    'fd65::3',
    '10.65.0.4',
    'fd65::4',
    HOST4,
    HOST6,
    '198.51.100.2',
    '2001:db8::2',
  ];
  const members = ['10.65.0.1', 'fd65::1'];
  const found = await Promise.all([
    reached(container(1), [...others, '10.65.9.2', 'fe80::ecee:eeff:feee:eeee%cali0']),
    ...[container(3), container(4), host].map(space => reached(space, members)),
  ]);
  expect(found).toEqual([[], [], [], []]);
  const away = await outside.run('busybox ping -c 1 -W 1 -I 10.65.9.2 10.65.0.1').catch(() => 'no answer');
  expect(away).toBe('no answer');
  // The fourth is like any other container.
  expect(await reached(container(4), ['198.51.100.2', HOST4, HOST6])).toEqual(['198.51.100.2', HOST4, HOST6]);
});

describe('published ports', () => {
  test('of others are not for them, nor are their own for anybody', async () => {
    expect(await talker(0).who('udp', HOST4, 8084)).toBe('container4');
    expect(await talker(1).who('udp', HOST4, 8084)).toBe('nobody');
    expect(await talker(2).who('udp', HOST4, 8081)).toBe('nobody');
    expect(await talker(4).who('udp', HOST4, 8081)).toBe('nobody');
    expect(await talker(0).who('udp', HOST4, 8081)).toBe('nobody');
    expect(await talker(2).who('udp', '10.65.0.1', 80)).toBe('container1');
  });
});

test('a member learns how long packets to another host may be', async () => {
  await host.run('ip link set uplink mtu 1300');
  const long = 'x'.repeat(20_000);
  await talker(0).serve(80, 'elsewhere');
  expect(await talker(1).ask('tcp', '10.65.9.1', 80, long)).toBe('elsewhere 10.65.0.1 20000');
  expect(await container(1).run('ip route get 10.65.9.1')).toContain('mtu 1300');
  await host.run('ip link set uplink mtu 1500');
});

test('a network that is no longer internal is like any other', async () => {
  await host.call('apply', { ...STATE, internal: [] });
  expect(await container(1).reaches('198.51.100.2')).toBe(true);
  expect(await host.reaches('10.65.0.1')).toBe(true);
  expect(await talker(0).who('udp', HOST4, 8081)).toBe('container1');
});
