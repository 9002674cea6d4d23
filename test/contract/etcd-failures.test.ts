import { Etcd3 } from 'etcd3';
import { afterEach, describe, expect, test } from 'vitest';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { Store } from '../../src/datastore/store.js';
import { remaining, withDeadline } from '../../src/deadline.js';
import { DatastoreError, reason } from '../../src/errors.js';
import { BreakableProxy } from './breakable-proxy.js';
import { EtcdProcess, demandEtcd, eventually, freePorts, quiet, startEtcd } from './etcd-process.js';
import { Recorder, put, putMany } from './store.contract.js';

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function etcd(more: readonly string[] = []): Promise<EtcdProcess> {
  const process = await startEtcd('http', more);
  cleanups.push(() => process.remove());
  return process;
}

function storeOn(...endpoints: string[]): Store {
  const store = createEtcdStore({ endpoints }, quiet);
  cleanups.push(() => store.close());
  return store;
}

async function proxyTo(target: EtcdProcess): Promise<BreakableProxy> {
  const proxy = await BreakableProxy.start(target.clientPort);
  cleanups.push(() => proxy.close());
  return proxy;
}

/** What a call failed with, and after how many milliseconds. */
async function failure(call: () => Promise<unknown>): Promise<{ error: unknown; after: number }> {
  const start = Date.now();
  try {
    await call();
  } catch (error) {
    return { error, after: Date.now() - start };
  }
  throw new Error('the call succeeded');
}

const created = (key: string, value: string, otherwise: string[] = []) =>
  ({ compare: [{ key, is: 'absent' }], then: [{ put: key, value }], otherwise }) as const;

describe('an etcd that does not answer', () => {
  test('where nothing listens, the error names the endpoint and the reason', async () => {
    const [port] = await freePorts(1);
    const store = storeOn(`http://127.0.0.1:${port}`);
    const { error, after } = await failure(() => withDeadline(700, () => store.get('/a')));
    expect(error).toBeInstanceOf(DatastoreError);
    expect(reason(error)).toBe(
      `the datastore is unreachable: etcd at http://127.0.0.1:${port} does not answer (connection refused): check that it runs and that ETCD_ENDPOINTS is right`,
    );
    expect(after).toBeLessThan(900);
  });

  test('a stopped process costs no more than the deadline', async () => {
    const server = await etcd();
    const store = storeOn(server.endpoint);
    await store.ping();
    await server.freeze();
    const { error, after } = await failure(() => withDeadline(1_000, () => store.get('/a')));
    expect(reason(error)).toContain('no answer in time');
    expect(after).toBeGreaterThan(900);
    expect(after).toBeLessThan(1_200);
    const write = await failure(() => withDeadline(500, () => store.transact(created('/a', '1'))));
    expect(reason(write.error)).toMatch(/no (answer|connection) in time/);
    expect(write.after).toBeLessThan(700);
    server.thaw();
    await store.ping();
  });

  test('a black hole as one of two endpoints delays a call, but does not fail it', async () => {
    const server = await etcd();
    const proxies = [await proxyTo(server), await proxyTo(server)] as const;
    const store = storeOn(proxies[0].endpoint, proxies[1].endpoint);
    await store.ping();
    (proxies[0].connections > 0 ? proxies[0] : proxies[1]).blackHole();
    const start = Date.now();
    await store.ping();
    expect(Date.now() - start).toBeLessThan(2_500);
    const again = Date.now();
    await store.ping();
    expect(Date.now() - again).toBeLessThan(500); // it stays with the endpoint that works
  });

  test('a restart is waited for within the deadline', async () => {
    const server = await etcd();
    const store = storeOn(server.endpoint);
    await put(store, '/a', '1');
    await server.kill();
    setTimeout(() => server.launch(), 300);
    expect(await store.get('/a')).toMatchObject({ value: '1' });
  });
});

describe('a transaction whose answer is lost', () => {
  test('is recognised as our own where it had its effect', async () => {
    const server = await etcd();
    const proxy = await proxyTo(server);
    const store = storeOn(proxy.endpoint);
    await store.ping();
    proxy.loseNextAnswer();
    const result = await store.transact(created('/lost', 'mine', ['/lost']));
    const entry = await store.get('/lost');
    expect(result).toEqual({ succeeded: true, revision: entry?.revision });
    expect(server.control('get', '/lost', '-w', 'json')).toContain('"version":1');
  });

  test('is doubtful where somebody built on it meanwhile', async () => {
    const server = await etcd();
    const proxy = await proxyTo(server);
    const [store, other] = [storeOn(proxy.endpoint), storeOn(server.endpoint)];
    await store.ping();
    proxy.loseNextAnswer();
    const ours = store.transact(created('/lost', 'mine', ['/lost']));
    await eventually(async () => expect(await other.get('/lost')).toMatchObject({ value: 'mine' }));
    await put(other, '/lost', 'theirs');
    expect(await ours).toMatchObject({ succeeded: false, doubtful: true });
    expect((await store.get('/lost'))?.value).toBe('theirs');
  });

  test('is doubtful where it only deleted, as a delete leaves no mark', async () => {
    const server = await etcd();
    const proxy = await proxyTo(server);
    const store = storeOn(proxy.endpoint);
    const revision = await put(store, '/gone', '1');
    proxy.loseNextAnswer();
    const compare = [{ key: '/gone', is: 'revision', revision }] as const;
    const result = await store.transact({ compare, then: [{ delete: '/gone' }], otherwise: ['/gone'] });
    expect(result).toMatchObject({
      succeeded: false,
      doubtful: true,
      found: new Map([['/gone', undefined]]),
    });
  });

  test('is not doubtful where it was certainly not sent', async () => {
    const server = await etcd();
    await put(storeOn(server.endpoint), '/there', 'theirs');
    const [dead] = await freePorts(1);
    // Each begins with an endpoint of its choice: some of them meet the dead one first.
    for (let round = 0; round < 8; round++) {
      const store = storeOn(`http://127.0.0.1:${dead}`, server.endpoint);
      const result = await store.transact(created('/there', 'mine'));
      expect(result).toMatchObject({ succeeded: false, doubtful: false });
    }
  });

  test('says in its error that it may have been made', async () => {
    const server = await etcd();
    const store = storeOn(server.endpoint);
    await store.ping();
    await server.freeze();
    const { error } = await failure(() => withDeadline(300, () => store.transact(created('/a', '1'))));
    expect(reason(error)).toContain('may have been made nevertheless');
  });
});

describe('a watch', () => {
  test('lists again after its revision was compacted', async () => {
    const server = await etcd();
    const proxy = await proxyTo(server);
    const [store, other] = [storeOn(proxy.endpoint), storeOn(server.endpoint)];
    const seen = new Recorder();
    await store.watch('/w/', seen).ready;
    proxy.blackHole();
    proxy.cut();
    await eventually(() => expect(seen.lines.at(-1)).toBe('lost'));
    await putMany(other, ['/w/1', '/w/2'], 'v');
    const last = await put(other, '/x', 'v');
    server.control('compact', last);
    proxy.cut();
    proxy.pass();
    await eventually(() => expect(seen.lines).toEqual(['snapshot', 'lost', 'snapshot /w/1 /w/2']));
    await put(other, '/w/3', 'v');
    await eventually(() => expect(seen.lines.at(-1)).toBe('put /w/3=v'));
  });

  test('goes on after etcd was killed and started again', async () => {
    const server = await etcd();
    const store = storeOn(server.endpoint);
    const seen = new Recorder();
    await store.watch('/w/', seen).ready;
    await put(store, '/w/1', 'a');
    await eventually(() => expect(seen.lines).toEqual(['snapshot', 'put /w/1=a']));
    await server.kill();
    await eventually(() => expect(seen.lines.at(-1)).toBe('lost'));
    server.launch();
    await eventually(() => expect(seen.lines.at(-1)).toBe('snapshot /w/1'));
    await put(store, '/w/1', 'b');
    await eventually(() => expect(seen.lines).toEqual(['snapshot', 'put /w/1=a', 'lost', 'snapshot /w/1', 'put /w/1=b'])); // prettier-ignore
  });

  test('begins as soon as an etcd that was down comes up', async () => {
    demandEtcd();
    const [client = 0, peer = 0] = await freePorts(2);
    const server = new EtcdProcess(client, peer);
    cleanups.push(() => server.remove());
    const seen = new Recorder();
    const watch = withDeadline(100, async () => storeOn(server.endpoint).watch('/w/', seen));
    setTimeout(() => server.launch(), 300);
    await (
      await watch
    ).ready;
    expect(seen.lines.at(-1)).toBe('snapshot');
  });

  test('reports outside the deadline of the call that opened the connection', async () => {
    const server = await etcd();
    const store = storeOn(server.endpoint);
    await withDeadline(1_000, () => store.ping());
    const left: number[] = [];
    const note = () => void left.push(remaining(60_000));
    const watch = withDeadline(1_000, async () =>
      store.watch('/w/', { snapshot: note, put: note, deleted: note }),
    );
    await (
      await watch
    ).ready;
    await put(store, '/w/1', 'a');
    await eventually(() => expect(left).toEqual([60_000, 60_000]));
    const late = withDeadline(-1, () => store.get('/w/1'));
    await expect(late).rejects.toThrow('the deadline has passed');
  });

  test('notices within 15 s that its connection leads nowhere, and shares that one connection', async () => {
    const server = await etcd();
    const proxy = await proxyTo(server);
    const store = storeOn(proxy.endpoint);
    const [one, two] = [new Recorder(), new Recorder()];
    await store.watch('/w/', one).ready;
    await store.watch('/v/', two).ready;
    await store.ping();
    expect(proxy.connections).toBe(1);
    const start = Date.now();
    proxy.blackHole();
    await eventually(() => expect([one.lines.at(-1), two.lines.at(-1)]).toEqual(['lost', 'lost']), 20_000);
    expect(Date.now() - start).toBeLessThan(16_000);
    proxy.pass();
    await eventually(() => expect([one.lines.at(-1), two.lines.at(-1)]).toEqual(['snapshot', 'snapshot']));
  }, 40_000);

  test('survives keys and values that are no text', async () => {
    const server = await etcd();
    const store = storeOn(server.endpoint);
    const seen = new Recorder();
    await store.watch('/w/', seen).ready;
    const raw = new Etcd3({ hosts: server.endpoint });
    await raw.put(Buffer.from([0x2f, 0x77, 0x2f, 0xff, 0xfe])).value(Buffer.from([0xff, 0x00]));
    raw.close();
    server.control('put', '/w/empty', '');
    await put(store, '/w/good', '1');
    await eventually(() => expect(seen.lines.at(-1)).toBe('put /w/good=1'));
    expect((await store.list('/w/')).entries).toHaveLength(3);
  });
});

describe('more', () => {
  test('a list larger than one answer may be is fetched in smaller pages', async () => {
    const server = await etcd();
    const store = storeOn(server.endpoint);
    const keys = Array.from({ length: 24 }, (_, index) => `/large/${String(index).padStart(2, '0')}`);
    await putMany(store, keys, 'x'.repeat(1024 * 1024), 1);
    const { entries } = await store.list('/large/');
    expect(entries.map(entry => entry.key)).toEqual(keys);
    expect(entries.every(entry => entry.value.length === 1024 * 1024)).toBe(true);
  });
});
