import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { HostState } from '../../src/host/dataplane.js';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';

const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26', '10.65.9.9/32', 'fd65::/122'],
  masqueradeFrom: ['10.65.0.0/16'],
  pools: ['10.65.0.0/16'],
  published: [],
  internal: [],
};
const WEB = endpoint(1, ['10.65.0.1', 'fd65::1']);

let host: PretendHost;
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
});
afterEach(() => host.shutDown());

/** Everything of ours: routes by protocol number, and the nftables rules, without what varies. */
async function ours(): Promise<string> {
  const routes = (await host.run('ip route show proto 81')) + (await host.run('ip -6 route show proto 81'));
  return routes.replace(/ linkdown/g, '') + (await host.run('nft list ruleset'));
}

test('blocks get blackhole routes, but not blocks of one address', async () => {
  await host.call('apply', STATE);
  const before = await ours();
  expect(before).toContain('blackhole 10.65.0.0/26');
  expect(before).toContain('blackhole fd65::/122');
  expect(before).not.toContain('10.65.9.9');
  await host.call('apply', STATE);
  expect(await ours()).toBe(before);
});

test('apply removes its old blocks, and neither endpoint routes nor what is foreign', async () => {
  await host.outside();
  await host.all([
    'ip route add blackhole 10.77.0.0/26 proto 81',
    'ip route add blackhole 10.78.0.0/26 proto bird',
  ]);
  await host.run('ip route add 10.79.0.0/26 via 198.51.100.2');
  await host.run('nft -f -', 'table inet theirs { chain c { counter; }; }');
  await host.call('attach', WEB);
  await host.call('apply', STATE);
  const all = await host.run('ip route');
  for (const kept of ['10.78.0.0/26', '10.79.0.0/26', '10.65.0.1 dev cali1', 'blackhole 10.65.0.0/26']) {
    expect(all).toContain(kept);
  }
  expect(all).not.toContain('10.77.0.0/26');
  expect(await host.run('nft list tables')).toContain('theirs');
});

test('what somebody removes comes back by itself', async () => {
  await host.call('apply', STATE);
  await host.call('attach', WEB);
  const before = await ours();
  await host.all(['ip route flush proto 81', 'ip -6 route flush proto 81']);
  await until(async () => (await ours()) === before, 2000);
  await host.run('nft flush ruleset');
  await until(async () => (await ours()) === before, 2000);
  await host.run('nft flush chain inet calico_libnetwork postrouting');
  await until(async () => (await ours()) === before, 2000);
  await host.run('nft add element inet calico_libnetwork masquerade_from4 { 1.2.3.4 }');
  await until(async () => (await ours()) === before, 2000);
  await host.all(['ip link set cali1 down', 'ip link set cali1 up']);
  await until(async () => (await ours()) === before, 2000);
  await host.all(['ip link set lo down', 'ip link set lo up']);
  await until(async () => (await ours()) === before, 2000);
});

test('a detached endpoint does not come back', async () => {
  await host.call('apply', STATE);
  await host.call('attach', WEB);
  await host.call('detach', 'cali1');
  await new Promise(resolve => setTimeout(resolve, 1500));
  expect(await ours()).not.toContain('10.65.0.1');
});

test('repair puts back routes and settings of the endpoints it is given, and says so', async () => {
  const felix = await PretendHost.boot();
  await felix.call('attach', WEB);
  felix.shutDown();
  await host.run('ip link add cali1 address ee:ee:ee:ee:ee:ee up type veth peer name temp1');
  const repaired = await host.call('repair', [WEB, endpoint(2)]);
  expect(repaired).toEqual(
    expect.arrayContaining(['unicast route 10.65.0.1/32', 'unicast route fd65::1/128']),
  );
  expect(repaired).toContain('net.ipv4.conf.cali1.proxy_arp=1');
  expect(await host.call('repair', [WEB, endpoint(2)])).toEqual([]);
  await host.run('ip route flush proto 81');
  await until(async () => (await ours()).includes('10.65.0.1 dev cali1'), 2000);
});

test('a shared address stays with the endpoint that took it last', async () => {
  await host.call('attach', endpoint(1));
  await host.call('attach', { ...endpoint(2), addresses: ['10.65.0.1'] });
  await host.run('ip route flush proto 81');
  await until(async () => (await ours()).includes('10.65.0.1 dev cali2'), 2000);
});

test('removeAll leaves nothing, and nothing comes back', async () => {
  const before = await ours();
  await host.call('apply', STATE);
  await host.call('attach', WEB);
  await host.run('iptables-nft -P FORWARD DROP');
  await until(async () => (await host.run('iptables-nft -S FORWARD')).includes('calico'));
  await host.call('removeAll');
  await new Promise(resolve => setTimeout(resolve, 1500));
  await host.run('nft delete table ip filter');
  expect(await ours()).toBe(before);
});

test('is quiet when nothing is wrong', async () => {
  await host.call('apply', STATE);
  await host.call('attach', WEB);
  await new Promise(resolve => setTimeout(resolve, 2500));
  expect(JSON.stringify(await host.call('logged'))).not.toMatch(/put right|cannot/);
});

test('an interface that the kernel lost is back in its container, with all it had', async () => {
  await host.call('apply', STATE);
  // Addresses to ask from.
  await host.outside();
  const wiring = endpoint(1, ['10.65.0.1', 'fd65::1']);
  const container = await host.container(wiring);
  await container.run('busybox sysctl -q -w net.ipv6.conf.default.disable_ipv6=1');
  await host.run('ip link del cali1');
  await host.call('rewire', wiring, {
    sandbox: `/proc/${container.pid}/ns/net`,
    interfaceName: 'cali0',
    routes: [
      { destination: '169.254.1.1/32' },
      { destination: 'fe80::ecee:eeff:feee:eeee/128' },
      { destination: '0.0.0.0/0', nextHop: '169.254.1.1' },
      { destination: '::/0', nextHop: 'fe80::ecee:eeff:feee:eeee' },
    ],
  });
  expect(await container.run('ip -o link show cali0')).toContain(wiring.mac);
  expect(await container.run('ip route')).toBe(
    'default via 169.254.1.1 dev cali0 \n169.254.1.1 dev cali0 scope link \n',
  );
  await until(() => host.reaches('fd65::1'));
  expect(await host.reaches('10.65.0.1')).toBe(true);
  expect(await host.call('hostInterfaces')).toEqual([{ name: 'cali1', isInUse: true }]);
});
