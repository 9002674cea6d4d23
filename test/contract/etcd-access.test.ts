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

/** Waits until the error of a call says so: on a busy machine the first ones may only say that there was no time. */
function says(store: Store, text: RegExp): Promise<void> {
  return eventually(() => expect(withDeadline(1_000, () => store.get('/a'))).rejects.toThrow(text), 15_000);
}

const SECRET = 'correct horse battery';

type Access = Required<Pick<EtcdOptions, 'caFile' | 'certFile' | 'keyFile'>>;

function enableUsers(etcd: EtcdProcess, { caFile, certFile, keyFile }: Partial<Access> = {}): void {
  const tls = caFile && certFile && keyFile ? ['--cacert', caFile, '--cert', certFile, '--key', keyFile] : [];
  etcd.control(...tls, 'user', 'add', `root:${SECRET}`);
  etcd.control(...tls, 'user', 'grant-role', 'root', 'root');
  etcd.control(...tls, 'auth', 'enable');
}

/** Certificates of an etcd that wants some, as flags for it and as files for its clients. */
function authority(): { tls: string[]; access: Access & { caFile: string }; directory: string } {
  const directory = mkdtempSync(join(tmpdir(), 'calico-tls-'));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const old = makeAuthority(directory, 'old');
  const server = issue(directory, 'server', old);
  const caFile = join(directory, 'ca.pem');
  copyFileSync(old.certFile, caFile);
  const files = ['--cert-file', server.certFile, '--key-file', server.keyFile, '--trusted-ca-file', caFile];
  return {
    directory,
    tls: [...files, '--client-cert-auth'],
    access: { caFile, ...issue(directory, 'client', old) },
  };
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

test('users may be enabled while we run, where etcd takes the name of our certificate for a user', async () => {
  const { tls, access } = authority();
  const etcd = await started('https', [...tls, '--bcrypt-cost', '4'], access);
  const store = storeWith({ endpoints: [etcd.endpoint], ...access, username: 'root', password: SECRET });
  const seen = new Recorder();
  await store.watch('/w/', seen).ready;
  await put(store, '/w/1', 'a');
  enableUsers(etcd, access);
  await Promise.all([put(store, '/w/2', 'b'), store.get('/w/1'), store.get('/w/2'), store.lease(5)]);
  await eventually(() => expect(seen.lines.join(' ')).toContain('/w/2'));
  const nobody = storeWith({ endpoints: [etcd.endpoint], ...access });
  await expect(nobody.get('/w/1')).rejects.toThrow('check ETCD_USERNAME and ETCD_PASSWORD');
});

test('a watch that etcd refuses says so, also where it was only away before', async () => {
  const etcd = await started('http', ['--bcrypt-cost', '4']);
  enableUsers(etcd);
  await etcd.kill();
  const store = storeWith({ endpoints: [etcd.endpoint], username: 'root', password: 'hunter2' });
  const lost: string[] = [];
  const ignore = () => undefined;
  store.watch('/w/', {
    snapshot: ignore,
    put: ignore,
    deleted: ignore,
    lost: error => lost.push(error.message),
  });
  await eventually(() => expect(lost).toHaveLength(1));
  expect(lost[0]).toContain('does not answer');
  etcd.launch();
  await eventually(() => expect(lost).toHaveLength(2));
  expect(lost[1]).toContain('check ETCD_USERNAME and ETCD_PASSWORD');
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
  const { tls, access, directory } = authority();
  const { caFile } = access;
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

  const stranger = storeWith({ endpoints: [etcd.endpoint], caFile: join(directory, 'old.pem') });
  await says(stranger, /does not answer \(TLS: the certificate of etcd is not signed .* ETCD_CA_CERT_FILE/);
  const unknown = storeWith({ endpoints: [etcd.endpoint], caFile });
  await says(unknown, /TLS: etcd wants a client certificate .*: check ETCD_CERT_FILE and ETCD_KEY_FILE/);
  const self = makeAuthority(directory, 'self');
  const foreign = storeWith({ endpoints: [etcd.endpoint], ...access, ...self });
  await says(foreign, /TLS: etcd wants a client certificate .*: check ETCD_CERT_FILE and ETCD_KEY_FILE/);
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
