import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Bed } from '../test/bed/bed.js';
import { startEtcd } from '../test/bed/etcd.js';
import type { Host } from '../test/bed/host.js';
import { poll } from '../test/bed/poll.js';
import { aim, median, percentile, round, say, table } from './support/report.js';

/**
 * What 1,000 policies cost: TCP throughput and new connections between containers of one host and of two, and
 * `docker run`, with them and without, in turn, in one run. `npm run bench -- policy-traffic [--rounds=N]`
 */

const ROUNDS = Number(/--rounds=(\d+)/.exec(process.argv.join(' '))?.[1] ?? 8);
const POLICIES = 1_000;
/** So many policies apply to each container. */
const ROLES = 100;
const SECONDS = 2;
const RUNS = 4;
const LOAD = fileURLToPath(new URL('support/load.js', import.meta.url));
const PREFIX = '/calico/resources/v3/projectcalico.org/globalnetworkpolicies/';

/** Ten policies for each of a hundred roles. The last of each ten lets the measured traffic through, both ways. */
function policy(index: number): string {
  const role = `role${index % ROLES}`;
  const isLast = index >= POLICIES - ROLES;
  const peer = isLast
    ? `role in {'${role}', 'role0', 'role1'}`
    : `role == 'role${(index * 7) % ROLES}' && has(nothing)`;
  const tcp = { action: 'Allow', protocol: 'TCP' };
  const spec = {
    order: index,
    selector: `role == '${role}'`,
    types: ['Ingress', 'Egress'],
    ingress: [
      { ...tcp, source: { selector: peer }, destination: isLast ? {} : { ports: [80, 443, '8000:8100'] } },
      { ...tcp, source: { nets: [`172.20.${index % 256}.0/24`] } },
    ],
    egress: [
      { ...tcp, destination: { selector: peer } },
      { ...tcp, destination: { nets: ['172.21.0.0/16'] } },
    ],
  };
  const metadata = { name: `p${index}` };
  return JSON.stringify({ kind: 'GlobalNetworkPolicy', apiVersion: 'projectcalico.org/v3', metadata, spec });
}

/** Puts all policies there, or takes them away, and waits until hosts have done with it. */
async function setPolicies(hosts: readonly Host[], etcd: string, present: boolean): Promise<void> {
  const [first] = hosts;
  if (first === undefined) return;
  const env = { ETCDCTL_API: '3' };
  const etcdctl = (input: string, ...args: string[]) =>
    first.run(['etcdctl', '--endpoints', etcd, ...args], { env, input });
  if (!present) await etcdctl('', 'del', '--prefix', PREFIX);
  else
    for (let from = 0; from < POLICIES; from += 100) {
      const puts = Array.from(
        { length: 100 },
        (_, at) => `put ${PREFIX}p${from + at} ${JSON.stringify(policy(from + at))}`,
      );
      // No compares; what to do if they hold; what to do else.
      await etcdctl(`\n${puts.join('\n')}\n\n\n`, 'txn');
    }
  for (const host of hosts)
    await poll(`policies on ${host.name}`, 60_000, async () => {
      const { stdout } = await host.run(['nft', 'list', 'table', 'inet', 'calico_policy']);
      return stdout.includes('172.21.0.0') === present;
    });
  await sleep(1_000);
}

interface Container {
  readonly host: Host;
  readonly enter: readonly string[];
  readonly address: string;
}

async function container(host: Host, name: string, role: string): Promise<Container> {
  const label = `org.projectcalico.label.role=${role}`;
  await host.docker(
    'run',
    '-d',
    '--name',
    name,
    '--net',
    'calnet',
    '--label',
    label,
    'busybox',
    'sleep',
    '1d',
  );
  const format = '{{.State.Pid}} {{.NetworkSettings.Networks.calnet.IPAddress}}';
  const [pid = '', address = ''] = (await host.docker('inspect', '--format', format, name)).split(' ');
  return { host, enter: ['nsenter', '--target', pid, '--net', '--', process.execPath, LOAD], address };
}

async function serve({ host, enter }: Container, name: string): Promise<void> {
  const server = await host.spawn([...enter, 'serve'], { log: `load-${name}` });
  await poll(`server in ${name}`, 10_000, () => server.output().includes('serving'));
}

async function load(what: 'send' | 'connect', from: Container, to: Container): Promise<number> {
  const { stdout } = await from.host.run([...from.enter, what, to.address, String(SECONDS)]);
  return Number(stdout);
}

/** Milliseconds of one `docker run`. */
async function run(host: Host): Promise<number> {
  const label = 'org.projectcalico.label.role=role2';
  const script = `s=$EPOCHREALTIME; docker run --rm --net calnet --label ${label} busybox true && echo $s $EPOCHREALTIME`;
  const [start = NaN, end = NaN] = (await host.run(['bash', '-c', script])).stdout
    .trim()
    .split(' ')
    .map(Number);
  return (end - start) * 1_000;
}

const bed = await Bed.up({ hosts: 2, engine: '28' });
try {
  const [one, two] = [bed.host(1), bed.host(2)];
  const { endpoint } = await startEtcd(one);
  for (const host of [one, two]) {
    await host.serve({ ETCD_ENDPOINTS: endpoint });
    await host.dockerd();
    await host.image();
  }
  await one.docker('network', 'create', '-d', 'calico', '--ipam-driver', 'calico-ipam', 'calnet');
  await poll('the network on the other host', 10_000, async () =>
    (await two.docker('network', 'ls')).includes('calnet'),
  );
  const client = await container(one, 'client', 'role0');
  const near = await container(one, 'near', 'role1');
  const far = await container(two, 'far', 'role1');
  await serve(near, 'near');
  await serve(far, 'far');

  const measures: Record<string, () => Promise<number>> = {
    'MB/s, one host': async () => (await load('send', client, near)) / 1e6,
    'MB/s, two hosts': async () => (await load('send', client, far)) / 1e6,
    'connections/s, one host': () => load('connect', client, near),
    'connections/s, two hosts': () => load('connect', client, far),
    'docker run, ms': async () => {
      const times: number[] = [];
      for (let turn = 0; turn < RUNS; turn += 1) times.push(await run(one));
      return median(times);
    },
  };
  for (const measure of Object.values(measures)) await measure();
  const found = new Map(
    Object.keys(measures).map(name => [name, { without: [] as number[], with: [] as number[] }]),
  );
  const order = ['without', 'with'] as const;
  for (let turn = 0; turn < ROUNDS; turn += 1)
    // Now this one first, now that: a machine that gets slower must not look like policy.
    for (const kind of turn % 2 === 0 ? order : [...order].reverse()) {
      await setPolicies([one, two], endpoint, kind === 'with');
      for (const [name, measure] of Object.entries(measures)) found.get(name)?.[kind].push(await measure());
    }
  say(`${POLICIES} policies, ${POLICIES / ROLES} of them for each container; ${ROUNDS} rounds in turn`);
  table([
    ['', 'without', 'with', 'ratio', 'p10', 'p90'],
    ...[...found].map(([name, values]) => {
      const ratios = values.with.map((value, at) => value / (values.without[at] ?? NaN));
      const shown = [median(values.without), median(values.with), median(ratios)];
      return [name, ...[...shown, percentile(ratios, 0.1), percentile(ratios, 0.9)].map(round)];
    }),
  ]);
  for (const [name, values] of found) {
    const ratio = median(values.with.map((value, at) => value / (values.without[at] ?? NaN)));
    if (name.startsWith('docker run')) aim(`${name}: with over without`, ratio, '<=', 1.05);
    else aim(`${name}: with over without`, ratio, '>=', 0.95);
  }
} finally {
  await bed.down();
}
