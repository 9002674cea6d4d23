import { setTimeout as pause } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import { Mirror } from '../../src/datastore/mirror.js';
import { eraOf } from '../../src/datastore/revision.js';
import type { Store } from '../../src/datastore/store.js';
import { BreakableProxy } from './breakable-proxy.js';
import { eventually, startEtcd } from './etcd-process.js';
import type { EtcdProcess } from './etcd-process.js';
import { put } from './store.contract.js';

/** An etcd that is restored from a snapshot under a daemon that runs. */

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Setup {
  readonly etcd: EtcdProcess;
  readonly store: Store;
  readonly mirror: Mirror<string>;
  /** Warnings that name a rewind. */
  readonly warnings: string[];
  rewinds(): number;
}

async function setUp(endpointOf = (etcd: EtcdProcess) => Promise.resolve(etcd.endpoint)): Promise<Setup> {
  const etcd = await startEtcd();
  cleanups.push(() => etcd.remove());
  const warnings: string[] = [];
  const write = (line: string) =>
    void (line.includes('gone back to an earlier state') && warnings.push(line));
  const log = pino({ level: 'warn' }, { write });
  const store = createEtcdStore({ endpoints: [await endpointOf(etcd)] }, log);
  cleanups.push(() => store.close());
  let rewinds = 0;
  store.onRewind(() => (rewinds += 1));
  await put(store, '/m/kept', 'a');
  await put(store, '/m/changed', 'old');
  await put(store, '/m/removed', 'b');
  const mirror = new Mirror(store, '/m/', (_, value) => value, log);
  await mirror.ready;
  return { etcd, store, mirror, warnings, rewinds: () => rewinds };
}

const content = (mirror: Mirror<string>) => Object.fromEntries(mirror.entries());
const OLD = { '/m/kept': 'a', '/m/changed': 'old', '/m/removed': 'b' };

async function writeMore({ store, mirror }: Setup): Promise<void> {
  await put(store, '/m/changed', 'new');
  await put(store, '/m/added', 'c');
  await store.transact({ compare: [], then: [{ delete: '/m/removed' }] });
  await eventually(() =>
    expect(content(mirror)).toEqual({ '/m/kept': 'a', '/m/changed': 'new', '/m/added': 'c' }),
  );
}

/** What holds afterwards: the content, one report, and writes and their events as ever. */
async function expectBack({ store, mirror, warnings, rewinds }: Setup): Promise<void> {
  await eventually(() => {
    expect(mirror.isCurrent).toBe(true);
    expect(content(mirror)).toEqual(OLD);
  });
  const revision = await put(store, '/m/after', 'd');
  await eventually(() => expect(content(mirror)).toEqual({ ...OLD, '/m/after': 'd' }));
  expect(mirror.revisionOf('/m/after')).toBe(revision);
  const current = mirror.revisionOf('/m/after') ?? '';
  const replaced = await store.transact({
    compare: [{ key: '/m/after', is: 'revision', revision: current }],
    then: [{ put: '/m/after', value: 'e' }],
  });
  expect(replaced.succeeded).toBe(true);
  await eventually(() => expect(mirror.get('/m/after')).toBe('e'));
  expect(rewinds()).toBe(1);
  expect(warnings).toHaveLength(1);
}

describe('an etcd restored from a snapshot', () => {
  test('is noticed without any call, and replaces all that was known', async () => {
    const setup = await setUp();
    const file = setup.etcd.snapshot();
    await writeMore(setup);
    await setup.etcd.restore(file);
    setup.etcd.launch();
    const start = Date.now();
    await eventually(() => expect(setup.rewinds()).toBe(1));
    expect(Date.now() - start).toBeLessThan(8_000);
    await expectBack(setup);
  });

  test('is noticed as another cluster, though its revision is higher', async () => {
    const setup = await setUp();
    const file = setup.etcd.snapshot();
    await writeMore(setup);
    await setup.etcd.restore(file, 'another');
    setup.etcd.launch();
    await eventually(() => setup.etcd.control('put', '/elsewhere', 'x'));
    for (let count = 0; count < 10; count++) setup.etcd.control('put', '/elsewhere', String(count));
    await expectBack(setup);
  });

  test('is noticed where only other hosts wrote after the snapshot', async () => {
    const setup = await setUp();
    const file = setup.etcd.snapshot();
    setup.etcd.control('put', '/m/changed', 'new');
    await eventually(() => expect(setup.mirror.get('/m/changed')).toBe('new'));
    await setup.etcd.restore(file);
    setup.etcd.launch();
    await expectBack(setup);
  });

  test('a revision from before is not compared, though the key has the very same one again', async () => {
    let proxy: BreakableProxy | undefined;
    const setup = await setUp(async etcd => {
      proxy = await BreakableProxy.start(etcd.clientPort);
      cleanups.push(() => proxy?.close());
      return proxy.endpoint;
    });
    const { etcd, store } = setup;
    const file = etcd.snapshot();
    await put(store, '/x/one', '1');
    const remembered = await put(store, '/x/block', 'mine');
    await put(store, '/x/more', '1');
    // The daemon does not see what happens now.
    proxy?.blackHole();
    proxy?.cut();
    await etcd.restore(file);
    etcd.launch();
    await eventually(() => etcd.control('put', '/x/other', '1'));
    etcd.control('put', '/x/block', 'theirs');
    const theirs: { kvs: { mod_revision: number }[] } = JSON.parse(
      etcd.control('get', '/x/block', '-w', 'json'),
    );
    expect(String(theirs.kvs[0]?.mod_revision)).toBe(remembered);
    proxy?.pass();
    proxy?.cut();
    const result = await store.transact({
      compare: [{ key: '/x/block', is: 'revision', revision: remembered }],
      then: [{ put: '/x/block', value: 'mine again' }],
      otherwise: ['/x/block'],
    });
    if (result.succeeded) throw new Error('it was compared');
    const found = result.found.get('/x/block');
    expect([found?.value, eraOf(found?.revision ?? '')]).toEqual(['theirs', 1]);
    await pause(100);
    expect(setup.rewinds()).toBe(1);
  });

  test('a mere restart is no rewind', async () => {
    const setup = await setUp();
    await setup.etcd.kill();
    await eventually(() => expect(setup.mirror.isCurrent).toBe(false));
    setup.etcd.launch();
    await eventually(() => expect(setup.mirror.isCurrent).toBe(true));
    await writeMore(setup);
    expect([setup.rewinds(), setup.warnings.length]).toEqual([0, 0]);
  });
});
