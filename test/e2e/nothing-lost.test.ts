import { afterEach, beforeEach, expect, it } from 'vitest';
import { DockerEngine } from '../../src/docker/engine.js';
import { viewDocker } from '../../src/docker/view.js';
import { poll } from '../bed/poll.js';
import { expectAgreement } from './agreement.js';
import { CALICO, container, ping } from './calico-host.js';
import { expectNothingLeft, timed } from './churn.js';
import { keys } from './datastore.js';
import { addressIn, clear, onEachEngine, sweep } from './matrix.js';

/** What the daemon is run with, and the milliseconds within which it frees what belongs to nothing. */
const QUICK = { CALICO_LIBNETWORK_GC_GRACE: '2s', CALICO_LIBNETWORK_RECONCILE_INTERVAL: '1s' };
const FREED = 2_000 + 1_000;
/** For a look itself, on a busy machine. */
const SLACK = 3_000;

/** Takes all that is sent to the embedded etcd and never answers. */
const SILENCE =
  'table inet silence { chain in { type filter hook input priority -300; tcp dport 23790 drop; }; }';

const ALWAYS = ['--restart', 'always'];

onEachEngine('nothing is lost', { env: QUICK, isOuter: true }, matrix => {
  beforeEach(() => matrix.host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24'));
  afterEach(() => sweep(matrix.host));

  const agreement = () => expectAgreement(matrix.host, { within: FREED + SLACK });
  const up = async (...names: string[]) =>
    poll(`${names.join(' and ')} up`, 30_000, async () => {
      const running = await matrix.host.docker('ps', '--format', '{{.Names}}');
      return running.split('\n').sort().join() === [...names].sort().join();
    });
  const start = (name: string) => matrix.host.docker('start', name);

  /** Removes everything and sees that nothing of it is left. */
  async function expectCleanEnd(): Promise<void> {
    const { host } = matrix;
    await clear(host, 'net24');
    await expectNothingLeft(host);
    // What etcd carries out long after our call was given up (TCP repeats it) is freed a grace time later, the pool after it.
    await poll('pool gone', FREED + SLACK, async () => (await keys(host, '192-0-2')).length === 0);
    expect(await keys(host, '/libnetwork/v1/networks/')).toEqual([]);
    await agreement();
  }

  it('of what containers did while the daemon was dead', async () => {
    const { host } = matrix;
    await container(host, 'keep', 'net24');
    await container(host, 'gone', 'net24');
    await container(host, 'halted', 'net24', '-p', '8080:80');
    await container(host, 'fixed', 'net24', '--ip', '192.0.2.100');
    await host.docker('stop', '-t', '0', 'fixed');
    await host.stopServe('SIGKILL');
    const began = Date.now();
    await Promise.all([
      host.docker('rm', '-f', 'gone'),
      host.docker('stop', '-t', '0', 'halted'),
      host.run(['docker', 'start', 'fixed'], { check: false }),
    ]);
    const away = Date.now() - began;
    await host.serve(QUICK);
    const took = await agreement();
    console.log(
      `Docker ${matrix.engine}: ${away} ms without the daemon, agreement ${took} ms after it is back`,
    );
    await start('halted');
    await host.docker('start', 'fixed');
    expect(await addressIn(host, 'fixed', 'net24')).toBe('192.0.2.100');
    await ping(host, 'keep', '192.0.2.100');
    await agreement();
    await expectCleanEnd();
  });

  it('by a dockerd that is killed with five containers', async () => {
    const { host } = matrix;
    const others = ['web', 'once'];
    await container(host, 'web', 'net24', ...ALWAYS, '-p', '8080:80');
    await container(host, 'fix', 'net24', ...ALWAYS, '--ip', '192.0.2.100');
    await container(host, 'fix2', 'net24', ...ALWAYS, '--ip', '192.0.2.101');
    await container(host, 'once', 'net24');
    await container(host, 'oncefix', 'net24', '--ip', '192.0.2.102');
    await host.killDockerd('SIGKILL');
    await host.dockerd();
    await up('web', 'fix', 'fix2');
    const took = await agreement();
    console.log(`Docker ${matrix.engine}: agreement ${took} ms after dockerd was killed and is back`);
    expect(await addressIn(host, 'fix', 'net24')).toBe('192.0.2.100');
    expect(await addressIn(host, 'fix2', 'net24')).toBe('192.0.2.101');
    await start('once');
    await start('oncefix');
    expect(await addressIn(host, 'oncefix', 'net24')).toBe('192.0.2.102');
    for (const name of others) await ping(host, name, '192.0.2.102');
    await agreement();
    await expectCleanEnd();
  });

  it('by a dockerd that is killed and finds its containers alive', async () => {
    const { host } = matrix;
    await host.killDockerd();
    await host.dockerd('--live-restore');
    await container(host, 'web', 'net24', '-p', '8080:80');
    await container(host, 'fix', 'net24', '--ip', '192.0.2.100');
    await container(host, 'dies', 'net24');
    const pid = await host.docker('inspect', '--format', '{{.State.Pid}}', 'dies');
    await host.killDockerd('SIGKILL');
    await host.run(['kill', '-KILL', pid]);
    await host.dockerd('--live-restore');
    await up('web', 'fix');
    await agreement();
    await ping(host, 'web', '192.0.2.100');
    await start('dies');
    await agreement();
    await expectCleanEnd();
    await host.killDockerd();
    await host.dockerd();
  });

  it('of the address of a stopped container, whatever happens meanwhile', async () => {
    const { host } = matrix;
    await container(host, 'fix', 'net24', '--ip', '192.0.2.100');
    const after = async (what: string, happens: () => Promise<unknown>) => {
      await host.docker('stop', '-t', '0', 'fix');
      await happens();
      await start('fix');
      expect(await addressIn(host, 'fix', 'net24'), `after ${what}`).toBe('192.0.2.100');
      await agreement();
    };
    await after('a kill of the daemon', async () => {
      await host.stopServe('SIGKILL');
      await host.serve(QUICK);
    });
    await after('a kill of dockerd', async () => {
      await host.killDockerd('SIGKILL');
      await host.dockerd();
    });
    await after('a power cut', async () => {
      await host.crash();
      await host.boot();
      await host.serve(QUICK);
      await host.dockerd();
    });
    await expectCleanEnd();
  });

  it('of the view of Docker, while a container hangs in our driver', async () => {
    const { host } = matrix;
    await container(host, 'web', 'net24');
    const engine = new DockerEngine(`unix://${host.path('/run/docker.sock')}`);
    await host.run(['nft', '-f', '-'], { input: SILENCE });
    const times: number[][] = [];
    let isHanging = true;
    try {
      const hung = host
        .run(['docker', 'run', '-d', '--name', 'hung', '--net', 'net24', 'busybox', 'true'], { check: false })
        .finally(() => (isHanging = false));
      // It is in our hands once the daemon is asked for its address.
      await new Promise(resolve => setTimeout(resolve, 1_500));
      while (isHanging && times.length < 10) {
        const inspect = await timed(() => host.docker('network', 'inspect', 'net24'));
        const look = await timed(() => viewDocker(engine, () => false));
        if (isHanging) times.push([inspect, look]);
        await new Promise(resolve => setTimeout(resolve, 200));
      }
      expect((await hung).code).not.toBe(0);
    } finally {
      await host.run(['nft', 'delete', 'table', 'inet', 'silence']);
    }
    const [inspect = 0, look = 0] = [0, 1].map(which => Math.max(...times.map(each => each[which] ?? NaN)));
    console.log(
      `Docker ${matrix.engine}, a start hanging, ${times.length} looks: longest docker network inspect ${inspect} ms, ` +
        `view of Docker ${look} ms`,
    );
    expect(times.length).toBeGreaterThan(3);
    expect(look).toBeLessThan(1_000);
    expect(inspect).toBeLessThan(2_000);
    await host.docker('rm', '-f', 'hung');
    await agreement();
    await expectCleanEnd();
  });
});
