import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startEtcd } from '../contract/etcd-process.js';
import type { EtcdProcess } from '../contract/etcd-process.js';
import { DrivenDocker } from '../fakes/driven-docker.js';
import { TestDaemon } from './dockerd.js';
import { MAC, requestPool } from './requests.js';

const SUBNET = '198.51.100.0/24';
const HARDWARE = '02:42:00:00:00:0a';

/** A host: what Docker has, and the daemon. */
interface TestHost {
  readonly docker: DrivenDocker;
  daemon: TestDaemon;
}

let etcd: EtcdProcess;
let one: TestHost;
let two: TestHost;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.remove());
beforeEach(async () => {
  etcd.control('del', '--prefix', '/calico/');
  [one, two] = [await hostUp('1'), await hostUp('2')];
});
afterEach(async () => {
  for (const { daemon, docker } of [one, two]) {
    await daemon.stop();
    await docker.stop();
  }
});

async function hostUp(number: string, env: Record<string, string> = {}): Promise<TestHost> {
  const docker = await new DrivenDocker(number).start();
  return { docker, daemon: await daemonUp(docker, number, env) };
}

async function daemonUp(docker: DrivenDocker, number: string, env: Record<string, string> = {}) {
  const daemon = await new TestDaemon(etcd.endpoint, {
    ...{ NODENAME: `node-${number}`, ETCD_ENDPOINTS: etcd.endpoint, DOCKER_HOST: docker.host },
    ...env,
  }).start();
  docker.send = (method, body) => daemon.ok(method, body);
  return daemon;
}

async function keys(part: string): Promise<string[]> {
  return Object.keys(await one.daemon.dump()).filter(key => key.includes(part));
}

/** Waits until both have these networks, and the datastore knows no others. */
async function both(...names: string[]): Promise<void> {
  const state = async () => [
    one.docker.names,
    two.docker.names,
    (await keys('/shared/')).map(key => key.split('/').at(-1)),
  ];
  await expect.poll(state, { timeout: 8_000, interval: 20 }).toEqual([names, names, names]);
}

/** A container as dockerd starts it. */
async function start({ docker, daemon }: TestHost, name: string): Promise<() => Promise<void>> {
  const NetworkID = docker.idOf(name) ?? '';
  const EndpointID = `e${NetworkID.slice(0, 63)}`;
  const { PoolID } = await daemon.ok('IpamDriver.RequestPool', requestPool(SUBNET));
  const { Address } = await daemon.ok('IpamDriver.RequestAddress', {
    ...{ PoolID, Address: '', Options: { [MAC]: HARDWARE } },
  });
  const address = String(Address);
  await daemon.ok('NetworkDriver.CreateEndpoint', {
    ...{ NetworkID, EndpointID, Options: {} },
    Interface: { Address: address, AddressIPv6: '', MacAddress: HARDWARE },
  });
  docker.endpoints.set(EndpointID, {
    network: NetworkID,
    mac: HARDWARE,
    addresses: [address.split('/')[0] ?? ''],
  });
  return async () => {
    await daemon.ok('NetworkDriver.DeleteEndpoint', { NetworkID, EndpointID });
    await daemon.ok('IpamDriver.ReleaseAddress', { PoolID, Address: address.split('/')[0] });
    docker.endpoints.delete(EndpointID);
    docker.event('disconnect', NetworkID);
  };
}

describe('two daemons with one etcd', () => {
  it('make a network of one on both, and remove it from both', async () => {
    await one.docker.create('net', SUBNET, { Labels: { a: 'b' }, Options: { mtu: '1400' } });
    await both('net');
    const [made] = [...two.docker.networks.values()];
    expect(made?.more).toMatchObject({ Labels: { a: 'b' }, Options: { mtu: '1400' }, CheckDuplicate: true });
    await expect.poll(async () => (await keys('/networks/')).length).toBe(2);
    await two.docker.remove('net');
    await both();
    expect(one.docker.calls).toEqual(['DELETE /networks/ID']);
    expect(two.docker.calls).toEqual(['POST /networks/create']);
    await expect.poll(() => keys('/networks/')).toEqual([]);
    await expect.poll(() => keys('198-51')).toEqual([]);
  });

  it('leave one where it is used, until its last container has left', async () => {
    await one.docker.create('net', SUBNET);
    await both('net');
    await start(one, 'net');
    await two.docker.remove('net');
    const isRemoved = async () => JSON.stringify(await one.daemon.dump()).includes('removed\\":{');
    await expect.poll(isRemoved, { timeout: 8_000 }).toBe(true);
    expect(one.docker.names).toEqual(['net']);
    await one.daemon.stop();
    one.daemon = await daemonUp(one.docker, '1');
    await two.daemon.stop();
    two.daemon = await daemonUp(two.docker, '2');
    await new Promise(resolve => setTimeout(resolve, 1_500));
    expect([one.docker.names, two.docker.names]).toEqual([['net'], []]);
    expect(one.docker.calls).toEqual([]);
    await one.daemon.ok('NetworkDriver.DeleteEndpoint', {
      NetworkID: one.docker.idOf('net'),
      EndpointID: [...one.docker.endpoints.keys()][0],
    });
    one.docker.endpoints.clear();
    await both();
    expect(two.docker.calls).toEqual(['POST /networks/create']);
  });

  it('put back what was pruned and is used on the other', async () => {
    await one.docker.create('net', SUBNET);
    await one.docker.create('spare', '203.0.113.0/24');
    await both('net', 'spare');
    const stop = await start(one, 'net');
    const before = two.docker.idOf('net');
    await two.docker.prune();
    await both('net');
    expect(two.docker.idOf('net')).not.toBe(before);
    await stop();
    await two.docker.prune();
    await both();
  });

  it('make one network of two that are made at once', async () => {
    await Promise.allSettled([one, two].map(({ docker }) => docker.create('net', SUBNET)));
    await both('net');
    // A removal before this host has seen that its network is that of all is undone: never the other way round.
    await new Promise(resolve => setTimeout(resolve, 500));
    await one.docker.remove('net');
    await both();
  });

  it('try again ever more slowly where Docker refuses, and no more when it works', async () => {
    two.docker.refusal = 'no';
    await one.docker.create('net', SUBNET);
    await expect.poll(() => two.docker.calls.length, { timeout: 5_000 }).toBeGreaterThanOrEqual(2);
    await new Promise(resolve => setTimeout(resolve, 2_000));
    expect(two.docker.calls.length).toBeLessThanOrEqual(5);
    two.docker.refusal = undefined;
    await both('net');
    const calls = two.docker.calls.length;
    await new Promise(resolve => setTimeout(resolve, 500));
    expect(two.docker.calls).toHaveLength(calls);
  });

  it('leave alone what a host has of its own with SYNC_NETWORKS=false', async () => {
    await two.daemon.stop();
    two.daemon = await daemonUp(two.docker, '2', { CALICO_LIBNETWORK_SYNC_NETWORKS: 'false' });
    await two.docker.create('mine', '203.0.113.0/24');
    await one.docker.create('net', SUBNET);
    await expect.poll(() => keys('/shared/')).toHaveLength(1);
    await new Promise(resolve => setTimeout(resolve, 300));
    expect([one.docker.names, two.docker.names]).toEqual([['net'], ['mine']]);
    // Turned on, it shares what it has, and gets what the other has.
    await two.daemon.stop();
    two.daemon = await daemonUp(two.docker, '2');
    await both('mine', 'net');
  });

  it('share nothing where Docker does it (scope global)', async () => {
    for (const [host, number] of [
      [one, '1'],
      [two, '2'],
    ] as const) {
      await host.daemon.stop();
      host.daemon = await daemonUp(host.docker, number, { CALICO_LIBNETWORK_SCOPE: 'global' });
    }
    await one.docker.create('net', SUBNET);
    await new Promise(resolve => setTimeout(resolve, 500));
    expect([await keys('/shared/'), two.docker.names]).toEqual([[], []]);
  });

  it('do nothing before the name is theirs, nor while another host has it', async () => {
    await two.daemon.stop();
    let isTaken = true;
    let become = (): void => undefined;
    const name = {
      ours: new Promise<void>(resolve => (become = resolve)),
      check: () => {
        if (isTaken) throw new Error('another host has the name');
      },
    };
    const env = { NODENAME: 'node-2', ETCD_ENDPOINTS: etcd.endpoint, DOCKER_HOST: two.docker.host };
    const daemon = await new TestDaemon(etcd.endpoint, env, undefined, name).start();
    two.daemon = daemon;
    two.docker.send = (method, body) => daemon.ok(method, body);
    const made = () => [two.docker.names, two.docker.calls];
    await one.docker.create('net', SUBNET);
    await expect.poll(() => keys('/shared/')).toHaveLength(1);
    await new Promise(resolve => setTimeout(resolve, 300));
    expect(made()).toEqual([[], []]);
    become();
    await new Promise(resolve => setTimeout(resolve, 300));
    expect(made()).toEqual([[], []]);
    isTaken = false;
    await both('net');
  });
});
