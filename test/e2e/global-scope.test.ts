import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import { startEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { CALICO, addressOf, container, expectCleanHost, ping, pingOutside } from './calico-host.js';
import { handles, keys } from './datastore.js';

describe('networks of global scope, on two hosts with a cluster store', () => {
  let bed: Bed;
  let hosts: readonly [Host, Host];
  let endpoint: string;

  beforeAll(async () => {
    bed = await Bed.up({ hosts: 2, engine: '20' });
    hosts = [bed.host(1), bed.host(2)];
    ({ endpoint } = await startEtcd(hosts[0]));
    const store = `--cluster-store=${endpoint.replace('http:', 'etcd:')}`;
    for (const host of hosts) {
      await host.serve({ ETCD_ENDPOINTS: endpoint, CALICO_LIBNETWORK_SCOPE: 'global' });
      await host.dockerd(store, '--cluster-advertise=eth0:2376');
      await host.image();
    }
  });
  afterAll(() => bed?.down());

  const list = (host: Host) =>
    host.docker('network', 'ls', '--no-trunc', '--filter', 'driver=calico', '--format', '{{.ID}} {{.Scope}}');

  it('are seen on the other host as soon as they are made', async () => {
    await hosts[0].docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'shared');
    const [here, there] = [await list(hosts[0]), await list(hosts[1])];
    expect(here).toMatch(/^[0-9a-f]{64} global$/);
    expect(there).toBe(here);
  });

  it('give distinct addresses to containers of both hosts', async () => {
    const addresses: string[] = [];
    for (const [index, host] of hosts.entries())
      for (const letter of ['a', 'b']) {
        const name = `box-${index}-${letter}`;
        await container(host, name, 'shared');
        addresses.push(await addressOf(host, name));
      }
    expect(new Set(addresses).size).toBe(4);
    for (const address of addresses) expect(address).toMatch(/^192\.0\.2\./);
    for (const [index, host] of hosts.entries()) {
      await ping(host, `box-${index}-a`, `box-${index}-b`);
      await pingOutside(host, `box-${index}-a`);
    }
    expect(await handles(hosts[0], endpoint)).toHaveLength(4);
    // Each host has a block of its own.
    const affinities = await keys(hosts[0], '/calico/ipam/v2/host/', endpoint);
    expect(affinities.filter(key => key.includes('/host/h1/'))).toHaveLength(1);
    expect(affinities.filter(key => key.includes('/host/h2/'))).toHaveLength(1);
  });

  it('refuse on one host the address of a container on the other', async () => {
    const taken = await addressOf(hosts[0], 'box-0-a');
    const text = await hosts[1].dockerFails(
      ...['run', '-d', '--name', 'thief', '--net', 'shared', '--ip', taken],
      ...['busybox', 'sleep', '1d'],
    );
    expect(text).toContain(taken);
    await hosts[1].docker('rm', '-f', 'thief');
    await container(hosts[1], 'chosen', 'shared', '--ip', '192.0.2.77');
    expect(await addressOf(hosts[1], 'chosen')).toBe('192.0.2.77');
    await hosts[1].docker('rm', '-f', 'chosen');
  });

  it('work without a subnet too', async () => {
    await hosts[1].docker('network', 'create', ...CALICO, 'plain');
    await container(hosts[0], 'plain-0', 'plain');
    await container(hosts[1], 'plain-1', 'plain');
    expect(await addressOf(hosts[0], 'plain-0')).not.toBe(await addressOf(hosts[1], 'plain-1'));
    await hosts[0].docker('rm', '-f', 'plain-0');
    await hosts[1].docker('rm', '-f', 'plain-1');
    await hosts[0].docker('network', 'rm', 'plain');
  });

  it('can be removed on either host, and leave nothing on both', async () => {
    for (const [index, host] of hosts.entries())
      await host.docker('rm', '-f', `box-${index}-a`, `box-${index}-b`);
    await hosts[1].docker('network', 'rm', 'shared');
    expect(await list(hosts[0])).toBe('');
    for (const host of hosts)
      await expectCleanHost(host, /^169\.254\.1\.0\/24 |^blackhole 192\.168\.|^192\.168\.\S+ via 10\.99\./);
    expect(await handles(hosts[0], endpoint)).toEqual([]);
    const left = (await keys(hosts[0], '/calico/', endpoint)).filter(key =>
      /192\.0\.2\.|docker-192|\/networks\/|workloadendpoints/.test(key),
    );
    expect(left).toEqual([]);
  });
});
