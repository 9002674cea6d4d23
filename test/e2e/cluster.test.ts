import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CommandResult } from '../../src/setup/command.mjs';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { CALICO, addressOf, container } from './calico-host.js';
import { documented } from './documented.js';
import { withoutGap } from './steady.js';

const FOLDER = '/etc/calico-libnetwork';

describe('a cluster that grows from one host, by the commands of docs/cluster.md', () => {
  const page = documented('cluster.md');
  let bed: Bed;
  let hosts: Host[];
  /** What each container was given, by name. */
  const addresses = new Map<string, string>();

  beforeAll(async () => {
    bed = await Bed.up({ hosts: 3, engine: '28' });
    hosts = [1, 2, 3].map(number => bed.host(number));
    await h1().serve();
    for (const host of hosts) {
      await host.dockerd();
      await host.image();
    }
    await h1().docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'my_net');
    await run(h1(), 'web');
    await run(h1(), 'db', '--ip', '192.0.2.100');
  });
  afterAll(() => bed?.down());

  const h1 = () => bed.host(1);
  const h2 = () => bed.host(2);
  const h3 = () => bed.host(3);
  const addressIn = (name: string) => addresses.get(name) ?? '';
  /** A block of the page that is printed for h1, on another host. */
  const on = (block: string, host: Host) =>
    page.run(block, host, text =>
      text
        .replace('name=h1 address=10.99.0.11', `name=${host.name} address=${host.address}`)
        .replaceAll(/h2(?=\.(pem|key))/g, host.name),
    );
  async function run(host: Host, name: string, ...args: string[]): Promise<void> {
    await container(host, name, 'my_net', ...args);
    const address = await addressOf(host, name);
    expect([...addresses.values()]).not.toContain(address);
    addresses.set(name, address);
  }
  const envOf = (host: Host): Record<string, string> => {
    const lines = readFileSync(host.path(`${FOLDER}/env`), 'utf8')
      .split('\n')
      .filter(Boolean);
    return Object.fromEntries(lines.map(line => /^(\w+)=(.*)$/.exec(line)?.slice(1) ?? []) as string[][]);
  };
  const serve = (host: Host, more: Record<string, string> = {}) => host.serve({ ...envOf(host), ...more });
  const restart = async (host: Host, more?: Record<string, string>) => {
    await host.stopServe();
    await serve(host, more);
  };
  const command = (host: Host, env: Record<string, string>, ...args: string[]): Promise<CommandResult> =>
    host.run([process.execPath, join(REPOSITORY, 'dist/main.js'), ...args], { env, check: false });
  const expectSound = async (host: Host) => {
    const { stdout } = await command(host, envOf(host), 'ipam', 'check');
    expect(stdout).toMatch(/ 0 findings$/m);
  };
  const reaches = (host: Host, from: string, to: string) =>
    poll(`${from} reaches ${to}`, 5_000, async () => {
      const argv = ['docker', 'exec', from, 'ping', '-c1', '-W1', addressIn(to)];
      return (await host.run(argv, { check: false })).code === 0;
    });
  /** Everything is where it was, and everybody reaches it. */
  async function expectWhole(): Promise<void> {
    for (const [host, name] of [
      [h1(), 'web'],
      [h1(), 'db'],
      [h2(), 'app'],
    ] as const) {
      expect(await addressOf(host, name)).toBe(addressIn(name));
      for (const other of addresses.keys()) if (other !== name) await reaches(host, name, other);
    }
  }

  it('lets a second host use the etcd of the first', async () => {
    await page.run('ca', h1());
    for (const host of [h2(), h3()])
      for (const file of ['ca.pem', `${host.name}.pem`, `${host.name}.key`])
        copyFileSync(h1().path(`${FOLDER}/${file}`), host.path(`${FOLDER}/${file}`));
    await page.run('open', h1());
    await withoutGap(h1(), addressIn('web'), () => restart(h1()));
    await on('join', h2());
    await serve(h2());
    await poll('my_net on h2', 5_000, async () => (await h2().docker('network', 'ls')).includes('my_net'));
    await run(h2(), 'app');
    await run(h1(), 'cache');
    await expectWhole();
  });

  it('moves to three members of etcd, without a lost ping or address', async () => {
    await withoutGap(h1(), addressIn('web'), () =>
      withoutGap(h1(), addressIn('app'), async () => {
        await h2().stopServe();
        await h1().stopServe();
        await page.run('snapshot', h1());
        for (const host of [h2(), h3()])
          copyFileSync(h1().path(`${FOLDER}/calico.db`), host.path(`${FOLDER}/calico.db`));
        for (const host of hosts) await on('member', host);
        for (const host of hosts) await page.run('start-etcd', host);
        await page.run('health', h1());
        for (const host of hosts) await serve(host);
      }),
    );
    await poll('my_net on h3', 5_000, async () => (await h3().docker('network', 'ls')).includes('my_net'));
    await run(h3(), 'job');
    await run(h2(), 'app-2');
    await h1().docker('restart', 'db');
    await expectWhole();
    await expectSound(h3());
  });

  it('lets only users in, with the least of rights, and no call fails on the way', async () => {
    await page.run('users', h1());
    for (const host of hosts) {
      await page.run('login', host);
      await restart(host);
      await run(host, `early-${host.name}`);
    }
    await page.run('auth', h1());
    for (const host of hosts) await run(host, `late-${host.name}`);
    await expectWhole();
    await expectSound(h1());
  });

  it('says what to do where the password or the certificate is wrong', async () => {
    const good = envOf(h2());
    const without = (...names: string[]) =>
      Object.fromEntries(Object.entries(good).filter(([name]) => !names.includes(name)));
    const http = good['ETCD_ENDPOINTS']?.replaceAll('https', 'http') ?? '';
    const wrong: [Record<string, string>, RegExp][] = [
      [{ ...good, ETCD_PASSWORD: 'wrong-1' }, /does not accept .* check ETCD_USERNAME and ETCD_PASSWORD$/m],
      [without('ETCD_USERNAME', 'ETCD_PASSWORD'), /permission denied.*ETCD_USERNAME and ETCD_PASSWORD/],
      [without('ETCD_CERT_FILE', 'ETCD_KEY_FILE'), /client certificate .*: check ETCD_CERT_FILE/],
      [without('ETCD_CA_CERT_FILE'), /not signed by what we trust: check ETCD_CA_CERT_FILE/],
      [{ ...good, ETCD_ENDPOINTS: http }, /with TLS begins with https/],
    ];
    const tries = wrong.map(async ([env, text]) => {
      const { code, stderr } = await command(h2(), env, 'ipam', 'check');
      expect(stderr.trim()).toMatch(text);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(code).toBe(3);
    });
    await Promise.all(tries);
    await restart(h2(), { ETCD_PASSWORD: 'wrong-1' });
    const refused = await h2().dockerFails('run', '--rm', '--net', 'my_net', 'busybox', 'true');
    expect(refused).toContain('check ETCD_USERNAME and ETCD_PASSWORD');
    expect(readFileSync(h2().logFile('calico-libnetwork'), 'utf8')).not.toContain('wrong-1');
    await restart(h2());
    await run(h2(), 'again');
  });

  it('has nothing on its page that was not run', () => {
    expect(page.untried()).toEqual([]);
  });
});
