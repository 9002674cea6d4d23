import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';
import { PEER, PEER6, TUNNEL, TUNNEL6, far, near } from './tunnel-bed.js';

/** Who may use the tunnel: another host, by packets that say what its device would say. */

const STRANGER = { 4: '198.51.100.99', 6: '2001:db8::99' };
let host: PretendHost;
let outside: Namespace;
let container: Namespace;
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
  outside = await host.outside();
  await outside.all([
    `ip addr add ${STRANGER[4]}/24 dev cable`,
    `ip addr add ${STRANGER[6]}/64 dev cable nodad`,
  ]);
  container = await host.container(endpoint(1, ['10.65.0.1', 'fd65::1']));
});
afterEach(() => host.shutDown());

/** Whether pings through the tunnel arrive in the container; it does not matter whether it can answer. */
async function arrives(): Promise<{ 4: boolean; 6: boolean }> {
  const chain = 'chain inet seen c { type filter hook prerouting priority -400; }';
  await container.run(
    'nft -f -',
    `add table inet seen; delete table inet seen; add table inet seen; add ${chain}
     add rule inet seen c ip saddr 10.65.0.64 counter
     add rule inet seen c ip6 saddr fd65::40 icmpv6 type echo-request counter`,
  );
  await Promise.all(
    ['-4 -I 10.65.0.64 -c 1 -W 1 10.65.0.1', '-6 -I fd65::40 -c 1 -W 1 fd65::1'].map(args =>
      outside.run(`busybox ping ${args}`).catch(() => undefined),
    ),
  );
  const listing = await container.run('nft list chain inet seen c');
  const [four, six] = [...listing.matchAll(/packets (\d+)/g)].map(([, count]) => Number(count) > 0);
  return { 4: four === true, 6: six === true };
}

function tables(): Promise<string> {
  return host.run('nft list tables');
}

async function rules(): Promise<string> {
  const names = ['calico_libnetwork_vxlan4', 'calico_libnetwork_vxlan6'];
  return (await Promise.all(names.map(name => host.run(`nft list table inet ${name}`).catch(() => '')))).join(
    '',
  );
}

test('what a stranger encapsulates is not unpacked; what another host of the cluster does, is', async () => {
  await near(host);
  await far(outside, STRANGER);
  expect(await arrives()).toEqual({ 4: false, 6: false });
  // The same packets, when the datastore says that this is a host.
  await host.call('tunnel', 4, TUNNEL, [PEER, { ...PEER, mac: '66:00:00:00:00:03', host: STRANGER[4] }]);
  expect(await arrives()).toEqual({ 4: true, 6: false });
  await host.call('tunnel', 6, TUNNEL6, [PEER6, { ...PEER6, mac: '66:00:00:00:06:03', host: STRANGER[6] }]);
  expect(await arrives()).toEqual({ 4: true, 6: true });
  await host.call('tunnel', 4, TUNNEL, [PEER]);
  expect(await arrives()).toEqual({ 4: false, 6: true });
});

test('pieces of a packet are no way round', async () => {
  await near(host);
  await far(outside, STRANGER);
  // Larger than the cable's packets once it is encapsulated.
  await outside.run('ip link set vxlan.calico mtu 3000');
  await outside.run('ip route add 10.65.0.1/32 via 10.65.0.0 dev vxlan.calico onlink mtu 3000');
  await container.run(
    'nft -f -',
    `add table inet seen; add chain inet seen c { type filter hook prerouting priority -450; }
     add rule inet seen c ip saddr 10.65.0.64 counter`,
  );
  const ping = () =>
    outside.run('busybox ping -I 10.65.0.64 -c 1 -W 1 -s 2000 10.65.0.1').catch(() => undefined);
  await ping();
  expect(await container.run('nft list chain inet seen c')).toContain('packets 0');
  await host.call('tunnel', 4, TUNNEL, [{ ...PEER, host: STRANGER[4] }]);
  await ping();
  expect(await container.run('nft list chain inet seen c')).not.toContain('packets 0');
});

test('what the host forwards in its own name gets no tunnel to the others: its address is one that they trust', async () => {
  await near(host);
  // As a container on a bridge of Docker's.
  const plain = await host.namespace();
  await host.run(`ip link add bridge0 type veth peer name eth0 netns ${plain.pid}`);
  await host.all([
    'ip addr add 172.30.0.1/24 dev bridge0',
    'ip addr add fd30::1/64 dev bridge0 nodad',
    'ip link set bridge0 up',
    'busybox sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1',
  ]);
  await host.run(
    'nft -f -',
    `add table inet hide
     add chain inet hide c { type nat hook postrouting priority 100; }
     add rule inet hide c oifname "uplink" masquerade`,
  );
  const devices = (id: number) => [
    `ip link add four${id} type vxlan id ${id} dstport 4789 local 172.30.0.2 remote ${PEER.host}`,
    `ip link add six${id} type vxlan id ${id} dstport 4789 local fd30::2 remote ${PEER6.host}`,
    ...[`ip link set four${id} up`, `ip link set six${id} up`],
    ...[`ip addr add 10.${id % 100}.0.1/24 dev four${id}`, `ip addr add 10.${id % 100}.1.1/24 dev six${id}`],
  ];
  await plain.all([
    ...['ip addr add 172.30.0.2/24 dev eth0', 'ip addr add fd30::2/64 dev eth0 nodad', 'ip link set eth0 up'],
    ...['ip route add default via 172.30.0.1', 'ip -6 route add default via fd30::1'],
    ...[...devices(4096), ...devices(4097)],
  ]);
  /** Whether anything of a network arrives, in either family. */
  const arrived = async (id: number): Promise<boolean[]> => {
    const chain = 'chain inet seen c { type filter hook prerouting priority -400; }';
    await outside.run(
      'nft -f -',
      `add table inet seen; delete table inet seen; add table inet seen; add ${chain}
       add rule inet seen c meta nfproto ipv4 udp dport 4789 @th,96,24 ${id} counter
       add rule inet seen c meta nfproto ipv6 udp dport 4789 @th,96,24 ${id} counter`,
    );
    await Promise.all(
      [0, 1].map(part => plain.run(`busybox ping -c 1 -W 1 10.${id % 100}.${part}.9`).catch(() => undefined)),
    );
    const listing = await outside.run('nft list chain inet seen c');
    return [...listing.matchAll(/packets (\d+)/g)].map(([, count]) => Number(count) > 0);
  };
  expect(await arrived(4097)).toEqual([true, true]);
  expect(await arrived(4096)).toEqual([false, false]);
  // A host of the cluster that is behind this one.
  await host.call('tunnel', 4, TUNNEL, [PEER, { ...PEER, mac: '66:00:00:00:00:03', host: '172.30.0.2' }]);
  expect(await arrived(4096)).toEqual([true, false]);
});

test('another overlay on the same UDP port is left alone', async () => {
  await near(host);
  const overlay = (local: string, remote: string, address: string) => [
    `ip link add other type vxlan id 4097 dstport 4789 local ${local} remote ${remote}`,
    `ip addr add ${address}/24 dev other`,
    'ip link set other up',
  ];
  await host.all(overlay('198.51.100.1', STRANGER[4], '10.99.0.1'));
  await outside.all(overlay(STRANGER[4], '198.51.100.1', '10.99.0.2'));
  expect(await outside.reaches('10.99.0.1')).toBe(true);
});

test('the rules come back when somebody flushes them, and the hosts when somebody takes them out', async () => {
  await near(host);
  await far(outside);
  const before = await rules();
  expect(await arrives()).toEqual({ 4: true, 6: true });
  for (const line of [
    'nft flush ruleset',
    'nft flush chain inet calico_libnetwork_vxlan4 input',
    'nft delete table inet calico_libnetwork_vxlan6',
    'nft add element inet calico_libnetwork_vxlan4 hosts { 198.51.100.99 }',
    'nft flush set inet calico_libnetwork_vxlan6 hosts',
  ]) {
    await host.run(line);
    await until(async () => (await rules()) === before, 3000);
  }
});

test('the rules go with the tunnel', async () => {
  await near(host);
  expect(await tables()).toContain('calico_libnetwork_vxlan4');
  await host.call('tunnel', 4, null, []);
  expect(await tables()).not.toContain('calico_libnetwork_vxlan4');
  expect(await tables()).toContain('calico_libnetwork_vxlan6');
  await host.call('removeAll');
  expect(await tables()).not.toContain('vxlan');
});

test('rules that a daemon before left go too', async () => {
  await host.run('nft add table inet calico_libnetwork_vxlan6');
  await host.call('tunnel', 6, null, []);
  expect(await tables()).not.toContain('vxlan');
});

test("who may use another Calico's device is that one's business", async () => {
  await host.run('ip link add vxlan.calico type vxlan id 4096 dstport 4789 local 198.51.100.1 nolearning');
  await expect(host.call('tunnel', 4, TUNNEL, [PEER])).rejects.toThrow('not ours');
  expect(await tables()).not.toContain('vxlan');
});

test('no device of ours is there without the rules, also where it cannot be as it should be', async () => {
  const elsewhere = { ...TUNNEL, host: '198.51.100.77' };
  const hasDevice = async (): Promise<boolean> => (await host.run('ip -br link')).includes('vxlan.calico');
  await expect(host.call('tunnel', 4, elsewhere, [PEER])).rejects.toThrow('no interface has 198.51.100.77');
  await host.call('routeAll', []);
  expect(await hasDevice()).toBe(false);
  // It comes by itself when that does.
  await host.run('ip addr add 198.51.100.77/24 dev uplink');
  await until(hasDevice);
  expect(await tables()).toContain('calico_libnetwork_vxlan4');
  // The daemon after this one, to which the same happens.
  await host.run('ip addr del 198.51.100.77/24 dev uplink');
  const next = await host.successor('linux');
  await expect(next.call('tunnel', 4, elsewhere, [PEER])).rejects.toThrow('no interface has 198.51.100.77');
  next.end();
  expect(await hasDevice()).toBe(true);
  expect(await tables()).toContain('calico_libnetwork_vxlan4');
});
