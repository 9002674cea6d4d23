import { join } from 'node:path';
import { expect, it } from 'vitest';
import { findCommand } from '../../src/setup/command.mjs';
import { parseEndpoint } from '../../src/model/workload-endpoint.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { CALICO, expectCleanHost, ping, untilDefaultPools } from './calico-host.js';
import { dump, handles } from './datastore.js';
import { addressIn, onEachEngine } from './matrix.js';
import { fetchFrom, pageOf, wgetIn } from './pages.js';

/** What stays on a host without containers: the gateways, and the blackholes of the default pool's blocks. */
const REST = /^169\.254\.1\.\S+ dev lo |^blackhole 192\.168\./;
/** What of a network stays in etcd: its profile, which a user may have edited. */
const STAYS = /\/profiles\//;

onEachEngine('docker-compose', { isOuter: true }, matrix => {
  /** Runs Compose with an example, as project `shop`, in the host's own world. */
  const compose = async (file: string, ...args: string[]) => {
    if (findCommand('docker-compose') === undefined)
      throw new Error('docker-compose is not on this machine: apt-get install docker-compose');
    const path = join(REPOSITORY, 'plugin-spec/examples', file);
    const argv = ['docker-compose', '--no-ansi', '-f', path, '-p', 'shop', ...args];
    const { stdout } = await matrix.host.run(argv, { timeout: 60_000 });
    return stdout.trimEnd();
  };
  /** Names of a service's containers: Compose 1 joins with underscores, 2 with dashes. */
  const containersOf = async (file: string, service: string) => {
    const ids = (await compose(file, 'ps', '-q', service)).split('\n').filter(id => id !== '');
    return Promise.all(
      ids.map(async id => (await matrix.host.docker('inspect', '--format', '{{.Name}}', id)).slice(1)),
    );
  };
  const page = (url: string) => pageOf(url, each => fetchFrom(matrix.bed.outside, each));

  it('up, names, a fixed address, a published port, scale, down', async () => {
    const { host } = matrix;
    await untilDefaultPools(host);
    const before = await dump(host);
    await compose('docker-compose.yml', 'up', '-d');
    const [web = ''] = await containersOf('docker-compose.yml', 'web');
    const [worker = ''] = await containersOf('docker-compose.yml', 'worker');
    expect(await addressIn(host, web, 'shop_shop')).toBe('192.0.2.10');
    expect(await host.docker('exec', worker, 'ping', '-c1', '-W3', 'web')).toContain('192.0.2.10');
    await ping(host, web, 'worker');
    expect(await page(`http://${host.address}:8080/`)).toBe('shop');
    expect(await pageOf('http://web/', url => wgetIn(host, worker, url))).toBe('shop');

    await compose('docker-compose.yml', 'up', '-d', '--scale', 'worker=5');
    const workers = await containersOf('docker-compose.yml', 'worker');
    const addresses = await Promise.all(workers.map(name => addressIn(host, name, 'shop_shop')));
    expect(new Set(addresses).size).toBe(5);
    for (const name of workers) await ping(host, name, 'web');
    // Docker's DNS answers with all containers of a service.
    const answer = await host.docker('exec', web, 'nslookup', 'worker', '127.0.0.11');
    for (const address of addresses) expect(answer).toContain(address);
    await poll('labels of all endpoints', 3_000, async () => {
      const entries = Object.entries(await dump(host)).filter(([key]) => key.includes('/workloadendpoints/'));
      const roles = entries.map(([, text]) => parseEndpoint(text ?? '')?.labels['role']).sort();
      return roles.join() === 'web,worker,worker,worker,worker,worker';
    });

    await compose('docker-compose.yml', 'up', '-d', '--scale', 'worker=2');
    expect(await handles(host)).toHaveLength(3);
    await compose('docker-compose.yml', 'restart', '-t', '1', 'web');
    expect(await addressIn(host, web, 'shop_shop')).toBe('192.0.2.10');
    expect(await page(`http://${host.address}:8080/`)).toBe('shop');

    await compose('docker-compose.yml', 'down', '-t', '1');
    await expectCleanHost(host, REST);
    const after = await dump(host);
    expect(Object.keys(after).filter(key => before[key] === undefined && !STAYS.test(key))).toEqual([]);
    expect(Object.keys(before).filter(key => after[key] !== before[key])).toEqual([]);
    expect(await host.docker('network', 'ls', '-q', '--filter', 'driver=calico')).toBe('');
  });

  it('uses a network that is there, and leaves it', async () => {
    const { host } = matrix;
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'my_net');
    await compose('docker-compose.external.yml', 'up', '-d');
    const [web = ''] = await containersOf('docker-compose.external.yml', 'web');
    const [worker = ''] = await containersOf('docker-compose.external.yml', 'worker');
    expect(await addressIn(host, web, 'my_net')).toBe('192.0.2.10');
    await ping(host, worker, 'web');
    await compose('docker-compose.external.yml', 'down', '-t', '1');
    expect(await host.docker('network', 'ls', '-q', '--filter', 'name=my_net')).not.toBe('');
    await host.docker('network', 'rm', 'my_net');
    expect(await handles(host)).toEqual([]);
    await expectCleanHost(host, REST);
  });
});
