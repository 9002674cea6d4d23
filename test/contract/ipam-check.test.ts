import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { affinityKey, handleKey, resourceKey } from '../../src/datastore/keys.js';
import { startEmbedded } from '../../src/datastore/embedded.js';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { Store } from '../../src/datastore/store.js';
import { claimBlock } from '../../src/ipam/claim.js';
import { parseCidr } from '../../src/ipam/cidr.js';
import { IpamFacts } from '../../src/ipam/facts.js';
import { formatAffinity, formatHandle } from '../../src/model/block.js';
import { formatNewPool } from '../../src/model/ip-pool.js';
import { freePorts, quiet, startEtcd } from './etcd-process.js';
import type { EtcdProcess } from './etcd-process.js';
import { put, putMany } from './store.contract.js';

const MAIN = new URL('../../dist/main.js', import.meta.url).pathname;
const LEFT_OVER = 'libnetwork.node-1.024200000001.192.0.2.1';
let etcd: EtcdProcess;
let store: Store;
let directory: string;

/** The command as a child process, with nothing in its environment but what is given. */
async function command(
  args: readonly string[],
  env: Record<string, string> = { ETCD_ENDPOINTS: etcd.endpoint },
) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env['PATH'] ?? '', CALICO_LIBNETWORK_STATE_DIR: join(directory, 'none'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'exit');
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [status] = await ended;
  return { status, out, err };
}

beforeAll(async () => {
  if (!existsSync(MAIN)) throw new Error('these tests run dist/main.js: npm run build');
  directory = mkdtempSync(join(tmpdir(), 'calico-check-'));
  etcd = await startEtcd();
  store = createEtcdStore({ endpoints: [etcd.endpoint] }, quiet);
  const cidr = parseCidr('192.0.2.0/24');
  const block = parseCidr('192.0.2.0/26');
  if (!cidr || !block) throw new Error('no range');
  const pool = { name: 'pool', cidr, vxlanMode: 'Never', natOutgoing: true, madeForDocker: false } as const;
  await put(store, resourceKey('ippools', 'pool'), formatNewPool(pool, new Date()));
  const facts = new IpamFacts(store, 'node-1', quiet);
  await facts.ready();
  await claimBlock(store, facts, block);
  facts.close();
});

afterAll(async () => {
  await store.close();
  await etcd.remove();
  rmSync(directory, { recursive: true, force: true });
});

test('consistent: status 0 and a summary, nothing on standard error', async () => {
  expect(await command(['ipam', 'check'])).toEqual({
    status: 0,
    out: '1 blocks, 0 addresses in use, 0 findings\n',
    err: '',
  });
});

test('findings: status 1 and a line each; --fix repairs them, and what is left decides the status', async () => {
  // More than one page of a listing, and of a kind that takes as many transactions.
  const ids = Array.from(
    { length: 1_200 },
    (_, n) => `libnetwork.node-2.${String(n).padStart(12, '0')}.192.0.2.1`,
  );
  const keys = [LEFT_OVER, ...ids].map(handleKey);
  await putMany(store, keys, formatHandle({ '192.0.2.0/26': 1 }));
  const affinity = affinityKey('node-9', { family: 4, base: 0xc0000240n, length: 26 });
  await put(store, affinity, formatAffinity('pending'));
  const found = await command(['ipam', 'check']);
  const lines = found.out.trimEnd().split('\n');
  expect(found).toMatchObject({ status: 1, err: '' });
  expect(lines).toHaveLength(1_203);
  expect(lines).toContain(
    `handle-unused: no address is allocated to handle ${LEFT_OVER} (${handleKey(LEFT_OVER)})`,
  );
  expect(lines.at(-1)).toBe(
    '1 blocks, 0 addresses in use, 1202 findings, 1202 of them can be repaired with --fix',
  );
  await put(store, '/calico/ipam/v2/assignment/ipv6/block/x', 'garbage');
  const fixed = await command(['ipam', 'check', '--fix']);
  expect(fixed.status).toBe(1);
  expect(fixed.out).toMatch(/^repaired: handle-unused: /m);
  expect(fixed.out).toMatch(/^unreadable: .* \(\/calico\/ipam\/v2\/assignment\/ipv6\/block\/x\)$/m);
  expect(fixed.out).toMatch(/^1 blocks, 0 addresses in use, 1202 repaired, 1 findings$/m);
  expect(await store.get(affinity)).toBeUndefined();
  expect((await store.list('/calico/ipam/v2/handle/')).entries).toEqual([]);
  const del = { delete: '/calico/ipam/v2/assignment/ipv6/block/x' };
  await store.transact({ compare: [], then: [del] });
  expect((await command(['ipam', 'check', '--fix'])).status).toBe(0);
});

test.each([
  ['an unknown option', ['ipam', 'check', '--force'], /usage: calico-libnetwork ipam check \[--fix\]/],
  ['a word too many', ['ipam', 'check', 'all'], /does not know "all"/],
  ['half a command', ['ipam'], /calico-libnetwork ipam check \[--fix\]/],
  ['an unknown command', ['pool'], /calico-libnetwork ipam check \[--fix\]/],
])('wrong usage: %s', async (_name, args, message) => {
  const { status, out, err } = await command(args);
  expect({ status, out }).toEqual({ status: 2, out: '' });
  expect(err).toMatch(message);
});

test('bad settings are wrong usage, too', async () => {
  const { status, err } = await command(['ipam', 'check'], { ETCD_ENDPOINTS: 'nonsense' });
  expect(status).toBe(2);
  expect(err).toContain('ETCD_ENDPOINTS');
});

test('--help shows usage and example', async () => {
  const { status, out } = await command(['ipam', 'check', '--help']);
  expect(status).toBe(0);
  expect(out).toContain('usage: calico-libnetwork ipam check [--fix]');
  expect(out).toContain('example: calico-libnetwork ipam check');
});

test('etcd away: status 3, within the time of a call, with what to do', async () => {
  const [port] = await freePorts(1);
  const began = Date.now();
  const { status, out, err } = await command(['ipam', 'check'], {
    ETCD_ENDPOINTS: `http://127.0.0.1:${port}`,
  });
  expect({ status, out }).toEqual({ status: 3, out: '' });
  expect(err).toMatch(/etcd/);
  expect(Date.now() - began).toBeLessThan(15_000);
});

test('without ETCD_ENDPOINTS it is the embedded etcd; status 3 where none runs', async () => {
  const [clientPort = 0, peerPort = 0] = await freePorts(2);
  const state = join(directory, 'state');
  const env = { CALICO_LIBNETWORK_STATE_DIR: state };
  const none = await command(['ipam', 'check'], env);
  expect(none.status).toBe(3);
  expect(none.err).toContain('ETCD_ENDPOINTS is not set');
  const options = { dataDir: join(state, 'etcd'), clientPort, peerPort, path: process.env['PATH'] };
  const embedded = await startEmbedded(options, quiet);
  try {
    await embedded.ready;
    expect(await command(['ipam', 'check'], env)).toMatchObject({
      status: 0,
      out: '0 blocks, 0 addresses in use, 0 findings\n',
    });
  } finally {
    await embedded.stop();
  }
});
