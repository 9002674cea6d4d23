import { afterEach, expect, it } from 'vitest';
import { CALICO, container, expectCleanHost } from './calico-host.js';
import { handles, keys } from './datastore.js';
import { addressIn, endpointOf, onEachEngine, sweep } from './matrix.js';
import { reachable } from './reachable.js';
import type { Peer } from './reachable.js';
import { inside, linesIn, reaches } from './traffic.js';

const FIRST_ROUTES = ['default via 169.254.1.1 dev cali0', '169.254.1.1 dev cali0 scope link'];

onEachEngine('containers on several networks', { isOpen: true, isOuter: true }, matrix => {
  afterEach(() => sweep(matrix.host));

  const calico = (name: string, ...args: string[]) =>
    matrix.host.docker('network', 'create', ...CALICO, ...args, name);
  const connect = (network: string, name: string, ...args: string[]) =>
    matrix.host.docker('network', 'connect', ...args, network, name);

  const expectReachable = (target: string, networks: readonly string[], others: readonly Peer[]) =>
    reachable(matrix, target, networks, others);

  it('connect and disconnect, in various orders', async () => {
    const { host } = matrix;
    await calico('net1', '--subnet=192.0.2.0/24');
    await calico('net2', '--subnet=198.51.100.0/24');
    await calico('net3', '--subnet=203.0.113.0/24');
    await calico('far');
    const peers = ['net1', 'net2', 'net3', 'far'].map(network => [`in-${network}`, network] as const);
    await Promise.all(peers.map(([name, network]) => container(host, name, network)));
    for (const [index, order] of [
      ['net1', 'net2', 'net3'],
      ['net3', 'net1', 'net2'],
      ['net2', 'net3', 'net1'],
    ].entries()) {
      const name = `all${index}`;
      const [first = '', ...more] = order;
      await container(host, name, first);
      expect(await linesIn(host, name, 'ip', 'route')).toEqual(FIRST_ROUTES);
      for (const network of more) await connect(network, name);
      await expectReachable(name, order, peers);
      // The first goes, and comes back.
      await host.docker('network', 'disconnect', first, name);
      await expectReachable(name, more, peers);
      await connect(first, name);
      await expectReachable(name, order, peers);
      // The last goes.
      await host.docker('network', 'disconnect', order[2] ?? '', name);
      await expectReachable(name, order.slice(0, 2), peers);
      // All that is left is found again after a restart.
      if (index === 0) {
        await host.docker('restart', '-t', '0', name);
        await expectReachable(name, order.slice(0, 2), peers);
      }
      await host.docker('rm', '-f', name);
    }
    await sweep(host);
    expect(await handles(host)).toEqual([]);
    expect(await keys(host, '/workloadendpoints/')).toEqual([]);
    await expectCleanHost(host);
  });

  it.each([
    ['calico first', 'aaa', 'mmm'],
    ['bridge first', 'zzz', 'mmm'],
  ])('calico and a bridge, by name: %s', async (_name, ours, bridge) => {
    const { host } = matrix;
    await calico(ours, '--subnet=192.0.2.0/24');
    await calico('far');
    await host.docker('network', 'create', '--driver', 'bridge', bridge);
    await container(host, 'in-ours', ours);
    await container(host, 'in-far', 'far');
    await container(host, 'in-bridge', bridge);
    for (const [first, second] of [
      [ours, bridge],
      [bridge, ours],
    ] as const) {
      const name = `both-${first}`;
      await container(host, name, first);
      await connect(second, name);
      await expectReachable(
        name,
        [ours],
        [
          ['in-ours', ours],
          ['in-far', 'far'],
        ],
      );
      const enter = await inside(host, name);
      expect(await reaches(host, await addressIn(host, 'in-bridge', bridge), enter)).toBe(true);
      const fromBridge = await inside(host, 'in-bridge');
      expect(await reaches(host, await addressIn(host, name, bridge), fromBridge)).toBe(true);
      await host.docker('network', 'disconnect', bridge, name);
      await expectReachable(
        name,
        [ours],
        [
          ['in-ours', ours],
          ['in-far', 'far'],
        ],
      );
    }
  });

  it('two networks of one pool', async () => {
    const { host } = matrix;
    for (const name of ['one', 'two']) await calico(name);
    for (const name of ['left', 'right']) await calico(name, '--subnet=192.0.2.0/24');
    const peers = ['one', 'two', 'left', 'right'].map(network => [`in-${network}`, network] as const);
    await Promise.all(peers.map(([name, network]) => container(host, name, network)));
    await container(host, 'both', 'two');
    await connect('one', 'both');
    await expectReachable('both', ['two', 'one'], peers);
    await container(host, 'same', 'left');
    await connect('right', 'same');
    await expectReachable('same', ['left', 'right'], peers);
    await connect('one', 'same');
    await expectReachable('same', ['left', 'right', 'one'], peers);
  });

  it('several networks of both families', async () => {
    const { host } = matrix;
    await calico('net1', '--ipv6', '--subnet=192.0.2.0/24', '--subnet=fd80:1::/64');
    await calico('net2', '--ipv6', '--subnet=198.51.100.0/24', '--subnet=fd80:2::/64');
    await calico('net3', '--subnet=203.0.113.0/24');
    await Promise.all(['net1', 'net2', 'net3'].map(network => container(host, `in-${network}`, network)));
    await container(host, 'three', 'net3');
    await connect('net1', 'three');
    await connect('net2', 'three');
    const enter = await inside(host, 'three');
    for (const network of ['net1', 'net2']) {
      const from = await inside(host, `in-${network}`);
      expect(await reaches(host, await addressIn(host, `in-${network}`, network, 6), enter)).toBe(true);
      for (const other of ['net1', 'net2'])
        expect(
          await reaches(host, await addressIn(host, 'three', other, 6), from),
          `${network} to ${other}`,
        ).toBe(true);
    }
    expect(await reaches(host, 'fd99::1', enter)).toBe(true);
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'connects further networks after a %s of the daemon',
    async signal => {
      const { host } = matrix;
      await calico('net1', '--subnet=192.0.2.0/24');
      await calico('net2', '--subnet=198.51.100.0/24');
      await calico('net3', '--subnet=203.0.113.0/24');
      const peers = ['net1', 'net2', 'net3'].map(network => [`in-${network}`, network] as const);
      await Promise.all(peers.map(([name, network]) => container(host, name, network)));
      await container(host, 'one', 'net1');
      await container(host, 'two', 'net2');
      await connect('net1', 'two');
      await host.stopServe(signal);
      await host.serve();
      await connect('net2', 'one');
      await connect('net3', 'two');
      await expectReachable('one', ['net1', 'net2'], peers);
      await expectReachable('two', ['net2', 'net1', 'net3'], peers);
    },
  );

  it('--ip and --mac-address are kept over docker restart, in each network', async () => {
    const { host } = matrix;
    await calico('net1', '--subnet=192.0.2.0/24');
    await calico('net2', '--ipv6', '--subnet=198.51.100.0/24', '--subnet=fd80:2::/64');
    const mac = '02:00:5e:10:00:07';
    await container(host, 'web', 'net1', '--ip', '192.0.2.77', '--mac-address', mac);
    await connect('net2', 'web', '--ip', '198.51.100.77', '--ip6', 'fd80:2::77');
    await container(host, 'peer', 'net2');
    const check = async () => {
      expect(await endpointOf(host, 'web', 'net1')).toMatchObject({
        IPAddress: '192.0.2.77',
        MacAddress: mac,
      });
      expect(await addressIn(host, 'web', 'net2')).toBe('198.51.100.77');
      expect(await addressIn(host, 'web', 'net2', 6)).toBe('fd80:2::77');
      expect((await linesIn(host, 'web', 'ip', 'link')).join()).toContain(mac);
      await expectReachable('web', ['net1', 'net2'], [['peer', 'net2']]);
    };
    await check();
    await host.docker('restart', '-t', '0', 'web');
    await check();
    await host.docker('stop', '-t', '0', 'web');
    await host.docker('start', 'web');
    await check();
  });
});
