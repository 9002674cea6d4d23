import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';
import { PEER, TUNNEL, far, near } from './tunnel-bed.js';

let host: PretendHost;
let outside: Namespace;
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
  outside = await host.outside();
});
afterEach(() => host.shutDown());

/** Everything of the tunnels, without what varies. */
async function tunnels(): Promise<string> {
  const parts = await Promise.all(
    ['vxlan.calico', 'vxlan-v6.calico'].flatMap(name => [
      host.run(`ip -d link show ${name}`).catch(() => ''),
      host.run(`ip addr show dev ${name} scope global`).catch(() => ''),
      host.run(`ip neigh show dev ${name} nud permanent`).catch(() => ''),
      host.run(`ip -6 neigh show dev ${name} nud permanent`).catch(() => ''),
      host.run(`bridge fdb show dev ${name}`).catch(() => ''),
      host.run(`ip route show dev ${name} proto 81`).catch(() => ''),
      host.run(`ip -6 route show dev ${name} proto 81`).catch(() => ''),
    ]),
  );
  return parts.join('').replaceAll(/^\d+: | state \w+|<[^>]*>/gm, '');
}

test('the device is as Calico has it, and bounds the MTU', async () => {
  await near(host);
  const link = await host.run('ip -d link show vxlan.calico');
  expect(link).toMatch(/mtu 1450/);
  expect(link).toMatch(/link\/ether 66:00:00:00:00:01/);
  expect(link).toMatch(/vxlan id 4096 local 198.51.100.1 .*dstport 4789 .*nolearning/);
  expect(await host.run('ip -d link show vxlan-v6.calico')).toMatch(/mtu 1430[^]*local 2001:db8::1/);
  expect(await host.run('ip addr show vxlan.calico')).toContain('inet 10.65.0.0/32 scope global');
  expect(await host.run('ip route show 10.65.0.64/26')).toContain(
    'via 10.65.0.64 dev vxlan.calico proto 81 onlink',
  );
  expect(await host.call('tunnelMtu', 4)).toBe(1450);
  expect(await host.call('tunnelMtu', 6)).toBe(1430);
});

test('a container talks through it, in both families, with its own address', async () => {
  await far(outside);
  await near(host);
  const state = { ownBlocks: ['10.65.0.0/26'], masqueradeFrom: ['10.65.0.0/16'], pools: ['10.65.0.0/16'] };
  await host.call('apply', { ...state, published: [], internal: [] });
  await host.run('iptables-nft -P FORWARD DROP');
  const container = await host.container(endpoint(1, ['10.65.0.1', 'fd65::1']));
  await until(() => container.reaches('10.65.0.64'), 5000);
  await until(() => container.reaches('fd65::40'), 5000);
  expect(await outside.reaches('10.65.0.1')).toBe(true);
  expect(await host.reaches('10.65.0.64')).toBe(true);
});

test('peers come, change and go by what differs', async () => {
  await near(host);
  const third = { address: '10.65.0.128', mac: '66:00:00:00:00:03', host: '198.51.100.3' };
  await host.call('tunnel', 4, TUNNEL, [PEER, third]);
  expect(await tunnels()).toContain('66:00:00:00:00:03 dst 198.51.100.3 self permanent');
  await host.call('tunnel', 4, TUNNEL, [{ ...PEER, host: '198.51.100.9' }]);
  const after = await tunnels();
  expect(after).toContain('66:00:00:00:00:02 dst 198.51.100.9 self permanent');
  expect(after).not.toContain('66:00:00:00:00:03');
  expect(after).not.toContain('10.65.0.128');
});

test('one far end that the kernel refuses keeps no other away, and is not taken for there', async () => {
  await near(host);
  // No MAC of a card. More others than go into one message, and one that goes.
  const bad = { address: '10.65.0.192', mac: '01:00:5e:00:00:01', host: '198.51.100.3' };
  const others = Array.from({ length: 150 }, (_, n) => ({
    ...{ address: `10.65.1.${n}`, host: '198.51.100.4' },
    mac: `66:00:00:00:01:${n.toString(16).padStart(2, '0')}`,
  }));
  await expect(host.call('tunnel', 4, TUNNEL, [bad, ...others])).rejects.toThrow(bad.mac);
  const fdb = await host.run('bridge fdb show dev vxlan.calico');
  expect(fdb.match(/dst 198\.51\.100\.4 /g)).toHaveLength(150);
  expect(fdb).not.toContain(PEER.host);
  await expect(host.call('tunnel', 4, TUNNEL, [bad, ...others])).rejects.toThrow(bad.mac);
});

test('what somebody takes away comes back within a second', async () => {
  await near(host);
  const before = await tunnels();
  for (const line of [
    'ip link delete vxlan.calico',
    'ip link set vxlan.calico down',
    'ip addr flush dev vxlan.calico',
    'ip link set vxlan.calico mtu 1500',
    'ip neigh del 10.65.0.64 dev vxlan.calico',
    'bridge fdb del 66:00:00:00:00:02 dev vxlan.calico',
    'ip route flush dev vxlan.calico',
    'ip link delete vxlan-v6.calico',
    'ip -6 neigh del fd65::40 dev vxlan-v6.calico',
  ]) {
    const { length } = await host.call('logged');
    await host.run(line);
    await until(async () => (await host.call('logged')).length > length, 1000);
    await until(async () => (await tunnels()) === before, 500);
  }
});

test('another address of the host or the tunnel is taken over, and the routes with it', async () => {
  await near(host);
  await host.run('ip addr add 198.51.100.77/24 dev uplink');
  await host.call('tunnel', 4, { ...TUNNEL, host: '198.51.100.77', address: '10.65.0.9' }, [PEER]);
  const after = await tunnels();
  expect(after).toContain('local 198.51.100.77');
  expect(after).toContain('inet 10.65.0.9/32');
  expect(after).not.toContain('inet 10.65.0.0/32');
  expect(after).toContain('10.65.0.64/26 via 10.65.0.64 onlink');
});

test('it goes with the last pool that wants it, and routes that want it are named', async () => {
  await near(host);
  await host.call('route', [['10.65.0.64/26', null]]);
  await host.call('tunnel', 4, null, []);
  expect(await host.run('ip link')).not.toContain('vxlan.calico');
  expect(await host.call('tunnelMtu', 4)).toBeUndefined();
  await host.call('route', [['10.65.0.64/26', { via: '10.65.0.64', by: 'vxlan' }]]);
  expect(JSON.stringify(await host.call('logged'))).toContain('no VXLAN device yet');
  await host.call('tunnel', 4, TUNNEL, [PEER]);
  expect(await tunnels()).toContain('10.65.0.64/26 via 10.65.0.64 onlink');
});

test("another Calico's device is not touched", async () => {
  const add = 'type vxlan id 4096 dstport 4789 local 198.51.100.1 nolearning';
  await host.run(`ip link add vxlan.calico ${add}`);
  await expect(host.call('tunnel', 4, TUNNEL, [PEER])).rejects.toThrow('CALICO_LIBNETWORK_DATAPLANE=felix');
  await host.call('tunnel', 4, null, []);
  expect(await host.run('ip link')).toContain('vxlan.calico');
});

test('removeAll takes both', async () => {
  await near(host);
  await host.call('removeAll');
  await new Promise(resolve => setTimeout(resolve, 500));
  expect(await host.run('ip link')).not.toContain('vxlan');
});
