import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import { startEtcd } from '../bed/etcd.js';
import type { HostEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';
import { expectAgreement } from './agreement.js';
import { CALICO, container, expectCleanHost, ping, untilDefaultPools } from './calico-host.js';
import { dump, handles, keys } from './datastore.js';

/** Takes all that is sent to etcd and never answers: what a host does whose cable was pulled. */
const SILENCE =
  'table inet silence { chain in { type filter hook input priority -300; tcp dport 2379 drop; }; }';

/** The profile follows its endpoint where Docker has not told the network's name by then. */
const untilProfile = (host: Host, name: string, endpoint?: string) =>
  poll(`profile ${name}`, 10_000, async () => (await keys(host, `/profiles/${name}`, endpoint)).length === 1);

describe('an etcd that goes away and comes back', () => {
  let bed: Bed;
  let host: Host;
  let etcd: HostEtcd;

  beforeAll(async () => {
    bed = await Bed.up({ engine: '28' });
    host = bed.host(1);
    etcd = await startEtcd(host);
    await host.serve({ ETCD_ENDPOINTS: etcd.endpoint });
    await host.dockerd();
    await host.image();
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
    await container(host, 'web', 'net24');
    await container(host, 'other', 'net24');
    await untilProfile(host, 'net24', etcd.endpoint);
  });
  afterAll(() => bed?.down());

  /** Runs docker where it has to fail within ten seconds, for the datastore's sake. */
  async function failsInTime(...args: string[]): Promise<void> {
    const started = Date.now();
    const text = await host.dockerFails(...args);
    expect(text).toMatch(/(datastore|etcd).*(unreachable|cannot be reached)/i);
    expect(Date.now() - started).toBeLessThan(10_000);
  }

  it('fails in time and in words, while containers talk on', async () => {
    const before = await dump(host, etcd.endpoint);
    await etcd.process.stop('SIGKILL');
    await failsInTime('run', '-d', '--name', 'late', '--net', 'net24', 'busybox', 'sleep', '1d');
    await failsInTime('network', 'create', ...CALICO, '--subnet=198.51.100.0/24', 'late_net');
    await ping(host, 'web', 'other');
    etcd = await startEtcd(host);
    await host.docker('rm', '-f', 'late');
    expect(await dump(host, etcd.endpoint)).toEqual(before);
  });

  it('works again without a restart, and leaves nothing', async () => {
    await container(host, 'again', 'net24');
    await ping(host, 'again', 'web');
    await host.docker('rm', '-f', 'again', 'web', 'other');
    await host.docker('network', 'rm', 'net24');
    await expectCleanHost(host, /^169\.254\.1\.0\/24 /);
    // The host says to all others that it has gone, just after Docker has told it.
    await poll('end of all that was of the network', 5_000, async () => {
      const left = await keys(host, '', etcd.endpoint);
      return left.every(key => /ippools\/default-|\/profiles\/|\/(nodes|tiers)\//.test(key));
    });
  });

  it('fails in time where etcd is silent rather than dead', async () => {
    const before = await keys(host, '', etcd.endpoint);
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
    const late = ['late0', 'late1', 'late2', 'late3'];
    const create = (name: string) =>
      host.docker('network', 'create', ...CALICO, '--subnet=10.81.0.0/24', name);
    await Promise.all(late.map(create));
    // That these are to be on all hosts is just being written: it may come after the networks have gone.
    await host.run(['nft', '-f', '-'], { input: SILENCE });
    try {
      await failsInTime('run', '-d', '--name', 'hung', '--net', 'net24', 'busybox', 'sleep', '1d');
    } finally {
      await host.run(['nft', 'delete', 'table', 'inet', 'silence']);
    }
    await host.docker('network', 'rm', ...late);
    await host.docker('rm', '-f', 'hung');
    await container(host, 'again', 'net24');
    await host.docker('rm', '-f', 'again');
    const left = async () => (await keys(host, '', etcd.endpoint)).filter(key => !before.includes(key));
    await poll(
      'end of late writes',
      10_000,
      async () => !(await left()).some(key => /handle|endpoint/.test(key)),
    );
    await host.docker('network', 'rm', 'net24');
    await expectCleanHost(host);
  });

  it('keeps away what was removed while etcd was silent', async () => {
    // As late as TCP repeats what was lost.
    await sleep(13_000);
    const listed = await host.docker('network', 'ls', '--format', '{{.Name}}');
    expect(listed.split('\n').filter(name => /late|net24/.test(name))).toEqual([]);
  });

  it('gives back what was removed while etcd was down', async () => {
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'short');
    await container(host, 'gone', 'short');
    await container(host, 'stays', 'short');
    await etcd.process.stop('SIGKILL');
    await host.docker('rm', '-f', 'gone');
    etcd = await startEtcd(host);
    // The grace time is the default, a minute: what Docker said is gone does not wait for it.
    const took = await expectAgreement(host, { within: 15_000, endpoint: etcd.endpoint });
    console.log(`what was removed while etcd was down is gone ${took} ms after it is back`);
    expect(await handles(host, etcd.endpoint)).toHaveLength(1);
    expect(await keys(host, '/workloadendpoints/', etcd.endpoint)).toHaveLength(1);
    await host.docker('rm', '-f', 'stays');
    await host.docker('network', 'rm', 'short');
    expect(await handles(host, etcd.endpoint)).toEqual([]);
  });

  it('lets a network go that was removed while etcd was down', async () => {
    await host.docker(
      'network',
      'create',
      ...CALICO,
      '--subnet=192.0.2.0/24',
      '--gateway=192.0.2.1',
      'short',
    );
    await host.docker('run', '--rm', '--net', 'short', 'busybox', 'true');
    await etcd.process.stop('SIGKILL');
    const { code, stderr } = await host.run(['docker', 'network', 'rm', 'short'], { check: false });
    const listed = await host.docker('network', 'ls', '--format', '{{.Name}}');
    console.log(
      `docker network rm without etcd: status ${code} ${stderr.trim()}, listed: ${listed.includes('short')}`,
    );
    expect(listed).not.toContain('short');
    etcd = await startEtcd(host);
    const took = await expectAgreement(host, { within: 15_000, endpoint: etcd.endpoint });
    console.log(`a network removed while etcd was down is gone ${took} ms after it is back`);
    const left = async () => await keys(host, '192-0-2', etcd.endpoint);
    await poll('end of the pool and its blocks', 5_000, async () => (await left()).length === 0);
    expect(await keys(host, '/libnetwork/v1/networks/', etcd.endpoint)).toEqual([]);
    expect(await handles(host, etcd.endpoint)).toEqual([]);
  });

  it('starts without etcd, and works as soon as it comes', async () => {
    await host.stopServe();
    await etcd.process.stop('SIGKILL');
    await host.serve({ ETCD_ENDPOINTS: etcd.endpoint });
    await failsInTime('network', 'create', ...CALICO, 'early');
    etcd = await startEtcd(host);
    await poll(
      'a network',
      20_000,
      async () =>
        (await host.run(['docker', 'network', 'create', ...CALICO, 'early'], { check: false })).code === 0,
    );
    await host.docker('run', '--rm', '--net', 'early', 'busybox', 'true');
    await host.docker('network', 'rm', 'early');
  });
});

describe('an embedded etcd that is killed', () => {
  let bed: Bed;
  let host: Host;

  beforeAll(async () => {
    bed = await Bed.up({ engine: '20' });
    host = bed.host(1);
    await host.serve();
    await host.dockerd();
    await host.image();
    await untilDefaultPools(host);
  });
  afterAll(() => bed?.down());

  it('is started again, with all it knew', async () => {
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
    await container(host, 'web', 'net24');
    await untilProfile(host, 'net24');
    const before = await dump(host);
    const pid = (await host.run(['pidof', 'etcd'])).stdout.trim();
    await host.run(['kill', '-KILL', pid]);
    // Not a moment's patience: the call itself waits for it.
    await container(host, 'other', 'net24');
    await ping(host, 'other', 'web');
    await host.docker('rm', '-f', 'other');
    expect(await keys(host)).toEqual(Object.keys(before));
    await host.docker('rm', '-f', 'web');
    await host.docker('network', 'rm', 'net24');
    expect(await handles(host)).toEqual([]);
  });

  it('is taken over from a daemon that was killed', async () => {
    const pid = (await host.run(['pidof', 'etcd'])).stdout;
    await host.stopServe('SIGKILL');
    await host.serve();
    expect((await host.run(['pidof', 'etcd'])).stdout).toBe(pid);
    await host.docker('run', '--rm', '--net', 'none', 'busybox', 'true');
    await host.docker('network', 'create', ...CALICO, 'net1');
    await host.docker('run', '--rm', '--net', 'net1', 'busybox', 'true');
    await host.docker('network', 'rm', 'net1');
  });
});
