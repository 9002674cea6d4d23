import { join } from 'node:path';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import type { Running } from '../bed/running.js';
import { ailmentsOf, askDoctor } from './ask-doctor.js';
import type { DoctorReport } from './ask-doctor.js';
import { CALICO, container } from './calico-host.js';
import { EMBEDDED, everything } from './datastore.js';

const MAIN = join(REPOSITORY, 'dist/main.js');
const STATE = '/var/lib/calico-libnetwork';
const METRICS = { CALICO_LIBNETWORK_METRICS_ADDRESS: '9099' };
/** What the daemon was started with and the doctor is not: it has to find out. */
const SECRET = { ETCD_USERNAME: 'root', ETCD_PASSWORD: 'hunter2hunter2' };

let bed: Bed;
let host: Host;
let daemon: Running;

beforeAll(async () => {
  bed = await Bed.up({ engine: '28' });
  host = bed.host(1);
  // etcd without users takes no notice of these.
  daemon = await host.serve({ ...METRICS, ...SECRET });
  await host.dockerd();
  await host.image();
  await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net1');
  await container(host, 'web', 'net1');
});
afterAll(() => bed?.down());

const doctor = (env?: Readonly<Record<string, string>>) => askDoctor(host, env);
const ailments = (env?: Readonly<Record<string, string>>) => ailmentsOf(host, env);

const sysctl = (setting: string) => host.run(['sysctl', '-qw', setting]);
const etcdctl = (...words: string[]) =>
  host.run(['etcdctl', '--endpoints', EMBEDDED, ...words], { env: { ETCDCTL_API: '3' } });

describe('on a host where all is well', () => {
  it('says so in one line each, within five seconds, and ends with status 0', async () => {
    await poll('health', 15_000, async () => (await ailments()).length === 0);
    const started = Date.now();
    const { code, stdout, stderr } = await host.run([process.execPath, MAIN, 'doctor']);
    expect(Date.now() - started).toBeLessThan(7_000);
    expect(code).toBe(0);
    const lines = stdout.trim().split('\n');
    expect(lines.at(-1)).toMatch(/^\d+ ok, 0 warnings, 0 problems$/);
    for (const line of lines.slice(0, -1)) expect(line).toMatch(/^ok {7}[A-Za-z_ ]+: \S/);
    for (const check of ['docker', 'daemon', 'etcd', 'clock', 'node name', 'pools', 'FORWARD', 'MTU'])
      expect(stdout).toContain(` ${check}: `);
    expect(stdout).toContain('the daemon says that it is ready');
    expect(stderr).toMatch(/with the settings of the running daemon \(process \d+\)/);
  });

  it('no secret is in its words, in the log, in ps or in the metrics', async () => {
    const { stdout } = await host.run([process.execPath, MAIN, 'doctor', '-o', 'json']);
    const ps = (await host.run(['ps', '-ef'])).stdout;
    const metrics = (await host.run(['busybox', 'wget', '-qO-', 'http://127.0.0.1:9099/metrics'])).stdout;
    expect(metrics).toContain('calico_libnetwork_ready 1');
    expect(metrics).toMatch(/call_duration_seconds_count\{method="NetworkDriver.Join",outcome="ok"\} 1\n/);
    const log = readFileSync(host.logFile('calico-libnetwork'), 'utf8');
    for (const text of [stdout, ps, metrics, log]) expect(text).not.toContain(SECRET.ETCD_PASSWORD);
  });

  it('the metrics are not seen from outside', async () => {
    const { code, stderr } = await bed.fabric(
      ['busybox', 'wget', '-qO-', `http://${host.address}:9099/live`],
      {
        check: false,
      },
    );
    expect(code).not.toBe(0);
    expect(stderr).toContain('refused');
  });
});

describe('what is broken, it names; what is mended, it names no more', () => {
  const HOST_ID = `${STATE}/host-id`;
  const SPEC = '/etc/docker/plugins/calico.spec';
  let kept = '';

  const CASES: readonly {
    readonly what: string;
    readonly says: RegExp;
    readonly break: () => Promise<unknown>;
    readonly mend: () => Promise<unknown>;
  }[] = [
    {
      what: 'ip_forward',
      says: /^problem ip_forward: net.ipv4.ip_forward is 0/,
      break: () => sysctl('net.ipv4.ip_forward=0'),
      mend: () => sysctl('net.ipv4.ip_forward=1'),
    },
    {
      what: 'rp_filter',
      says: /^warning rp_filter: net.ipv4.conf.all.rp_filter is 2/,
      break: () => sysctl('net.ipv4.conf.all.rp_filter=2'),
      mend: () => sysctl('net.ipv4.conf.all.rp_filter=0'),
    },
    {
      what: 'the MTU of the way out',
      says: /^problem MTU: 1 containers' interfaces have an MTU of up to 1500, but the way out takes 1400/,
      break: () => host.run(['ip', 'link', 'set', 'eth0', 'mtu', '1400']),
      mend: () => host.run(['ip', 'link', 'set', 'eth0', 'mtu', '1500']),
    },
    {
      what: 'a route into a pool',
      says: /^problem pools: IPPool docker-192-0-2-0-24 \(192.0.2.0\/24\) overlaps 192.0.2.128\/25, .* by eth0/,
      break: () => host.run(['ip', 'route', 'add', '192.0.2.128/25', 'via', '10.99.0.1']),
      mend: () => host.run(['ip', 'route', 'del', '192.0.2.128/25']),
    },
    {
      what: 'nft',
      says: /^problem programs: nft is missing/,
      break: () => host.run(['mount', '--bind', '/dev/null', '/usr/sbin/nft']),
      mend: () => host.run(['umount', '/usr/sbin/nft']),
    },
    {
      what: 'a spec file that leads nowhere',
      says: /^problem discovery: \/etc\/docker\/plugins\/calico.spec leads dockerd to unix:\/\/\/run\/nowhere.sock/,
      break: async () => {
        await host.run(['mkdir', '-p', '/etc/docker/plugins']);
        writeFileSync(host.path(SPEC), 'unix:///run/nowhere.sock\n');
      },
      mend: () => host.run(['rm', SPEC]),
    },
    {
      what: 'a Felix',
      says: /^problem Felix: a Felix runs here \(process \d+\)/,
      break: async () => {
        await host.run(['sh', '-c', 'cp "$(command -v sleep)" /run/calico-felix']);
        await host.spawn(['/run/calico-felix', '300']);
        await poll(
          'a Felix',
          5_000,
          async () => (await host.run(['pidof', 'calico-felix'], { check: false })).code === 0,
        );
      },
      mend: () => host.run(['pkill', '-x', 'calico-felix']),
    },
    {
      what: 'a live host with the same name',
      says: /^problem node name: another live host calls itself h1/,
      break: async () => {
        // The name in etcd is that of the running daemon; this is another host from now on.
        kept = readFileSync(host.path(HOST_ID), 'utf8');
        writeFileSync(host.path(HOST_ID), 'another-host\n');
      },
      mend: async () => writeFileSync(host.path(HOST_ID), kept),
    },
    {
      what: 'a Node with the same address',
      says: /^warning node name: h0 and h1 have the same address/,
      break: async () => {
        const key = '/calico/resources/v3/projectcalico.org/nodes/h1';
        const node = (await everything(host))[key] ?? '';
        await etcdctl('put', key.replace('/h1', '/h0'), node.replace('"name":"h1"', '"name":"h0"'));
      },
      mend: () => etcdctl('del', '/calico/resources/v3/projectcalico.org/nodes/h0'),
    },
  ];

  // All at once: each look takes a second or more.
  let sick: DoctorReport;
  let mended: readonly string[];
  beforeAll(async () => {
    try {
      for (const { break: breakIt } of CASES) await breakIt();
      sick = await doctor();
    } finally {
      for (const { mend } of CASES) await mend();
    }
    mended = await poll('recovery', 15_000, async () => {
      const found = await ailments();
      return !found.some(line => line.startsWith('problem')) && found;
    });
  });

  it.each(CASES)('$what', ({ says }) => {
    const found = sick.checks.map(({ check, level, text }) => `${level} ${check}: ${text}`);
    expect(
      found.filter(line => says.test(line)),
      found.join('\n'),
    ).toHaveLength(1);
    expect(mended.filter(line => says.test(line))).toEqual([]);
  });

  it('has a remedy for each, and ends with status 1', () => {
    for (const { level, text, remedy } of sick.checks)
      if (level !== 'ok') expect(remedy?.length ?? 0, text).toBeGreaterThan(8);
    expect(sick.code).toBe(1);
    expect(sick.problems).toBe(sick.checks.filter(({ level }) => level === 'problem').length);
  });

  it('settings that cannot be right', async () => {
    const found = await ailments({
      CALICO_LIBNETWORK_VETH_MTU: '9000',
      CALICO_LIBNETWORK_DATAPLANE: 'felix',
      CALICO_LIBNETWORK_SOCKET_DIR: '/run/elsewhere',
      ETCD_ENDPOINTS: EMBEDDED,
      DOCKER_HOST: 'unix:///run/no-docker.sock',
    });
    for (const text of [
      'problem MTU: CALICO_LIBNETWORK_VETH_MTU is 9000, but the way out takes 1500',
      'problem Felix: CALICO_LIBNETWORK_DATAPLANE is felix, but no Felix runs here',
      'problem discovery: dockerd looks for sockets in /run/docker/plugins, not in /run/elsewhere',
      'problem plugin sockets: /run/elsewhere/calico.sock is missing',
      'problem docker: Docker does not answer at unix:///run/no-docker.sock',
    ])
      expect(
        found.some(line => line.startsWith(text)),
        `${text}\n${found.join('\n')}`,
      ).toBe(true);
  });

  it('a daemon that hangs, while the firewall loses our rules', async () => {
    process.kill(daemon.pid, 'SIGSTOP');
    try {
      for (const table of ['calico_libnetwork', 'calico_policy'])
        await host.run(['nft', 'delete', 'table', 'inet', table]);
      await host.run(['iptables', '-F', 'DOCKER-USER']);
      const { code, checks } = await doctor();
      expect(code).toBe(1);
      const texts = checks.map(({ check, level, text }) => `${level} ${check}: ${text}`);
      for (const text of [
        'problem FORWARD: the policy of FORWARD is DROP, and the rules that accept cali+ are not in DOCKER-USER',
        'problem nftables: table inet calico_libnetwork is missing',
        'problem nftables: table inet calico_policy is missing',
        'problem plugin sockets: /run/docker/plugins/calico.sock is open, but does not answer',
        'problem daemon: the daemon does not answer at CALICO_LIBNETWORK_METRICS_ADDRESS',
      ])
        expect(
          texts.some(line => line.startsWith(text)),
          `${text}\n${texts.join('\n')}`,
        ).toBe(true);
    } finally {
      process.kill(daemon.pid, 'SIGCONT');
      // nsenter stops itself when what it runs is stopped.
      const [, parent = ''] =
        /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8')) ?? [];
      process.kill(Number(parent), 'SIGCONT');
    }
    await poll('recovery', 45_000, async () => (await ailments()).length === 0);
  });

  it('a daemon that died, one that was started after dockerd, and one that was stopped', async () => {
    await host.stopServe('SIGKILL');
    const died = await ailments();
    expect(died).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^problem plugin sockets: .*calico.sock is stale/),
        expect.stringMatching(/^problem plugin sockets: .*calico-ipam.sock is stale/),
        expect.stringMatching(/^problem daemon: no daemon runs/),
      ]),
    );
    await host.serve(METRICS);
    // dockerd runs for less than two minutes, or was started long before: then there is nothing to say, once etcd, which was
    // started with it, answers as quickly as it should.
    let said: string[] = [];
    await poll('nothing to say', 10_000, async () => {
      said = (await ailments()).filter(line => !line.startsWith('warning start order:'));
      return said.length === 0;
    }).catch(() => undefined);
    expect(said).toEqual([]);
    await host.stopServe();
    expect(await ailments()).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^problem plugin sockets: .*calico.sock is missing/),
        expect.stringMatching(/^problem etcd: ETCD_ENDPOINTS is not set, and no etcd of the daemon's runs/),
        'warning pools: could not look: the datastore does not answer',
      ]),
    );
    const { code, stderr } = await host.run([process.execPath, MAIN, 'doctor', '--fast'], { check: false });
    expect(code).toBe(2);
    expect(stderr).toContain('doctor does not know "--fast"');
  });
});
