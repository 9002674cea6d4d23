import { expect, test } from 'vitest';
import type { EndpointWiring } from '../../src/host/dataplane.js';
import type { HostPolicy } from '../../src/host/policy.js';
import { ALL, HOST4, HOST6, freshPort, policy, usePolicyBed } from './policy-bed.js';
import { endpoint, until } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';
import { Talker } from './talker.js';

/** Packets that say they are of somebody else, and what the policy table must leave alone. */

const bed = usePolicyBed();

/** Counts what arrives in a namespace and matches; the answer tells how many so far. */
async function counter(space: Namespace, match: string): Promise<() => Promise<number>> {
  const chain = `chain inet seen c { type filter hook prerouting priority -400; }`;
  await space.run(
    'nft -f -',
    `add table inet seen; flush table inet seen; add ${chain}; add rule inet seen c ${match} counter`,
  );
  return async () => Number(/packets (\d+)/.exec(await space.run('nft list chain inet seen c'))?.[1]);
}

test('what neighbours say is not forwarded, whatever source it has', async () => {
  await bed().enforce(policy([1, 2, 3]));
  const third = bed().container(3);
  await third.run('ip addr add fd65::1/128 dev cali0 nodad');
  const arrived = await counter(bed().container(2), 'icmpv6 type { 133-137 } ip6 saddr fd65::1');
  // A ping whose type is another by the time it leaves.
  await third.run(
    'nft -f -',
    `add table ip6 forge
     add chain ip6 forge out { type filter hook postrouting priority 0; }
     add rule ip6 forge out icmpv6 type echo-request icmpv6 type set 135`,
  );
  await third.run('busybox ping -6 -c 1 -W 1 -I fd65::1 fd65::2').catch(() => undefined);
  await third.all(['nft delete table ip6 forge', 'ip addr del fd65::1/128 dev cali0']);
  expect(await arrived()).toBe(0);
  // Links still work.
  await third.run('ip -6 neigh flush dev cali0');
  expect(await third.reaches(HOST6)).toBe(true);
});

test('nobody outside sends from the address of a container', async () => {
  await bed().enforce(policy([1, 2, 3]));
  await bed().host.run('busybox sysctl -q -w net.ipv4.conf.uplink.rp_filter=0 net.ipv4.conf.all.rp_filter=0');
  await bed().outside.all(['ip addr add 10.65.0.1/32 dev lo', 'ip addr add fd65::1/128 dev lo nodad']);
  const second = bed().container(2);
  const [arrived4, arrived6] = ['10.65.0.1', 'fd65::1'];
  const arrived = await counter(second, `ip saddr ${arrived4}`);
  const ping = (from: string, to: string): Promise<unknown> =>
    bed()
      .outside.run(`busybox ping ${to.includes(':') ? '-6' : '-4'} -c 1 -W 1 -I ${from} ${to}`)
      .catch(() => undefined);
  await ping(arrived4, '10.65.0.2');
  expect(await arrived()).toBe(0);
  const arrivedToo = await counter(second, `ip6 saddr ${arrived6}`);
  await ping(arrived6, 'fd65::2');
  expect(await arrivedToo()).toBe(0);
  await bed().outside.all(['ip addr del 10.65.0.1/32 dev lo', 'ip addr del fd65::1/128 dev lo']);
  expect(await bed().who(1, 'tcp', '10.65.0.2', 80)).toBe('two');
  expect(await bed().who(0, 'tcp', HOST4, 8002)).toBe('two');
});

test('what the host forwards for others is left alone, also where it has seen one direction only', async () => {
  await bed().enforce(policy([1, 2, 3]));
  const beyond = await bed().host.namespace();
  // Questions go straight there, answers come by the host: for conntrack answers to nothing.
  await bed().outside.run(`ip link add direct type veth peer name direct netns ${beyond.pid}`);
  await bed().host.run(`ip link add other type veth peer name back netns ${beyond.pid}`);
  await bed().host.all([
    'ip addr add 203.0.113.1/24 dev other',
    'ip link set other up',
    'busybox sysctl -q -w net.ipv4.conf.other.rp_filter=0 net.ipv4.conf.all.rp_filter=0',
  ]);
  await beyond.all([
    'busybox sysctl -q -w net.ipv4.conf.direct.rp_filter=0 net.ipv4.conf.all.rp_filter=0',
    'ip addr add 192.0.2.2/24 dev direct',
    'ip link set direct up',
    'ip addr add 203.0.113.2/24 dev back',
    'ip link set back up',
    'ip route add default via 203.0.113.1',
  ]);
  await bed().outside.all([
    'busybox sysctl -q -w net.ipv4.conf.cable.rp_filter=0 net.ipv4.conf.all.rp_filter=0',
    'ip addr add 192.0.2.1/24 dev direct',
    'ip link set direct up',
  ]);
  const ping = 'busybox ping -c 1 -W 1 -I 198.51.100.2 192.0.2.2';
  await until(
    () =>
      bed()
        .outside.run(ping)
        .then(
          () => true,
          () => false,
        ),
    4_000,
  );
});

test('whoever gets the address of a container that is gone does not go on with its connections', async () => {
  const wiring = (n: number): EndpointWiring => endpoint(n, ['10.65.0.9', 'fd65::9']);
  const addresses = ['10.65.0.9', 'fd65::9'];
  // Of the second container's network, or of another.
  const of = (n: number, isOwn: boolean): HostPolicy => {
    const { endpoints, ...rest } = policy([1, 2, 3], [], {
      addressSets: new Map([
        ['net1', { addresses: new Set(['10.65.0.2', 'fd65::2', ...(isOwn ? addresses : [])]), nets: [] }],
      ]),
    });
    const like = endpoints.get('cali3');
    return {
      ...rest,
      endpoints: like
        ? new Map([...endpoints, [`cali${n}`, { ...like, mac: endpoint(n).mac, sources: addresses }]])
        : endpoints,
    };
  };
  const asked = async (n: number, port: number): Promise<string[]> => {
    const talker = new Talker(await bed().host.container(wiring(n)));
    const answers = [
      await talker.who('udp', '10.65.0.2', 80, port),
      await talker.who('udp', 'fd65::2', 80, port),
    ];
    talker.end();
    return answers;
  };
  const port = freshPort();
  await bed().enforce(of(5, true));
  expect(await asked(5, port)).toEqual(['two', 'two']);
  await bed().host.call('detach', 'cali5');
  // Nobody has it for a moment, or it goes from the one to the other in one change.
  await bed().enforce(of(6, false));
  expect(await asked(6, port)).toEqual(['nobody', 'nobody']);
  await bed().host.call('detach', 'cali6');
  await bed().enforce(of(7, true));
  expect(await asked(7, port)).toEqual(['two', 'two']);
  await bed().enforce(policy([1, 2, 3]));
  await bed().host.call('detach', 'cali7');
  await bed().enforce(of(8, false));
  expect(await asked(8, port)).toEqual(['nobody', 'nobody']);
  await bed().host.call('detach', 'cali8');
});

test('nor with those of a container of another host', async () => {
  const [address, port] = ['10.65.0.9', freshPort()];
  const { outside, host } = bed();
  const known = { elsewhere: new Set([address]) };
  const net1 = { addresses: new Set(['10.65.0.1', '10.65.0.2', address]), nets: [] };
  await bed().enforce(policy([1, 2, 3], [], { ...known, addressSets: new Map([['net1', net1]]) }));
  await outside.all([
    `ip addr add ${address}/32 dev lo`,
    `ip route change 10.65.0.0/26 via ${HOST4} src ${address}`,
  ]);
  await host.run(`ip route add ${address}/32 via 198.51.100.2`);
  expect(await bed().talker(0).who('udp', '10.65.0.2', 80, port)).toBe('two');
  // It comes here, as one of another network.
  await outside.all([`ip route change 10.65.0.0/26 via ${HOST4}`, `ip addr del ${address}/32 dev lo`]);
  await host.run(`ip route del ${address}/32`);
  const { endpoints, ...rest } = policy([1, 2, 3], [], known);
  const like = endpoints.get('cali3');
  if (!like) throw new Error('there is no such endpoint');
  const own = { ...like, mac: endpoint(9).mac, sources: [address] };
  await bed().enforce({ ...rest, endpoints: new Map([...endpoints, ['cali9', own]]) });
  const talker = new Talker(await host.container(endpoint(9, [address])));
  expect(await talker.who('udp', '10.65.0.2', 80, port)).toBe('nobody');
  // Its own connections go on when it is judged anew.
  await talker.serve(81, 'nine');
  const mine = freshPort();
  const asked = (): Promise<string> => bed().talker(2).who('udp', address, 81, mine);
  const open = { 'net2/in': [ALL] };
  await bed().enforce({
    ...rest,
    endpoints: new Map([...endpoints, ['cali9', own]]),
    rules: new Map([...rest.rules, ...Object.entries(open)]),
  });
  expect(await asked()).toBe('nine');
  const other = {
    ...own,
    ingress: { ...own.ingress, tiers: [{ policies: [], otherwise: 'deny' as const }] },
  };
  await bed().enforce({ ...rest, endpoints: new Map([...endpoints, ['cali9', other]]) });
  expect(await asked()).toBe('nine');
  talker.end();
  await host.call('detach', 'cali9');
});
