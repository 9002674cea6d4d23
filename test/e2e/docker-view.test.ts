import { afterEach, expect, it } from 'vitest';
import { DockerEngine } from '../../src/docker/engine.js';
import { viewDocker } from '../../src/docker/view.js';
import { poll } from '../bed/poll.js';
import { timed } from './churn.js';
import { onEachEngine, sweep } from './matrix.js';
import { CALLS, slowDriver } from './slow-driver.js';

/** Milliseconds that the driver takes for its call. */
const HANG = 4_000;
/** Milliseconds within which Docker answers meanwhile: by far less than it would wait. */
const AT_ONCE = 1_500;

onEachEngine('Docker is looked at', {}, matrix => {
  afterEach(() => sweep(matrix.host));

  it.each(CALLS)('while a driver takes its time for %s', async call => {
    const { host, engine } = matrix;
    const driver = await slowDriver(host, call, HANG);
    const network = `slow-${call.toLowerCase()}`;
    await host.docker('network', 'create', '--driver', network, '--subnet=203.0.113.0/24', 'slow');
    const api = new DockerEngine(`unix://${host.path('/run/docker.sock')}`);
    const run = ['docker', 'run', '-d', '--name', 'web', '--net', 'slow', '-p', '8090:80'];
    const command = (async () => {
      await host.run([...run, '--stop-signal', 'KILL', 'busybox', 'sleep', '1d']);
      await host.run(['docker', 'rm', '-f', 'web']);
    })();
    command.catch(() => undefined);
    const times: { look: number; inspect: number; hasIt: boolean }[] = [];
    try {
      const isCalled = poll(`call of ${call}`, 30_000, () => driver.output().includes('waiting'));
      await Promise.race([isCalled, command.then(() => isCalled)]);
      const until = Date.now() + HANG - AT_ONCE;
      while (Date.now() < until) {
        let hasIt = false;
        const look = await timed(async () => {
          hasIt = (await viewDocker(api, () => true)).endpoints.some(({ addresses }) =>
            addresses.includes('203.0.113.2'),
          );
        });
        const inspect = await timed(() => host.docker('network', 'inspect', 'slow'));
        times.push({ look, inspect, hasIt });
      }
      await command;
      await host.docker('network', 'rm', 'slow');
    } finally {
      await driver.stop('SIGKILL');
    }
    const longest = (which: 'look' | 'inspect') => Math.max(...times.map(each => each[which]));
    const having = times.filter(({ hasIt }) => hasIt).length;
    console.log(
      `Docker ${engine}, ${call} hanging: ${times.length} looks, longest ${longest('look')} ms, docker network inspect ` +
        `${longest('inspect')} ms; the endpoint was in ${having} of them`,
    );
    expect(times.length).toBeGreaterThan(3);
    expect(longest('look')).toBeLessThan(AT_ONCE);
    expect(longest('inspect')).toBeLessThan(AT_ONCE);
  });
});
