import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import { startEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { transpiled } from '../host/pretend-host.js';
import { CALICO, container, without } from './calico-host.js';
import { everything } from './datastore.js';
import { Parties, everyPair } from './parties.js';
import type { Ask } from './parties.js';

const RESOURCES = '/calico/resources/v3/projectcalico.org';
const SQL = 3306;
const KINDS = [
  ['tcp', SQL],
  ['tcp', 80],
  ['udp', 80],
  ['icmp', 0],
] as const;

const median = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Infinity;
const role = (name: string) => name.replace(/[0-9]/g, '');
const label = (value: string) => ['--label', `org.projectcalico.label.role=${value}`];

describe('policy on two hosts', () => {
  let bed: Bed;
  let h1: Host;
  let h2: Host;
  let endpoint: string;
  const parties = new Parties([SQL, 80]);
  const env = () => ({ ETCD_ENDPOINTS: endpoint });

  beforeAll(async () => {
    bed = await Bed.up({ hosts: 2, engine: '28' });
    [h1, h2] = [bed.host(1), bed.host(2)];
    ({ endpoint } = await startEtcd(h1));
    await Promise.all(
      [h1, h2].map(async host => {
        await host.serve(env());
        await host.dockerd();
        await host.image();
      }),
    );
    await parties.machine('outside', bed.outside, '10.99.0.1');
    await parties.machine('host', h1.machine, h1.address);
    return () => rmSync(transpiled(), { recursive: true, force: true });
  });
  afterAll(async () => {
    await parties.end();
    await bed?.down();
  });

  /** Writes a resource as calicoctl would. */
  const apply = async (plural: string, name: string, spec: object): Promise<void> => {
    const kind = { profiles: 'Profile', globalnetworkpolicies: 'GlobalNetworkPolicy' }[plural];
    const metadata = { name, uid: '5f3a1c0e-6f0e-4a58-9a57-2d3b5a2f7c11' };
    const input = JSON.stringify({ kind, apiVersion: 'projectcalico.org/v3', metadata, spec });
    const argv = ['etcdctl', '--endpoints', endpoint, 'put', `${RESOURCES}/${plural}/${name}`];
    await h1.run(argv, { input, env: { ETCDCTL_API: '3' } });
  };
  const remove = (plural: string, name: string) =>
    h1.run(['etcdctl', '--endpoints', endpoint, 'del', `${RESOURCES}/${plural}/${name}`], {
      env: { ETCDCTL_API: '3' },
    });
  const network = async (name: string): Promise<void> => {
    await h1.docker('network', 'create', ...CALICO, name);
    await poll(`${name} on h2`, 10_000, async () => (await h2.docker('network', 'ls')).includes(` ${name} `));
  };
  const start = async (host: Host, name: string, net: string, ...args: string[]): Promise<void> => {
    await container(host, name, net, ...args);
    await parties.container(host, name);
  };
  const FOUR = ['frontend1', 'frontend2', 'database1', 'database2'];
  const pairs = everyPair(FOUR, KINDS);
  const isSql = ({ from, to, protocol, port }: Ask) =>
    role(from) === 'frontend' && role(to) === 'database' && protocol === 'tcp' && port === SQL;
  const isWithin = (ask: Ask, name: string) => [ask.from, ask.to].every(each => role(each) === name);

  it('networks are isolated from each other, and from the outside, but not from their host', async () => {
    for (const name of ['frontend', 'database']) await network(name);
    for (const [index, host] of [h1, h2].entries())
      for (const name of ['frontend', 'database']) await start(host, `${name}${index + 1}`, name);
    const fromOutside = everyPair(['outside', 'frontend1', 'database1'], KINDS);
    for (const name of ['frontend1', 'database1'])
      await bed.fabric(['ip', 'route', 'replace', parties.addressOf(name), 'via', h1.address]);
    const asks = [
      ...pairs,
      ...fromOutside.filter(({ from, to }) => from === 'outside' || to === 'outside'),
      ...everyPair(['host', 'frontend1'], KINDS),
    ];
    await parties.expect(
      asks,
      ask =>
        ask.from === 'host' || ask.to === 'host' || ask.to === 'outside' || role(ask.from) === role(ask.to),
    );
    const kept = await everything(h1, endpoint);
    for (const name of ['frontend', 'database'])
      expect(Object.keys(kept)).toContain(`${RESOURCES}/profiles/${name}`);
  });

  it('profiles: what is allowed by an edit, and only that, within 100 ms', async () => {
    const key = Buffer.from(`${RESOURCES}/profiles/database`).toString('base64');
    const put = async (ports: readonly number[]) => {
      const spec = {
        ingress: [
          { action: 'Allow', protocol: 'UDP', source: { selector: 'has(frontend)' }, destination: { ports } },
          {
            action: 'Allow',
            protocol: 'TCP',
            source: { selector: 'has(frontend)' },
            destination: { ports: [SQL] },
          },
          { action: 'Allow', source: { selector: 'has(database)' } },
        ],
        egress: [{ action: 'Allow' }],
        labelsToApply: { database: '' },
      };
      const resource = {
        kind: 'Profile',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'database' },
        spec,
      };
      const value = Buffer.from(JSON.stringify(resource)).toString('base64');
      return (await parties.program('host').call('post', `${endpoint}/v3/kv/put`, { key, value })) as {
        asked: number;
        answered: number;
      };
    };
    const delays: number[] = [];
    for (let run = 0; run < 7; run += 1) {
      await put([SQL]);
      await parties.expect([{ from: 'frontend1', to: 'database2', protocol: 'udp', port: 80 }], () => false);
      const probe = parties.probe({ from: 'frontend1', to: 'database2', protocol: 'udp', port: 80 });
      const answered = parties.program('frontend1').call('firstAnswer', probe, 5_000);
      const { asked } = await put([SQL, 80]);
      delays.push(Number(await answered) - asked);
    }
    console.log(`a new rule of a profile on another host after ${delays.join(', ')} ms`);
    expect(median(delays)).toBeLessThan(100);
    await put([SQL]);
    await parties.expect(
      pairs,
      ask =>
        isSql(ask) ||
        isWithin(ask, 'database') ||
        isWithin(ask, 'frontend') ||
        (role(ask.from) === 'frontend' &&
          role(ask.to) === 'database' &&
          ask.protocol === 'udp' &&
          ask.port === SQL),
    );
  });

  /** Of the tutorials: databases all of each other, frontends the database's port, nothing else. */
  const tutorial = async (): Promise<void> => {
    await apply('globalnetworkpolicies', 'database', {
      order: 0,
      selector: 'role == "database"',
      types: ['Ingress', 'Egress'],
      ingress: [
        {
          action: 'Allow',
          protocol: 'TCP',
          source: { selector: 'role == "frontend"' },
          destination: { ports: [SQL] },
        },
        { action: 'Allow', source: { selector: 'role == "database"' }, destination: {} },
      ],
      egress: [{ action: 'Allow', source: {}, destination: { selector: 'role == "database"' } }],
    });
    await apply('globalnetworkpolicies', 'default.frontend', {
      order: 0,
      selector: 'role == "frontend"',
      types: ['Ingress', 'Egress'],
      egress: [
        {
          action: 'Allow',
          protocol: 'TCP',
          source: {},
          destination: { selector: 'role == "database"', ports: [SQL] },
        },
      ],
    });
  };

  it('profiles and policy: labels that profiles give, rules in policies', async () => {
    for (const name of ['frontend', 'database'])
      await apply('profiles', name, { labelsToApply: { role: name }, ingress: [], egress: [] });
    await parties.expect(pairs, () => false);
    await tutorial();
    await parties.expect(pairs, ask => isSql(ask) || isWithin(ask, 'database'));
    for (const name of ['database', 'default.frontend']) await remove('globalnetworkpolicies', name);
    await parties.expect(pairs, () => false);
  });

  it('Docker labels and policy, in one network', async () => {
    await parties.end(...FOUR);
    for (const host of [h1, h2]) await host.run(['sh', '-c', 'docker rm -f $(docker ps -aq)']);
    await tutorial();
    await network('shared');
    for (const [index, host] of [h1, h2].entries())
      for (const name of ['frontend', 'database'])
        await start(host, `${name}${index + 1}`, 'shared', ...label(name));
    for (const [index, host] of [h1, h2].entries()) await start(host, `other${index + 1}`, 'shared');
    const asks = everyPair([...FOUR, 'other1', 'other2'], KINDS);
    await parties.expect(asks, ask => isSql(ask) || isWithin(ask, 'database') || isWithin(ask, 'other'));
    // What is explained is what was just seen.
    const explained = await Promise.all(
      everyPair(['frontend1', 'database2', 'other1'], [['tcp', SQL]]).map(async ask => {
        const argv = [process.execPath, join(REPOSITORY, 'dist/main.js'), 'policy', 'explain'];
        const ends = [ask.from, ask.to].map(name => parties.addressOf(name));
        const result = await h1.run([...argv, ...ends, `tcp/${SQL}`], { check: false, env: env() });
        const isAllowed = isSql(ask) || isWithin(ask, 'database') || isWithin(ask, 'other');
        return result.code === (isAllowed ? 0 : 1)
          ? []
          : [`${ask.from} to ${ask.to}: ${result.stdout}${result.stderr}`];
      }),
    );
    expect(explained.flat()).toEqual([]);
  });

  it('labels count from the first packet of a container', async () => {
    // What it is allowed to do it can do at once, and what it is not it never could.
    const sql = ['nc', '-w', '3', parties.addressOf('database2'), String(SQL)];
    const run = (...args: string[]) =>
      h1.run(['docker', 'run', '--rm', '--net', 'shared', ...args], { check: false });
    const times: number[] = [];
    for (let turn = 0; turn < 3; turn += 1) {
      const began = Date.now();
      expect((await run(...label('frontend'), 'busybox', ...sql)).stdout).toBe('here');
      times.push(Date.now() - began);
    }
    console.log(`docker run that connects at once: ${times.join(', ')} ms`);
    expect(median(times)).toBeLessThan(1_900);
    await apply('globalnetworkpolicies', 'jailed', { selector: 'role == "jailed"', types: ['Egress'] });
    await parties.program('other2').call('arrived');
    const pings = async () => {
      const { stdout } = await h2.run([
        'nsenter',
        '--target',
        await pidOf(h2, 'other2'),
        '--net',
        '--',
        'cat',
        '/proc/net/snmp',
      ]);
      const [names = '', values = ''] = stdout.split('\n').filter(line => line.startsWith('Icmp:'));
      return Number(values.split(' ')[names.split(' ').indexOf('InEchos')]);
    };
    const before = await pings();
    const loop = `i=0; while [ $i -lt 40 ]; do i=$((i+1)); ping -c1 -W1 -w1 ${parties.addressOf('other2')} >/dev/null & usleep 25000; done; wait`;
    await Promise.all([1, 2, 3].map(() => run(...label('jailed'), 'busybox', 'sh', '-c', loop)));
    expect(await pings()).toBe(before);
    // The same without the label: the test would see it.
    await run('busybox', 'sh', '-c', loop);
    expect(await pings()).toBeGreaterThan(before);
    await remove('globalnetworkpolicies', 'jailed');
  });
  const pidOf = (host: Host, name: string) => host.docker('inspect', '--format', '{{.State.Pid}}', name);

  it('a published port is consent, unless a policy denies it', async () => {
    await start(h1, 'web1', 'shared', '-p', '8080:80', '-p', '8081:80/udp', ...label('web'));
    await bed.fabric(['ip', 'route', 'replace', parties.addressOf('web1'), 'via', h1.address]);
    const published = { source: '10.99.0.1', destination: h1.address };
    const asked = async () => {
      const probes = [
        { ...parties.probe({ from: 'outside', to: 'web1', protocol: 'tcp', port: 8080 }), ...published },
        { ...parties.probe({ from: 'outside', to: 'web1', protocol: 'udp', port: 8081 }), ...published },
        // Not by the published port: nobody consented.
        parties.probe({ from: 'outside', to: 'web1', protocol: 'tcp', port: 80 }),
      ];
      return (await parties.program('outside').call('probe', probes, 400)) as string[];
    };
    const becomes = async (...wanted: string[]): Promise<void> => {
      let last: string[] = [];
      await poll('it', 3_000, async () => {
        last = await asked();
        return last.join() === wanted.join();
      }).catch(() => undefined);
      expect(last).toEqual(wanted);
    };
    await becomes('answer', 'answer', 'silence');
    await apply('globalnetworkpolicies', 'web', {
      selector: 'role == "web"',
      ingress: [{ action: 'Deny', protocol: 'TCP', source: { nets: ['10.99.0.0/16'] } }, { action: 'Pass' }],
    });
    await becomes('silence', 'answer', 'silence');
    await remove('globalnetworkpolicies', 'web');
    await becomes('answer', 'answer', 'silence');
  });

  /** What arrives of two volleys while something happens: of one that is allowed, and one that is not. */
  async function volleys(happens: () => Promise<unknown>) {
    const allowed = parties.probe({ from: 'database1', to: 'database2', protocol: 'udp', port: 80 });
    const denied = parties.probe({ from: 'other1', to: 'database2', protocol: 'udp', port: 80 });
    const [own, others] = [
      { ...allowed, number: 1_000_000, sourcePort: 10_000 },
      { ...denied, number: 2_000_000, sourcePort: 10_000 },
    ];
    await parties.program('database2').call('arrived');
    const sent = [
      parties.program('database1').call('volley', own, 5),
      parties.program('other1').call('volley', others, 5),
    ];
    await new Promise(resolve => setTimeout(resolve, 200));
    await happens();
    for (const name of ['database1', 'other1']) await parties.program(name).call('stop');
    const [sentAllowed, sentDenied] = (await Promise.all(sent)).map(Number);
    await new Promise(resolve => setTimeout(resolve, 100));
    const arrived = (await parties.program('database2').call('arrived')) as number[];
    const leaked = arrived.filter(number => number >= 2_000_000).map(number => number - 2_000_000);
    return { sentAllowed, arrived: arrived.length - leaked.length, sentDenied, leaked };
  }

  it.each(['SIGTERM', 'SIGKILL'] as const)('stays in force while the daemon restarts by %s', async signal => {
    const {
      sentAllowed = 0,
      arrived,
      leaked,
    } = await volleys(async () => {
      for (const host of [h1, h2]) await host.stopServe(signal);
      // What is changed meanwhile is in force when it is back.
      await apply('globalnetworkpolicies', 'meanwhile', { order: -1, selector: 'role == "meanwhile"' });
      for (const host of [h1, h2]) await host.serve(env());
      await new Promise(resolve => setTimeout(resolve, 1_000));
    });
    expect(leaked).toEqual([]);
    expect(sentAllowed - arrived).toBe(0);
    expect(sentAllowed).toBeGreaterThan(100);
    await remove('globalnetworkpolicies', 'meanwhile');
    await parties.expect(
      everyPair([...FOUR, 'other1', 'other2'], KINDS),
      ask => isSql(ask) || isWithin(ask, 'database') || isWithin(ask, 'other'),
    );
  });

  it('comes back within a second when somebody flushes all tables', async () => {
    let restored = Infinity;
    const { leaked, sentDenied } = await volleys(async () => {
      const began = Date.now();
      await Promise.all([h1, h2].map(host => host.run(['nft', 'flush', 'ruleset'])));
      const has = async (host: Host) =>
        (await host.run(['nft', 'list', 'table', 'inet', 'calico_policy'], { check: false })).code === 0;
      await poll('the table', 5_000, async () => (await has(h1)) && (await has(h2)));
      restored = Date.now() - began;
      await new Promise(resolve => setTimeout(resolve, 1_000));
    });
    console.log(
      `flush: table back after ${restored} ms; of ${String(sentDenied)} denied packets, one each 5 ms, ${leaked.length} got through`,
    );
    expect(restored).toBeLessThan(1_000);
    expect(leaked.length * 5).toBeLessThan(1_000);
    await parties.expect(pairs, ask => isSql(ask) || isWithin(ask, 'database'));
  });

  it('no container starts where policy cannot be put in force, and the error says why', async () => {
    const bringBack = await without(h1, 'nft');
    await h1.stopServe();
    await h1.serve(env());
    const error = await h1.dockerFails('run', '--rm', '--net', 'shared', 'busybox', 'true');
    expect(error).toContain('nft');
    // What was in force stays so.
    await parties.expect(pairs, ask => isSql(ask) || isWithin(ask, 'database'));
    await bringBack();
    await poll('a container', 10_000, async () => {
      const argv = ['docker', 'run', '--rm', '--net', 'shared', 'busybox', 'true'];
      return (await h1.run(argv, { check: false })).code === 0;
    });
  });
});
