import { describe, expect, it } from 'vitest';
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

  it('stays removed where etcd was away when it was', async () => {
    const [all, one] = await cluster();
    one.isCut = true;
    await one.remove('net');
    all.now += 60_000;
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
