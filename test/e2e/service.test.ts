import { cpSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answers } from '../../src/setup/answers.mjs';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { Service } from '../bed/service.js';
import { CALICO, container, expectCleanHost, ping, pingOutside, traces } from './calico-host.js';
import { withoutGap } from './steady.js';
import { ask, inside, serveIn } from './traffic.js';

const MAIN = join(REPOSITORY, 'dist/main.js');
const SOCKETS = ['/run/docker/plugins/calico.sock', '/run/docker/plugins/calico-ipam.sock'] as const;
const CURRENT = '/run/current';
const RUN = [...['run', '--rm', '--net', 'net1', '--stop-signal', 'KILL', 'busybox'], 'true'];

/** Sends back what comes. */
const ECHO = "require('node:net').createServer(s => s.on('error', () => {}).pipe(s)).listen(7001, '::')";

/** Sends a number ten times a second over one connection, and checks that each comes back. */
const STREAM = `
const socket = require('node:net').connect(7001, process.argv[1]);
let sent = 0, back = '';
socket.on('error', error => console.log('broken: ' + error.message)).on('close', () => console.log('broken'));
socket.on('data', data => {
  back += data;
  const lines = back.split('\\n').length - 1;
  if (!('0123456789'.includes(back[0] ?? '0'))) console.log('wrong: ' + back);
  if (lines % 10 === 0) console.log(lines + ' of ' + sent);
});
setInterval(() => socket.write(sent++ + '\\n'), 100);`;

describe('the daemon as a service of systemd', () => {
  let bed: Bed;
  let host: Host;
  let service: Service;

  beforeAll(async () => {
    bed = await Bed.up({ engine: '28' });
    host = bed.host(1);
  });
  afterAll(() => bed?.down());

  const answered = (index: 0 | 1) => answers(host.path(SOCKETS[index]), 'POST', '/Plugin.Activate');

  it('takes over the sockets of systemd-socket-activate, in whatever order, and leaves them', async () => {
    const listen = SOCKETS.toReversed().flatMap(path => ['-l', path]);
    const service = await host.spawn(['systemd-socket-activate', ...listen, MAIN, 'serve'], {
      log: 'activated',
    });
    await poll('sockets', 5_000, () => SOCKETS.every(path => existsSync(host.path(path))));
    const inodes = SOCKETS.map(path => statSync(host.path(path)).ino);
    await poll('an answer', 20_000, () => answered(1));
    expect(await answered(0)).toBe(true);
    expect(await service.stop()).toBe(0);
    expect(SOCKETS.map(path => statSync(host.path(path)).ino)).toEqual(inodes);
  });

  it('starts at the first call of Docker, says so, and has no privileges but those of the unit', async () => {
    for (const version of ['1.0.0', '1.0.1']) installAs(host, version);
    await use(host, '1.0.0');
    service = await Service.start(host, [join(CURRENT, 'dist/main.js'), 'serve']);
    await host.dockerd();
    await host.image();
    expect(service.count('service started')).toBe(0);
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net1');
    expect(service.count('service started')).toBe(1);
    await service.until('said: READY=1');
    await service.until('said: STATUS=node h1');
    await service.until('said: WATCHDOG=1');
    const [, pid = ''] = /service started: (\d+)/.exec(service.output()) ?? [];
    const status = (await host.run(['cat', `/proc/${pid}/status`])).stdout;
    // Bits of linux/capability.h: NET_BIND_SERVICE 10, NET_ADMIN 12, NET_RAW 13, SYS_ADMIN 21.
    const mask = [10, 12, 13, 21].reduce((sum, bit) => sum + 2 ** bit, 0);
    for (const set of ['CapBnd', 'CapEff'])
      expect(parseInt(new RegExp(`${set}:\\s+(\\S+)`).exec(status)?.[1] ?? '', 16)).toBe(mask);
    expect(status).toMatch(/NoNewPrivs:\s+1/);
  });

  it('does all that it does with these privileges', async () => {
    await container(host, 'web', 'net1', '-p', '80:80', '--ip', '192.0.2.10');
    await container(host, 'client', 'net1', '--ip', '192.0.2.11');
    await ping(host, 'client', 'web');
    await pingOutside(host, 'client');
    await serveIn(host, 'web', 80);
    expect(await ask(bed.outside, 'tcp', host.address, 80)).toBe('web 10.99.0.1');
    // An interface that is lost is put back, inside the container, too.
    const { links } = await traces(host);
    const name = /(cali\w+)@/.exec(links[0] ?? '')?.[1] ?? '';
    await host.run(['ip', 'link', 'delete', name]);
    // Something happens in Docker, and the reconciler looks at once instead of some time.
    await host.docker('network', 'create', 'something');
    await host.docker('network', 'rm', 'something');
    await poll('both to answer again', 60_000, () =>
      ping(host, 'client', 'web').then(
        () => true,
        () => false,
      ),
    );
  });

  it('is replaced by another version without losing a packet, a connection or a docker command', async () => {
    const web = await host.spawn([...(await inside(host, 'web')), process.execPath, '-e', ECHO], {
      log: 'echo',
    });
    const stream = await host.spawn(
      [...(await inside(host, 'client')), process.execPath, '-e', STREAM, '--', '192.0.2.10'],
      { log: 'stream' },
    );
    await poll('the stream', 10_000, () => stream.output().includes('10 of 10'));
    let isOver = false;
    const took: number[] = [];
    const repeat = async (work: () => Promise<unknown>): Promise<void> => {
      while (!isOver) {
        const started = performance.now();
        await work();
        took.push(performance.now() - started);
      }
    };
    // Many calls in little time: one of them is under way whenever the daemon ends.
    const joinAndLeave = async (): Promise<void> => {
      await host.docker('network', 'connect', 'net1', 'guest');
      await host.docker('network', 'disconnect', 'net1', 'guest');
    };
    await host.docker('run', '-d', '--name', 'guest', '--stop-signal', 'KILL', 'busybox', 'sleep', '1d');
    await withoutGap(host, '192.0.2.10', async () => {
      const loops = [repeat(() => host.docker(...RUN)), repeat(joinAndLeave)];
      const upgrades = (async () => {
        for (const version of ['1.0.1', '1.0.0', '1.0.1']) {
          await use(host, version);
          await service.restart();
          const runs = took.length;
          await poll('runs between', 60_000, () => took.length > runs + 5);
        }
      })();
      await Promise.all([...loops, upgrades.finally(() => (isOver = true))]);
    });
    console.log(
      `${took.length} rounds of docker commands over 3 upgrades, slowest ${Math.max(...took).toFixed()} ms`,
    );
    expect(service.count('"version":"1.0.1"')).toBeGreaterThan(0);
    expect(service.count('service ended: status 0')).toBe(3);
    expect(service.count('said: STOPPING=1')).toBe(3);
    await stream.stop();
    await web.stop();
    expect(stream.output()).not.toMatch(/broken|wrong/);
    expect(stream.output().trim().split('\n').length).toBeGreaterThan(5);
  });

  it('leaves nothing, with the one command that is documented for that', async () => {
    const cleanup = async () => {
      const argv = [process.execPath, MAIN, 'node', 'cleanup'];
      const { code, stdout, stderr } = await host.run(argv, { check: false });
      return { code, said: stdout + stderr };
    };
    await host.docker('rm', '-f', 'web', 'client', 'guest');
    await host.docker('network', 'rm', 'net1');
    await expectCleanHost(host);
    expect(await cleanup()).toEqual({
      code: 1,
      said: expect.stringMatching(/^the daemon runs \(process \d+\)/),
    });
    await service.stop();
    expect(await remains(host)).not.toEqual([]);
    await host.run(['ip', 'link', 'add', 'calileft', 'group', '81', 'type', 'veth', 'peer', 'name', 'left']);
    expect(await cleanup()).toEqual({ code: 1, said: expect.stringContaining('(calileft)') });
    await host.run(['ip', 'link', 'delete', 'calileft']);
    for (const time of ['first', 'second'])
      expect({ time, ...(await cleanup()) }).toMatchObject({
        code: 0,
        said: expect.stringContaining('are gone'),
      });
    expect(await remains(host)).toEqual([]);
    // What is Docker's stays.
    expect((await host.run(['iptables', '-S', 'DOCKER-USER'])).code).toBe(0);
  });
});

/** The built daemon under another version number, as `npm install -g` would put it there. */
function installAs(host: Host, version: string): void {
  const folder = host.path(`/run/versions/${version}`);
  mkdirSync(folder, { recursive: true });
  cpSync(join(REPOSITORY, 'dist'), join(folder, 'dist'), { recursive: true });
  symlinkSync(join(REPOSITORY, 'node_modules'), join(folder, 'node_modules'));
  const text = readFileSync(join(REPOSITORY, 'package.json'), 'utf8');
  writeFileSync(join(folder, 'package.json'), text.replace(/"version": "[^"]*"/, `"version": "${version}"`));
}

async function use(host: Host, version: string): Promise<void> {
  await host.run(['ln', '-sfn', `/run/versions/${version}`, CURRENT]);
}

/** What the daemon has left on a host: routes, tunnels, tables, accept rules. */
async function remains(host: Host): Promise<string[]> {
  const all = [
    ['ip', 'route', 'show', 'proto', '81'],
    ['ip', '-6', 'route', 'show', 'proto', '81'],
    ['ip', '-o', 'link', 'show', 'group', '81'],
  ];
  const some = [['nft', 'list', 'tables'], ['iptables-save'], ['ip6tables-save']];
  const lines = async (argv: readonly string[]) => (await host.run(argv)).stdout.split('\n').filter(Boolean);
  return [
    ...(await Promise.all(all.map(lines))).flat(),
    ...(await Promise.all(some.map(lines))).flat().filter(line => line.includes('cali')),
  ];
}
