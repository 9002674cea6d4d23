import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import type { Engine } from '../bed/engines.js';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';
import { CALICO, container, expectCleanHost, ping, pingOutside, traces } from './calico-host.js';
import { handles, keys } from './datastore.js';

/** Long enough for a daemon that is told of it, too short for the half-minute check. */
const SOON = 5_000;

describe.each<Engine>(['20', '28'])('the life of a host with Docker %s', engine => {
  let bed: Bed;
  let host: Host;
  /** Endpoint keys that an earlier test failed to get rid of, so that one failure stays one. */
  let stale: string[];

  beforeAll(async () => {
    bed = await Bed.up({ engine });
    host = bed.host(1);
    await host.serve();
    await host.dockerd();
    await host.image();
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
  });
  afterAll(() => bed?.down());

  beforeEach(async () => {
    const all = await host.docker('ps', '-aq');
    if (all !== '') await host.docker('rm', '-f', ...all.split('\n'));
    stale = await keys(host, '/workloadendpoints/');
    await container(host, 'web', 'net24', '--restart', 'always');
    await container(host, 'fix', 'net24', '--restart', 'always', '--ip', '192.0.2.100');
  });

  /** Removes all containers and sees that nothing of them stays anywhere. */
  async function expectCleanEnd(): Promise<void> {
    await host.docker('rm', '-f', 'web', 'fix');
    await expectCleanHost(host);
    expect(await handles(host)).toEqual([]);
    expect(await endpoints()).toEqual([]);
  }

  const endpoints = async () => (await keys(host, '/workloadendpoints/')).filter(key => !stale.includes(key));

  let pings = 0;
  const nothingLost = async (from: string, work: () => Promise<void>) => {
    const pinging = await host.spawn(['docker', 'exec', from, 'ping', '-i', '0.1', '-W2', '192.0.2.100'], {
      log: `ping-${(pings += 1)}`,
    });
    await poll('first answer', SOON, () => pinging.output().includes('seq=2'));
    await work();
    await host.docker('exec', from, 'killall', '-INT', 'ping');
    await pinging.exited;
    // The last question may be without answer: ping is interrupted at any moment.
    const answered = [...pinging.output().matchAll(/ seq=(\d+) /g)].map(match => Number(match[1]));
    expect(answered).toEqual(answered.map((_, index) => index));
    const [, asked] = /(\d+) packets transmitted/.exec(pinging.output()) ?? [];
    expect(Number(asked) - answered.length).toBeLessThanOrEqual(1);
    expect(answered.length).toBeGreaterThan(5);
  };

  const running = () =>
    poll('containers that run again', 20_000, async () => {
      const up = await host.docker('ps', '--format', '{{.Names}}');
      return up.split('\n').sort().join() === 'fix,web';
    });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'survives a %s of the daemon without losing a packet',
    async signal => {
      await nothingLost('web', async () => {
        await host.stopServe(signal);
        await new Promise(resolve => setTimeout(resolve, 300));
        await host.serve();
        await container(host, 'new', 'net24');
        await ping(host, 'new', '192.0.2.100');
      });
      await host.docker('rm', '-f', 'new');
      await expectCleanEnd();
    },
  );

  it.each(['SIGTERM', 'SIGKILL'] as const)('survives a %s of dockerd', async signal => {
    await host.killDockerd(signal);
    await host.dockerd();
    await running();
    await ping(host, 'web', '192.0.2.100');
    await pingOutside(host, 'web');
    // One address, endpoint and interface each: nothing of their former lives is left.
    expect(await handles(host)).toHaveLength(2);
    expect(await endpoints()).toHaveLength(2);
    expect((await traces(host)).links).toHaveLength(2);
    await expectCleanEnd();
  });

  it('survives a crash of everything', async () => {
    await host.crash();
    await host.boot();
    await host.serve();
    await host.dockerd();
    await running();
    await ping(host, 'web', '192.0.2.100');
    expect(await handles(host)).toHaveLength(2);
    expect(await endpoints()).toHaveLength(2);
    await expectCleanEnd();
  });

  it('puts its routes back', async () => {
    const before = (await traces(host)).routes;
    expect(before.length).toBeGreaterThanOrEqual(4);
    await host.run(['ip', 'route', 'flush', 'proto', '81']);
    await poll('routes', SOON, async () => (await traces(host)).routes.join() === before.join());
    await ping(host, 'web', '192.0.2.100');
  });

  it('puts its table and its rules back, and only those', async () => {
    const table = async () =>
      (await host.run(['nft', 'list', 'table', 'inet', 'calico_libnetwork'], { check: false })).stdout;
    const before = await table();
    expect(before).toContain('masquerade');
    await host.run(['nft', 'flush', 'ruleset']);
    await poll('our table', SOON, async () => (await table()) === before);
    await host.run(['nft', 'delete', 'chain', 'inet', 'calico_libnetwork', 'postrouting']);
    await poll('our chain', SOON, async () => (await table()) === before);
    await pingOutside(host, 'web');
    // What was Docker's, Docker has to make again.
    await host.killDockerd();
    await host.dockerd();
    await running();
    await poll('our pair', SOON, async () => (await pairIn('DOCKER-USER')) === 2);
    expect(await pairIn('FORWARD')).toBe(0);
    await pingOutside(host, 'web');
  });

  it('puts the rule pair back when somebody empties its chain', async () => {
    await host.run(['iptables', '-P', 'FORWARD', 'DROP']);
    await host.run(['iptables', '-F', 'DOCKER-USER']);
    await poll('our pair', SOON, async () => (await pairIn('DOCKER-USER')) === 2);
    await pingOutside(host, 'web');
    await ping(host, 'web', '192.0.2.100');
  });

  it('restarts containers and keeps their names and addresses apart', async () => {
    await host.docker('restart', '-t', '0', 'fix', 'web');
    await ping(host, 'web', 'fix');
    await host.docker('stop', '-t', '0', 'web');
    await host.docker('start', 'web');
    await ping(host, 'web', 'fix');
    await expectCleanEnd();
    await host.docker('network', 'rm', 'net24');
    await expectCleanHost(host, /^169\.254\.1\.0\/24 |^blackhole 192\.168\./);
  });

  /** How many of our two rules are in a chain. */
  async function pairIn(chain: string): Promise<number> {
    const { stdout } = await host.run(['iptables', '-S', chain], { check: false });
    return stdout.match(/--comment "?calico-libnetwork"?/g)?.length ?? 0;
  }
});
