import { afterEach, beforeEach, expect, it } from 'vitest';
import { poll } from '../bed/poll.js';
import { CALICO, container } from './calico-host.js';
import { keys } from './datastore.js';
import { onEachEngine, sweep } from './matrix.js';
import { goneAt, listener, wrongAt } from './ports.js';
import { serveIn } from './traffic.js';

onEachEngine('who has a published port', { isOuter: true }, matrix => {
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

  it('two containers, or a container and a program, do not get one port', async () => {
    const { host } = matrix;
    await run('web', '-p', '8080:80', '-p', '5353:53/udp');
    await serveIn(host, 'web', 80, 53);
    const before = await keys(host);
    for (const args of [
      ['-p', '8080:80'],
      ['-p', '5353:53/udp'],
      ['-p', '127.0.0.1:8080:80'],
      ['-p', '8088:80', '-p', '8080:81'],
    ]) {
      const text = await runFails('second', ...args);
      expect(text).toMatch(/(8080\/tcp|5353\/udp).*in use/);
      await host.docker('rm', 'second');
      expect(await keys(host)).toEqual(before);
    }
    await expectGone(8088);
    expect(await wrong(8080, 'web')).toEqual([]);
    // The other protocol is another port.
    await run('fits', '-p', '8080:80/udp');
    // A program of the host first, then a container; and a container first.
    const program = await host.spawn(listener(8090), { log: 'program' });
    await poll('program', 5_000, () => program.output().includes('listening'));
    expect(await runFails('second', '-p', '8090:80')).toMatch(/8090\/tcp.*in use/);
    await host.docker('rm', 'second');
    await program.stop('SIGKILL');
    await run('second', '-p', '8090:80');
    const late = await host.spawn(listener(8090), { log: 'late' });
    await poll('late', 5_000, () => late.ended);
    expect(late.output()).toContain('EADDRINUSE');
    // Docker's own, on a bridge, in both orders.
    expect(
      await host.dockerFails('run', '-d', '--name', 'bridged', '-p', '8080:80', 'busybox', 'true'),
    ).toMatch(/8080/);
    await host.docker('rm', '-f', 'bridged');
    await container(host, 'bridged', 'bridge', '-p', '8091:80');
    expect(await runFails('third', '-p', '8091:80')).toMatch(/8091\/tcp.*in use/);
    await host.docker('rm', '-f', 'third', 'bridged');
    await run('third', '-p', '8091:80');
    await host.docker('rm', '-f', 'web', 'fits', 'second', 'third');
    expect(await keys(host, '/workloadendpoints/')).toEqual([]);
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)('kept and exclusive over a %s of the daemon', async signal => {
    const { host } = matrix;
    await run('web', '-p', '8080:80', '-p', '5353:53/udp');
    await serveIn(host, 'web', 80, 53);
    await host.stopServe(signal);
    // The way by ::1 is through the daemon itself.
    expect((await wrong(8080, 'web')).filter(place => !place.includes(' ::1 '))).toEqual([]);
    await host.serve();
    await poll(
      'the port again',
      5_000,
      async () => (await wrong(8080, 'web', { containers: ['web'] })).length === 0,
    );
    expect(await wrong(5353, 'web', { protocol: 'udp' })).toEqual([]);
    expect(await runFails('second', '-p', '8080:80')).toMatch(/8080\/tcp.*in use/);
    const late = await host.spawn(listener(8080), { log: `late-${signal}` });
    await poll('late', 5_000, () => /listening|failed/.test(late.output()));
    expect(late.output()).toContain('EADDRINUSE');
    await host.docker('rm', '-f', 'web', 'second');
    await expectGone(8080);
  });
});
