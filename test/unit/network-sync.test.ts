import { describe, expect, it } from 'vitest';
import { SharedNetworks } from '../../src/agent/shared-networks.js';
import { sharedNetworkKey } from '../../src/datastore/keys.js';
import { createLogger } from '../../src/log.js';
import { calls, cluster, names, OTHER, SUBNET, subnets } from './sync-cluster.js';

describe('a network made on one host', () => {
  it('is made on all others, once, as it was typed', async () => {
    const [all, one, two, three] = await cluster(false);
    await one.create('net', SUBNET, { Labels: { a: 'b' }, Options: { mtu: '1400' }, Attachable: true });
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
    expect(calls(all)).toEqual([0, 1, 1]);
    for (const host of [two, three])
      expect(host.find('net')?.definition).toEqual(one.find('net')?.definition);
  });

  it('is one where two hosts make it at once', async () => {
    const [all, one, two] = await cluster(false);
    await one.create('net', SUBNET);
    await two.create('net', SUBNET);
    await one.look(() => two.look());
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
    expect(calls(all)).toEqual([0, 0, 1]);
    expect(all.hosts.flatMap(({ reports }) => reports)).toEqual([]);
  });

  it('stays with its host where etcd has something else of its name, which is a failure like any other', async () => {
    const [all, one] = await cluster(false);
    const key = sharedNetworkKey('net');
    await all.store.transact({ compare: [], then: [{ put: key, value: '{"name":"net","version":2}' }] });
    await one.create('net', SUBNET);
    const network = one.find('net');
    if (!network) throw new Error('it was not made');
    const shared = new SharedNetworks(all.store, 'h1', createLogger('silent'));
    await expect(shared.share(network)).rejects.toThrow(`etcdctl del ${key}`);
    shared.close();
    expect(all.store.dump()[key]).toBe('{"name":"net","version":2}');
  });

  it('stays where another differs, which is said once', async () => {
    const [all, one, two, three] = await cluster(false);
    await one.create('net', SUBNET);
    await two.create('net', OTHER);
    await all.settle();
    await all.settle();
    expect([one, two, three].map(host => host.has().net)).toEqual(
      [SUBNET, OTHER, SUBNET].map(subnet => JSON.stringify([{ subnet, auxiliary: {} }])),
    );
    expect(two.reports).toEqual([expect.stringContaining('they differ in --subnet')]);
    expect([one.reports, three.reports]).toEqual([[], []]);
    expect(two.calls).toBe(0);
  });

  it('is the first where two that differ are made at once', async () => {
    const [all, one, two] = await cluster(false);
    await one.create('net', SUBNET);
    await two.create('net', OTHER);
    await one.look(() => two.look());
    expect(Object.values(await all.shared())).toEqual([expect.stringContaining(OTHER)]);
    await all.settle();
    expect(one.reports).toHaveLength(1);
    expect(two.reports).toEqual([]);
  });

  it('is one on a host whose Docker makes two of one name: that of the user', async () => {
    const [all, one, two] = await cluster(false);
    two.checksNames = false;
    await one.create('net', SUBNET);
    await one.look();
    let made: string | undefined;
    await two.look(async () => {
      made = await two.create('net', SUBNET);
    });
    expect(two.networks.size).toBe(2);
    await all.settle();
    expect([...two.networks.keys()]).toEqual([made]);
    expect(names(all)).toEqual(['net', 'net', 'net']);
  });

  it('is not made where a bridge has the name, until that has gone', async () => {
    const [all, one, , three] = await cluster(false);
    await three.create('net', SUBNET, { Driver: 'bridge' });
    await one.create('net', SUBNET);
    await all.settle();
    expect(three.reports).toEqual([expect.stringContaining('of driver bridge')]);
    expect(three.find('net')?.driver).toBe('bridge');
    await three.remove('net');
    await all.settle();
    expect(three.find('net')?.driver).toBe('calico');
  });

  it('is tried once where Docker makes something else of it', async () => {
    const [all, one, two] = await cluster(false);
    two.twist = ({ EnableIPv4: _unknown, ...body }) => body;
    await one.create('net', '2001:db8::/64', { EnableIPv4: false, EnableIPv6: true });
    await all.settle();
    await all.settle();
    expect(names(all)).toEqual(['net', '', 'net']);
    expect(two.calls).toBe(2);
    expect(two.reports).toEqual([expect.stringContaining('cannot be made here')]);
  });

  it('comes to a host that was cut off, and from one', async () => {
    const [all, one, , three] = await cluster(false);
    three.isCut = true;
    await one.create('net', SUBNET);
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', '']);
    three.isCut = false;
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
  });

  it('is put back where Docker loses it, or it is removed while the daemon is away', async () => {
    const [all, one, two] = await cluster();
    await one.restartDaemon(() => one.remove('net'));
    await two.wipe();
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
  });

  it('costs nothing while nothing happens', async () => {
    const [all] = await cluster();
    const before = { ...all.store.calls };
    const done = calls(all);
    for (const host of all.hosts) for (let look = 0; look < 5; look += 1) await host.look();
    expect(calls(all)).toEqual(done);
    expect(all.store.calls.transact).toBe(before.transact);
  });
});

describe('a network removed on one host', () => {
  it('goes from all at once where it is unused, and nothing is left of it', async () => {
    const [all, , two, three] = await cluster();
    await three.remove('net');
    await three.look();
    await two.look();
    expect(Object.keys(two.has())).toEqual([]);
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
    expect(await all.shared()).toEqual({});
  });

  it('stays where it is used until that ends, and nobody makes it anew', async () => {
    const [all, one, two, three] = await cluster();
    two.run('net');
    await one.remove('net');
    await one.look();
    // It could yet have been `prune`.
    expect(Object.keys(three.has())).toEqual(['net']);
    await all.settle();
    expect(names(all)).toEqual(['', 'net', '']);
    await one.restartDaemon();
    await two.restartDaemon();
    await all.settle();
    expect(names(all)).toEqual(['', 'net', '']);
    two.stop('net');
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
    expect(await all.shared()).toEqual({});
    expect(calls(all)).toEqual([0, 2, 2]);
  });

  it('survives the restart of its last container', async () => {
    const [all, one, two] = await cluster();
    two.run('net');
    await one.remove('net');
    await all.settle();
    two.stop('net');
    await two.look();
    all.now += 500;
    await two.look();
    expect(Object.keys(two.has())).toEqual(['net']);
    two.run('net');
    await all.settle();
    expect(Object.keys(two.has())).toEqual(['net']);
  });

  it('goes from a host that was away', async () => {
    const [all, one, , three] = await cluster();
    three.isCut = true;
    await one.remove('net');
    await all.settle();
    expect(names(all)).toEqual(['', '', 'net']);
    expect(await all.shared()).toEqual({ net: '-' });
    three.isCut = false;
    await three.restartDaemon();
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
    expect(await all.shared()).toEqual({});
  });

  it('goes from a host that was just about to make it', async () => {
    const [all, one, , three] = await cluster(false);
    await one.create('net', SUBNET);
    await one.look();
    await three.look(async () => {
      await one.remove('net');
      await one.look();
      expect(await all.shared()).toEqual({});
    });
    expect(Object.keys(three.has())).toEqual(['net']);
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
  });

  it('lives again where a user makes it again, also where it is still used', async () => {
    const [all, one, two, three] = await cluster();
    two.run('net');
    await one.remove('net');
    await all.settle();
    await three.create('net', SUBNET);
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
    two.stop('net');
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
  });

  it.each([false, true])(
    'lives again also where a host was just removing it (restarted: %s)',
    async restarts => {
      const [all, one, two, three] = await cluster();
      two.isCut = true;
      await one.remove('net');
      await all.settle();
      two.isCut = false;
      if (restarts) await two.restartDaemon();
      await two.look();
      expect(Object.keys(two.has())).toEqual([]);
      await three.create('net', SUBNET);
      await three.look();
      await all.settle();
      expect(names(all)).toEqual(['net', 'net', 'net']);
    },
  );

  it.each(['settled', 'looked at', 'not seen'])('makes place for another, its removal %s', async when => {
    const [all, one, two] = await cluster();
    two.run('net');
    await one.remove('net');
    if (when !== 'not seen') await (when === 'settled' ? all.settle() : one.look());
    await one.create('net', OTHER);
    await all.settle();
    expect(subnets(all)).toEqual([OTHER, SUBNET, OTHER]);
    await two.restartDaemon();
    two.stop('net');
    await all.settle();
    expect(subnets(all)).toEqual([OTHER, OTHER, OTHER]);
  });

  it('that was pruned stays where it is used, and one that differs is a conflict', async () => {
    const [all, one, two] = await cluster();
    two.run('net');
    await one.prune();
    await one.create('net', OTHER);
    await all.settle();
    expect(subnets(all)).toEqual([OTHER, SUBNET, SUBNET]);
    expect(one.reports).toHaveLength(1);
  });

  it('does not take with it one that differs', async () => {
    const [all, one, two] = await cluster();
    await two.restartDaemon(async () => {
      await two.remove('net');
      await two.create('net', OTHER);
    });
    await all.settle();
    await two.remove('net');
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
    expect(two.has()).toEqual(one.has());
  });

  it('is removed also where it was only just made', async () => {
    const [all, one, two] = await cluster(false);
    await one.create('net', SUBNET);
    await one.look();
    await two.look();
    await two.remove('net');
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
    expect(calls(all)).toEqual([1, 1, 0]);
  });

  it('is removed also where it was made by two, and neither has seen that yet', async () => {
    const [all, one, two] = await cluster(false);
    await one.create('net', SUBNET);
    await two.create('net', SUBNET);
    await one.look(() => two.look());
    await one.remove('net');
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
  });

  it('is not removed where it is made again at once', async () => {
    const [all, one, two] = await cluster();
    await one.remove('net');
    await one.create('net', SUBNET);
    await all.settle();
    expect(calls(all)).toEqual([0, 1, 1]);
    await one.wipe();
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
    expect(two.calls).toBe(1);
  });
});
