import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import { aliveKey, handleKey, resourceKey } from '../../src/datastore/keys.js';
import type { Store } from '../../src/datastore/store.js';
import { Allocator } from '../../src/ipam/allocator.js';
import { IpamFacts } from '../../src/ipam/facts.js';
import { parseCidr } from '../../src/ipam/cidr.js';
import { parseBlock } from '../../src/model/block.js';
import { formatNewPool } from '../../src/model/ip-pool.js';
import { formatPresence } from '../../src/model/presence.js';
import { endpointHandle } from '../../src/ipam/handles.js';
import { REPOSITORY } from '../bed/paths.js';
import { freePorts, quiet, startEtcd } from './etcd-process.js';
import type { EtcdProcess } from './etcd-process.js';
import { put } from './store.contract.js';

let etcd: EtcdProcess;
let store: Store;
beforeAll(async () => {
  etcd = await startEtcd();
  store = createEtcdStore({ endpoints: [etcd.endpoint] }, quiet);
});
afterAll(async () => {
  await store.close();
  await etcd.remove();
});

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
  readonly milliseconds: number;
}

/** The command as a person runs it. */
function nodeRemove(args: readonly string[], endpoint = etcd.endpoint): Promise<Result> {
  const start = Date.now();
  const child = spawn(process.execPath, [join(REPOSITORY, 'dist/main.js'), 'node', 'remove', ...args], {
    env: { PATH: process.env.PATH ?? '', ETCD_ENDPOINTS: endpoint, NODENAME: 'operator' },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 30_000,
  });
  let [out, err] = ['', ''];
  child.stdout.on('data', text => (out += String(text)));
  child.stderr.on('data', text => (err += String(text)));
  return new Promise(done =>
    child.on('close', code => done({ code, out, err, milliseconds: Date.now() - start })),
  );
}

/** Gives a node so many addresses, and tells them. */
async function populate(node: string, count: number): Promise<string[]> {
  const facts = new IpamFacts(store, node, quiet);
  await facts.ready();
  const allocator = new Allocator(store, facts, { isGlobal: false, isRouted: () => false }, quiet);
  const mac = (index: number) => `02:00:00:00:${[index >> 8, index & 255].map(byte => byte.toString(16).padStart(2, '0')).join(':')}`; // prettier-ignore
  const addresses = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      allocator.assign({
        family: 4,
        holder: { handle: value => endpointHandle(node, mac(index), value), secondary: { node } },
      }),
    ),
  );
  facts.close();
  return addresses.map(({ value }) => String(value));
}

test('frees a dead host with a thousand addresses, and nothing of a live one', async () => {
  const range = parseCidr('10.0.0.0/16');
  if (!range) throw new Error('no range');
  const pool = {
    name: 'p',
    cidr: range,
    vxlanMode: 'Never',
    natOutgoing: true,
    madeForDocker: false,
  } as const;
  await put(store, resourceKey('ippools', 'p'), formatNewPool(pool, new Date()));
  await populate('live', 10);
  const before = await store.list('');
  await populate('dead', 1_000);
  const dry = await nodeRemove(['dead', '--dry-run']);
  expect([dry.code, dry.err]).toEqual([0, '']);
  const run = await nodeRemove(['dead']);
  expect([run.code, run.err]).toEqual([0, '']);
  expect(run.out.match(/^freed: address 10\.0\.\d+\.\d+ \(libnetwork\.dead\./gm)).toHaveLength(1_000);
  expect(run.out).toMatch(/\n1016 things of host dead freed\n$/); // 16 blocks of 64
  expect(dry.out).toContain('1016 things of host dead would be freed');
  // Blocks were written meanwhile (`dead` borrowed from them): what they hold is the same.
  const values = (listing: typeof before) =>
    listing.entries.map(({ key, value }) => [key, parseBlock(value)?.attributes ?? value]);
  expect(values(await store.list(''))).toEqual(values(before));
  const again = await nodeRemove(['dead']);
  expect([again.code, again.out]).toEqual([0, 'nothing of host dead is in the datastore\n']);
  expect(run.milliseconds).toBeLessThan(10_000);
});

test('refuses a live host, wrong usage and an etcd that is away, each with a status of its own', async () => {
  const lease = await store.lease(30);
  const value = formatPresence({ id: 'x', since: '2026-01-01T00:00:00.000Z', version: '1' });
  await store.transact({ compare: [], then: [{ put: aliveKey('live'), value, lease: lease.id }] });
  const before = await store.list('');
  const refused = await nodeRemove(['live']);
  expect([refused.code, refused.out]).toEqual([1, '']);
  expect(refused.err).toMatch(
    /host live is alive \(since 2026-01-01T00:00:00\.000Z\): remove its containers and stop its daemon/,
  );
  for (const args of [[], ['a', 'b'], ['a/b'], ['--force', 'a']]) {
    const { code, err } = await nodeRemove(args);
    expect([args, code]).toEqual([args, 2]);
    expect(err).toContain('usage: calico-libnetwork node remove NAME [--dry-run]');
  }
  const [port] = await freePorts(1);
  const away = await nodeRemove(['dead'], `http://127.0.0.1:${port}`);
  expect(away.code).toBe(3);
  expect(away.err).toContain('the datastore is unreachable');
  expect(await store.list('')).toEqual(before);
  expect(await store.get(handleKey('none'))).toBeUndefined();
  await lease.revoke();
});
