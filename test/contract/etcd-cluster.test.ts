import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { Store } from '../../src/datastore/store.js';
import { withDeadline } from '../../src/deadline.js';
import { DatastoreError, reason } from '../../src/errors.js';
import { EtcdCluster, eventually, quiet, startEtcd } from './etcd-process.js';
import { Recorder, put } from './store.contract.js';

/** What dockerd's caller is promised: a call is answered within this many milliseconds. */
const PROMISED = 9_000;

let cluster: EtcdCluster;
const stores: Store[] = [];
afterEach(async () => {
  await Promise.all(stores.splice(0).map(store => store.close()));
});

function host(endpoints: readonly string[] = cluster.endpoints): Store {
  const store = createEtcdStore({ endpoints }, quiet);
  stores.push(store);
  return store;
}

/**
 * Counts in a key of its own, one compare-and-swap after the other, as the allocator does with a block: remembers the
 * revision and never reads. Returns how often, and the longest call.
 */
async function count(
  store: Store,
  key: string,
  until: () => boolean,
): Promise<{ calls: number; longest: number }> {
  let revision: string | undefined;
  let [calls, longest] = [0, 0];
  while (!until()) {
    const start = Date.now();
    const result = await withDeadline(PROMISED, () =>
      store.transact({
        compare: [revision === undefined ? { key, is: 'absent' } : { key, is: 'revision', revision }],
        then: [{ put: key, value: `${calls + 1}` }],
        otherwise: [key],
      }),
    );
    longest = Math.max(longest, Date.now() - start);
    if (!result.succeeded)
      throw new Error(`somebody else wrote ${key}: ${JSON.stringify([...result.found])}, after ${calls}`);
    revision = result.revision;
    calls += 1;
  }
  return { calls, longest };
}

/** Four hosts count, watch and hold leases while `trouble` is made; then all must be as if there had been none. */
async function throughTrouble(trouble: () => Promise<void>): Promise<number> {
  const hosts = Array.from({ length: 4 }, () => host());
  const seen = hosts.map(() => new Recorder());
  await Promise.all(hosts.map((store, i) => store.watch('/count/', seen[i] ?? new Recorder()).ready));
  const leases = await Promise.all(hosts.map(store => store.lease(10)));
  let rewinds = 0;
  for (const store of hosts) store.onRewind(() => (rewinds += 1));
  let isOver = false;
  const counting = Promise.all(hosts.map((store, i) => count(store, `/count/${i}`, () => isOver)));
  counting.catch(() => undefined);
  await pause(500);
  await trouble();
  for (const lease of leases) expect(await withDeadline(PROMISED, () => lease.keepAlive())).toBe(true);
  await pause(500);
  isOver = true;
  const counts = await counting;
  const reader = host();
  for (const [i, { calls }] of counts.entries()) {
    expect((await reader.get(`/count/${i}`))?.value).toBe(String(calls));
    // Every transaction that was said to have its effect had it, and had it once: etcd counts the writes of a key.
    expect(cluster.members[0]?.control('get', `/count/${i}`, '-w', 'json')).toContain(`"version":${calls},`);
  }
  // Every watch comes to the end of it, whichever member it was with.
  const last = (recorder: Recorder) => {
    const entries = [...(recorder.snapshots.at(-1)?.entries ?? []), ...recorder.entries];
    return Object.fromEntries(
      entries
        .sort((a, b) => Number(BigInt(a.revision) - BigInt(b.revision)))
        .map(({ key, value }) => [key, value]),
    );
  };
  const expected = Object.fromEntries(counts.map(({ calls }, i) => [`/count/${i}`, String(calls)]));
  await eventually(() => {
    for (const recorder of seen) expect(last(recorder)).toEqual(expected);
  }, 20_000);
  // Members that lag behind, or were started anew, are no etcd that went back.
  expect(rewinds).toBe(0);
  return Math.max(...counts.map(({ longest }) => longest));
}

describe('a cluster of three', () => {
  beforeEach(async () => {
    cluster = await EtcdCluster.start();
  }, 60_000);
  afterEach(() => cluster.remove());

  test('whose leader is killed while transactions run', async () => {
    const longest = await throughTrouble(async () => {
      const { leader } = await cluster.roles();
      await leader.kill();
      await pause(2_000);
      cluster.launch(leader);
      await cluster.roles();
    });
    expect(longest).toBeLessThan(5_000);
  }, 60_000);

  test('each of whose members is killed in turn', async () => {
    const longest = await throughTrouble(async () => {
      for (const member of cluster.members) {
        await member.kill();
        await pause(500);
        cluster.launch(member);
        await cluster.roles();
      }
    });
    expect(longest).toBeLessThan(5_000);
  }, 60_000);

  test('whose leader hangs for three seconds, as on a slow disk', async () => {
    const longest = await throughTrouble(async () => {
      const { leader } = await cluster.roles();
      await leader.freeze();
      await pause(3_000);
      leader.thaw();
      await cluster.roles();
    });
    expect(longest).toBeLessThan(5_000);
  }, 60_000);

  test('without a majority fails each call in time and in words, and works again by itself', async () => {
    const store = host();
    const seen = new Recorder();
    await store.watch('/w/', seen).ready;
    await put(store, '/w/1', 'a');
    const lease = await store.lease(30);
    const { leader, followers } = await cluster.roles();
    const [stays, goes] = followers;
    if (!stays || !goes) throw new Error('three members were started');
    await Promise.all([leader.kill(), goes.kill()]);
    const write = { compare: [], then: [{ put: '/w/2', value: 'b' }] };
    const calls: [string, number, () => Promise<unknown>][] = [
      ['a read', 2_000, () => withDeadline(2_000, () => store.get('/w/1'))],
      ['a write', 2_000, () => withDeadline(2_000, () => store.transact(write))],
      ['a list', 2_000, () => withDeadline(2_000, () => store.list('/w/'))],
      ['a keep-alive', 2_000, () => withDeadline(2_000, () => lease.keepAlive())],
      ['a lease', 2_000, () => withDeadline(2_000, () => store.lease(30))],
      ['a ping without a deadline', 5_000, () => store.ping()],
    ];
    for (const [what, allowed, call] of calls) {
      const start = Date.now();
      const error: unknown = await call().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect([what, error]).toEqual([what, expect.any(DatastoreError)]);
      expect(reason(error)).toMatch(/^the datastore is unreachable: etcd does not answer \(http/);
      expect([what, Date.now() - start < allowed + 300]).toEqual([what, true]);
    }
    // It stays one's own fault only as long as it lasts.
    const back = Date.now();
    cluster.launch(goes);
    await eventually(() => withDeadline(1_000, () => store.ping()));
    await put(store, '/w/3', 'c');
    await eventually(() => expect(seen.lines.join(' ')).toContain('/w/3'));
    expect(Date.now() - back).toBeLessThan(10_000);
    expect(await lease.keepAlive()).toBe(true);
    cluster.launch(leader);
  }, 60_000);

  test('serves on through a member whose own cluster is lost: the others are tried', async () => {
    const { leader, followers } = await cluster.roles();
    await leader.kill();
    const writing = await Promise.all(
      Array.from({ length: 6 }, (_, i) =>
        host().transact({ compare: [], then: [{ put: `/w/${i}`, value: 'v' }] }),
      ),
    );
    expect(writing.every(result => result.succeeded)).toBe(true);
    expect(followers).toHaveLength(2);
    cluster.launch(leader);
  }, 60_000);
});

test('a single etcd that hangs for three seconds is waited for', async () => {
  const etcd = await startEtcd();
  try {
    const store = host([etcd.endpoint]);
    const seen = new Recorder();
    await store.watch('/w/', seen).ready;
    await etcd.freeze();
    const start = Date.now();
    // Without a compare it might be written twice, with the same outcome.
    const written = store.transact({
      compare: [{ key: '/w/1', is: 'absent' }],
      then: [{ put: '/w/1', value: 'a' }],
      otherwise: ['/w/1'],
    });
    await pause(3_000);
    etcd.thaw();
    expect((await written).succeeded).toBe(true);
    expect(Date.now() - start).toBeLessThan(4_500);
    await eventually(() => expect(seen.lines).toEqual(['snapshot', 'put /w/1=a']));
    expect(etcd.control('get', '/w/1', '-w', 'json')).toContain('"version":1,');
  } finally {
    await etcd.remove();
  }
});
