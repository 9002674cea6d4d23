import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { EtcdOptions } from '../../src/datastore/etcd.js';
import type { Store } from '../../src/datastore/store.js';
import { withDeadline } from '../../src/deadline.js';
import { RequestError } from '../../src/errors.js';
import { issue, makeAuthority } from './certificates.js';
import { eventually, quiet, startEtcd } from './etcd-process.js';
import type { EtcdProcess } from './etcd-process.js';
import { Recorder, put } from './store.contract.js';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function started(...parameters: Parameters<typeof startEtcd>): Promise<EtcdProcess> {
  const etcd = await startEtcd(...parameters);
  cleanups.push(() => etcd.remove());
  return etcd;
}

function storeWith(options: EtcdOptions): Store {
  const store = createEtcdStore(options, quiet);
  cleanups.push(() => store.close());
  return store;
}

const SECRET = 'correct horse battery';

function enableUsers(etcd: EtcdProcess): void {
  etcd.control('user', 'add', `root:${SECRET}`);
  etcd.control('user', 'grant-role', 'root', 'root');
  etcd.control('auth', 'enable');
}

test('an expired login is renewed, for calls and for watches', async () => {
  const etcd = await started('http', ['--auth-token-ttl', '1', '--bcrypt-cost', '4']);
  enableUsers(etcd);
  const store = storeWith({ endpoints: [etcd.endpoint], username: 'root', password: SECRET });
  const seen = new Recorder();
  await store.watch('/w/', seen).ready;
  await put(store, '/w/1', 'a');
  const lease = await store.lease(30);
  await pause(2_500); // tokens live for a second; expired ones are swept every second
  const renewed = Date.now();
  await put(store, '/w/2', 'b');
  expect(Date.now() - renewed).toBeLessThan(2_000);
  expect(await store.get('/w/2')).toMatchObject({ value: 'b' });
  await eventually(() => expect(seen.lines.join(' ')).toContain('/w/2'));
  await pause(2_500);
  expect(await lease.keepAlive()).toBe(true);
  // A restart forgets all tokens.
  await etcd.kill();
  etcd.launch();
  await put(store, '/w/3', 'c');
  await eventually(() => expect(seen.lines.join(' ')).toContain('/w/3'));
});

test('users may be enabled and disabled while we run', async () => {
  const etcd = await started('http', ['--bcrypt-cost', '4']);
  const store = storeWith({ endpoints: [etcd.endpoint], username: 'root', password: SECRET });
  await put(store, '/a', '1');
  enableUsers(etcd);
  await put(store, '/a', '2');
  etcd.control('--user', `root:${SECRET}`, 'auth', 'disable');
  await put(store, '/a', '3');
});

test('a wrong password, a missing one and a missing right are told apart, without secrets', async () => {
  const etcd = await started('http', ['--bcrypt-cost', '4']);
  etcd.control('user', 'add', 'guest:guest');
  enableUsers(etcd);
  const { endpoint } = etcd;
  const wrong = storeWith({ endpoints: [endpoint], username: 'root', password: 'hunter2' });
  await expect(wrong.get('/a')).rejects.toThrow(
    `etcd at ${endpoint} refused: etcd does not accept the user name and password`,
  );
  await expect(wrong.get('/a')).rejects.not.toThrow('hunter2');
  const none = storeWith({ endpoints: [endpoint] });
  await expect(none.get('/a')).rejects.toThrow('wants a user name and a password');
  const guest = storeWith({ endpoints: [endpoint], username: 'guest', password: 'guest' });
  await expect(guest.get('/a')).rejects.toThrow('permission denied');
});

test('certificates replaced on disk are used for the next connection', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'calico-tls-'));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const old = makeAuthority(directory, 'old');
  const { certFile, keyFile } = issue(directory, 'server', old);
  const client = issue(directory, 'client', old);
  const caFile = join(directory, 'ca.pem');
  copyFileSync(old.certFile, caFile);
  const tls = [
    '--cert-file',
    certFile,
    '--key-file',
    keyFile,
    '--trusted-ca-file',
    caFile,
    '--client-cert-auth',
  ];
  const access = { caFile, certFile: client.certFile, keyFile: client.keyFile };
  const etcd = await started('https', tls, access);
  const store = storeWith({ endpoints: [etcd.endpoint], ...access });
  const seen = new Recorder();
  await store.watch('/w/', seen).ready;
  await put(store, '/w/1', 'a');
  // A new authority for everything: nothing of the old connection is of any use.
  await etcd.kill();
  const fresh = makeAuthority(directory, 'fresh');
  issue(directory, 'server', fresh);
  issue(directory, 'client', fresh);
  copyFileSync(fresh.certFile, caFile);
  etcd.launch();
  await put(store, '/w/2', 'b');
  await eventually(() => expect(seen.lines.join(' ')).toContain('/w/2'));

  const stranger = storeWith({ endpoints: [etcd.endpoint], caFile: old.certFile });
  await expect(withDeadline(500, () => stranger.get('/a'))).rejects.toThrow(
    /does not answer \(TLS: .*certificate/,
  );
  const plain = storeWith({ endpoints: [etcd.endpoint.replace('https', 'http')] });
  await expect(withDeadline(500, () => plain.get('/a'))).rejects.toThrow('the datastore is unreachable');
  const lost = storeWith({ endpoints: [etcd.endpoint], caFile: join(directory, 'none.pem') });
  await expect(withDeadline(500, () => lost.get('/a'))).rejects.toThrow('none.pem');
});

test.each([
  [{ endpoints: [] }, 'set ETCD_ENDPOINTS'],
  [{ endpoints: ['http://a:1', 'https://b:1'] }, 'all be http or all be https'],
  [{ endpoints: ['http://root:secret@a:1'] }, 'not of the form'],
  [{ endpoints: ['a:2379'] }, 'not of the form'],
  [{ endpoints: ['https://a'], certFile: '/c' }, 'given together'],
  [{ endpoints: ['http://a'], username: 'root' }, 'given together'],
])('options that can never work are refused: %j', (options, message) => {
  const create = () => createEtcdStore(options, quiet);
  expect(create).toThrow(RequestError);
  expect(create).toThrow(message);
  expect(create).not.toThrow('secret');
});
