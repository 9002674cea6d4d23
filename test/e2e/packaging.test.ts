import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importBase } from '../bed/base-image.js';
import { Bed } from '../bed/bed.js';
import { startEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { documented } from './documented.js';
import { CALICO, addressOf, container, expectCleanHost, ping, pingOutside, traces } from './calico-host.js';
import { ask, serveIn } from './traffic.js';

describe('the driver in a container, and as a managed plugin', () => {
  let bed: Bed;
  let host: Host;
  let other: Host;
  let endpoint: string;
  const PLUGIN = ['--driver', 'calico:latest', '--ipam-driver', 'calico:latest'] as const;

  beforeAll(async () => {
    bed = await Bed.up({ engine: '28', hosts: 2 });
    [host, other] = [bed.host(1), bed.host(2)];
    ({ endpoint } = await startEtcd(other));
    // As systemd leaves it, for containers that see what is mounted there later.
    await host.run(['mount', '--make-shared', '/run']);
    await host.dockerd();
    await host.image();
  });
  afterAll(() => bed?.down());

  const guide = documented('install.md');
  const inClone = (text: string) => `cd ${REPOSITORY}\n${text}`;
  const networks = async (on: Host) =>
    (await on.docker('network', 'ls', '--format', '{{.Name}} {{.Driver}}'))
      .split('\n')
      .filter(line => line.includes('calico'))
      .sort();

  it('an image is built out of what a clone has, without a network', async () => {
    const base = await importBase(host);
    await guide.run('image', host, inClone);
    const sizeOf = async (name: string) =>
      Number(await host.docker('image', 'inspect', '--format', '{{.Size}}', name));
    const [own, its] = [await sizeOf('calico-libnetwork'), await sizeOf(base)];
    console.log(`image: ${((own - its) / 1e6).toFixed(1)} MB above its base`);
    expect(own - its).toBeLessThan(40e6);
    const { stdout } = await host.run(
      ['docker', 'run', '--rm', '--net', 'none', '--entrypoint', 'find', 'calico-libnetwork'].concat([
        ...['/opt/calico-libnetwork', '-maxdepth', '2', '-type', 'd'],
      ]),
    );
    expect(stdout).toContain('/opt/calico-libnetwork/dist/plugin');
    expect(stdout).not.toMatch(/\/(src|test|typescript|vitest|eslint)\n/);
  });

  it('the image is the driver of the host it runs on, as documented', async () => {
    await guide.run('container', host);
    await poll('the driver', 20_000, async () =>
      (await host.docker('logs', 'calico-libnetwork')).includes('serving Docker'),
    );
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net1');
    await container(host, 'web', 'net1', '-p', '80:80');
    await container(host, 'client', 'net1');
    await ping(host, 'client', 'web');
    await pingOutside(host, 'client');
    await serveIn(host, 'web', 80);
    expect(await ask(bed.outside, 'tcp', host.address, 80)).toBe('web 10.99.0.1');

    // What only some of its mounts and capabilities make possible: an interface that is put back into its container.
    const { links } = await traces(host);
    const names = links.flatMap(link => /(cali\w+)@/.exec(link)?.[1] ?? []);
    await host.run(['ip', 'link', 'delete', names[0] ?? '']);
    // Something happens in Docker, and the reconciler looks at once instead of some time.
    await host.docker('network', 'create', 'something');
    await host.docker('network', 'rm', 'something');
    await poll('both to reach each other again', 60_000, () =>
      ping(host, 'client', 'web').then(
        () => true,
        () => false,
      ),
    ).catch(async (error: unknown) => {
      throw new Error(`${String(error)}\n${await host.docker('logs', '--tail', '12', 'calico-libnetwork')}`);
    });
    expect(await host.docker('logs', 'calico-libnetwork')).not.toMatch(/"level":"?(50|error)/);

    // Another container of the same image takes over, and has not lost the embedded etcd's data.
    const before = await addressOf(host, 'web');
    await host.docker('rm', '-f', 'calico-libnetwork');
    await ping(host, 'client', 'web');
    await guide.run('container', host);
    await host.docker('run', '--rm', '--net', 'net1', 'busybox', 'ping', '-c1', '-W3', before);
    await host.docker('rm', '-f', 'web', 'client');
    await host.docker('network', 'rm', 'net1');
    await host.docker('stop', 'calico-libnetwork');
    await host.docker('rm', 'calico-libnetwork');
    await expectCleanHost(host);
  });

  it('a managed plugin is made without a registry, and can be given every setting', async () => {
    const { stdout } = await guide.run('plugin', host, inClone);
    expect(stdout).toContain('docker plugin enable calico:latest');
    await host.docker('network', 'rm', 'my_net');
    // The guide's etcd is somebody's: ours is on the other host.
    const ours = (text: string) =>
      text.replace('http://10.0.0.1:2379', endpoint).replace('/etc/calico/certs', '/etc/ssl');
    await guide.run('plugin-settings', host, ours);
    expect(await host.docker('plugin', 'ls', '--format', '{{.Name}} {{.Enabled}}')).toBe(
      'calico:latest true',
    );
    const again = await host.run([process.execPath, 'src/setup/plugin.mjs'], {
      cwd: REPOSITORY,
      check: false,
    });
    expect(again).toMatchObject({ code: 1 });
    expect(again.stderr).toContain('docker plugin rm -f calico:latest');
  });

  it('containers use it, beside those of another host on which the driver is a process', async () => {
    await other.serve({ ETCD_ENDPOINTS: endpoint, CALICO_LIBNETWORK_GC_GRACE: '5s' });
    await other.dockerd();
    await other.image();
    await host.docker('network', 'create', ...PLUGIN, '--subnet=192.0.2.0/24', 'net1');
    await container(host, 'web', 'net1', '-p', '80:80', '--ip', '192.0.2.10');
    await container(host, 'client', 'net1');
    await ping(host, 'client', 'web');
    await pingOutside(host, 'client');
    await serveIn(host, 'web', 80);
    expect(await ask(bed.outside, 'tcp', host.address, 80)).toBe('web 10.99.0.1');

    // Each makes the networks of the other under its own driver's name.
    await poll('net1 on the other host', 10_000, async () => (await networks(other)).includes('net1 calico'));
    await other.docker('network', 'create', ...CALICO, '--subnet=198.51.100.0/24', 'net2');
    await poll('net2 on this host', 10_000, async () =>
      (await networks(host)).includes('net2 calico:latest'),
    );
    await container(other, 'there', 'net1');
    await poll('routes', 10_000, () =>
      ping(host, 'client', '192.0.2.10').then(
        () => true,
        () => false,
      ),
    );
    await ping(host, 'client', await addressOf(other, 'there'));
    await ping(other, 'there', '192.0.2.10');
  });

  it('comes back with dockerd, and nothing is lost or left', async () => {
    await host.killDockerd();
    await host.dockerd();
    await host.docker('start', 'web', 'client');
    await ping(host, 'client', 'web');
    await host.docker('rm', '-f', 'web', 'client');
    await other.docker('rm', '-f', 'there');
    await host.docker('network', 'rm', 'net1', 'net2');
    await poll(
      'no network anywhere',
      20_000,
      async () => [...(await networks(host)), ...(await networks(other))].length === 0,
    );
    await expectCleanHost(host, /^169\.254\.1\.0\/24 dev lo |^blackhole |via 10\.99\./);
    await host.docker('plugin', 'disable', 'calico:latest');
    await host.docker('plugin', 'rm', 'calico:latest');
  });
});
