import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answers } from '../../src/setup/answers.mjs';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { CALICO, expectCleanHost, ping } from './calico-host.js';

describe('npm run quickstart', () => {
  let bed: Bed;
  let host: Host;

  beforeAll(async () => {
    bed = await Bed.up({ engine: '20' });
    host = bed.host(1);
  });
  afterAll(() => bed?.down());

  /** Without a way to the outside: everything it needs is on this machine already. */
  const quickstart = () =>
    host.run([process.execPath, 'src/setup/quickstart.mjs'], { cwd: REPOSITORY, timeout: 100_000 });
  const pids = async (name: string) => (await host.run(['pidof', name], { check: false })).stdout.trim();
  const containers = () => host.docker('ps', '--no-trunc', '--format', '{{.ID}} {{.Names}}');

  it('leaves containers that talk, dockerd and the driver', async () => {
    const { stdout, stderr } = await quickstart();
    expect(stderr).toBe('');
    expect(stdout).toMatch(/\/var\/log\/\S+log/);
    expect(stdout).toContain('docker network create');
    expect(stdout).toMatch(/kill /);
    expect(await pids('dockerd')).toMatch(/^\d+$/);
    expect(await answers(host.path('/run/docker/plugins/calico.sock'), 'POST', '/Plugin.Activate')).toBe(
      true,
    );
    const names = (await host.docker('ps', '--format', '{{.Names}}')).split('\n');
    expect(names).toHaveLength(2);
    const [one = '', two = ''] = names;
    await ping(host, one, two);
    await ping(host, two, one);
    expect(await host.docker('images', '--format', '{{.Repository}}:{{.Tag}}')).toBe('busybox:latest');
  });

  it('is harmless when run again', async () => {
    const before = [await pids('dockerd'), await pids('etcd'), await containers()];
    await quickstart();
    expect([await pids('dockerd'), await pids('etcd'), await containers()]).toEqual(before);
  });

  it('makes way for the commands of the first page', async () => {
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'my_net');
    await host.docker('run', '-d', '--net', 'my_net', '--name', 'web', 'busybox', 'sleep', '1d');
    await host.docker(
      ...['run', '-d', '--net', 'my_net', '--name', 'db', '--ip', '192.0.2.100'],
      ...['busybox', 'sleep', '1d'],
    );
    await ping(host, 'web', 'db');
    await host.docker('rm', '-f', 'web', 'db');
    await host.docker('network', 'rm', 'my_net');
  });

  it('tells how to stop and to clean up, and that works', async () => {
    const stop = 'kill $(cat /run/calico-libnetwork.pid)';
    expect((await quickstart()).stdout).toContain(stop);
    await host.docker('rm', '-f', ...(await host.docker('ps', '-q')).split('\n'));
    await host.docker('network', 'rm', 'quickstart');
    await expectCleanHost(host);
    await host.run(['sh', '-c', stop]);
    await expect
      .poll(() => answers(host.path('/run/docker/plugins/calico.sock'), 'POST', '/Plugin.Activate'), {
        timeout: 5_000,
      })
      .toBe(false);
  });
});
