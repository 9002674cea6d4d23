import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import { aliveKey } from '../../src/datastore/keys.js';
import type { Store } from '../../src/datastore/store.js';
import { parsePresence } from '../../src/model/presence.js';
import { REPOSITORY } from '../bed/paths.js';
import { eventually, quiet, startEtcd } from '../contract/etcd-process.js';
import type { EtcdProcess } from '../contract/etcd-process.js';
import { dockerId, requestPool } from './requests.js';

/** Daemons as processes, beside a Felix that is not there: they touch nothing of the machine. */
class Host {
  readonly folder = mkdtempSync(join(tmpdir(), 'calico-presence-'));
  private child: ChildProcess | undefined;
  output = '';

  constructor(private readonly etcd: EtcdProcess) {}

  get stateDir(): string {
    return join(this.folder, 'state');
  }

  private get socket(): string {
    return join(this.folder, 'calico.sock');
  }

  async start(): Promise<this> {
    const child = spawn(process.execPath, [join(REPOSITORY, 'dist/main.js'), 'serve'], {
      env: {
        PATH: process.env.PATH ?? '',
        ETCD_ENDPOINTS: this.etcd.endpoint,
        NODENAME: 'node-1',
        DOCKER_HOST: 'unix:///nonexistent',
        CALICO_LIBNETWORK_DATAPLANE: 'felix',
        CALICO_LIBNETWORK_SOCKET_DIR: this.folder,
        CALICO_LIBNETWORK_STATE_DIR: this.stateDir,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', text => (this.output += String(text)));
    await eventually(() => expect(this.output.split('serving Docker').length).toBeGreaterThan(1));
    return this;
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise(done => child.once('exit', done));
    child.kill(signal);
    await gone;
    this.output = '';
  }

  async remove(): Promise<void> {
    await this.end('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The status and the body of an answer. */
  call(method: string, body: object = {}): Promise<[number, string]> {
    return new Promise((resolve, reject) => {
      const call = request({ socketPath: this.socket, path: `/${method}`, method: 'POST' }, response => {
        let text = '';
        response.on('data', part => (text += String(part)));
        response.on('end', () => resolve([response.statusCode ?? 0, text]));
      });
      call.on('error', reject).end(JSON.stringify(body));
    });
  }
}

let etcd: EtcdProcess;
let store: Store;
const hosts: Host[] = [];
beforeEach(async () => {
  etcd = await startEtcd();
  store = createEtcdStore({ endpoints: [etcd.endpoint] }, quiet);
});
afterEach(async () => {
  await Promise.all(hosts.splice(0).map(host => host.remove()));
  await store.close();
  await etcd.remove();
});

function host(): Host {
  const one = new Host(etcd);
  hosts.push(one);
  return one;
}

const holder = async () => parsePresence((await store.get(aliveKey('node-1')))?.value ?? '');
const dump = async () => new Map((await store.list('')).entries.map(({ key, value }) => [key, value]));

describe('the name of a host', () => {
  it('is taken at the start, given back at the end, and kept by who comes back from SIGKILL, at once', async () => {
    const one = await host().start();
    await eventually(async () => expect(await holder()).toBeDefined());
    const first = await holder();
    expect(readFileSync(join(one.stateDir, 'host-id'), 'utf8').trim()).toBe(first?.id);
    expect(statSync(join(one.stateDir, 'host-id')).mode & 0o777).toBe(0o600);
    await one.end('SIGKILL');
    expect(await holder()).toEqual(first);
    await one.start();
    const started = Date.now();
    const [status, text] = await one.call('IpamDriver.RequestPool', requestPool('203.0.113.0/24'));
    expect([status, text]).toEqual([200, expect.any(String)]);
    await eventually(async () => expect((await holder())?.since).not.toBe(first?.since));
    expect(Date.now() - started).toBeLessThan(3_000);
    expect((await holder())?.id).toBe(first?.id);
    await one.end('SIGTERM');
    expect(await holder()).toBeUndefined();
  });

  it('of a live host is refused to a second one, call by call, until the first is gone', async () => {
    const one = await host().start();
    const [status, text] = await one.call('IpamDriver.RequestPool', requestPool('203.0.113.0/24'));
    expect([status, text]).toEqual([200, expect.any(String)]);
    await eventually(async () => expect([...(await dump()).keys()].join()).toContain('default-ipv4-ippool'));
    const before = await dump();
    const two = await host().start();
    const calls: [string, object][] = [
      ['IpamDriver.RequestPool', requestPool('198.51.100.0/24')],
      ['IpamDriver.RequestAddress', { PoolID: 'calico:v1:203.0.113.0/24', Address: '203.0.113.9' }],
      ['NetworkDriver.DeleteNetwork', { NetworkID: dockerId('a1') }],
      ['NetworkDriver.Join', { NetworkID: dockerId('a1'), EndpointID: dockerId('e1') }],
    ];
    for (const [method, body] of calls) {
      const [code, text] = await two.call(method, body);
      expect([method, code]).toEqual([method, 409]);
      expect(text).toMatch(
        /another live host calls itself node-1 \(since 20[^)]*Z\): give this host another name/,
      );
    }
    for (const method of [
      'Plugin.Activate',
      'NetworkDriver.GetCapabilities',
      'IpamDriver.GetDefaultAddressSpaces',
    ])
      expect((await two.call(method))[0]).toBe(200);
    expect(two.output).toContain('another live host has the name of this one');
    await new Promise(done => setTimeout(done, 1_000));
    expect(await dump()).toEqual(before);
    expect((await one.call('IpamDriver.RequestPool', requestPool('203.0.113.0/24')))[0]).toBe(200);
    // The first one goes: the second is served within moments, without a restart.
    await one.end('SIGTERM');
    await eventually(async () =>
      expect((await two.call('IpamDriver.RequestPool', requestPool('198.51.100.0/24')))[0]).toBe(200),
    );
    expect(existsSync(join(two.stateDir, 'host-id'))).toBe(true);
    expect((await holder())?.id).toBe(readFileSync(join(two.stateDir, 'host-id'), 'utf8').trim());
  });

  it('is taken again after etcd was restored from before the daemon was there', async () => {
    const file = etcd.snapshot();
    const one = await host().start();
    await eventually(async () => expect(await holder()).toBeDefined());
    await etcd.restore(file);
    etcd.launch();
    await eventually(async () => expect(await holder()).toBeDefined(), 20_000);
    expect((await holder())?.id).toBe(readFileSync(join(one.stateDir, 'host-id'), 'utf8').trim());
    expect(one.output).toContain('etcd has gone back to an earlier state');
  });
});
