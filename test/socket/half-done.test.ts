import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startEtcd } from '../contract/etcd-process.js';
import type { EtcdProcess } from '../contract/etcd-process.js';
import { TestDaemon } from './dockerd.js';
import { createEndpoint, createNetwork, makeNetwork, MAC, requestAddress, requestPool } from './requests.js';

const SUBNET = '198.51.100.0/24';
const MAC_A = '02:42:00:00:00:0a';
const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' };

let etcd: EtcdProcess;
let daemon: TestDaemon;
let before: Record<string, string>;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.remove());
beforeEach(async () => {
  etcd.control('del', '--prefix', '/calico/');
  daemon = await new TestDaemon(etcd.endpoint).start();
  await expect
    .poll(async () => Object.keys(await daemon.dump()).filter(key => key.includes('/ippools/')))
    .toHaveLength(1);
  before = await state();
});
afterEach(() => daemon.stop());

/** All of etcd but the key that only counts. */
async function state(): Promise<Record<string, string>> {
  const { ['/calico/libnetwork/v1/pool-creation']: _counter, ...rest } = await daemon.dump();
  return rest;
}

/** What dockerd asks first in `docker network create --subnet --gateway`: the PoolID. */
async function begin(subnet = SUBNET, gateway = '198.51.100.1'): Promise<string> {
  const { PoolID } = await daemon.ok('IpamDriver.RequestPool', requestPool(subnet));
  await daemon.ok('IpamDriver.RequestAddress', { PoolID, Address: gateway, Options: GATEWAY });
  return String(PoolID);
}

describe('a network that is refused while dockerd creates it', () => {
  it('leaves no gateway where an auxiliary address is refused and dockerd releases the pool', async () => {
    const pool = await begin();
    await daemon.refused('IpamDriver.RequestAddress', {
      PoolID: pool,
      Address: '198.51.100.1',
      Options: null,
    });
    await daemon.ok('IpamDriver.ReleasePool', { PoolID: pool });
    expect(await state()).toEqual(before);
  });

  it('leaves nothing on Docker 20.10, which releases nothing', async () => {
    const pool = await begin();
    await daemon.refused('IpamDriver.RequestAddress', {
      PoolID: pool,
      Address: '203.0.113.9',
      Options: null,
    });
    expect(await state()).toEqual(before);
  });

  it('leaves no gateway where a further subnet is refused', async () => {
    const pool = await begin();
    await daemon.refused('IpamDriver.RequestPool', requestPool('127.0.0.0/24'));
    await daemon.ok('IpamDriver.ReleasePool', { PoolID: pool });
    expect(await state()).toEqual(before);
  });

  it('takes nothing from another network that is being created with the same subnet', async () => {
    const pool = await begin();
    await daemon.ok('IpamDriver.RequestPool', requestPool(SUBNET));
    await daemon.refused('IpamDriver.RequestAddress', {
      PoolID: pool,
      Address: '198.51.100.1',
      Options: GATEWAY,
    });
    await daemon.ok('IpamDriver.ReleasePool', { PoolID: pool });
    expect(Object.keys(await state()).filter(key => key.includes('libnetwork.gateway'))).toHaveLength(1);
    await daemon.ok('NetworkDriver.CreateNetwork', createNetwork('a1', [SUBNET]));
  });

  it('takes nothing from a network that is there already, nor does the removal of another', async () => {
    const pool = await begin();
    const network = createNetwork('a1', [SUBNET]);
    const [data] = network.IPv4Data;
    await daemon.ok('NetworkDriver.CreateNetwork', {
      ...network,
      IPv4Data: [{ ...data, Gateway: '198.51.100.1/32' }],
    });
    const there = await state();
    await daemon.ok('IpamDriver.RequestPool', requestPool(SUBNET));
    await daemon.refused('IpamDriver.RequestAddress', {
      PoolID: pool,
      Address: '198.51.100.1',
      Options: GATEWAY,
    });
    await daemon.ok('IpamDriver.ReleasePool', { PoolID: pool });
    expect(await state()).toEqual(there);
  });
});

describe('a container that cannot have its IPv6 address', () => {
  const SIX = 'fd80:9::/127';
  let pools: string[];

  beforeEach(async () => {
    pools = [];
    for (const subnet of [SUBNET, SIX]) {
      const { PoolID } = await daemon.ok('IpamDriver.RequestPool', requestPool(subnet));
      pools.push(String(PoolID));
    }
    await daemon.ok('NetworkDriver.CreateNetwork', createNetwork('a1', [SUBNET, SIX]));
    for (const mac of ['02:42:00:00:00:01', '02:42:00:00:00:02'])
      for (const pool of pools) await requestAddress(daemon, pool, mac);
  });

  it('keeps no IPv4 address', async () => {
    const full = await state();
    const handles = (dump: object) => Object.keys(dump).filter(key => key.includes('/handle/'));
    await requestAddress(daemon, pools[0] ?? '', MAC_A);
    const asked = { PoolID: pools[1], Address: '', Options: { [MAC]: MAC_A } };
    expect(await daemon.refused('IpamDriver.RequestAddress', asked)).toContain(SIX);
    expect(handles(await state())).toEqual(handles(full));
  });

  it('keeps what an endpoint has', async () => {
    const address = await requestAddress(daemon, pools[0] ?? '', MAC_A);
    await daemon.ok('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [address], MAC_A));
    const asked = { PoolID: pools[1], Address: '', Options: { [MAC]: MAC_A } };
    await daemon.refused('IpamDriver.RequestAddress', asked);
    expect(Object.keys(await state()).some(key => key.includes(`0242000000${'0a'}.198.51`))).toBe(true);
  });
});

describe('an endpoint that is there', () => {
  it('keeps its wires where CreateEndpoint comes again with another address', async () => {
    const pool = await makeNetwork(daemon, 'a1', SUBNET);
    const first = await requestAddress(daemon, pool, MAC_A);
    const second = await requestAddress(daemon, pool, MAC_A);
    await daemon.ok('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [first], MAC_A));
    await daemon.ok('NetworkDriver.Join', {
      ...createEndpoint('a1', 'e1', [first], MAC_A),
      SandboxKey: '/var/run/docker/netns/0123456789ab',
    });
    await daemon.refused('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [second], MAC_A));
    expect([...daemon.dataplane.attached.keys()]).toEqual(['calie1000000000']);
  });
});
