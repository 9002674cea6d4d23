import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../src/model/json.js';
import { objectOrEmpty, parseJson } from '../../src/model/json.js';
import type { WorkloadEndpoint } from '../../src/model/workload-endpoint.js';
import { parseEndpoint } from '../../src/model/workload-endpoint.js';
import { Bed } from '../bed/bed.js';
import { OUTER_ENGINES } from '../bed/engines.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { CALICO, addressOf, container, expectCleanHost, post } from './calico-host.js';
import { dump, handles } from './datastore.js';
import { fetchFrom, pageOf, wgetIn } from './pages.js';
import { dockerCommand } from './marathon.js';
import { nomadContainer, readHcl } from './nomad.js';

/** What stays on a host without containers: the gateways, and the blackholes of the default pool's blocks. */
const REST = /^169\.254\.1\.\S+ dev lo |^blackhole 192\.168\./;

const example = (name: string) => readFileSync(join(REPOSITORY, 'plugin-spec/examples', name), 'utf8');

const app = (name: string): JsonObject => objectOrEmpty(parseJson(example(name)));

describe('the examples in other words', () => {
  const launch = { agent: 'h1', containerId: 'c-1', sandbox: '/run/task', offeredPorts: [31500] };

  it('Marathon 2.6 style: network USER, a fixed host port, and a port without one', () => {
    const argv = dockerCommand(app('marathon-2.6.json'), launch);
    const [options = '', command = ''] = argv.join(' ').split(' busybox ');
    expect(options).toMatch(
      /^docker -H unix:\/\/\/var\/run\/docker\.sock run --cpu-shares 102 --memory 67108864 -e /,
    );
    expect(options).toContain(
      '-v /run/task:/mnt/mesos/sandbox --net my_net -p 31080:80/tcp --entrypoint /bin/sh --name mesos-c-1 ' +
        '--ip=192.0.2.50 --label=org.projectcalico.label.role=web',
    );
    for (const variable of [
      'PORT0=31080',
      'PORT1=9000',
      'PORT_ADMIN=9000',
      'MARATHON_APP_LABEL_OWNER=shop',
      'SHOP=north',
    ])
      expect(argv).toContain(variable);
    expect(command).toMatch(/^-c mkdir/);
  });

  it('Marathon 1.5 style: networks, a host port of the offer, and a port without one', () => {
    const options = dockerCommand(app('marathon-1.5.json'), launch).join(' ');
    expect(options).toContain('--net my_net -p 31500:80/tcp --entrypoint /bin/sh --name mesos-c-1 --label=');
    expect(options).not.toContain('9000/tcp');
  });

  it('Nomad: network_mode, ipv4_address, and each port as TCP and UDP on the address of the node', () => {
    const { name, body } = nomadContainer(readHcl(example('shop.nomad')), '10.99.0.11', 'a1');
    expect(name).toBe('web-a1');
    const binding = [{ HostIp: '10.99.0.11', HostPort: '21080' }];
    expect(body).toMatchObject({
      Image: 'busybox',
      Labels: { 'org.projectcalico.label.role': 'web' },
      HostConfig: { NetworkMode: 'my_net', PortBindings: { '80/tcp': binding, '80/udp': binding } },
      NetworkingConfig: { EndpointsConfig: { my_net: { IPAMConfig: { IPv4Address: '192.0.2.60' } } } },
    });
  });
});

describe.each(OUTER_ENGINES)('the examples on Docker %s', engine => {
  let bed: Bed;
  let host: Host;

  beforeAll(async () => {
    bed = await Bed.up({ engine });
    host = bed.host(1);
    await host.serve();
    await host.dockerd();
    await host.image();
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'my_net');
    await container(host, 'client', 'my_net', '--ip', '192.0.2.200');
  });
  afterAll(() => bed?.down());

  /** The endpoint with this address, once it is labelled. */
  const endpoint = (address: string): Promise<WorkloadEndpoint> =>
    poll(`labelled endpoint ${address}`, 3_000, async () => {
      const values = Object.entries(await dump(host)).filter(([key]) => key.includes('/workloadendpoints/'));
      const found = values.map(([, text]) => parseEndpoint(text ?? ''));
      return found.find(one => one?.addresses.includes(address) === true && one.labels['role'] !== undefined);
    });
  /** The page at an address, asked for from the outside world, or from the container `client`. */
  const page = (from: 'outside' | 'client', target: string) =>
    pageOf(
      `http://${target}/`,
      from === 'outside' ? url => fetchFrom(bed.outside, url) : url => wgetIn(host, 'client', url),
    );
  /** Whether a port of the host leads to a web server. */
  const isOpen = async (port: number) =>
    (await fetchFrom(bed.outside, `http://${host.address}:${port}/`)) !== undefined;
  /** Runs an app as the agent does, in the foreground; answers with the container's name. */
  const launch = async (name: string) => {
    const containerId = randomUUID();
    const sandbox = `/run/mesos-${containerId}`;
    const argv = dockerCommand(app(name), { agent: 'h1', containerId, sandbox, offeredPorts: [31500] });
    const client = await host.spawn(argv, { log: `mesos-${containerId}` });
    const container = `mesos-${containerId}`;
    await poll(`${container} to run`, 20_000, async () => {
      if (client.ended) throw new Error(`docker run ended:\n${client.tail()}`);
      const { stdout } = await host.run(['docker', 'inspect', '--format', '{{.State.Running}}', container], {
        check: false,
      });
      return stdout.trim() === 'true';
    });
    return container;
  };
  /** Ends a task as an agent does, and sees to it that nothing of it is left. */
  const end = async (name: string, address: string, port: number) => {
    await host.docker('stop', '-t', '0', name);
    await host.docker('rm', '-f', '-v', name);
    expect(await isOpen(port)).toBe(false);
    expect(Object.values(await dump(host)).filter(text => text?.includes(`${address}/32`))).toEqual([]);
    expect(await handles(host)).toHaveLength(1);
  };

  it('runs a Marathon app of 2.6 style', async () => {
    const name = await launch('marathon-2.6.json');
    expect(await addressOf(host, name)).toBe('192.0.2.50');
    const { labels } = await endpoint('192.0.2.50');
    expect(labels).toMatchObject({ role: 'web' });
    expect(await page('outside', `${host.address}:31080`)).toBe('shop');
    expect(await page('client', `${host.address}:31080`)).toBe('shop');
    expect(await page('client', '192.0.2.50:9000')).toBe('shop');
    expect(await isOpen(9000)).toBe(false);
    await end(name, '192.0.2.50', 31080);
  });

  it('runs a Marathon app of 1.5 style', async () => {
    const name = await launch('marathon-1.5.json');
    const address = await addressOf(host, name);
    expect(address).toMatch(/^192\.0\.2\./);
    expect((await endpoint(address)).labels).toMatchObject({ role: 'api' });
    expect(await page('outside', `${host.address}:31500`)).toBe('api');
    expect(await page('client', `${address}:9000`)).toBe('api');
    expect(await isOpen(9000)).toBe(false);
    await end(name, address, 31500);
  });

  it('runs a Nomad job', async () => {
    const { name, body } = nomadContainer(readHcl(example('shop.nomad')), host.address, randomUUID());
    const created = await post(host, `/containers/create?name=${name}`, body);
    expect(created, created.text).toMatchObject({ status: 201 });
    await host.docker('start', name);
    expect(await addressOf(host, name)).toBe('192.0.2.60');
    const { labels, ports } = await endpoint('192.0.2.60');
    expect(labels).toMatchObject({ role: 'web' });
    expect(
      ports.map(({ protocol, hostPort, hostAddress }) => [protocol, hostPort, hostAddress]).sort(),
    ).toEqual([
      ['tcp', 21080, host.address],
      ['udp', 21080, host.address],
    ]);
    expect(await page('outside', `${host.address}:21080`)).toBe('shop');
    await end(name, '192.0.2.60', 21080);
  });

  it('runs what their users would type: --ip, --label, -P', async () => {
    await host.docker(
      ...[
        'run',
        '-d',
        '--net',
        'my_net',
        '--name',
        'typed',
        '--ip',
        '192.0.2.70',
        '--init',
        '--expose',
        '80',
        '-P',
      ],
      ...['--label', 'org.projectcalico.label.role=web', 'busybox'],
      ...['sh', '-c', 'mkdir -p /www && echo typed >/www/index.html && exec httpd -f -p 80 -h /www'],
    );
    const { ports } = await endpoint('192.0.2.70');
    expect(ports).toHaveLength(1);
    const port = ports[0]?.hostPort ?? 0;
    expect(port).toBeGreaterThan(1023);
    expect(await page('outside', `${host.address}:${port}`)).toBe('typed');
    await end('typed', '192.0.2.70', port);
  });

  it('leaves nothing behind', async () => {
    await host.docker('rm', '-f', 'client');
    await host.docker('network', 'rm', 'my_net');
    expect(await handles(host)).toEqual([]);
    await expectCleanHost(host, REST);
  });
});
