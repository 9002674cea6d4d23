import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, afterEach, describe, expect, it } from 'vitest';
import { checkDatastore } from '../../src/ipam/check-datastore.js';
import { startEtcd } from '../contract/etcd-process.js';
import type { EtcdProcess } from '../contract/etcd-process.js';
import { TestDaemon } from './dockerd.js';
import {
  createEndpoint,
  createNetwork,
  dockerId,
  join,
  MAC,
  makeNetwork,
  requestAddress,
  requestPool,
} from './requests.js';

const MAC_A = '02:42:00:00:00:0a';
const MAC_B = '02:42:00:00:00:0b';

let etcd: EtcdProcess;
let daemon: TestDaemon;
let index = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.remove());
beforeEach(async () => {
  etcd.control('del', '--prefix', '/calico/');
  // A node of its own for each test: block places depend on the name.
  daemon = await new TestDaemon(etcd.endpoint, { NODENAME: `node-${(index += 1)}` }).start();
  await expect
    .poll(async () => Object.keys(await daemon.dump()).filter(key => key.includes('/ippools/')), {
      timeout: 20_000,
    })
    .toHaveLength(1);
});
afterEach(async () => {
  // Whatever was asked for: the datastore never contradicts itself.
  try {
    expect((await checkDatastore(daemon.store, { fix: false, settle: 0 })).findings).toEqual([]);
  } finally {
    await daemon.stop();
  }
});

/** The keys in etcd below a part of Calico's model. */
async function keys(part: string): Promise<string[]> {
  return Object.keys(await daemon.dump()).filter(key => key.includes(part));
}

describe('a network with --subnet', () => {
  it('makes a pool, wires a container, and leaves nothing when both are gone', async () => {
    const before = await daemon.dump();
    const pool = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    const address = await requestAddress(daemon, pool, MAC_A);
    expect(address).toMatch(/^192\.0\.2\.\d+\/32$/);
    expect(
      await daemon.ok('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [address], MAC_A)),
    ).toEqual({ Interface: {} });
    expect(await daemon.ok('NetworkDriver.Join', join('a1', 'e1'))).toEqual({
      InterfaceName: { SrcName: 'tempe1000000000', DstPrefix: 'cali' },
      Gateway: '169.254.1.1',
      StaticRoutes: [{ Destination: '169.254.1.1/32', RouteType: 1, NextHop: '' }],
      DisableGatewayService: true,
    });
    expect(daemon.dataplane.attached.get('calie1000000000')).toMatchObject({
      mac: MAC_A,
      addresses: [address.split('/')[0]],
      mtu: 1500,
    });
    await daemon.ok('NetworkDriver.Leave', { NetworkID: dockerId('a1'), EndpointID: dockerId('e1') });
    await daemon.ok('NetworkDriver.DeleteEndpoint', {
      NetworkID: dockerId('a1'),
      EndpointID: dockerId('e1'),
    });
    await daemon.ok('IpamDriver.ReleaseAddress', { PoolID: pool, Address: address.split('/')[0] });
    await daemon.ok('IpamDriver.ReleaseAddress', { PoolID: pool, Address: '169.254.1.1' });
    await daemon.ok('IpamDriver.ReleasePool', { PoolID: pool });
    await daemon.ok('NetworkDriver.DeleteNetwork', { NetworkID: dockerId('a1') });
    const { ['/calico/libnetwork/v1/pool-creation']: _counter, ...after } = await daemon.dump();
    const { ['/calico/libnetwork/v1/pool-creation']: _before, ...expected } = before;
    expect(after).toEqual(expected);
    expect(daemon.dataplane.attached.size).toBe(0);
  });

  it('shares a pool it equals or lies in, and keeps it while another network needs it', async () => {
    const whole = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    const part = await makeNetwork(daemon, 'a2', '192.0.2.128/28');
    expect(await keys('/ippools/docker')).toHaveLength(1);
    for (let i = 0; i < 16; i += 1)
      expect(await requestAddress(daemon, part, `02:42:00:00:01:${i.toString(16).padStart(2, '0')}`)).toMatch(
        /^192\.0\.2\.1(2[89]|3\d|4[0-3])\/32$/,
      );
    expect(
      await daemon.refused('IpamDriver.RequestAddress', {
        PoolID: part,
        Address: '',
        Options: { [MAC]: MAC_B },
      }),
    ).toMatch(/no free address in 192\.0\.2\.128\/28: all are in use/);
    await daemon.ok('IpamDriver.ReleasePool', { PoolID: whole });
    await daemon.ok('NetworkDriver.DeleteNetwork', { NetworkID: dockerId('a1') });
    expect(await keys('/ippools/docker')).toHaveLength(1);
  });

  it('that overlaps a pool partly is refused with the name of that pool', async () => {
    await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    expect(await daemon.refused('IpamDriver.RequestPool', requestPool('192.0.0.0/16'))).toContain(
      'docker-192-0-2-0-24 (192.0.2.0/24)',
    );
  });

  it('made at once by many is one pool', async () => {
    await Promise.all(Array.from({ length: 8 }, (_, i) => makeNetwork(daemon, `b${i}`, '198.51.100.0/24')));
    expect(await keys('/ippools/docker')).toHaveLength(1);
    await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        daemon.ok('NetworkDriver.DeleteNetwork', { NetworkID: dockerId(`b${i}`) }),
      ),
    );
    expect(await keys('/ippools/docker')).toEqual([]);
  });

  it('is made anew if its pool goes between RequestPool and CreateNetwork', async () => {
    const { PoolID } = await daemon.ok('IpamDriver.RequestPool', requestPool('192.0.2.0/24'));
    await daemon.ok('IpamDriver.ReleasePool', { PoolID });
    expect(await keys('/ippools/docker')).toEqual([]);
    await daemon.ok('NetworkDriver.CreateNetwork', createNetwork('a1', ['192.0.2.0/24']));
    expect(await keys('/ippools/docker')).toHaveLength(1);
  });
});

describe('a network without --subnet', () => {
  it('uses the default pool, and shows Docker a range that its checks exempt', async () => {
    const answer = await daemon.ok('IpamDriver.RequestPool', requestPool());
    expect(answer).toEqual({
      PoolID: 'CalicoPoolIPv4',
      Pool: '0.0.0.0/0',
      Data: { 'com.docker.network.gateway': '169.254.1.1/32' },
    });
    await daemon.ok('NetworkDriver.CreateNetwork', createNetwork('a1', ['0.0.0.0/0']));
    expect(await requestAddress(daemon, 'CalicoPoolIPv4', MAC_A)).toMatch(/^192\.168\./);
    expect(await daemon.refused('IpamDriver.RequestPool', requestPool('', { V6: true }))).toContain(
      'CALICO_IPV6POOL_CIDR',
    );
  });
});

describe('an endpoint', () => {
  it('of both families has a route for both', async () => {
    const v4 = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    const { PoolID: v6 } = await daemon.ok('IpamDriver.RequestPool', requestPool('fd80:1::/64'));
    const addresses = [
      await requestAddress(daemon, v4, MAC_A),
      await requestAddress(daemon, String(v6), MAC_A, 'fd80:1::77'),
    ];
    await daemon.ok('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', addresses, MAC_A));
    expect(await daemon.ok('NetworkDriver.Join', join('a1', 'e1'))).toMatchObject({
      Gateway: '169.254.1.1',
      GatewayIPv6: 'fe80::ecee:eeff:feee:eeee',
    });
    expect(addresses[1]).toBe('fd80:1::77/128');
  });

  it('can be created, joined, left and deleted twice', async () => {
    const pool = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    const address = await requestAddress(daemon, pool, MAC_A);
    const ids = { NetworkID: dockerId('a1'), EndpointID: dockerId('e1') };
    const twice: [string, object][] = [
      ['CreateEndpoint', createEndpoint('a1', 'e1', [address], MAC_A)],
      ['Join', join('a1', 'e1')],
      ['Leave', ids],
      ['DeleteEndpoint', ids],
    ];
    for (const [method, body] of twice) {
      await daemon.ok(`NetworkDriver.${method}`, body);
      await daemon.ok(`NetworkDriver.${method}`, body);
    }
    await daemon.ok('NetworkDriver.DeleteNetwork', { NetworkID: dockerId('a1') });
    await daemon.ok('NetworkDriver.DeleteNetwork', { NetworkID: dockerId('a1') });
  });

  it('is refused, not given a shared address, if its address was freed and given away meanwhile', async () => {
    const pool = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    const address = await requestAddress(daemon, pool, MAC_A);
    await daemon.ok('IpamDriver.ReleaseAddress', { PoolID: pool, Address: address.split('/')[0] });
    await requestAddress(daemon, pool, MAC_B, address.split('/')[0]);
    expect(
      await daemon.refused('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [address], MAC_A)),
    ).toContain('released before');
    expect(await keys('/workloadendpoints/')).toEqual([]);
  });

  it('gets its profile as soon as the name of its network is known, and none before', async () => {
    const pool = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    const address = await requestAddress(daemon, pool, MAC_A);
    await daemon.ok('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [address], MAC_A));
    const [key = ''] = await keys('/workloadendpoints/');
    expect(JSON.parse((await daemon.dump())[key] ?? '').spec.profiles).toEqual([]);
  });

  it('survives a restart of the daemon: Join comes to a new one that never saw CreateEndpoint', async () => {
    const pool = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    const address = await requestAddress(daemon, pool, MAC_A);
    await daemon.ok('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [address], MAC_A));
    await daemon.stop();
    daemon = await new TestDaemon(etcd.endpoint, { NODENAME: `node-${index}` }).start();
    expect(await daemon.ok('NetworkDriver.Join', join('a1', 'e1'))).toMatchObject({ Gateway: '169.254.1.1' });
    await daemon.ok('IpamDriver.ReleaseAddress', { PoolID: pool, Address: address.split('/')[0] });
    expect(await keys('/handle/')).toEqual([]);
  });
});

describe('what cannot work is refused, and changes nothing', () => {
  it.each<[string, (pool: string, taken: string) => [string, object], RegExp]>([
    [
      'an unknown network',
      () => ['NetworkDriver.CreateEndpoint', createEndpoint('ff', 'e1', ['192.0.2.9/32'], MAC_B)],
      /not known .* docker network rm/,
    ],
    ['an unknown endpoint', () => ['NetworkDriver.Join', join('a1', 'ee')], /not known/],
    [
      'an address outside',
      pool => [
        'IpamDriver.RequestAddress',
        { PoolID: pool, Address: '192.0.3.1', Options: { [MAC]: MAC_B } },
      ],
      /not in the network's subnet 192\.0\.2\.0\/24/,
    ],
    [
      'an address in use',
      (pool, taken) => [
        'IpamDriver.RequestAddress',
        { PoolID: pool, Address: taken, Options: { [MAC]: MAC_B } },
      ],
      /already assigned on node node-/,
    ],
    [
      'a MAC that is none',
      pool => ['IpamDriver.RequestAddress', { PoolID: pool, Address: '', Options: { [MAC]: 'zz' } }],
      /"zz" is no MAC address/,
    ],
    [
      'a multicast MAC',
      (_pool, taken) => [
        'NetworkDriver.CreateEndpoint',
        createEndpoint('a1', 'e1', [taken], '03:42:00:00:00:01'),
      ],
      /multicast/,
    ],
    [
      'an endpoint without address',
      () => ['NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [], MAC_B)],
      /--ipam-driver/,
    ],
    [
      'an unknown -o',
      () => ['NetworkDriver.CreateNetwork', createNetwork('a2', ['192.0.2.0/24'], { colour: 'red' })],
      /unknown option -o colour/,
    ],
    [
      'another IPAM',
      () => [
        'NetworkDriver.CreateNetwork',
        { NetworkID: dockerId('a2'), IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '172.18.0.0/16' }] },
      ],
      /add --ipam-driver calico-ipam/,
    ],
    [
      'a PoolID that is not ours',
      () => ['IpamDriver.RequestAddress', { PoolID: 'other', Address: '' }],
      /not ours/,
    ],
  ])('%s', async (_what, make, words) => {
    const pool = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    const taken = (await requestAddress(daemon, pool, MAC_A)).split('/')[0] ?? '';
    const before = await daemon.dump();
    expect(await daemon.refused(...make(pool, taken))).toMatch(words);
    expect(await daemon.dump()).toEqual(before);
    expect(daemon.dataplane.attached.size).toBe(0);
  });

  it('whatever is thrown at it: no crash, no hang, no write', async () => {
    const part = fc.oneof(
      fc.anything(),
      fc.string(),
      fc.constantFrom(dockerId('a1'), '192.0.2.1', 'CalicoPoolIPv4', null),
    );
    const body = fc.record({
      NetworkID: part,
      EndpointID: part,
      PoolID: part,
      Address: part,
      Options: part,
      Interface: part,
      IPv4Data: part,
      SandboxKey: part,
    });
    const method = fc
      .constantFrom('CreateNetwork', 'DeleteNetwork', 'CreateEndpoint', 'DeleteEndpoint', 'Join', 'Leave')
      .map(name => `NetworkDriver.${name}`);
    const before = await daemon.dump();
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(method, fc.constant('IpamDriver.ReleaseAddress')),
        body,
        async (name, garbage) => {
          const text = JSON.stringify(garbage, (_key, value) =>
            typeof value === 'bigint' ? String(value) : value,
          );
          const { status } = await daemon.call(name, text);
          // An id that looks like one may be forgotten or recorded: that is no garbage.
          expect(name.endsWith('CreateNetwork') ? [200, 400] : [200, 400, 409]).toContain(status);
        },
      ),
      { numRuns: 300 },
    );
    const { ...after } = await daemon.dump();
    for (const key of Object.keys(after)) if (key.includes('/networks/')) delete after[key];
    expect(after).toEqual(before);
  });
});

describe('when etcd is down', () => {
  it('a call fails within 10 s in words, nothing is left of it, and it works again by itself', async () => {
    const pool = await makeNetwork(daemon, 'a1', '192.0.2.0/24');
    await requestAddress(daemon, pool, MAC_A);
    await etcd.kill();
    const started = Date.now();
    const [address, network] = await Promise.all([
      daemon.refused('IpamDriver.RequestAddress', { PoolID: pool, Address: '', Options: { [MAC]: MAC_B } }),
      daemon.refused('NetworkDriver.CreateNetwork', createNetwork('a2', ['203.0.113.0/24'])),
    ]);
    expect(Date.now() - started).toBeLessThan(10_000);
    for (const text of [address, network]) expect(text).toMatch(/etcd|datastore/);
    expect((await daemon.ok('NetworkDriver.GetCapabilities')).Scope).toBe('local');
    etcd.launch();
    await expect
      .poll(() => requestAddress(daemon, pool, MAC_B).catch(() => ''), { timeout: 15_000 })
      .toMatch(/^192\.0\.2\./);
    await expect.poll(() => keys('/handle/'), { timeout: 15_000 }).toHaveLength(2);
  });
});
