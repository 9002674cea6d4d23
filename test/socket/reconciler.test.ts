import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startEtcd } from '../contract/etcd-process.js';
import type { EtcdProcess } from '../contract/etcd-process.js';
import { FakeDocker } from '../fakes/docker-api.js';
import { TestDaemon } from './dockerd.js';
import { createEndpoint, dockerId, join, MAC, makeNetwork, requestAddress, requestPool } from './requests.js';

const SUBNET = '198.51.100.0/24';
const MAC_A = '02:42:00:00:00:0a';
const MAC_B = '02:42:00:00:00:0b';
const GRACE = 600;
const QUICK = { CALICO_LIBNETWORK_GC_GRACE: `${GRACE}ms`, CALICO_LIBNETWORK_RECONCILE_INTERVAL: '200ms' };
const NETWORK = dockerId('a1');

let etcd: EtcdProcess;
let docker: FakeDocker;
let daemon: TestDaemon;
let pool: string;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.remove());
beforeEach(async () => {
  etcd.control('del', '--prefix', '/calico/');
  docker = await new FakeDocker().start();
  await up();
  pool = await makeNetwork(daemon, 'a1', SUBNET);
  docker.networks.set(NETWORK, { name: 'net1', ipam: [{ Subnet: SUBNET }] });
});
afterEach(async () => {
  await daemon.stop();
  await docker.stop();
});

async function up(env: Record<string, string> = {}): Promise<void> {
  daemon = await new TestDaemon(etcd.endpoint, { ...QUICK, DOCKER_HOST: docker.host, ...env }).start();
}

/** The keys in etcd below a part of Calico's model. */
async function keys(part: string): Promise<string[]> {
  return Object.keys(await daemon.dump()).filter(key => key.includes(part));
}

/** A container as dockerd starts it; Docker has it from then on. */
async function start(id: string, mac: string, address?: string): Promise<string> {
  const given = (await requestAddress(daemon, pool, mac, address)).split('/')[0] ?? '';
  await daemon.ok('NetworkDriver.CreateEndpoint', createEndpoint('a1', id, [given], mac));
  await daemon.ok('NetworkDriver.Join', join('a1', id));
  docker.endpoints.set(dockerId(id), { network: NETWORK, mac, addresses: [given] });
  daemon.dataplane.inUse.add(`cali${dockerId(id).slice(0, 11)}`);
  return given;
}

/** What the kernel and Docker do when a container ends without a word to us. */
function vanish(id: string): void {
  docker.endpoints.delete(dockerId(id));
  daemon.dataplane.inUse.delete(`cali${dockerId(id).slice(0, 11)}`);
}

/** Waits until Docker was looked at so many times more, and what followed is done. */
async function looks(count: number): Promise<void> {
  const until = docker.looks + count + 1;
  await expect.poll(() => docker.looks, { timeout: 20_000, interval: 20 }).toBeGreaterThanOrEqual(until);
}

describe('what Docker has lost without a word', () => {
  it('is freed after the grace time, and not before', async () => {
    await start('e1', MAC_A);
    await start('e2', MAC_B);
    await looks(2);
    const began = Date.now();
    vanish('e1');
    await expect.poll(() => keys('/workloadendpoints/'), { timeout: 5_000 }).toHaveLength(1);
    expect(Date.now() - began).toBeGreaterThanOrEqual(GRACE);
    await expect.poll(() => keys('/handle/')).toHaveLength(1);
    expect((await keys('/handle/'))[0]).toContain('02420000000b');
    expect([...daemon.dataplane.attached.keys()]).toEqual([`cali${dockerId('e2').slice(0, 11)}`]);
  });

  it('goes without a grace time where Docker said it in vain, pools too', async () => {
    await daemon.stop();
    await up({ CALICO_LIBNETWORK_GC_GRACE: '60s' });
    const kept = { PoolID: pool, Address: '198.51.100.9' };
    await daemon.ok('IpamDriver.RequestAddress', { ...kept, Options: {} });
    docker.networks.delete(NETWORK);
    await daemon.ok('NetworkDriver.DeleteNetwork', { NetworkID: NETWORK });
    expect(await keys('/ippools/docker-')).toHaveLength(1);
    await etcd.kill();
    expect(await daemon.refused('IpamDriver.ReleaseAddress', kept)).toMatch(/etcd|datastore/);
    expect(await daemon.refused('IpamDriver.ReleasePool', { PoolID: pool })).toMatch(/etcd|datastore/);
    etcd.launch();
    await expect.poll(() => keys('/ippools/docker-').catch(String), { timeout: 15_000 }).toEqual([]);
    expect(await keys('/handle/')).toEqual([]);
    expect(await keys('/assignment/')).toEqual([]);
  });

  it('is kept while a container uses the interface, whatever Docker says', async () => {
    await start('e1', MAC_A);
    docker.endpoints.clear();
    await looks(8);
    expect(await keys('/handle/')).toHaveLength(1);
    expect(await keys('/workloadendpoints/')).toHaveLength(1);
  });

  it('is kept while Docker cannot be asked, and the time does not count', async () => {
    await start('e1', MAC_A);
    await looks(1);
    docker.isBroken = true;
    vanish('e1');
    await new Promise(resolve => setTimeout(resolve, GRACE * 2));
    docker.isBroken = false;
    const began = Date.now();
    await expect.poll(() => keys('/handle/'), { timeout: 5_000, interval: 10 }).toEqual([]);
    expect(Date.now() - began).toBeGreaterThanOrEqual(GRACE * 0.9);
  });

  it('is kept where a restarted dockerd has it again: views of two dockerds do not add up', async () => {
    await start('e1', MAC_A);
    const endpoint = docker.endpoints.get(dockerId('e1'));
    vanish('e1');
    await looks(2);
    docker.restart();
    if (endpoint) docker.endpoints.set(dockerId('e1'), endpoint);
    await looks(6);
    expect(await keys('/handle/')).toHaveLength(1);
  });

  it('is freed: an address that was asked for and never used', async () => {
    await requestAddress(daemon, pool, MAC_A);
    await expect.poll(() => keys('/handle/'), { timeout: 5_000 }).toEqual([]);
  });

  it('is freed: a network, with its gateway and its pool', async () => {
    const { PoolID } = await daemon.ok('IpamDriver.RequestPool', requestPool('203.0.113.0/24'));
    await daemon.ok('IpamDriver.RequestAddress', {
      PoolID,
      Address: '203.0.113.1',
      Options: { RequestAddressType: 'com.docker.network.gateway' },
    });
    await makeNetwork(daemon, 'a2', '203.0.113.0/24');
    // dockerd was killed before it had written it down.
    docker.restart();
    await expect.poll(() => keys('203'), { timeout: 8_000 }).toEqual([]);
    expect(await keys('/networks/')).toHaveLength(1);
  });

  it('is kept while Docker lacks a network that it has just used: that must be another engine', async () => {
    await makeNetwork(daemon, 'a2', '203.0.113.0/24');
    await looks(6);
    expect(await keys('/networks/')).toHaveLength(2);
    expect(await keys('/ippools/docker-203')).toHaveLength(1);
  });

  it('is freed: an interface that is no endpoint’s', async () => {
    const address = await start('e1', MAC_A);
    const wiring = daemon.dataplane.attached.get(`cali${dockerId('e1').slice(0, 11)}`);
    if (!wiring) throw new Error('not attached');
    daemon.dataplane.attached.set('calideadbeef', { ...wiring, hostInterface: 'calideadbeef' });
    await expect.poll(() => [...daemon.dataplane.attached.keys()], { timeout: 5_000 }).toHaveLength(1);
    expect(await keys('/handle/')).toEqual([expect.stringContaining(address)]);
  });

  it('is only reported where nothing is to be repaired', async () => {
    await daemon.stop();
    await up({ CALICO_LIBNETWORK_RECONCILE: 'report' });
    await start('e1', MAC_A);
    vanish('e1');
    await looks(8);
    expect(await keys('/handle/')).toHaveLength(1);
  });

  it("leaves alone another node's, and allocations of other kinds", async () => {
    await daemon.stop();
    await up({ NODENAME: 'node-2' });
    await start('e1', MAC_A);
    const before = await keys('/handle/');
    await daemon.stop();
    vanish('e1');
    await up();
    await looks(8);
    expect(await keys('/handle/')).toEqual(before);
    expect(await keys('/workloadendpoints/')).toHaveLength(1);
  });
});

describe('two that have one address, as after an etcd was put back', () => {
  it('are not made: what a container of this host has is not given to another', async () => {
    const address = await start('e1', MAC_A);
    for (const part of ['/handle/', '/assignment/', '/host/', '/workloadendpoints/'])
      for (const key of await keys(part)) etcd.control('del', key);
    const next = await requestAddress(daemon, pool, MAC_B);
    expect(next.split('/')[0]).not.toBe(address);
    const asked = { PoolID: pool, Address: address, Options: { [MAC]: '02:42:00:00:00:0c' } };
    expect(await daemon.refused('IpamDriver.RequestAddress', asked)).toContain('container of this host');
  });

  it('do not take it from each other: what is released is the one that went', async () => {
    const address = await start('e1', MAC_A);
    // As another daemon than ours might have written it.
    const [key = ''] = await keys('/workloadendpoints/');
    const twin = ((await daemon.dump())[key] ?? '').replaceAll(dockerId('e1'), dockerId('e2'));
    etcd.control('put', key.replace(dockerId('e1'), dockerId('e2')), twin);
    docker.endpoints.set(dockerId('e2'), { network: NETWORK, mac: MAC_A, addresses: [address] });
    await expect.poll(() => keys('/workloadendpoints/')).toHaveLength(2);
    // Until the daemon has seen it, too.
    await looks(2);
    const ids = { NetworkID: NETWORK, EndpointID: dockerId('e1') };
    await daemon.ok('NetworkDriver.Leave', ids);
    await daemon.ok('NetworkDriver.DeleteEndpoint', ids);
    docker.endpoints.delete(dockerId('e1'));
    await daemon.ok('IpamDriver.ReleaseAddress', { PoolID: pool, Address: address });
    expect(await keys('/workloadendpoints/')).toEqual([expect.stringContaining(dockerId('e2'))]);
    expect(await keys('/handle/')).toHaveLength(1);
  });
});

describe('what the datastore has lost of a running container', () => {
  const lose = async (part: string) => {
    for (const key of await keys(part)) etcd.control('del', key);
  };

  it('is written again: the endpoint, as it was', async () => {
    await start('e1', MAC_A);
    await expect.poll(async () => JSON.stringify(await daemon.dump())).toContain('0123456789ab');
    await looks(2);
    const [key = ''] = await keys('/workloadendpoints/');
    const before = JSON.parse((await daemon.dump())[key] ?? '{}').spec;
    await lose('/workloadendpoints/');
    await expect.poll(() => keys('/workloadendpoints/'), { timeout: 5_000 }).toEqual([key]);
    expect(JSON.parse((await daemon.dump())[key] ?? '{}').spec).toEqual(before);
  });

  it('is written again: everything, by a daemon that never knew it', async () => {
    const address = await start('e1', MAC_A);
    await daemon.stop();
    etcd.control('del', '--prefix', '/calico/');
    const { attached, inUse } = daemon.dataplane;
    await up();
    for (const [name, wiring] of attached) daemon.dataplane.attached.set(name, wiring);
    for (const name of inUse) daemon.dataplane.inUse.add(name);
    await expect.poll(() => keys('/workloadendpoints/'), { timeout: 8_000 }).toHaveLength(1);
    expect(await keys('/handle/')).toEqual([expect.stringContaining(`02420000000a.${address}`)]);
    expect(await keys('/networks/')).toHaveLength(1);
    const next = await requestAddress(daemon, pool, MAC_B);
    expect(next.split('/')[0]).not.toBe(address);
  });

  it('is wired again: the interface of a container that runs', async () => {
    await start('e1', MAC_A);
    await expect.poll(async () => JSON.stringify(await daemon.dump())).toContain('0123456789ab');
    const name = `cali${dockerId('e1').slice(0, 11)}`;
    daemon.dataplane.attached.delete(name);
    await expect.poll(() => [...daemon.dataplane.attached.keys()], { timeout: 5_000 }).toEqual([name]);
    expect(await keys('/handle/')).toHaveLength(1);
  });

  it('is kept back again: gateway and auxiliary address of a network', async () => {
    docker.networks.set(NETWORK, {
      name: 'net1',
      ipam: [{ Subnet: SUBNET, Gateway: '198.51.100.1', AuxiliaryAddresses: { a: '198.51.100.2' } }],
    });
    await expect
      .poll(() => keys('/handle/'), { timeout: 5_000 })
      .toEqual([
        expect.stringContaining('libnetwork.aux.198.51.100.2'),
        expect.stringContaining('libnetwork.gateway.198.51.100.1'),
      ]);
  });

  it('is never taken from another that has it by now', async () => {
    const address = await start('e1', MAC_A);
    await looks(1);
    docker.isBroken = true;
    await lose('/handle/');
    await lose('/assignment/');
    await lose('/host/');
    const other = await new TestDaemon(etcd.endpoint, { NODENAME: 'node-9' }).start();
    await requestAddress(other, pool, MAC_B, address);
    docker.isBroken = false;
    await looks(8);
    expect(await keys('/handle/')).toEqual([expect.stringContaining(`node-9.02420000000b.${address}`)]);
    await other.stop();
  });
});
