import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';

let host: PretendHost;
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
});
afterEach(() => host.shutDown());

interface LinkJson {
  readonly ifname: string;
  readonly ifindex: number;
  readonly address: string;
  readonly mtu: number;
  readonly flags: readonly string[];
}

async function links(): Promise<Map<string, LinkJson>> {
  const list = JSON.parse(await host.run('ip -json link')) as LinkJson[];
  return new Map(list.map(link => [link.ifname, link]));
}

async function routes(): Promise<string[]> {
  const both = (await host.run('ip route show proto 81')) + (await host.run('ip -6 route show proto 81'));
  return both
    .split('\n')
    .map(line => line.replace(/ (linkdown|pref medium|metric 1024)/g, '').trim())
    .filter(line => line !== '');
}

describe('attach', () => {
  test('makes the pair with the MACs, MTU and route asked for', async () => {
    await host.call('attach', endpoint(1));
    const all = await links();
    expect(all.get('cali1')).toMatchObject({ address: 'ee:ee:ee:ee:ee:ee', mtu: 1450 });
    expect(all.get('cali1')?.flags).toContain('UP');
    expect(all.get('temp1')).toMatchObject({ address: '02:42:0a:41:00:01', mtu: 1450 });
    expect(all.get('temp1')?.flags).not.toContain('UP');
    expect(await routes()).toEqual(['10.65.0.1 dev cali1 scope link']);
  });

  test('sets the sysctls of the host side', async () => {
    await host.call('attach', endpoint(1, ['10.65.0.1', 'fd65::1']));
    const read = async (name: string): Promise<string> =>
      (await host.run(`busybox sysctl -n ${name}`)).trim();
    const settings = [
      'ipv4.conf.cali1.proxy_arp',
      'ipv4.conf.cali1.forwarding',
      'ipv6.conf.cali1.forwarding',
    ];
    for (const name of settings) expect(await read(`net.${name}`), name).toBe('1');
    const off = [
      'ipv4.neigh.cali1.proxy_delay',
      'ipv6.conf.cali1.accept_ra',
      'ipv4.conf.cali1.route_localnet',
    ];
    for (const name of off) expect(await read(`net.${name}`), name).toBe('0');
    for (const family of ['ipv4', 'ipv6'])
      expect(await read(`net.${family}.neigh.cali1.retrans_time_ms`), family).toBe('20');
    expect(await read('net.ipv4.ip_forward')).toBe('1');
    expect(await read('net.ipv6.conf.all.forwarding')).toBe('1');
  });

  test('keeps the IPv6 default route from router advertisements when it turns forwarding on', async () => {
    await host.outside();
    await host.call('attach', endpoint(1, ['fd65::1']));
    expect(await host.run('busybox sysctl -n net.ipv6.conf.uplink.accept_ra')).toBe('2\n');
    expect(await host.run('busybox sysctl -n net.ipv6.conf.cali1.accept_ra')).toBe('0\n');
  });

  test('leaves IPv6 forwarding alone for an IPv4 endpoint', async () => {
    await host.call('attach', endpoint(1));
    expect(await host.run('busybox sysctl -n net.ipv6.conf.all.forwarding')).toBe('0\n');
  });

  test('twice changes nothing', async () => {
    await host.call('attach', endpoint(1));
    const before = (await links()).get('cali1')?.ifindex;
    await host.call('attach', endpoint(1));
    expect((await links()).get('cali1')?.ifindex).toBe(before);
    expect(await routes()).toHaveLength(1);
  });

  test('replaces a leftover whose container end is elsewhere, or is another', async () => {
    const other = await host.namespace();
    await host.call('attach', endpoint(1));
    await host.run(`ip link set temp1 netns ${other.pid}`);
    await host.call('attach', endpoint(1));
    const before = (await links()).get('temp1')?.ifindex;
    await host.call('attach', { ...endpoint(1), mac: '02:42:0a:41:00:77' });
    expect((await links()).get('temp1')).toMatchObject({ address: '02:42:0a:41:00:77' });
    expect((await links()).get('temp1')?.ifindex).not.toBe(before);
    expect(await routes()).toEqual(['10.65.0.1 dev cali1 scope link']);
  });

  test('takes an address from the endpoint that had it', async () => {
    await host.call('attach', endpoint(1, ['10.65.0.1', 'fd65::1']));
    await host.call('attach', endpoint(2, ['10.65.0.1', 'fd65::1']));
    expect(await routes()).toEqual(['10.65.0.1 dev cali2 scope link', 'fd65::1 dev cali2']);
  });

  test('leaves nothing behind when it fails', async () => {
    await expect(host.call('attach', endpoint(1, ['10.65.0.1', 'nonsense']))).rejects.toThrow(
      'no IP address',
    );
    await until(async () => !(await links()).has('cali1'));
    expect(await routes()).toEqual([]);
  });

  test('refuses names that are no interface names', async () => {
    const wiring = { ...endpoint(1), hostInterface: '../../etc' };
    await expect(host.call('attach', wiring)).rejects.toThrow('HostError: "../../etc" is no interface name');
  });
});

describe('detach', () => {
  test('removes the routes at once and the pair soon', async () => {
    await host.call('attach', endpoint(1, ['10.65.0.1', 'fd65::1']));
    await host.call('detach', 'cali1');
    expect(await routes()).toEqual([]);
    await until(async () => !(await links()).has('cali1'));
    expect((await links()).has('temp1')).toBe(false);
  });

  test('of what is not there is fine', async () => {
    await host.call('detach', 'cali9');
    await host.call('detach', 'cali9');
  });

  test('may be followed by an attach of the same name', async () => {
    for (let round = 0; round < 5; round += 1) {
      await host.call('attach', endpoint(1));
      await host.call('detach', 'cali1');
    }
    await host.call('attach', endpoint(1));
    expect(await routes()).toEqual(['10.65.0.1 dev cali1 scope link']);
    expect((await links()).has('temp1')).toBe(true);
    expect(await host.call('hostInterfaces')).toEqual([{ name: 'cali1', isInUse: false }]);
  });

  test('leaves a route that moved to another endpoint', async () => {
    await host.call('attach', endpoint(1));
    await host.call('attach', { ...endpoint(2), addresses: ['10.65.0.1'] });
    await host.call('detach', 'cali1');
    expect(await routes()).toEqual(['10.65.0.1 dev cali2 scope link']);
  });
});

describe('what the host is like', () => {
  test('default MTU is that of the default route', async () => {
    expect(await host.call('defaultMtu')).toBe(1500);
    await host.outside();
    await host.all(['ip link set uplink mtu 1400', 'ip route add default via 198.51.100.2']);
    expect(await host.call('defaultMtu')).toBe(1400);
  });

  test('foreign routes are those of others, and its addresses', async () => {
    await host.outside();
    await host.all(['ip route add default via 198.51.100.2', 'ip route add 10.9.0.0/16 via 198.51.100.2']);
    await host.call('attach', endpoint(1));
    // Whoever made the tunnel: its address comes from a pool.
    await host.all([
      'ip link add vxlan.calico type vxlan id 4096 dstport 4789',
      'ip addr add 10.65.9.9/32 dev vxlan.calico',
    ]);
    const found = await host.call('foreignRoutes');
    await host.all(['ip link delete vxlan.calico']);
    expect(found).toEqual(
      expect.arrayContaining([
        { cidr: '10.9.0.0/16', onLink: false },
        { cidr: '198.51.100.0/24', onLink: true },
        { cidr: '198.51.100.1/32', onLink: true },
        { cidr: '2001:db8::/64', onLink: true },
      ]),
    );
    expect(
      found.filter(({ cidr }) => cidr.startsWith('10.65.') || cidr.endsWith('/0') || cidr.startsWith('fe80')),
    ).toEqual([]);
  });

  test('beside Felix only the pair is made', async () => {
    const felix = await PretendHost.boot('felix');
    await felix.call('attach', endpoint(1));
    await felix.call('apply', {
      ownBlocks: ['10.65.0.0/26'],
      masqueradeFrom: ['10.65.0.0/16'],
      pools: ['10.65.0.0/16'],
      published: [],
      internal: [],
    });
    expect(await felix.run('ip -br link')).toContain('cali1@temp1');
    expect(await felix.run('busybox sysctl -n net.ipv4.conf.cali1.proxy_arp')).toBe('1\n');
    expect((await felix.run('ip route')) + (await felix.run('nft list ruleset'))).toBe('');
    await felix.call('detach', 'cali1');
    await until(async () => !(await felix.run('ip -br link')).includes('cali1'));
    felix.shutDown();
  });

  test('nor does policy of the time before Felix stay in force', async () => {
    const before = await PretendHost.boot();
    await before.call('holdUntilPolicy');
    expect(await before.run('nft list tables')).toContain('calico_policy');
    const felix = await before.successor('felix');
    await felix.call('attach', endpoint(1));
    expect(await felix.run('nft list tables')).not.toContain('calico_policy');
    for (const host of [felix, before]) host.shutDown();
  });
});
