import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { HostState, PublishedPort } from '../../src/host/dataplane.js';
import { PretendHost, endpoint, prepare } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';
import { Talker } from './talker.js';
import type { Protocol } from './talker.js';

const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26', 'fd65::/122'],
  masqueradeFrom: ['10.65.0.0/16', 'fd65::/64'],
  pools: ['10.65.0.0/16', 'fd65::/64'],
  published: [],
  internal: [],
};
const HOST4 = '198.51.100.1';
const HOST6 = '2001:db8::1';

let host: PretendHost;
let web: Namespace;
/** Of the outside, the host and containers 1 and 2; both containers serve port 80 on all their addresses. */
let [outside, own, one, two]: Talker[] = [];

function talker(found: Talker | undefined): Talker {
  if (found === undefined) throw new Error('not there');
  return found;
}

function open(port: Partial<PublishedPort>): PublishedPort[] {
  return (['tcp', 'udp'] as const).map(protocol => ({
    protocol,
    hostPort: 8080,
    address: '10.65.0.1',
    port: 80,
    ...port,
  }));
}

async function publish(...published: PublishedPort[]): Promise<void> {
  await host.call('apply', { ...STATE, published });
}

beforeAll(async () => {
  const clean = await prepare();
  host = await PretendHost.boot();
  const cable = await host.outside();
  await publish();
  web = await host.container(endpoint(1, ['10.65.0.1', 'fd65::1']));
  const db = await host.container(endpoint(2, ['10.65.0.2', 'fd65::2']));
  const all = [cable, host, web, db].map(space => new Talker(space));
  [outside, own, one, two] = all;
  await Promise.all([talker(one).serve(80, 'one'), talker(two).serve(80, 'two')]);
  return () => {
    host.shutDown();
    clean();
  };
});
beforeEach(() => publish());
afterAll(() => [outside, own, one, two].forEach(each => each?.end()));

describe.each<Protocol>(['tcp', 'udp'])('%s', protocol => {
  test('is open to everybody, by every address of the host, and closed again', async () => {
    expect(await talker(outside).who(protocol, HOST4, 8080)).toBe('nobody');
    await publish(...open({}), ...open({ address: 'fd65::1' }));
    // The container sees who it is.
    expect(await talker(outside).ask(protocol, HOST4, 8080)).toBe('one 198.51.100.2 5');
    expect(await talker(outside).ask(protocol, HOST6, 8080)).toBe('one 2001:db8::2 5');
    expect(await talker(two).ask(protocol, HOST4, 8080)).toBe('one 10.65.0.2 5');
    expect(await talker(two).ask(protocol, HOST6, 8080)).toBe('one fd65::2 5');
    for (const asking of [one, own]) {
      expect(await talker(asking).who(protocol, HOST4, 8080)).toBe('one');
      expect(await talker(asking).who(protocol, HOST6, 8080)).toBe('one');
    }
    expect(await talker(own).who(protocol, '127.0.0.1', 8080)).toBe('one');
    // What the host has no address for is not meant.
    expect(await talker(two).who(protocol, '10.65.0.1', 8080)).toBe('nobody');
    await publish();
    expect(await talker(outside).who(protocol, HOST4, 8080)).toBe('nobody');
    expect(await talker(own).who(protocol, '127.0.0.1', 8080)).toBe('nobody');
  });

  test('is open on one address of the host only, where one is given', async () => {
    await host.run('ip addr add 198.51.100.7/24 dev uplink');
    await publish(
      ...open({ hostAddress: HOST4 }),
      ...open({ hostAddress: '198.51.100.7', address: '10.65.0.2' }),
      ...open({ hostAddress: HOST6, address: 'fd65::1' }),
    );
    expect(await talker(outside).who(protocol, HOST4, 8080)).toBe('one');
    expect(await talker(outside).who(protocol, '198.51.100.7', 8080)).toBe('two');
    expect(await talker(outside).who(protocol, HOST6, 8080)).toBe('one');
    expect(await talker(own).who(protocol, '127.0.0.1', 8080)).toBe('nobody');
    await publish(...open({ hostAddress: '127.0.0.1' }));
    expect(await talker(own).who(protocol, '127.0.0.1', 8080)).toBe('one');
    expect(await talker(outside).who(protocol, HOST4, 8080)).toBe('nobody');
    await host.run('ip addr del 198.51.100.7/24 dev uplink');
  });
});

test('a container with several addresses reaches itself through the host by each of them', async () => {
  await web.run('ip addr add 10.65.0.3/32 dev cali0');
  await host.run('ip route add 10.65.0.3 dev cali1');
  await web.run('ip route change default via 169.254.1.1 src 10.65.0.3');
  await publish(...open({ containerAddresses: ['10.65.0.1', '10.65.0.3', 'fd65::1'] }));
  expect(await talker(one).who('tcp', HOST4, 8080)).toBe('one');
  await web.run('ip route change default via 169.254.1.1');
});

test('flows follow when a UDP port is published, moves, and is withdrawn', async () => {
  const ask = (): Promise<string> => talker(outside).who('udp', HOST4, 8080, 5353);
  expect(await ask()).toBe('nobody');
  await publish(...open({}));
  expect(await ask()).toBe('one');
  await publish(...open({ address: '10.65.0.2' }));
  expect(await ask()).toBe('two');
  const flows = (): Promise<string> => host.run('cat /proc/net/nf_conntrack');
  expect(await flows()).toMatch(/udp .* sport=5353 dport=8080 .*src=10.65.0.2/);
  const other = open({ hostPort: 8081 });
  await publish(...other);
  expect(await talker(outside).who('udp', HOST4, 8081, 5454)).toBe('one');
  await publish(...open({}), ...other);
  expect(await ask()).toBe('one');
  await publish(...other);
  expect(await flows()).not.toMatch(/udp .* sport=5353 dport=8080 .*src=10.65.0/);
  expect(await ask()).toBe('nobody');
  // What did not change was left alone.
  expect(await flows()).toMatch(/udp .* sport=5454 dport=8081 .*src=10.65.0.1/);
});

describe('127.0.0.1', () => {
  const localnet = async (n: number): Promise<string> =>
    (await host.run(`busybox sysctl -n net.ipv4.conf.cali${n}.route_localnet`)).trim();

  test('is opened for interfaces that need it, for as long as they do', async () => {
    expect(await localnet(1)).toBe('0');
    await publish(...open({}));
    expect([await localnet(1), await localnet(2)]).toEqual(['1', '0']);
    await publish(...open({ address: '10.65.0.2' }));
    expect([await localnet(1), await localnet(2)]).toEqual(['0', '1']);
    await publish(...open({ hostAddress: HOST4 }));
    expect([await localnet(1), await localnet(2)]).toEqual(['0', '0']);
    await publish(...open({ address: '10.65.0.4' }));
    await host.call('attach', endpoint(4));
    expect(await localnet(4)).toBe('1');
    await host.call('detach', 'cali4');
    await host.run('busybox sysctl -q -w net.ipv4.conf.cali1.route_localnet=1');
    expect(await host.call('repair', [endpoint(1, ['10.65.0.1', 'fd65::1'])])).toEqual([
      'net.ipv4.conf.cali1.route_localnet=0',
    ]);
  });

  test('stays open when another daemon takes over, until that knows of its ports', async () => {
    await publish(...open({}), ...open({ hostPort: 8082, address: '10.65.0.2' }));
    const next = await host.successor('linux');
    const both = [endpoint(1, ['10.65.0.1', 'fd65::1']), endpoint(2, ['10.65.0.2', 'fd65::2'])];
    expect(await next.call('repair', both)).toEqual([]);
    expect([await localnet(1), await localnet(2)]).toEqual(['1', '1']);
    await next.call('apply', { ...STATE, published: open({}) });
    expect([await localnet(1), await localnet(2)]).toEqual(['1', '0']);
    await next.call('apply', STATE);
    expect([await localnet(1), await localnet(2)]).toEqual(['0', '0']);
    next.shutDown();
  });

  test('of the host is not shown to a container that asks for it, route_localnet or not', async () => {
    await talker(own).serve(9999, 'secret');
    await publish(...open({}));
    await web.all([
      'ip route del local 127.0.0.0/8 dev lo table local',
      'ip route del local 127.0.0.1 dev lo table local',
      'busybox sysctl -q -w net.ipv4.conf.all.route_localnet=1',
      'ip route add 127.0.0.1/32 via 169.254.1.1 dev cali0 src 10.65.0.1',
    ]);
    expect(await talker(one).who('udp', HOST4, 9999)).toBe('secret');
    expect(await talker(one).who('udp', '127.0.0.1', 9999)).toBe('nobody');
    expect(await talker(one).who('udp', '127.0.0.1', 8080)).toBe('nobody');
  });
});

test.each(['nft', 'legacy'])('lives beside Docker with iptables-%s', async backend => {
  const iptables = `iptables-${backend} -w`;
  const docker = await host.namespace();
  await host.run(`ip link add docker0 type veth peer name eth0 netns ${docker.pid}`);
  await host.all(['ip addr add 172.17.0.1/16 dev docker0', 'ip link set docker0 up']);
  await docker.all([
    'ip addr add 172.17.0.2/16 dev eth0',
    'ip link set eth0 up',
    'ip route add default via 172.17.0.1',
  ]);
  await host.all([
    `${iptables} -P FORWARD DROP`,
    `${iptables} -N DOCKER-USER`,
    `${iptables} -A FORWARD -j DOCKER-USER`,
    `${iptables} -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    `${iptables} -A FORWARD -o docker0 -p tcp --dport 80 -j ACCEPT`,
    `${iptables} -t nat -N DOCKER`,
    `${iptables} -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER`,
    `${iptables} -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER`,
    `${iptables} -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE`,
    `${iptables} -t nat -A DOCKER ! -i docker0 -p tcp --dport 9090 -j DNAT --to-destination 172.17.0.2:80`,
  ]);
  const theirs = new Talker(docker);
  await theirs.serve(80, 'docker');
  await host.call('dockerStarted');
  await publish(...open({}));
  for (const asking of [outside, own, two]) {
    expect(await talker(asking).who('tcp', HOST4, 8080)).toBe('one');
    expect(await talker(asking).who('tcp', HOST4, 9090)).toBe('docker');
  }
  expect(await theirs.who('tcp', HOST4, 8080)).toBe('one');
  expect(await talker(one).who('tcp', HOST4, 8080)).toBe('one');
  await host.all([
    `${iptables} -P FORWARD ACCEPT`,
    `${iptables} -F`,
    `${iptables} -t nat -F`,
    `${iptables} -X`,
    `${iptables} -t nat -X`,
    'ip link del docker0',
  ]);
  theirs.end();
});
