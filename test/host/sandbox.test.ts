import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { EndpointWiring, HostState } from '../../src/host/dataplane.js';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';

const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26'],
  masqueradeFrom: [],
  pools: ['10.65.0.0/16', 'fd65::/64'],
  published: [],
  internal: [],
};

/** Two endpoints of one container. */
const FIRST: EndpointWiring = { ...endpoint(1, ['10.65.0.1', 'fd65::1']), sharesSandbox: true };
const SECOND: EndpointWiring = {
  ...endpoint(2, ['10.65.0.2', 'fd65::2']),
  sharesSandbox: true,
  gateway6: 'fe80::2',
};

let host: PretendHost;
let [two, other]: Namespace[] = [];
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
  await host.call('apply', STATE);
  two = await host.container({ ...FIRST, sharesSandbox: false });
  other = await host.container(endpoint(3, ['10.65.0.3', 'fd65::3']));
});
afterEach(() => host.shutDown());

/** Connects the container to its second network, as dockerd does after Join. */
async function connect(): Promise<void> {
  await host.call('attach', SECOND);
  await host.run(`ip link set temp2 netns ${two?.pid}`);
  await two?.all([
    'ip link set temp2 name cali1',
    'ip addr add 10.65.0.2/32 dev cali1',
    'ip addr add fd65::2/128 dev cali1 nodad',
    'ip link set cali1 up',
    'ip route add 169.254.1.2/32 dev cali1 scope link',
  ]);
}

const ping = (from: string, to: string): Promise<string> =>
  two?.run(`busybox ping ${to.includes(':') ? '-6 ' : ''}-c 1 -W 1 -I ${from} ${to}`).then(
    () => 'answered',
    () => 'lost',
  ) ?? Promise.resolve('');

test('further next hops answer, and nothing goes round where they are', async () => {
  await connect();
  await two?.run('ip route add 10.65.0.3/32 via 169.254.1.2 dev cali1');
  expect(await ping('10.65.0.2', '10.65.0.3')).toBe('answered');
  expect(await two?.run('ip neigh show 169.254.1.2 dev cali1')).toContain('ee:ee:ee:ee:ee:ee');
  expect(await two?.reaches('169.254.1.2')).toBe(false);
  const [names = '', values = ''] = (await host.run('busybox grep Icmp: /proc/net/snmp')).split('\n');
  expect(values.split(' ')[names.split(' ').indexOf('OutTimeExcds')]).toBe('0');
});

test('both addresses work by either interface, in both directions, also when asking for the next hop', async () => {
  await connect();
  await host.call('repair', [FIRST]);
  for (const [device, hop] of [
    ['cali0', '169.254.1.1'],
    ['cali1', '169.254.1.2'],
  ]) {
    await two?.run(`ip route replace 10.65.0.3/32 via ${hop} dev ${device}`);
    for (const address of ['10.65.0.1', '10.65.0.2']) {
      await two?.run('ip neigh flush all');
      expect(await ping(address, '10.65.0.3'), `${address} by ${device}`).toBe('answered');
      expect(await other?.reaches(address), `${address} answering by ${device}`).toBe(true);
    }
  }
});

test('accepting that is said by repair for an endpoint that is running, and taken back', async () => {
  await connect();
  await two?.run('ip route replace 10.65.0.3/32 via 169.254.1.1 dev cali0');
  expect(await ping('10.65.0.2', '10.65.0.3')).toBe('lost');
  expect(await host.call('repair', [FIRST, SECOND])).toEqual([
    'net.ipv4.conf.cali1.rp_filter=2',
    'address 169.254.1.0 of cali1',
  ]);
  await two?.run('ip neigh flush all');
  expect(await ping('10.65.0.2', '10.65.0.3')).toBe('answered');
  expect(await host.call('repair', [{ ...FIRST, sharesSandbox: false }])).toEqual([
    'net.ipv4.conf.cali1.rp_filter=1',
  ]);
  expect(await ping('10.65.0.2', '10.65.0.3')).toBe('lost');
});

test('an IPv6 next hop of its own is there at once, and comes back', async () => {
  await connect();
  await host.call('repair', [SECOND]);
  await two?.run('ip -6 route add fd65::3 via fe80::2 dev cali1');
  expect(await ping('fd65::2', 'fd65::3')).toBe('answered');
  expect(await two?.run('ip -6 neigh show fe80::2')).toContain('ee:ee:ee:ee:ee:ee');
  expect(await host.call('repair', [SECOND])).toEqual([]);
  await host.all(['ip link set cali2 down', 'ip link set cali2 up']);
  const addresses = (): Promise<string> => host.run('ip -6 addr show dev cali2');
  await until(async () => (await addresses()).includes('fe80::2/128'), 2000);
  expect((await addresses()).match(/fe80::2\/128/g)).toHaveLength(1);
  await host.run('ip addr del fe80::2/128 dev cali2');
  expect(await host.call('repair', [SECOND])).toEqual(['address fe80::2 of cali2']);
});
