import { afterEach, beforeEach, expect, it } from 'vitest';
import { isObject, objectOrEmpty, parseJson } from '../../src/model/json.js';
import { CALICO, container } from './calico-host.js';
import { dump } from './datastore.js';
import { addressIn, onEachEngine, sweep } from './matrix.js';
import { goneAt, wrongAt } from './ports.js';
import { ask, inside, linesIn, serveIn } from './traffic.js';

onEachEngine('published ports', { dockerd: ['--live-restore'], isOuter: true }, matrix => {
  beforeEach(async () => {
    const six = ['--ipv6', '--subnet=fd80:1::/64'];
    await matrix.host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', ...six, 'net24');
  });
  afterEach(() => sweep(matrix.host));

  const run = (name: string, ...args: string[]) => container(matrix.host, name, 'net24', ...args);
  const runFails = (name: string, ...args: string[]) =>
    matrix.host.dockerFails('run', '-d', '--name', name, '--net', 'net24', ...args, 'busybox', 'sleep', '1d');

  const wrong = (port: number, expected: string, options = {}) => wrongAt(matrix, port, expected, options);
  const expectGone = (port: number) => goneAt(matrix, port);

  it('tcp, udp and ranges: open from everywhere, and gone after rm', async () => {
    const { host } = matrix;
    await run('web', '-p', '8080:80', '-p', '5353:53/udp', '-p', '9000-9002:90-92');
    await run('peer');
    await serveIn(host, 'web', 80, 53, 90, 91, 92);
    const containers = ['peer', 'web'];
    expect(await wrong(8080, 'web', { containers })).toEqual([]);
    expect(await wrong(5353, 'web', { containers, protocol: 'udp' })).toEqual([]);
    expect(await wrong(5353, 'nobody')).toEqual([]);
    for (const port of [9000, 9001, 9002]) expect(await wrong(port, 'web')).toEqual([]);
    expect(await wrong(9003, 'nobody')).toEqual([]);
    // Who asks is seen, but for what the host has to translate.
    expect(await ask(matrix.bed.outside, 'tcp', host.address, 8080)).toBe('web 10.99.0.1');
    expect(await ask(host, 'tcp', host.address, 8080, await inside(host, 'peer'))).toBe(
      `web ${await addressIn(host, 'peer', 'net24')}`,
    );
    await host.docker('rm', '-f', 'web');
    for (const port of [8080, 5353, 9001]) await expectGone(port);
  });

  it('a host address', async () => {
    const { host, bed } = matrix;
    await run('web', '-p', '127.0.0.1:8081:80', '-p', `${host.address}:8082:80`, '-p', '[::1]:8083:80');
    await run('six', '-p', `[${host.address6}]:8082:80`, '-p', '127.0.0.2:8081:80');
    await serveIn(host, 'web', 80);
    await serveIn(host, 'six', 80);
    const who = async (address: string, port: number, machine: Parameters<typeof ask>[0] = host) =>
      (await ask(machine, 'tcp', address, port)).split(' ')[0];
    expect(await who('127.0.0.1', 8081)).toBe('web');
    expect(await who('127.0.0.2', 8081)).toBe('six');
    expect(await who(host.address, 8081)).toBe('nobody');
    expect(await who(host.address, 8081, bed.outside)).toBe('nobody');
    expect(await who(host.address, 8082, bed.outside)).toBe('web');
    expect(await who(host.address6, 8082, bed.outside)).toBe('six');
    expect(await who('127.0.0.1', 8082)).toBe('nobody');
    expect(await who('::1', 8083)).toBe('web');
    expect(await who(host.address6, 8083, bed.outside)).toBe('nobody');
    await host.docker('rm', '-f', 'web', 'six');
    for (const port of [8081, 8082, 8083]) await expectGone(port);
  });

  it('-P, and a range of which one is enough', async () => {
    const { host } = matrix;
    await run('web', '-P', '--expose', '80', '--expose', '53/udp');
    await run('one', '-p', '9100-9101:80');
    await run('two', '-p', '9100-9101:80');
    await serveIn(host, 'web', 80, 53);
    await serveIn(host, 'one', 80);
    await serveIn(host, 'two', 80);
    expect(await runFails('three', '-p', '9100-9101:80')).toMatch(/9100-9101/);
    await host.docker('rm', 'three');
    expect(await wrong(9100, 'one')).toEqual([]);
    expect(await wrong(9101, 'two')).toEqual([]);
    const address = await addressIn(host, 'web', 'net24');
    const endpoint = Object.entries(await dump(host)).find(
      ([key, value]) => key.includes('/workloadendpoints/') && value?.includes(`"${address}/32"`),
    );
    const ports = objectOrEmpty(objectOrEmpty(parseJson(endpoint?.[1] ?? ''))['spec'])['ports'];
    const found = (Array.isArray(ports) ? (ports as unknown[]) : []).filter(isObject);
    // One number for both families.
    const numbers = (protocol: string) => [
      ...new Set(found.filter(port => port['protocol'] === protocol).map(port => Number(port['hostPort']))),
    ];
    expect(numbers('TCP')).toHaveLength(1);
    expect(await wrong(numbers('TCP')[0] ?? 0, 'web')).toEqual([]);
    expect(await wrong(numbers('UDP')[0] ?? 0, 'web', { protocol: 'udp' })).toEqual([]);
    await host.docker('rm', '-f', 'web');
    await expectGone(numbers('TCP')[0] ?? 0);
  });

  it('gone after docker kill, open after docker start', async () => {
    const { host } = matrix;
    await run('web', '-p', '8080:80');
    await host.docker('kill', 'web');
    await expectGone(8080);
    await host.docker('start', 'web');
    await serveIn(host, 'web', 80);
    expect(await wrong(8080, 'web')).toEqual([]);
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'open over a live restore after %s, and gone after rm',
    async signal => {
      const { host } = matrix;
      await run('web', '-p', '8080:80');
      await serveIn(host, 'web', 80);
      await host.killDockerd(signal);
      expect(await wrong(8080, 'web')).toEqual([]);
      await host.dockerd('--live-restore');
      expect(await wrong(8080, 'web', { containers: ['web'] })).toEqual([]);
      expect(await runFails('second', '-p', '8080:80')).toContain('8080');
      await host.docker('rm', '-f', 'web');
      await expectGone(8080);
    },
  );

  it.each(['aaa', 'zzz'])('of a container on calico and the bridge %s', async bridge => {
    const { host, bed } = matrix;
    await host.docker('network', 'create', bridge);
    await run('web', '-p', '8080:80');
    const open = async () => {
      await serveIn(host, 'web', 80);
      return (await ask(bed.outside, 'tcp', host.address, 8080)).split(' ')[0];
    };
    const first = await open();
    await host.docker('network', 'connect', bridge, 'web');
    const routes = await linesIn(host, 'web', 'ip', 'route', 'show', 'default');
    expect(routes).toHaveLength(1);
    expect([first, (await ask(bed.outside, 'tcp', host.address, 8080)).split(' ')[0]]).toEqual([
      'web',
      'web',
    ]);
    await host.docker('restart', '-t', '0', 'web');
    expect(await open()).toBe('web');
    await host.docker('network', 'disconnect', bridge, 'web');
    expect((await ask(bed.outside, 'tcp', host.address, 8080)).split(' ')[0]).toBe('web');
    await host.docker('rm', '-f', 'web');
    await expectGone(8080);
  });
});
