import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DatastoreError } from '../../src/errors.js';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { Entry, Listing, Store, Transaction, Watcher } from '../../src/datastore/store.js';
import { eventually, quiet, startEtcd } from './etcd-process.js';

/** Puts whatever is there: only for tests. */
export async function put(store: Store, key: string, value: string): Promise<string> {
  const result = await store.transact({ compare: [], then: [{ put: key, value }] });
  if (!result.succeeded) throw new Error('a transaction without compares failed');
  return result.revision;
}

/** Puts many keys, 100 in a transaction: etcd allows 128. */
export async function putMany(
  store: Store,
  keys: readonly string[],
  value: string,
  batch = 100,
): Promise<void> {
  for (let at = 0; at < keys.length; at += batch)
    await store.transact({ compare: [], then: keys.slice(at, at + batch).map(key => ({ put: key, value })) });
}

/** Writes down what a watch reports, as lines. */
export class Recorder implements Watcher {
  readonly lines: string[] = [];
  readonly snapshots: Listing[] = [];
  readonly entries: Entry[] = [];

  snapshot(listing: Listing): void {
    this.snapshots.push(listing);
    this.lines.push(`snapshot ${listing.entries.map(entry => entry.key).join(' ')}`.trim());
  }
  put(entry: Entry): void {
    this.entries.push(entry);
    this.lines.push(`put ${entry.key}=${entry.value}`);
  }
  deleted(key: string): void {
    this.lines.push(`deleted ${key}`);
  }
  lost(): void {
    this.lines.push('lost');
  }
}

const COMPARES: [string, Transaction['compare'], boolean][] = [
  ['absent of an absent key', [{ key: '/c/none', is: 'absent' }], true],
  ['absent of a present key', [{ key: '/c/is', is: 'absent' }], false],
  ['present of a present key', [{ key: '/c/is', is: 'present' }], true],
  ['present of an absent key', [{ key: '/c/none', is: 'present' }], false],
  ['the value it has', [{ key: '/c/is', is: 'value', value: 'yes' }], true],
  ['another value', [{ key: '/c/is', is: 'value', value: 'no' }], false],
  ['the value of an absent key', [{ key: '/c/none', is: 'value', value: '' }], false],
  ['an old revision', [{ key: '/c/is', is: 'revision', revision: '1' }], false],
  ['one of two that fails', [{ key: '/c/is', is: 'present' }, { key: '/c/none', is: 'present' }], false], // prettier-ignore
  ['nothing', [], true],
];

/** What every implementation of the port must do. Run by `store.test.ts`, for the one in memory and the one on etcd. */
export function storeContract(create: () => Promise<{ store: Store; remove(): Promise<void> }>): void {
  let store: Store;
  let remove: () => Promise<void>;

  beforeAll(async () => ({ store, remove } = await create()));
  afterAll(() => remove());

  test('a key that was never written is undefined', async () => {
    expect(await store.get('/none')).toBeUndefined();
    expect((await store.list('/none')).entries).toEqual([]);
    await store.ping();
  });

  test('a value comes back as it was put, at the revision of its transaction', async () => {
    const value = '{"a":"é ☃ 😀","n":1692000000123456789}';
    const revision = await put(store, '/get/a', value);
    expect(await store.get('/get/a')).toEqual({ key: '/get/a', value, revision });
  });

  test('pages hold each key once, and can be read as of a revision of the past', async () => {
    const keys = Array.from({ length: 2_100 }, (_, n) => `/pages/${String(n).padStart(4, '0')}`);
    await putMany(store, keys, 'then');
    const then: string[] = [];
    let revision = '';
    for await (const page of store.pages('/pages/')) {
      if (revision === '') await put(store, '/pages/0000x', 'later');
      revision = page.revision;
      then.push(...page.entries.map(entry => entry.key));
    }
    expect(then).toEqual(keys);
    await put(store, '/pages/0001', 'now');
    await store.transact({ compare: [], then: [{ delete: '/pages/0002' }] });
    const past: Entry[] = [];
    for await (const page of store.pages('/pages/', revision)) {
      expect(page.revision).toBe(revision);
      past.push(...page.entries);
    }
    expect(past.map(entry => entry.key)).toEqual(keys);
    expect(past.every(entry => entry.value === 'then')).toBe(true);
    const none: Listing[] = [];
    for await (const page of store.pages('/pages-none/')) none.push(page);
    expect(none).toMatchObject([{ entries: [] }]);
  });

  test('a list holds exactly the keys that begin with the prefix, in byte order, at one revision', async () => {
    await putMany(store, ['/list/b', '/list/a', '/list/a0', '/list/a/1', '/list', '/list0', '/lis'], 'v');
    const { entries, revision } = await store.list('/list/');
    expect(entries.map(entry => entry.key)).toEqual(['/list/a', '/list/a/1', '/list/a0', '/list/b']);
    expect(BigInt(revision)).toBeGreaterThanOrEqual(BigInt(entries[0]?.revision ?? 0));
    expect((await store.list('')).entries.length).toBeGreaterThanOrEqual(7);
  });

  test('a list of more than 1,000 keys and more than 4 MiB is complete', async () => {
    const keys = Array.from({ length: 2_500 }, (_, index) => `/many/${String(index).padStart(5, '0')}`);
    await putMany(store, keys, 'x'.repeat(2_000));
    const { entries } = await store.list('/many/');
    expect(entries.map(entry => entry.key)).toEqual(keys);
  });

  describe('a transaction that compares', () => {
    beforeAll(() => put(store, '/c/is', 'yes'));
    test.each(COMPARES)('%s', async (_, compare, succeeds) => {
      const result = await store.transact({ compare, then: [{ put: '/c/out', value: 'v' }], otherwise: ['/c/is', '/c/none'] }); // prettier-ignore
      expect(result.succeeded).toBe(succeeds);
      if (result.succeeded) return;
      expect(result.doubtful).toBe(false);
      expect(result.found.get('/c/is')).toMatchObject({ key: '/c/is', value: 'yes' });
      expect([...result.found]).toHaveLength(2);
      expect(result.found.get('/c/none')).toBeUndefined();
    });
    test('the revision it has', async () => {
      const revision = (await store.get('/c/is'))?.revision ?? '';
      const compare = [{ key: '/c/is', is: 'revision', revision }] as const;
      expect(await store.transact({ compare, then: [] })).toMatchObject({ succeeded: true });
    });
  });

  test('a transaction puts and deletes all or nothing', async () => {
    await putMany(store, ['/t/old', '/t/kept'], '1');
    const then = [{ put: '/t/new', value: '2' }, { delete: '/t/old' }, { delete: '/t/never' }];
    const failed = await store.transact({ compare: [{ key: '/t/kept', is: 'absent' }], then });
    expect(failed.succeeded).toBe(false);
    expect((await store.list('/t/')).entries.map(entry => entry.key)).toEqual(['/t/kept', '/t/old']);
    const done = await store.transact({ compare: [{ key: '/t/kept', is: 'present' }], then });
    expect(done.succeeded && done.revision).toBe((await store.get('/t/new'))?.revision);
    expect((await store.list('/t/')).entries.map(entry => entry.key)).toEqual(['/t/kept', '/t/new']);
  });

  test('a lease takes its keys with it, and knows when it is over', async () => {
    const lease = await store.lease(30);
    const other = await store.lease(30);
    const write = (key: string, id: string) =>
      store.transact({ compare: [], then: [{ put: key, value: 'v', lease: id }] });
    for (const key of ['/lease/1', '/lease/2', '/lease/3']) await write(key, lease.id);
    await put(store, '/lease/2', 'to stay');
    await write('/lease/3', other.id);
    expect(await lease.keepAlive()).toBe(true);
    await lease.revoke();
    expect((await store.list('/lease/')).entries.map(entry => entry.key)).toEqual(['/lease/2', '/lease/3']);
    expect(await lease.keepAlive()).toBe(false);
    await lease.revoke();
    await expect(write('/lease/4', lease.id)).rejects.toThrow(/lease has expired/);
    expect(await store.get('/lease/4')).toBeUndefined();
    expect(await other.keepAlive()).toBe(true);
    await other.revoke();
  });

  test('a watch begins with all there is and goes on in the order of revisions', async () => {
    await put(store, '/w/1', 'a');
    const seen = new Recorder();
    const watch = store.watch('/w/', seen);
    await watch.ready;
    expect(seen.lines).toEqual(['snapshot /w/1']);
    for (let index = 0; index < 50; index++) await put(store, '/w/2', String(index));
    await put(store, '/elsewhere', 'a');
    await store.transact({ compare: [], then: [{ delete: '/w/1' }] });
    await put(store, '/w/1', 'z');
    await eventually(() => expect(seen.lines).toHaveLength(53));
    const puts = Array.from({ length: 50 }, (_, index) => `put /w/2=${index}`);
    expect(seen.lines).toEqual(['snapshot /w/1', ...puts, 'deleted /w/1', 'put /w/1=z']);
    const revisions = seen.entries.map(entry => Number(entry.revision));
    expect(revisions).toEqual([...revisions].sort((one, other) => one - other));
    watch.close();
    await put(store, '/w/2', 'after');
    await put(store, '/w/2', 'after');
    expect(seen.lines).toHaveLength(53);
  });

  test('a watcher that throws is called for the next change nevertheless', async () => {
    const seen: string[] = [];
    const watch = store.watch('/throw/', {
      snapshot: () => {
        throw new Error('a fault in the consumer');
      },
      put: entry => {
        seen.push(entry.value);
        throw new Error('a fault in the consumer');
      },
      deleted: () => undefined,
    });
    await put(store, '/throw/1', 'a');
    await put(store, '/throw/1', 'b');
    await eventually(() => expect(seen.at(-1)).toBe('b'));
    watch.close();
  });

  test('after close, nothing is reported and every call fails', async () => {
    const other = await create();
    const seen = new Recorder();
    const watch = other.store.watch('/', seen);
    await watch.ready;
    const late = other.store.watch('/', seen);
    await other.store.close();
    await expect(late.ready).rejects.toThrow(DatastoreError);
    const { length } = seen.lines;
    await expect(other.store.get('/a')).rejects.toThrow(DatastoreError);
    await expect(other.store.ping()).rejects.toThrow(DatastoreError);
    await new Promise(done => setTimeout(done, 50));
    expect(seen.lines).toHaveLength(length);
    await other.remove();
  });
}

/** A store on an etcd of its own. */
export async function etcdStore(): Promise<{ store: Store; remove(): Promise<void> }> {
  const etcd = await startEtcd();
  const store = createEtcdStore({ endpoints: [etcd.endpoint] }, quiet);
  return {
    store,
    remove: async () => {
      await store.close();
      await etcd.remove();
    },
  };
}
