import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import { ENGINES } from '../bed/engines.js';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';
import {
  CALICO,
  addressOf,
  container,
  expectCleanHost,
  ping,
  pingOutside,
  reportPeers,
  seenAs,
  untilDefaultPools,
} from './calico-host.js';
import { handles, keys, dump } from './datastore.js';
import { letAllPass, remove } from './matrix.js';

const ROUTES = ['default via 169.254.1.1 dev cali0', '169.254.1.1 dev cali0 scope link'];

/** busybox ends lines with spaces. */
const linesOf = (text: string) => text.split('\n').map(line => line.trimEnd());

describe.each(ENGINES)('the main job on Docker %s', engine => {
  let bed: Bed;
  let host: Host;
  let before: Awaited<ReturnType<typeof dump>>;

  beforeAll(async () => {
    bed = await Bed.up({ engine });
    host = bed.host(1);
    await host.serve({ CALICO_IPV6POOL_CIDR: 'fd80:2::/64' });
    await host.dockerd();
    await host.image();
    await bed.outside.spawn(reportPeers([]), host.logFile('outside'));
    before = await untilDefaultPools(host, [4, 6]);
  });
  afterAll(() => bed?.down());

  it('does what the first page of the README promises', async () => {
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'my_net');
    await host.docker('run', '-d', '--net', 'my_net', '--name', 'web', 'busybox', 'sleep', '1d');
    await host.docker(
      ...['run', '-d', '--net', 'my_net', '--name', 'db', '--ip', '192.0.2.100'],
      ...['busybox', 'sleep', '1d'],
    );
    expect(await host.docker('exec', 'web', 'ping', '-c1', 'db')).toContain('192.0.2.100');
    await ping(host, 'db', 'web');
    expect(linesOf(await host.docker('exec', 'web', 'ip', 'route'))).toEqual(ROUTES);
    expect(await addressOf(host, 'db')).toBe('192.0.2.100');
    expect(await addressOf(host, 'web')).toMatch(/^192\.0\.2\./);
  });

  it('makes a network without a subnet, from the default pool', async () => {
    await host.docker('network', 'create', '-d', 'calico', '--ipam-driver', 'calico-ipam', 'net1');
    await container(host, 'one', 'net1');
    await container(host, 'two', 'net1');
    expect(await addressOf(host, 'one')).toMatch(/^192\.168\./);
    await ping(host, 'one', 'two');
  });

  it('takes calico as the name of the IPAM driver too', async () => {
    await host.docker('network', 'create', '-d', 'calico', '--ipam-driver', 'calico', 'alone');
    const printed = await host.docker('run', '--rm', '--net', 'alone', 'busybox', 'ip', 'route');
    expect(linesOf(printed)).toEqual(ROUTES);
    await host.docker('network', 'rm', 'alone');
  });

  it('isolates networks, and lets in who has a route only where policy does', async () => {
    await bed.fabric(['ip', 'route', 'add', '192.0.2.0/24', 'via', host.address]);
    const outside = ['busybox', 'ping', '-c1', '-W1', '192.0.2.100'];
    await expect(bed.fabric(outside)).rejects.toThrow('0 packets received');
    await expect(ping(host, 'web', await addressOf(host, 'one'))).rejects.toThrow();
    await letAllPass(host);
    await poll('the policy', 5_000, async () => (await bed.fabric(outside, { check: false })).code === 0);
  });

  it('masquerades towards the outside and nowhere else', async () => {
    await pingOutside(host, 'web');
    expect(await seenAs(host, 'web', '10.99.0.1')).toBe(host.address);
    const pid = await host.docker('inspect', '--format', '{{.State.Pid}}', 'one');
    await host.spawn(reportPeers(['nsenter', '--target', pid, '--net']), { log: 'in-one' });
    const one = await addressOf(host, 'one');
    // From another pool, and from the same.
    expect(await seenAs(host, 'web', one)).toBe(await addressOf(host, 'web'));
    expect(await seenAs(host, 'two', one)).toBe(await addressOf(host, 'two'));
    await remove(host, '/calico/resources/v3/projectcalico.org/globalnetworkpolicies/open');
  });

  it('keeps a chosen address over a restart of the container', async () => {
    await host.docker('restart', '-t', '0', 'db', 'web');
    expect(await addressOf(host, 'db')).toBe('192.0.2.100');
    await ping(host, 'web', 'db');
    expect((await handles(host)).filter(key => key.includes('192.0.2.'))).toHaveLength(2);
  });

  it('honours a MAC address and keeps one endpoint per container', async () => {
    const mac = '02:00:5e:10:00:01';
    expect(
      await host.docker(
        ...['run', '--rm', '--net', 'my_net', '--mac-address', mac, 'busybox'],
        ...['cat', '/sys/class/net/cali0/address'],
      ),
    ).toBe(mac);
    expect(await keys(host, '/workloadendpoints/')).toHaveLength(4);
    expect(await keys(host, '/profiles/my_net')).toHaveLength(1);
  });

  it('leaves nothing behind', async () => {
    await host.docker('rm', '-f', 'web', 'db', 'one', 'two');
    expect(await handles(host)).toEqual([]);
    await host.docker('network', 'rm', 'my_net', 'net1');
    // What is left is the gateway's, and the blackhole of the default pool's block.
    await expectCleanHost(host, /^169\.254\.1\.0\/24 |^blackhole 192\.168\./);
    const after = await dump(host);
    const fresh = Object.keys(after).filter(key => before[key] === undefined);
    // A network's profile may have been edited by its user; the default pool's block is kept for the next.
    const stays = /\/profiles\/|\/ipam\/v2\/(assignment|host\/h1)\/ipv4\/block\/192\.168\.\d+\.\d+-26$/;
    expect(fresh.filter(key => !stays.test(key))).toEqual([]);
    expect(Object.keys(before).filter(key => after[key] !== before[key])).toEqual([]);
  });

  it('speaks both families, and routes both', async () => {
    const subnets = ['--subnet=192.0.2.0/24', '--ipv6', '--subnet=fd80:1::/64'];
    await host.docker('network', 'create', ...CALICO, ...subnets, 'dual');
    await container(host, 'ann', 'dual');
    await container(host, 'ben', 'dual', '--ip6', 'fd80:1::100');
    for (const to of ['fd80:1::100', await addressOf(host, 'ben'), '10.99.0.1', 'fd99::1'])
      await ping(host, 'ann', to);
    expect(await host.docker('exec', 'ann', 'ping', '-6', '-c1', '-W3', 'ben')).toContain('fd80:1::100');
    expect(await seenAs(host, 'ann', 'fd99::1')).toBe(host.address6);
    await host.docker('rm', '-f', 'ann', 'ben');
    await host.docker('network', 'rm', 'dual');
    await expectCleanHost(host);
    expect((await keys(host)).filter(key => /fd80:1|192\.0\.2\.|handle/.test(key))).toEqual([]);
  });

  it('has IPv6 without a subnet, also where a nameserver of the host is IPv6', async () => {
    // In the host's own mount namespace.
    await host.run(['tee', '/run/resolv.conf'], { input: 'nameserver fd99::1\nnameserver 10.99.0.1\n' });
    await host.run(['mount', '--bind', '/run/resolv.conf', '/etc/resolv.conf']);
    const network = ['network', 'create', ...CALICO, '--ipv6'];
    await host.run(['docker', ...network, 'six'], { timeout: 20_000 });
    await container(host, 'ann', 'six');
    await container(host, 'ben', 'six');
    const format = '{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}';
    const address = await host.docker('inspect', '--format', format, 'ben');
    expect(address).toMatch(/^fd80:2::/);
    await ping(host, 'ann', address);
    await ping(host, 'ann', 'fd99::1');
    // A second one: the host has scope-link routes of endpoints now.
    await host.run(['docker', ...network, 'seven'], { timeout: 20_000 });
    await host.docker('rm', '-f', 'ann', 'ben');
    await host.docker('network', 'rm', 'six', 'seven');
    expect(await handles(host)).toEqual([]);
  });

  // Older engines know no such network.
  if (engine !== '28') return;
  it('needs no IPv4', async () => {
    const subnet = ['--ipv4=false', '--ipv6', '--subnet=fd80:1::/64'];
    await host.docker('network', 'create', ...CALICO, ...subnet, 'only6');
    await container(host, 'ann', 'only6');
    await container(host, 'ben', 'only6', '--ip6', 'fd80:1::100');
    await ping(host, 'ann', 'fd80:1::100');
    expect(await host.docker('exec', 'ann', 'ip', 'route')).toBe('');
    expect(await seenAs(host, 'ann', 'fd99::1')).toBe(host.address6);
    await host.docker('rm', '-f', 'ann', 'ben');
    await host.docker('network', 'rm', 'only6');
    await expectCleanHost(host);
  });
});
