import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import { startEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { addressOf, expectCleanHost, ping } from './calico-host.js';
import { everything, handles } from './datastore.js';
import { documented, shown } from './documented.js';
import { fetchFrom } from './pages.js';

/** `calico-libnetwork` as an installed package has it on PATH. */
async function installCommand(host: Host): Promise<void> {
  await host.run(['mount', '-t', 'tmpfs', 'tmpfs', '/usr/local/bin']);
  await host.run(['ln', '-s', join(REPOSITORY, 'dist/main.js'), '/usr/local/bin/calico-libnetwork']);
}

describe('the guides, command by command', () => {
  let bed: Bed;
  let host: Host;

  beforeAll(async () => {
    bed = await Bed.up({ engine: '28', hosts: 2 });
    host = bed.host(1);
    await installCommand(host);
  });
  afterAll(() => bed?.down());

  it('one host', async () => {
    const guide = documented('one-host.md');
    await host.serve();
    await host.dockerd();
    await host.image();
    expect((await guide.run('network', host)).stdout).toContain('1 packets received');
    const { stdout: routes } = await guide.run('routes', host);
    expect(routes.trimEnd().split('\n')).toEqual(shown('one-host.md', 'client-routes'));
    const { stdout: seen } = await guide.run('host-routes', host);
    expect(seen).toContain('192.0.2.10 dev cali');
    expect(seen).toMatch(/web/);
    await guide.run('port', host);
    await poll(
      'port 8080',
      10_000,
      async () => (await fetchFrom(bed.outside, `http://${host.address}:8080/`)) !== undefined,
    );
    await guide.run('other', host);
    await expect(guide.run('blocked', host)).rejects.toThrow('0 packets received');
    expect((await guide.run('look', host)).stdout).toContain(' 0 findings');
    await guide.run('clean', host);
    expect(guide.untried()).toEqual([]);
    expect(await handles(host)).toEqual([]);
    await expectCleanHost(host);
  });

  it('the tour of the README', async () => {
    const [, tour = ''] =
      /^## A quick tour\n+((?: {4}.*\n)+)/m.exec(readFileSync(join(REPOSITORY, 'README.md'), 'utf8')) ?? [];
    const commands = tour.split('\n').flatMap(line => line.trim() || []);
    expect(commands).toHaveLength(8);
    // What the doctor says of a pretend host is not this test's.
    for (const command of commands)
      await host.run(['sh', '-c', command], { check: !command.includes('doctor') });
    await poll(
      'port 8080',
      10_000,
      async () => (await fetchFrom(bed.outside, `http://${host.address}:8080/`)) !== undefined,
    );
    await host.docker('rm', '-f', 'web', 'db');
    await host.docker('network', 'rm', 'my_net');
    await host.stopServe();
  });

  it('migrating from the old plugin: its pool is used, its addresses are kept', async () => {
    const guide = documented('migrating.md');
    const { endpoint } = await startEtcd(bed.host(2));
    const before = oldPlugin();
    for (const [key, value] of Object.entries(before))
      await host.run(['etcdctl', '--endpoints', endpoint, 'put', key, JSON.stringify(value)], {
        env: { ETCDCTL_API: '3' },
      });
    // Somebody's network and container, for the commands that remove them.
    await host.docker('network', 'create', 'my_net');
    await host.docker('run', '-d', '--net', 'my_net', '--stop-signal', 'KILL', 'busybox', 'sleep', '1d');
    await guide.run('remove', host);
    const env = { ETCD_ENDPOINTS: endpoint, CALICO_LIBNETWORK_AUTO_POOLS: 'false' };
    await host.serve(env);
    const withEnv = (text: string) => `export ETCD_ENDPOINTS=${endpoint}\n${text}`;
    await guide.run('create', host, withEnv);
    // The block of the old host has .0 and .1 in use.
    expect(['192.0.2.0', '192.0.2.1']).not.toContain(await addressOf(host, 'web'));
    await host.docker(
      'run',
      '-d',
      '--net',
      'my_net',
      '--name',
      'client',
      '--stop-signal',
      'KILL',
      'busybox',
      'sleep',
      '1d',
    );
    await ping(host, 'client', 'web');
    const taken = await host.dockerFails(
      'run',
      '--rm',
      '--net',
      'my_net',
      '--ip',
      '192.0.2.1',
      'busybox',
      'true',
    );
    expect(taken).toContain('192.0.2.1');
    const { stdout } = await guide.run('check', host, withEnv);
    expect(stdout).toMatch(/\d+ findings/);
    expect(guide.untried()).toEqual([]);
    await host.docker('rm', '-f', 'web', 'client');
    await host.docker('network', 'rm', 'my_net');
    const after = await everything(host, endpoint);
    // What is not ours is as it was, to the letter.
    for (const [key, value] of Object.entries(before))
      if (!key.includes('/profiles/')) expect(after[key], key).toBe(JSON.stringify(value));
    await host.stopServe();
  });

  it('Marathon: its commands', async () => {
    const guide = documented('marathon.md');
    await host.serve();
    await guide.run('network', host);
    const { stdout } = await guide.run('remove', host);
    expect(stdout).toMatch(/agent-3/);
    expect(guide.untried()).toEqual([]);
    await host.docker('network', 'rm', 'my_net');
    await host.stopServe();
  });

  it('policy: its example', async () => {
    const guide = documented('policy.md');
    await host.serve();
    await guide.run('database', host);
    await poll('an answer, and a verdict that says why', 10_000, async () => {
      const { stdout } = await guide.run('explain', host).catch(() => ({ stdout: '' }));
      return stdout.startsWith('hello') && stdout.includes('database');
    });
    await expect(guide.run('denied', host)).rejects.toThrow('denied');
    expect(guide.untried()).toEqual([]);
    await host.docker('rm', '-f', 'web', 'db');
    await host.docker('network', 'rm', 'my_net');
  });

  it.each(['commands.md', 'networks.md', 'operating.md', 'cluster.md'])(
    '%s: each command of ours that stands alone is one',
    async page => {
      const found = [...readFileSync(join(REPOSITORY, 'docs', page), 'utf8').matchAll(/^ {4}(calico-.*)$/gm)];
      const commands = found
        .map(([, line = '']) => line.replace(/ +#.*/, '').replaceAll(/\[(.*?)\]/g, '$1'))
        .filter(command => !command.endsWith(' serve'));
      expect(commands.length).toBeGreaterThan(1);
      const pool =
        '{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: my-pool}, spec: {cidr: 10.77.0.0/16}}';
      await host.run(['sh', '-c', `echo '${pool}' | calico-libnetwork apply -f -`]);
      for (const command of commands) {
        const ended = await host.run(['sh', '-c', `cd /run; ${command}`], { check: false });
        // Refused or not found is a matter of this host; 2 is a command that is none, or is used wrongly.
        expect([0, 1], `${command}\n${ended.stdout}${ended.stderr}`).toContain(ended.code);
      }
    },
  );
});

/** What the old plugin and calicoctl of its time left in etcd: addresses without handle and owner. */
function oldPlugin(): Record<string, object> {
  const resources = '/calico/resources/v3/projectcalico.org';
  const numbers = Array.from({ length: 64 }, (_, index) => index);
  const meta = (name: string) => ({
    name,
    uid: `00000000-0000-4000-8000-00000000000${name.length}`,
    creationTimestamp: '2018-06-01T10:00:00Z',
  });
  return {
    [`${resources}/ippools/old-pool`]: {
      kind: 'IPPool',
      apiVersion: 'projectcalico.org/v3',
      metadata: { ...meta('old-pool'), annotations: { 'org.projectcalico.label.network.ID': 'f00d' } },
      spec: { cidr: '192.0.2.0/24', ipipMode: 'Never', natOutgoing: true },
    },
    [`${resources}/profiles/my_net`]: {
      kind: 'Profile',
      apiVersion: 'projectcalico.org/v3',
      metadata: meta('my_net'),
      spec: {
        ingress: [{ action: 'Allow', source: { selector: 'has(my_net)' }, destination: {} }],
        egress: [{ action: 'Allow', source: {}, destination: {} }],
      },
    },
    '/calico/ipam/v2/host/old-host/ipv4/block/192.0.2.0-26': { state: 'confirmed' },
    '/calico/ipam/v2/assignment/ipv4/block/192.0.2.0-26': {
      cidr: '192.0.2.0/26',
      affinity: 'host:old-host',
      strictAffinity: false,
      allocations: numbers.map(number => (number < 2 ? 0 : null)),
      unallocated: numbers.slice(2),
      attributes: [{ handle_id: null, secondary: null }],
    },
  };
}
