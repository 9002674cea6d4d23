import { describe, expect, it } from 'vitest';
import { networkKey } from '../../src/datastore/keys.js';
import type { Transaction } from '../../src/datastore/store.js';
import { DatastoreError } from '../../src/errors.js';
import { calls, cluster, names, OTHER, SUBNET } from './sync-cluster.js';

describe('the removal of a network', () => {
  it('is waited for where Docker lists it no longer, and has not said why', async () => {
    const [all, one, two] = await cluster();
    const say = await one.removeSilently('net');
    expect(await one.look()).toBe(0);
    say();
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
    await two.create('net', SUBNET);
    await all.settle();
    await one.removeSilently('net');
    await all.settle();
    all.now += 15_000;
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
  });

  it('is removed also where Docker was just listing it', async () => {
    const [all, one] = await cluster();
    await one.look(undefined, () => one.remove('net'));
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
  });

  it('is removed also where dockerd restarts before that is written', async () => {
    const [all, one] = await cluster();
    one.isCut = true;
    await one.remove('net');
    await one.wipe();
    one.isCut = false;
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
  });

  it.each(['before it is removed', 'after'])(
    'stays removed where what shared it seemed to fail, and arrives late: %s',
    async when => {
      const [all, one] = await cluster(false);
      await one.create('net', SUBNET);
      let late: Transaction | undefined;
      all.store.before(transaction => {
        if (!transaction.then.some(write => 'put' in write && write.put.includes('/shared/'))) return;
        all.store.before(undefined);
        late = transaction;
        throw new DatastoreError('etcd does not answer');
      });
      await one.look();
      const arrive = async () => expect(late && (await all.store.transact(late)).succeeded).toBe(true);
      await one.remove('net');
      if (when === 'after') await all.settle();
      await arrive();
      await all.settle();
      expect(names(all)).toEqual(['', '', '']);
      expect(await all.shared()).toEqual({});
    },
  );

  it('takes what it was of, and not what was made since on another host', async () => {
    const [all, one, two] = await cluster();
    one.isCut = true;
    await one.remove('net');
    await two.remove('net');
    await all.settle();
    await two.create('net', SUBNET);
    two.run('net');
    await all.settle();
    all.now += 60_000;
    one.isCut = false;
    await all.settle();
    two.stop('net');
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
  });

  it('stays removed, and is made again as another, where word of the removal arrives late', async () => {
    const [all, one] = await cluster();
    let late: Transaction | undefined;
    all.store.before(transaction => {
      if (!JSON.stringify(transaction.then).includes('/shared/')) return;
      all.store.before(undefined);
      late = transaction;
      throw new DatastoreError('etcd does not answer');
    });
    await one.remove('net');
    await one.look();
    expect(late).toBeDefined();
    await one.create('net', SUBNET);
    await one.look();
    if (late) await all.store.transact(late);
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
  });

  it('is told to the datastore ever more seldom where a host shares the network again and again', async () => {
    const [all, one, two, three] = await cluster();
    one.run('net');
    // As its record was lost, nobody can say that it is to go.
    const id = one.find('net')?.id ?? '';
    await all.store.transact({ compare: [], then: [{ delete: networkKey(id) }] });
    await two.remove('net');
    const before = three.calls;
    for (let round = 0; round < 100; round += 1) {
      for (const host of [one, three, two]) await host.look();
      all.now += 100;
    }
    expect(three.calls - before).toBeLessThanOrEqual(10);
  });

  it.each([60_000, 900_000])('stays removed where etcd was away when it was, for %s ms', async time => {
    const [all, one] = await cluster();
    one.isCut = true;
    await one.remove('net');
    all.now += time;
    one.isCut = false;
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
  });
});

describe('docker network prune', () => {
  it('takes what nobody uses from all hosts', async () => {
    const [all, one] = await cluster();
    await one.prune();
    await all.settle();
    expect(names(all)).toEqual(['', '', '']);
    expect(await all.shared()).toEqual({});
  });

  it('does not take what another host uses', async () => {
    const [all, one, two] = await cluster();
    await one.create('spare', OTHER);
    await all.settle();
    two.run('net');
    await one.prune();
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
    expect(calls(all)).toEqual([1, 3, 3]);
  });

  it('is no removal for good where what others use cannot be put back', async () => {
    const [all, one, two] = await cluster();
    two.run('net');
    await one.prune();
    await one.create('net', SUBNET, { Driver: 'bridge' });
    await all.settle();
    two.stop('net');
    await all.settle();
    expect([two, one].map(host => host.find('net')?.driver)).toEqual(['calico', 'bridge']);
    expect(Object.values(await all.shared())).not.toContain('-');
  });

  it('is believed where dockerd goes before it says which it was', async () => {
    const [all, one, two] = await cluster();
    two.run('net');
    await one.remove('net');
    await one.look();
    await one.wipe();
    await all.settle();
    expect(names(all)).toEqual(['net', 'net', 'net']);
  });
});
