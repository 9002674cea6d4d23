import { statSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CommandResult } from '../../src/setup/command.mjs';
import { Bed } from '../bed/bed.js';
import type { Engine } from '../bed/engines.js';
import type { Host } from '../bed/host.js';
import type { IptablesKind } from '../bed/iptables.js';
import { REPOSITORY } from '../bed/paths.js';
import { CALICO, container, expectCleanHost, ping, pingOutside } from './calico-host.js';
import { dump } from './datastore.js';

const MAIN = join(REPOSITORY, 'dist/main.js');
const SOCKETS = ['/run/docker/plugins/calico.sock', '/run/docker/plugins/calico-ipam.sock'];

const ORDERS: readonly ('daemon' | 'dockerd')[] = ['daemon', 'dockerd'];
const TABLES: readonly (readonly [IptablesKind, Engine])[] = [
  ['nft', '28'],
  ['nft', '20'],
  ['legacy', '20'],
];
const CASES = ORDERS.flatMap(first => TABLES.map(([kind, engine]) => [first, kind, engine] as const));

describe.each(CASES)('%s first, with iptables-%s and Docker %s', (first, iptables, engine) => {
  let bed: Bed;
  let host: Host;

  beforeAll(async () => {
    bed = await Bed.up({ engine, iptables });
    host = bed.host(1);
    if (first === 'daemon') await host.serve();
    await host.dockerd();
    if (first === 'dockerd') await host.serve();
    await host.image();
  });
  afterAll(() => bed?.down());

  it("keeps Docker's DROP, and containers reach the outside all the same", async () => {
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
    await container(host, 'inner', 'net24');
    await container(host, 'other', 'net24');
    await pingOutside(host, 'inner');
    await ping(host, 'inner', 'other');
    const forward = (await host.run(['iptables', '-S', 'FORWARD'])).stdout;
    expect(forward).toContain('-P FORWARD DROP');
    const pair = (await host.run(['iptables', '-S', 'DOCKER-USER'])).stdout;
    expect(pair.match(/--comment "?calico-libnetwork"? -j ACCEPT/g)).toHaveLength(2);
    // And nowhere else.
    expect((await host.run(['iptables-save'])).stdout.match(/calico-libnetwork/g)).toHaveLength(2);
  });
});

describe('the daemon at start and at its end', () => {
  let bed: Bed;
  let host: Host;

  beforeAll(async () => {
    bed = await Bed.up({ engine: '28' });
    host = bed.host(1);
  });
  afterAll(() => bed?.down());

  /** Starts a daemon that has to end by itself. */
  const start = (env: Readonly<Record<string, string>> = {}): Promise<CommandResult> =>
    host.run([process.execPath, MAIN, 'serve'], { env, check: false, timeout: 20_000 });

  it('lists all bad settings at once', async () => {
    const { code, stdout, stderr } = await start({
      ETCD_ENDPOINTS: 'ftp:/etcd',
      ETCD_PASSWORD: 'a-secret',
      CALICO_IPV4POOL_CIDR: '192.168.0.0/40',
      CALICO_LIBNETWORK_SCOPE: 'galaxy',
      CALICO_LIBNETWORK_AUTO_POOLS: 'maybe',
      CALICO_LIBNETWORK_VETH_MTU: 'big',
    });
    expect(code).toBe(1);
    for (const name of [
      'ETCD_ENDPOINTS',
      'ETCD_USERNAME',
      'CALICO_IPV4POOL_CIDR',
      'SCOPE',
      'AUTO_POOLS',
      'VETH_MTU',
    ])
      expect(stderr).toContain(name);
    expect(stderr.trim().split('\n')).toHaveLength(7);
    expect(stdout + stderr).not.toContain('a-secret');
    expect(SOCKETS.filter(socket => existsSync(host.path(socket)))).toEqual([]);
  });

  it('says what to install where there is no etcd', async () => {
    // In the host's own mount namespace: /usr/bin without etcd.
    await host.run(['mkdir', '/run/hide']);
    await host.run(['mknod', '/run/hide/etcd', 'c', '0', '0']);
    await host.run(['mount', '-t', 'overlay', 'overlay', '-o', 'lowerdir=/run/hide:/usr/bin', '/usr/bin']);
    const { code, stderr } = await start();
    await host.run(['umount', '--lazy', '/usr/bin']);
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toContain('apt-get install etcd-server');
    expect(stderr).toContain('ETCD_ENDPOINTS');
    expect(SOCKETS.filter(socket => existsSync(host.path(socket)))).toEqual([]);
  });

  it('serves on sockets for root alone, replaces stale ones, and takes them away', async () => {
    await host.serve();
    for (const socket of SOCKETS) expect(statSync(host.path(socket)).mode & 0o777).toBe(0o600);
    expect(await host.stopServe('SIGKILL')).toBe(137);
    for (const socket of SOCKETS) expect(statSync(host.path(socket)).isSocket()).toBe(true);
    await host.serve();
    expect(await host.stopServe('SIGTERM')).toBe(0);
    for (const socket of SOCKETS) expect(existsSync(host.path(socket))).toBe(false);
    // Its etcd goes with it.
    expect((await host.run(['pidof', 'etcd'], { check: false })).stdout).toBe('');
  });

  it('does not start twice, nor disturbs the first', async () => {
    const first = await host.serve();
    await host.dockerd();
    await host.image();
    await host.docker('network', 'create', ...CALICO, 'net1');
    await container(host, 'inner', 'net1');
    const etcd = (await host.run(['pidof', 'etcd'])).stdout;
    const [before, log] = [await dump(host), first.output()];

    // With other settings it may not replace the running etcd either.
    for (const env of [{}, { CALICO_LIBNETWORK_ETCD_PORT: '33790' }]) {
      const { code, stdout, stderr } = await start(env);
      expect(code).toBe(1);
      expect((stdout + stderr).trim().split('\n')).toHaveLength(1);
      expect(stderr).toContain('/run/docker/plugins/calico.sock is in use');
    }
    expect((await host.run(['pidof', 'etcd'])).stdout).toBe(etcd);
    expect(await dump(host)).toEqual(before);
    expect(first.output()).toBe(log);
    await host.docker('run', '--rm', '--net', 'net1', 'busybox', 'true');
    await host.docker('rm', '-f', 'inner');
    await expectCleanHost(host);
  });
});
