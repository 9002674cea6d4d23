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
import { peerRoutes } from './peer-routes.js';
import { withoutGap } from './steady.js';
import { inside } from './traffic.js';

/** The host whose member of etcd leads. */
async function leaderOf(hosts: readonly Host[]): Promise<Host> {
  return poll('a leader', 10_000, async () => {
    const status = `. ${FOLDER}/etcdctl.env; etcdctl --user root:rudder-plank-7 endpoint status -w simple`;
    const { stdout } = (await hosts[0]?.run(['sh', '-c', status], { check: false })) ?? { stdout: '' };
    // "https://10.99.0.11:2379, 8e9e05c52164694d, 3.4.23, 20 kB, true, false, 2, 8, 8, "
    const line = stdout.split('\n').find(each => each.split(', ')[4] === 'true') ?? '';
    return hosts.find(host => line.includes(`//${host.address}:`));
  });
}

const FOLDER = '/etc/calico-libnetwork';

describe('a cluster that grows from one host, by the commands of docs/cluster.md', () => {
  const page = documented('cluster.md');
  let bed: Bed;
  let hosts: Host[];
  /** What each container was given, by name. */
  const given = new Map<string, { host: Host; address: string }>();

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
  const addressIn = (name: string) => given.get(name)?.address ?? '';
  /** A block of the page that is printed for h1, on another host. */
  const on = (block: string, host: Host) =>
    page.run(block, host, text =>
      text
        .replace('name=h1 address=10.99.0.11', `name=${host.name} address=${host.address}`)
        .replaceAll(/h[12](?=\.(pem|key))/g, host.name),
    );
  async function run(host: Host, name: string, ...args: string[]): Promise<void> {
    await container(host, name, 'my_net', ...args);
    const address = await addressOf(host, name);
    expect([...given.values()].map(one => one.address)).not.toContain(address);
    given.set(name, { host, address });
  }
  const envOf = (host: Host): Record<string, string> => {
    const lines = readFileSync(host.path('/etc/default/calico-libnetwork'), 'utf8')
      .split('\n')
      .filter(Boolean);
    return Object.fromEntries(lines.map(line => /^(\w+)=(.*)$/.exec(line)?.slice(1) ?? []) as string[][]);
  };
  const serve = (host: Host, more: Record<string, string> = {}) => host.serve({ ...envOf(host), ...more });
  /** Neither between a container and its host, nor between containers on two hosts. */
  const noPingLost = async (work: () => Promise<void>) => {
    const enter = await inside(h1(), 'web');
    await withoutGap(h1(), addressIn('web'), () => withoutGap(h1(), addressIn('app'), work, enter));
  };
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
  /** Everything is where it was, and is reached from another host. */
  async function expectWhole(): Promise<void> {
    for (const [name, { host, address }] of given) {
      expect(await addressOf(host, name)).toBe(address);
      await (host === h1() ? reaches(h2(), 'app', name) : reaches(h1(), 'web', name));
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
    await noPingLost(async () => {
      await h2().stopServe();
      await h1().stopServe();
      await page.run('snapshot', h1());
      for (const host of [h2(), h3()])
        copyFileSync(h1().path(`${FOLDER}/calico.db`), host.path(`${FOLDER}/calico.db`));
      for (const host of hosts) await on('member', host);
      for (const host of hosts) await page.run('start-etcd', host);
      await page.run('health', h1());
      await on('health', h3());
      for (const host of hosts) await serve(host);
    });
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

  it('starts containers while the leader of etcd is lost, and no container notices', async () => {
    const leader = await leaderOf(hosts);
    const [spare] = hosts.filter(host => host !== leader);
    if (!spare) throw new Error('too few hosts');
    await noPingLost(async () => {
      await leader.run(['pkill', '-KILL', '-x', 'etcd']);
      for (const host of [spare, leader]) await run(host, `leaderless-${host.name}`);
      await page.run('start-etcd', leader);
    });
    await expectWhole();
  });

  it('goes on where a host is cut off, gives no address twice, and agrees within two seconds after', async () => {
    await run(h3(), 'neighbour');
    const before = await peerRoutes(h3());
    await bed.drop(h3());
    const borrowed = addressIn('app').replace(/\d+$/, last => String((Number(last) & 0xc0) + 60));
    // The host that was cut off may have had etcd's leader: then the others choose one first.
    await poll('a leader', 15_000, async () =>
      run(h1(), 'meanwhile', '--ip', borrowed).then(
        () => true,
        async () =>
          h1()
            .docker('rm', '-f', 'meanwhile')
            .then(() => false),
      ),
    );
    await run(h2(), 'meanwhile-2');
    const began = Date.now();
    const refusal = await h3().dockerFails('run', '--rm', '--net', 'my_net', 'busybox', 'true');
    expect(refusal).toMatch(/etcd|datastore/);
    expect(Date.now() - began).toBeLessThan(11_000);
    await reaches(h3(), 'job', 'neighbour');
    await reaches(h1(), 'web', 'meanwhile-2');
    expect(await peerRoutes(h3())).toEqual(before);
    await bed.heal();
    await poll('etcd as h3 sees it', 20_000, async () => {
      const env =
        '. /etc/calico-libnetwork/etcdctl.env; etcdctl --dial-timeout=300ms --command-timeout=500ms';
      const get = `${env} --user calico-libnetwork:tiller-oar-9 get /calico/none`;
      const { code } = await h3().run(['sh', '-c', get], { check: false });
      return code === 0;
    });
    const returned = Date.now();
    await poll('the route made meanwhile', 2_000, async () =>
      (await peerRoutes(h3())).includes(`${borrowed} via ${h1().address} dev eth0`),
    );
    console.log(`h3 was up to date ${Date.now() - returned} ms after etcd's return`);
    await run(h3(), 'after');
    for (const name of ['meanwhile', 'meanwhile-2', 'web']) await reaches(h3(), 'job', name);
    await expectWhole();
    await expectSound(h1());
  });

  it('has nothing on its page that was not run', () => {
    expect(page.untried()).toEqual([]);
  });
});
