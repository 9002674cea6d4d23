import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resourceKey } from '../../src/datastore/keys.js';
import { isObject } from '../../src/model/json.js';
import { Bed } from '../bed/bed.js';
import { startEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { ailmentsOf } from './ask-doctor.js';
import { CALICO, addressOf, container, ping, reportPeers, seenAs } from './calico-host.js';
import { dump, everything } from './datastore.js';
import { shown } from './documented.js';
import { peerRoutes } from './peer-routes.js';

/** Deletes a key of etcd. */
async function remove(host: Host, endpoint: string, key: string): Promise<void> {
  await host.run(['etcdctl', '--endpoints', endpoint, 'del', key], { env: { ETCDCTL_API: '3' } });
}

/** Output of `ip route` without what differs from run to run. */
const blurred = (text: string): string =>
  text
    .replace(/ +$/gm, '')
    .replace(/\d+(\.\d+){3}/g, 'a.b.c.d')
    .replace(/cali[0-9a-f]{11}/g, 'cali…');

/** Waits until a container reaches an address: routes follow Docker's answer by a moment. */
function reaches(host: Host, from: string, address: string, timeout = 5_000): Promise<boolean> {
  return poll(`${from} on ${host.name} reaches ${address}`, timeout, async () => {
    const family = address.includes(':') ? ['-6'] : [];
    const { code } = await host.run(['docker', 'exec', from, 'ping', ...family, '-c1', '-W1', address], {
      check: false,
    });
    return code === 0;
  });
}

async function address6Of(host: Host, name: string): Promise<string> {
  const format = '{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}';
  return host.docker('inspect', '--format', format, name);
}

/** A Node as etcd has it. */
async function nodeOf(host: Host, endpoint: string, name: string): Promise<Record<string, unknown>> {
  const text = (await everything(host, endpoint))[resourceKey('nodes', name)];
  const value: unknown = text === undefined ? {} : JSON.parse(text);
  return isObject(value) && isObject(value['spec']) ? value['spec'] : {};
}

describe('three hosts on one segment', () => {
  let bed: Bed;
  let hosts: Host[];
  let endpoint: string;
  const addresses: string[] = [];
  const addresses6: string[] = [];

  beforeAll(async () => {
    bed = await Bed.up({ hosts: 3, fabric: 'l2' });
    hosts = [1, 2, 3].map(number => bed.host(number));
    ({ endpoint } = await startEtcd(bed.host(1)));
    await Promise.all(
      hosts.map(async host => {
        await host.serve({
          ETCD_ENDPOINTS: endpoint,
          IP6: 'autodetect',
          CALICO_LIBNETWORK_SYNC_NETWORKS: 'false',
        });
        await host.dockerd();
        await host.image();
      }),
    );
  });
  afterAll(() => bed?.down());
  const host = (number: number): Host => hosts[number - 1] ?? bed.host(number);
  const address = (number: number): string => addresses[number - 1] ?? '';

  it('register their addresses, of both families', async () => {
    for (const one of hosts)
      expect(await nodeOf(one, endpoint, one.name)).toMatchObject({
        bgp: { ipv4Address: `${one.address}/24`, ipv6Address: `${one.address6}/64` },
      });
  });

  it('share a network that is typed on each: containers reach each other by address', async () => {
    for (const one of hosts) {
      const subnets = ['--subnet=192.0.2.0/24', '--ipv6', '--subnet=fd77::/64'];
      await one.docker('network', 'create', ...CALICO, ...subnets, 'shared');
      await container(one, 'box', 'shared');
      addresses.push(await addressOf(one, 'box'));
      addresses6.push(await address6Of(one, 'box'));
    }
    expect(new Set(addresses).size).toBe(3);
    for (const [index, one] of hosts.entries())
      for (const [other, target] of addresses.entries()) {
        if (other === index) continue;
        await reaches(one, 'box', target);
        await reaches(one, 'box', addresses6[other] ?? '');
      }
  });

  it('have one route for each block of another host, by its address, and none of these for their own', async () => {
    const block = (target: string) => {
      const [, last = ''] = /\.(\d+)$/.exec(target) ?? [];
      return `192.0.2.${Number(last) & 0xc0}/26`;
    };
    for (const [index, one] of hosts.entries()) {
      const expected = hosts.flatMap((other, at) =>
        at === index ? [] : [`${block(address(at + 1))} via ${other.address} dev eth0`],
      );
      expect(await peerRoutes(one)).toEqual(expected.sort());
      expect(await peerRoutes(one, '-6')).toHaveLength(2);
    }
    expect((await host(1).run(['ip', 'route'])).stdout).toContain(`blackhole ${block(address(1))}`);
  });

  it('are seen by each other with their own addresses', async () => {
    const pid = await host(2).docker('inspect', '--format', '{{.State.Pid}}', 'box');
    await host(2).spawn(reportPeers(['nsenter', '--target', pid, '--net']), { log: 'in-box' });
    expect(await seenAs(host(1), 'box', address(2))).toBe(address(1));
  });

  it('lead a borrowed address to the host that uses it, also out of their own block', async () => {
    // The address after the first of host 1's block: nobody's yet.
    const borrowed = address(1).replace(/\d+$/, last => String(Number(last) + 7));
    await container(host(2), 'guest', 'shared', '--ip', borrowed);
    for (const number of [1, 3]) {
      await reaches(host(number), 'box', borrowed);
      expect(await peerRoutes(host(number))).toContain(`${borrowed} via ${host(2).address} dev eth0`);
    }
    await reaches(host(2), 'guest', address(1));
    await host(2).docker('rm', '-f', 'guest');
    for (const number of [1, 3])
      await poll('the end of the route', 3_000, async () => {
        const routes = await peerRoutes(host(number));
        return !routes.some(route => route.startsWith(borrowed));
      });
  });

  it('put a flushed route back within a second', async () => {
    const before = await peerRoutes(host(1));
    await host(1).run(['ip', 'route', 'flush', 'proto', '81']);
    await poll('the routes', 1_000, async () => (await peerRoutes(host(1))).join() === before.join());
    await ping(host(1), 'box', address(2));
  });

  it('keep routes and containers while one is cut off, and converge after', async () => {
    await container(host(3), 'neighbour', 'shared');
    const [routes, neighbour] = [await peerRoutes(host(3)), await addressOf(host(3), 'neighbour')];
    await bed.cut(host(3));
    await ping(host(3), 'box', neighbour);
    await new Promise(resolve => setTimeout(resolve, 3_000));
    expect(await peerRoutes(host(3))).toEqual(routes);
    expect(await peerRoutes(host(1))).toHaveLength(2);
    await bed.heal(host(3));
    await reaches(host(3), 'box', address(1));
    await reaches(host(1), 'box', neighbour);
    await host(3).docker('rm', '-f', 'neighbour');
  });

  it('keep the routes to a host that crashes, until its Node is deleted', async () => {
    await host(3).crash();
    await new Promise(resolve => setTimeout(resolve, 2_000));
    expect(await peerRoutes(host(1))).toHaveLength(2);
    await remove(host(1), endpoint, resourceKey('nodes', 'h3'));
    for (const number of [1, 2])
      await poll('the withdrawal', 2_000, async () => (await peerRoutes(host(number))).length === 1);
    await ping(host(1), 'box', address(2));
  });

  it('take a host back when it comes back, at another address, too', async () => {
    await host(3).boot();
    await host(3).run(['ip', 'address', 'add', '10.99.0.77/24', 'dev', 'eth0']);
    await host(3).serve({ ETCD_ENDPOINTS: endpoint, CALICO_LIBNETWORK_SYNC_NETWORKS: 'false' });
    for (const number of [1, 2])
      await poll('the route', 5_000, async () => (await peerRoutes(host(number))).length === 2);
    await host(3).run(['ip', 'address', 'del', `${host(3).address}/24`, 'dev', 'eth0']);
    // The second address of a subnet goes with its first; an administrator adds it again.
    await host(3).run(['ip', 'address', 'replace', '10.99.0.77/24', 'dev', 'eth0']);
    for (const number of [1, 2])
      await poll('the new next hop', 5_000, async () =>
        (await peerRoutes(host(number))).some(route => route.includes('via 10.99.0.77')),
      );
    expect(await nodeOf(host(1), endpoint, 'h3')).toMatchObject({ bgp: { ipv4Address: '10.99.0.77/24' } });
  });
});

describe('hosts in two subnets with a router between', () => {
  let bed: Bed;
  let hosts: Host[];
  let endpoint: string;
  const addresses: string[] = [];

  beforeAll(async () => {
    bed = await Bed.up({ hosts: 3, fabric: 'l3' });
    hosts = [1, 2, 3].map(number => bed.host(number));
    ({ endpoint } = await startEtcd(bed.host(1)));
    await Promise.all(
      hosts.map(async host => {
        await host.serve({
          ETCD_ENDPOINTS: endpoint,
          IP6: 'autodetect',
          CALICO_LIBNETWORK_SYNC_NETWORKS: 'false',
        });
        await host.dockerd();
        await host.image();
      }),
    );
  });
  afterAll(() => bed?.down());
  const host = (number: number): Host => hosts[number - 1] ?? bed.host(number);
  const address = (number: number): string => addresses[number - 1] ?? '';
  const devices = async (one: Host) =>
    (await peerRoutes(one)).map(route => / dev (\S+)/.exec(route)?.[1]).sort();

  it('are not reached without encapsulation, and the log says which and what to do', async () => {
    for (const number of [1, 2]) {
      await host(number).docker('network', 'create', ...CALICO, '--subnet=198.18.0.0/24', 'bare');
      await container(host(number), 'bare', 'bare');
    }
    const logged = await poll('a line in the log', 5_000, async () => {
      const { stdout } = await host(1).run(['grep', '"peer":"h2"', host(1).logFile('calico-libnetwork')], {
        check: false,
      });
      return stdout !== '' && stdout;
    });
    expect(logged).toContain(shown('cluster.md', 'log').join('\n'));
    expect(logged.trim().split('\n')).toHaveLength(1);
    expect(await peerRoutes(host(1))).toEqual([]);
    expect(await ailmentsOf(host(1))).toContainEqual(
      expect.stringContaining('warning other hosts: containers on h2: those of IPPool 198.18.0.0/24'),
    );
    for (const number of [1, 2]) {
      await host(number).docker('rm', '-f', 'bare');
      await host(number).docker('network', 'rm', 'bare');
    }
  });

  it('are reached by VXLAN, and those on the same segment directly, with vxlanMode=CrossSubnet', async () => {
    for (const one of hosts) {
      const options = ['--subnet=192.0.2.0/24', '--ipam-opt', 'vxlanMode=CrossSubnet'];
      await one.docker('network', 'create', ...CALICO, ...options, 'shared');
      await container(one, 'box', 'shared');
      addresses.push(await addressOf(one, 'box'));
    }
    for (const [index, one] of hosts.entries())
      for (const target of addresses.filter(other => other !== address(index + 1)))
        await reaches(one, 'box', target, 10_000);
    expect(await devices(host(1))).toEqual(['eth0', 'vxlan.calico']);
    expect(await devices(host(2))).toEqual(['vxlan.calico', 'vxlan.calico']);
    expect((await ailmentsOf(host(1))).filter(line => line.includes('other hosts'))).toEqual([]);
    const spec = await nodeOf(host(1), endpoint, 'h2');
    expect(spec).toMatchObject({ ipv4VXLANTunnelAddr: expect.stringMatching(/^192\.0\.2\./) as string });
    expect((await peerRoutes(host(1))).find(route => route.includes('vxlan'))).toContain(
      `via ${String(spec['ipv4VXLANTunnelAddr'])} dev vxlan.calico onlink`,
    );
  });

  it('give their containers an MTU that fits through, and full-sized packets arrive unmasqueraded', async () => {
    const { stdout } = await host(1).run(['docker', 'exec', 'box', 'ip', 'link', 'show', 'cali0']);
    expect(stdout).toContain('mtu 1450');
    const pid = await host(2).docker('inspect', '--format', '{{.State.Pid}}', 'box');
    await host(2).spawn(reportPeers(['nsenter', '--target', pid, '--net']), { log: 'in-box' });
    expect(await seenAs(host(1), 'box', address(2))).toBe(address(1));
    await host(1).docker('exec', 'box', 'ping', '-c1', '-W3', '-s', '1422', address(2));
  });

  it('lead a borrowed address through the tunnel, and have the routes that docs/cluster.md explains', async () => {
    const borrowed = address(3).replace(/\d+$/, last => String(Number(last) + 7));
    await container(host(2), 'guest', 'shared', '--ip', borrowed);
    for (const number of [1, 3]) await reaches(host(number), 'box', borrowed);
    expect((await peerRoutes(host(1))).find(route => route.startsWith(`${borrowed} `))).toContain(
      'vxlan.calico',
    );
    const { stdout: routes } = await host(1).run(['ip', 'route']);
    for (const line of shown('cluster.md', 'ip-route')) expect(blurred(routes)).toContain(blurred(line));
    const { stdout: inside } = await host(1).run(['docker', 'exec', 'box', 'ip', 'route']);
    expect(shown('cluster.md', 'container-route')).toEqual(inside.trim().split(/ *\n/));
    await host(2).docker('rm', '-f', 'guest');
  });

  it('put back a tunnel that somebody deletes', async () => {
    await host(1).run(['ip', 'link', 'delete', 'vxlan.calico']);
    await poll('the tunnel', 2_000, async () => (await devices(host(1))).includes('vxlan.calico'));
    await reaches(host(1), 'box', address(2));
  });

  it('contradict nothing in the datastore', async () => {
    const main = join(REPOSITORY, 'dist/main.js');
    const { stdout } = await host(1).run([process.execPath, main, 'ipam', 'check'], {
      env: { ETCD_ENDPOINTS: endpoint },
    });
    expect(stdout).toMatch(/ 0 findings$/m);
  });

  it('lose the tunnel, its addresses and the pool with the last network', async () => {
    for (const one of hosts) {
      await one.docker('rm', '-f', 'box');
      await one.docker('network', 'rm', 'shared');
    }
    for (const one of hosts) {
      await poll(
        'the end of the tunnel',
        5_000,
        async () => !(await one.run(['ip', 'link'])).stdout.includes('vxlan'),
      );
      expect(await peerRoutes(one)).toEqual([]);
    }
    const left = Object.keys(await dump(host(1), endpoint)).filter(key =>
      /192-0-2|192\.0\.2|vxlan/.test(key),
    );
    expect(left).toEqual([]);
    expect(await nodeOf(host(1), endpoint, 'h2')).not.toHaveProperty('ipv4VXLANTunnelAddr');
  });
});
