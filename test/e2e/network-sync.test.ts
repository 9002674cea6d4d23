import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isObject } from '../../src/model/json.js';
import type { JsonObject } from '../../src/model/json.js';
import { Bed } from '../bed/bed.js';
import { startEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';
import { ailmentsOf } from './ask-doctor.js';
import { CALICO, addressOf, container } from './calico-host.js';
import { handles, keys } from './datastore.js';
import { inspected, sweep } from './matrix.js';

/** Milliseconds within which hosts agree, unless a test says otherwise. */
const SOON = 5_000;
/** What follows from an engine's version, or is of one host by its nature. */
const OWN = ['Id', 'Created', 'Containers', 'EnableIPv4', 'Status'];

describe('networks of three hosts, with Docker 20, 26 and 28 and one etcd', () => {
  let bed: Bed;
  let hosts: readonly [Host, Host, Host];
  let endpoint: string;
  const env = () => ({
    ETCD_ENDPOINTS: endpoint,
    // What was removed is forgotten when no host has a record of it.
    CALICO_LIBNETWORK_GC_GRACE: '2s',
    CALICO_LIBNETWORK_RECONCILE_INTERVAL: '1s',
  });

  beforeAll(async () => {
    bed = await Bed.up({ hosts: 3, engine: ['20', '26', '28'] });
    hosts = [bed.host(1), bed.host(2), bed.host(3)];
    ({ endpoint } = await startEtcd(hosts[0]));
    await hosts[0].serve(env());
    await hosts[0].dockerd();
    // The other order: dockerd is there first.
    for (const host of hosts.slice(1)) {
      await host.dockerd();
      await host.serve(env());
    }
    for (const host of hosts) await host.image();
  });
  afterEach(async () => {
    for (const host of hosts) await sweep(host);
    await everywhere('');
  });
  afterAll(() => bed?.down());

  const create = (host: Host, name: string, ...args: string[]) =>
    host.docker('network', 'create', ...CALICO, ...args, name);
  /** Networks of ours on a host, as Docker lists them. */
  const list = async (host: Host) =>
    (await host.docker('network', 'ls', '--filter', 'driver=calico', '--format', '{{.Name}}'))
      .split('\n')
      .sort()
      .join(' ');
  const has = (host: Host, names: string, within = SOON) =>
    poll(`${host.name} has "${names}"`, within, async () => (await list(host)) === names).catch(
      async (error: unknown) => {
        throw new Error(`${String(error)}; it has "${await list(host)}"`);
      },
    );
  async function everywhere(names: string, within = SOON): Promise<void> {
    for (const host of hosts) await has(host, names, within);
    const removed = async () => {
      const shared = await keys(hosts[0], '/libnetwork/v1/shared/', endpoint);
      return shared.length === names.split(' ').filter(Boolean).length;
    };
    await poll('nothing left of what was removed', within, removed);
  }
  const log = (host: Host, text: string) =>
    readFileSync(host.logFile('calico-libnetwork'), 'utf8')
      .split('\n')
      .filter(line => line.includes(text)).length;
  const restart = async (host: Host, more: Record<string, string> = {}) => {
    await host.stopServe();
    await host.serve({ ...env(), ...more });
  };

  it('are on all as soon as one has them, and the same', async () => {
    await hosts[1].docker('network', 'create', '--label', 'a=b', 'unrelated');
    for (const [index, host] of hosts.entries()) {
      const name = `full-${index}`;
      await create(
        host,
        name,
        ...[`--subnet=192.0.${index}.0/24`, `--gateway=192.0.${index}.7`],
        ...[`--ip-range=192.0.${index}.128/25`, '--aux-address', `spare=192.0.${index}.9`, '--attachable'],
        ...['-o', 'mtu=1400', '--ipam-opt', 'natOutgoing=false', '--label', 'team=a b', '--label', 'empty'],
      );
      const made = Date.now();
      const [one, other] = hosts.filter(each => each !== host);
      if (!one || !other) throw new Error('too few hosts');
      const addresses = await Promise.all(
        [one, other].map(async each => {
          await poll(`${each.name} runs on ${name}`, SOON, () => started(each, `box-${index}`, name));
          console.log(`${host.name} to ${each.name}: container ran ${Date.now() - made} ms after create`);
          return addressOf(each, `box-${index}`);
        }),
      );
      expect(addresses[0]).not.toBe(addresses[1]);
      const shown = await Promise.all(hosts.map(each => plain(each, name)));
      expect(shown[1]).toEqual(shown[0]);
      expect(shown[2]).toEqual(shown[0]);
    }
    await create(hosts[0], 'plain', '--label', 'x=y');
    await create(
      hosts[2],
      'six',
      '--ipv6',
      '--internal',
      '--subnet=203.0.113.0/24',
      '--subnet=2001:DB8:0::/64',
    );
    await everywhere('full-0 full-1 full-2 plain six');
    for (const name of ['plain', 'six']) {
      const shown = await Promise.all(hosts.map(each => plain(each, name)));
      expect(shown[1]).toEqual(shown[0]);
      expect(shown[2]).toEqual(shown[0]);
    }
    for (const host of hosts) expect(log(host, 'cannot create a network')).toBe(0);
  });

  it('are removed from all by one', async () => {
    await create(hosts[0], 'net', '--subnet=192.0.2.0/24');
    await everywhere('net');
    await hosts[2].docker('network', 'rm', 'net');
    await everywhere('');
    expect(await keys(hosts[0], '192.0.2.0', endpoint)).toEqual([]);
    expect(await keys(hosts[0], '192-0-2-0', endpoint)).toEqual([]);
  });

  it.each([0, 1, 2])('stay on host %i of three while a container there uses them', async index => {
    const used = hosts[index] ?? hosts[0];
    const others = hosts.filter(host => host !== used);
    await create(used, 'net', '--subnet=192.0.2.0/24');
    await everywhere('net');
    await container(used, 'box', 'net');
    await others[0]?.docker('network', 'rm', 'net');
    for (const host of others) await has(host, '');
    await used.docker('restart', 'box');
    await restart(used);
    for (const host of others) await restart(host);
    const made = others.map(host => log(host, 'made a network of the cluster'));
    await has(used, 'net');
    await used.docker('rm', '-f', 'box');
    await everywhere('');
    expect(others.map(host => log(host, 'made a network of the cluster'))).toEqual(made);
  });

  it.each([0, 1, 2])('are pruned by host %i of three only where nobody uses them', async index => {
    const pruning = hosts[index] ?? hosts[0];
    const using = hosts[(index + 1) % 3] ?? hosts[0];
    await create(pruning, 'used', '--subnet=192.0.2.0/24');
    await create(pruning, 'spare');
    await everywhere('spare used');
    await container(using, 'box', 'used');
    const before = (await inspected(pruning, 'network', 'inspect', 'used')).Id;
    await pruning.docker('network', 'prune', '-f');
    await everywhere('used');
    expect((await inspected(pruning, 'network', 'inspect', 'used')).Id).not.toBe(before);
    await container(pruning, 'box', 'used');
    expect(await addressOf(pruning, 'box')).not.toBe(await addressOf(using, 'box'));
  });

  it('are one where all hosts make them in the same second', async () => {
    for (const round of [1, 2, 3]) {
      const made = await Promise.allSettled(
        hosts.map(host => create(host, `race-${round}`, '--subnet=192.0.2.0/24')),
      );
      expect(made.some(({ status }) => status === 'fulfilled')).toBe(true);
      await everywhere(`race-${round}`);
      for (const host of hosts) await container(host, 'box', `race-${round}`);
      for (const host of hosts) await host.docker('rm', '-f', 'box');
      await hosts[0].docker('network', 'rm', `race-${round}`);
      await everywhere('');
    }
    for (const host of hosts) expect(log(host, 'is not that of the cluster')).toBe(0);
  });

  it('are left alone and reported where a host has another of that name', async () => {
    await hosts[1].docker('network', 'create', '--subnet=172.30.0.0/24', 'mine');
    await restart(hosts[2], { CALICO_LIBNETWORK_SYNC_NETWORKS: 'false' });
    await create(hosts[2], 'mine', '--subnet=198.51.100.0/24');
    await create(hosts[0], 'mine', '--subnet=192.0.2.0/24');
    await restart(hosts[2]);
    await poll('h2 reports', SOON, () => log(hosts[1], 'of driver bridge') > 0);
    await poll('h3 reports', SOON, () => log(hosts[2], 'they differ in --subnet') > 0);
    const shown = JSON.stringify(
      await Promise.all(hosts.map(host => inspected(host, 'network', 'inspect', 'mine'))),
    );
    for (const [host, why] of [
      [hosts[1], 'cannot be made here: there is one of driver bridge'],
      [hosts[2], 'they differ in --subnet'],
    ] as const)
      expect(await ailmentsOf(host)).toContainEqual(expect.stringContaining(why));
    expect((await ailmentsOf(hosts[0])).filter(line => line.startsWith('warning networks:'))).toEqual([]);
    for (const subnet of ['172.30.0.0/24', '198.51.100.0/24', '192.0.2.0/24'])
      expect(shown).toContain(subnet);
    await restart(hosts[0]);
    await create(hosts[0], 'another');
    await has(hosts[2], 'another mine');
    await has(hosts[1], 'another');
    expect(log(hosts[1], 'of driver bridge')).toBe(1);
    expect(log(hosts[2], 'they differ in --subnet')).toBe(1);
    // Gone from here, there is room for the cluster's.
    await hosts[1].docker('network', 'rm', 'mine');
    await hosts[2].docker('network', 'rm', 'mine');
    await everywhere('another mine');
    expect(JSON.stringify(await inspected(hosts[2], 'network', 'inspect', 'mine'))).toContain('192.0.2.0/24');
    // A subnet that a bridge of one host has.
    await hosts[1].docker('network', 'create', '--subnet=203.0.113.0/24', 'bridged');
    await create(hosts[0], 'over', '--subnet=203.0.113.0/24');
    await has(hosts[2], 'another mine over');
    await poll(
      'h2 reports',
      SOON,
      () => log(hosts[1], 'overlaps 203.0.113.0/24, which this host reaches') > 0,
    );
    await hosts[1].docker('network', 'rm', 'bridged');
    await everywhere('another mine over');
  });

  it('catch up where a host was away', async () => {
    await create(hosts[0], 'early', '--subnet=192.0.2.0/24');
    await create(hosts[0], 'kept');
    await everywhere('early kept');
    await hosts[2].crash();
    await hosts[1].docker('network', 'rm', 'early');
    await create(hosts[1], 'late', '--subnet=198.51.100.0/24');
    await has(hosts[0], 'kept late');
    await hosts[2].boot();
    await hosts[2].serve(env());
    await hosts[2].dockerd();
    await everywhere('kept late');
    await container(hosts[2], 'box', 'late');
  });

  it('catch up where a host was cut off, and where its dockerd was down', async () => {
    await create(hosts[0], 'early');
    await everywhere('early');
    await bed.cut(hosts[2]);
    await hosts[1].killDockerd();
    await hosts[0].docker('network', 'rm', 'early');
    await create(hosts[0], 'late');
    expect(await list(hosts[2])).toBe('early');
    await bed.heal();
    await hosts[1].dockerd();
    await everywhere('late', 20_000);
  });

  it('are put back where Docker has lost its data', async () => {
    await create(hosts[0], 'net', '--subnet=192.0.2.0/24');
    await everywhere('net');
    await hosts[1].killDockerd();
    await hosts[1].stopServe();
    await hosts[1].run(['rm', '/var/lib/docker/network/files/local-kv.db']);
    await hosts[1].serve(env());
    await hosts[1].dockerd();
    await everywhere('net');
    expect(log(hosts[1], 'that Docker has lost')).toBe(1);
    await container(hosts[1], 'box', 'net');
  });

  it('are each host’s own with SYNC_NETWORKS=false, and the same where the same is typed', async () => {
    for (const host of hosts) await restart(host, { CALICO_LIBNETWORK_SYNC_NETWORKS: 'false' });
    const addresses: string[] = [];
    for (const host of hosts) {
      await create(host, 'typed', '--subnet=192.0.2.0/24', '--gateway=192.0.2.1');
      await container(host, 'box', 'typed');
      addresses.push(await addressOf(host, 'box'));
    }
    expect(new Set(addresses).size).toBe(3);
    expect(await handles(hosts[0], endpoint)).toHaveLength(4);
    expect(await keys(hosts[0], '/libnetwork/v1/shared/', endpoint)).toEqual([]);
    expect(
      (await keys(hosts[0], '/ippools/', endpoint)).filter(key => key.includes('192-0-2-0')),
    ).toHaveLength(1);
    await hosts[0].docker('rm', '-f', 'box');
    await hosts[0].docker('network', 'rm', 'typed');
    expect([await list(hosts[0]), await list(hosts[1])]).toEqual(['', 'typed']);
    // What was made without is shared when it is turned on: to all three.
    for (const host of hosts) await restart(host);
    await everywhere('typed');
    expect(log(hosts[0], 'made a network of the cluster')).toBeGreaterThan(0);
  });
});

/** Runs a container as somebody does who cannot wait for the network; false where it is not there yet. */
async function started(host: Host, name: string, network: string): Promise<boolean> {
  try {
    await container(host, name, network);
    return true;
  } catch {
    // It was made before the network was looked for.
    await host.run(['docker', 'rm', '-f', name], { check: false });
    return false;
  }
}

/** A network as Docker shows it, as far as it is to be the same on all hosts. */
async function plain(host: Host, name: string): Promise<JsonObject> {
  const shown = await inspected(host, 'network', 'inspect', name);
  const ipam = isObject(shown.IPAM) ? shown.IPAM : {};
  return { ...Object.fromEntries(Object.entries(shown).filter(([key]) => !OWN.includes(key))), IPAM: ipam };
}
