import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findRunningEmbedded, startEmbedded } from '../../src/datastore/embedded.js';
import type { Embedded, EmbeddedOptions } from '../../src/datastore/embedded.js';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import { RequestError } from '../../src/errors.js';
import { issue, makeAuthority } from './certificates.js';
import { demandEtcd, eventually, freePorts, healthy, quiet } from './etcd-process.js';
import { put } from './store.contract.js';

const cleanups: (() => unknown)[] = [];
let directory: string;
let options: EmbeddedOptions & { clientPort: number };

beforeEach(async () => {
  demandEtcd();
  directory = mkdtempSync(join(tmpdir(), 'calico-embedded-'));
  const [clientPort = 0, peerPort = 0] = await freePorts(2);
  options = { dataDir: join(directory, 'own', 'data'), clientPort, peerPort, path: process.env['PATH'] };
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  rmSync(directory, { recursive: true, force: true });
});

async function start(more: Partial<EmbeddedOptions> = {}): Promise<Embedded> {
  const embedded = await startEmbedded({ ...options, ...more }, quiet);
  cleanups.push(() => embedded.stop());
  return embedded;
}

/**
 * Starts one in a process of its own, which is then killed as a daemon may be.
 *
 * @returns the process number of the etcd left behind
 */
async function leftBehind(): Promise<number> {
  const program = `
    import { runnerImport } from 'vite';
    const { module } = await runnerImport('./src/datastore/embedded.ts');
    const log = (await runnerImport('./src/log.ts')).module.createLogger('silent');
    const embedded = await module.startEmbedded(${JSON.stringify(options)}, log);
    await embedded.ready;
    process.kill(process.pid, 'SIGKILL');`;
  const daemon = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: new URL('../..', import.meta.url).pathname,
    stdio: 'inherit',
  });
  const [, signal] = await once(daemon, 'exit');
  expect(signal).toBe('SIGKILL');
  const pid = findRunningEmbedded(join(directory, 'own'))?.pid;
  if (pid === undefined) throw new Error('etcd did not outlive its daemon');
  return pid;
}

test('it starts at once, serves soon, keeps its data, and ends without a trace', async () => {
  const began = Date.now();
  const embedded = await start();
  expect(Date.now() - began).toBeLessThan(1_000);
  expect(embedded.clientUrl).toBe(`http://127.0.0.1:${options.clientPort}`);
  await embedded.ready;
  const own = join(directory, 'own');
  expect(findRunningEmbedded(own)).toEqual({ pid: embedded.pid, clientUrls: [embedded.clientUrl] });
  expect(statSync(join(own, 'etcd.json')).mode & 0o777).toBe(0o600);
  expect(statSync(own).mode & 0o777).toBe(0o700);
  expect(statSync(options.dataDir).mode & 0o777).toBe(0o700);
  const store = createEtcdStore({ endpoints: [embedded.clientUrl] }, quiet);
  await put(store, '/a', '1');
  await store.close();
  await embedded.stop();
  expect(existsSync(join(own, 'etcd.json'))).toBe(false);
  expect(findRunningEmbedded(own)).toBeUndefined();
  const again = await start();
  const reader = createEtcdStore({ endpoints: [again.clientUrl] }, quiet);
  expect(await reader.get('/a')).toMatchObject({ value: '1' });
  await reader.close();
});

test('it is started again when it dies', async () => {
  const embedded = await start();
  await embedded.ready;
  const { pid = 0 } = embedded;
  process.kill(pid, 'SIGKILL');
  await eventually(() => expect(embedded.pid ?? pid).not.toBe(pid));
  await healthy({ endpoints: [embedded.clientUrl] });
  expect(findRunningEmbedded(join(directory, 'own'))?.pid).toBe(embedded.pid);
});

test('one that a killed daemon left behind is taken over, and supervised', async () => {
  const pid = await leftBehind();
  const embedded = await start();
  await embedded.ready;
  expect(embedded.pid).toBe(pid);
  process.kill(pid, 'SIGKILL');
  await eventually(() => expect(embedded.pid ?? pid).not.toBe(pid));
  await healthy({ endpoints: [embedded.clientUrl] });
});

test('one that was left behind with other settings is replaced, on the same data and ports', async () => {
  const pid = await leftBehind();
  const url = `http://127.0.0.1:${options.clientPort}`;
  const store = createEtcdStore({ endpoints: [url] }, quiet);
  cleanups.push(() => store.close());
  await put(store, '/a', '1');
  const embedded = await start({ advertise: 'http://127.0.0.1:1' });
  expect(embedded.clientUrl).toBe(url);
  await embedded.ready;
  expect(embedded.pid).not.toBe(pid);
  expect(await store.get('/a')).toMatchObject({ value: '1' });
});

test('one that was left behind and hangs is replaced', async () => {
  const pid = await leftBehind();
  process.kill(pid, 'SIGSTOP');
  await pause(50); // its threads on other processors take a moment
  const embedded = await start();
  await embedded.ready;
  expect(embedded.pid).not.toBe(pid);
}, 120_000);

test('ports that somebody else holds are left to them', async () => {
  const server = createServer();
  await new Promise<void>(done => server.listen(options.clientPort, '127.0.0.1', done));
  cleanups.push(() => new Promise(done => server.close(done)));
  const embedded = await start();
  expect(embedded.clientUrl).not.toBe(`http://127.0.0.1:${options.clientPort}`);
  await embedded.ready;
  expect(findRunningEmbedded(join(directory, 'own'))?.clientUrls).toEqual([embedded.clientUrl]);
});

test('a state file whose process number now belongs to somebody else is not believed', async () => {
  const embedded = await start();
  await embedded.ready;
  const file = join(directory, 'own', 'etcd.json');
  const state = readFileSync(file, 'utf8');
  await embedded.stop();
  writeFileSync(file, state.replace(/"pid": \d+/, `"pid": ${process.pid}`));
  expect(findRunningEmbedded(join(directory, 'own'))).toBeUndefined();
  await (
    await start()
  ).ready;
});

test('a data directory in use by another etcd is refused at once', async () => {
  const [client = 0, peer = 0] = await freePorts(2);
  // prettier-ignore
  const other = spawn('etcd', ['--data-dir', options.dataDir, '--listen-client-urls', `http://127.0.0.1:${client}`,
    '--advertise-client-urls', `http://127.0.0.1:${client}`, '--listen-peer-urls', `http://127.0.0.1:${peer}`], { stdio: 'ignore' });
  cleanups.push(() => other.kill('SIGKILL'));
  await healthy({ endpoints: [`http://127.0.0.1:${client}`] });
  await expect(start()).rejects.toThrow(`is in use by another etcd, process ${other.pid}`);
});

test('without etcd, the error says how to get it', async () => {
  await expect(start({ path: directory })).rejects.toThrow(
    'apt-get install etcd-server, or set ETCD_ENDPOINTS',
  );
});

test('it serves other hosts over TLS only, to clients that can be told apart', async () => {
  const authority = makeAuthority(directory, 'ca');
  const server = issue(directory, 'server', authority);
  const [port] = await freePorts(1);
  // An address of all interfaces stands for one beyond this host.
  const listen = `https://0.0.0.0:${port}`;
  const embedded = await start({ ...server, listen, caFile: authority.certFile });
  await embedded.ready;
  const endpoints = [`https://127.0.0.1:${port}`];
  await healthy({ endpoints, caFile: authority.certFile, ...issue(directory, 'client', authority) });
  await expect(healthy({ endpoints, caFile: authority.certFile }, 500)).rejects.toThrow(
    'the datastore is unreachable',
  );
});

test.each([
  [{ listen: 'http://10.0.0.1:2379' }, 'without TLS'],
  [{ listen: 'https://10.0.0.1:2379' }, 'without a certificate'],
  [{ listen: 'https://10.0.0.1:2379', certFile: '/c', keyFile: '/k' }, 'must not let everybody in'],
  [{ listen: 'https://10.0.0.1:2379,http://0.0.0.0:1' }, 'not of the form'],
  [{ listen: 'nonsense' }, 'not of the form'],
])('it does not open itself to the network unprotected: %j', async (more, message) => {
  const refused = start(more);
  await expect(refused).rejects.toThrow(RequestError);
  await expect(refused).rejects.toThrow(message);
});
