import { readFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { isObject, objectOrEmpty, parseJson } from '../../src/model/json.js';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';
import { CALICO, container } from './calico-host.js';
import { dump, EMBEDDED } from './datastore.js';
import { addressIn, onEachEngine, put, remove, sweep } from './matrix.js';
import { inside, serveIn } from './traffic.js';

/** A container's label that is meant for its endpoint. */
const label = (name: string, value: string) => ['--label', `org.projectcalico.label.${name}=${value}`];

const POLICIES = '/calico/resources/v3/projectcalico.org/globalnetworkpolicies';

/** How many pings have arrived in a network namespace. */
async function pings(host: Host, enter: readonly string[]): Promise<number> {
  const { stdout } = await host.run([...enter, 'cat', '/proc/net/snmp']);
  const [names = '', values = ''] = stdout.split('\n').filter(line => line.startsWith('Icmp:'));
  return Number(values.split(' ')[names.split(' ').indexOf('InEchos')]);
}

const median = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Infinity;

onEachEngine('labels of containers', {}, matrix => {
  afterEach(() => sweep(matrix.host));
  const network = (name: string, subnet: string) =>
    matrix.host.docker('network', 'create', ...CALICO, `--subnet=${subnet}`, name);

  /** The labels of a container's endpoint in a network, without Calico's own. */
  async function labelsOf(host: Host, name: string, net: string): Promise<Record<string, unknown>> {
    const address = await addressIn(host, name, net);
    const found = Object.entries(await dump(host)).find(
      ([key, value]) => key.includes('/workloadendpoints/') && value?.includes(`"${address}/32"`),
    );
    const endpoint = parseJson(found?.[1] ?? 'null');
    if (!isObject(endpoint)) throw new Error(`${name} has no endpoint in ${net}`);
    const labels = objectOrEmpty(objectOrEmpty(endpoint['metadata'])['labels']);
    return Object.fromEntries(
      Object.entries(labels).filter(([key]) => !key.startsWith('projectcalico.org/')),
    );
  }
  const untilLabels = async (name: string, net: string, wanted: Record<string, string>) => {
    let seen: Record<string, unknown> = {};
    await poll('labels', 3_000, async () => {
      seen = await labelsOf(matrix.host, name, net);
      return JSON.stringify(seen) === JSON.stringify(wanted);
    }).catch(() => undefined);
    expect(seen).toEqual(wanted);
  };

  it('are on the endpoint within 100 ms of the start', async () => {
    const { host } = matrix;
    await network('net24', '192.0.2.0/24');
    const argv = ['etcdctl', '--endpoints', EMBEDDED, 'watch', '--prefix', '/calico/resources/v3/'];
    const watch = await host.spawn(argv, { env: { ETCDCTL_API: '3' }, log: 'watch' });
    await container(host, 'first', 'net24');
    await poll('the watch', 5_000, () => watch.output().includes('workloadendpoints'));
    const delays: number[] = [];
    for (let run = 0; run < 7; run += 1) {
      await container(host, `web${run}`, 'net24', ...label('run', `number-${run}`), '--label', 'other=no');
      const started = performance.now();
      const isThere = () => readFileSync(watch.log, 'utf8').includes(`"number-${run}"`);
      await poll(`label of web${run}`, 5_000, isThere);
      delays.push(Math.round(performance.now() - started));
    }
    watch.kill('SIGKILL');
    console.log(`Docker ${matrix.engine}: labels after ${delays.join(', ')} ms`);
    expect(median(delays)).toBeLessThan(100);
    expect(await labelsOf(host, 'web3', 'net24')).toEqual({ run: 'number-3' });
    expect(await labelsOf(host, 'first', 'net24')).toEqual({});
  });

  it('are on the endpoints of all networks, also of those connected later, and after a restart', async () => {
    const { host } = matrix;
    await network('net1', '192.0.2.0/24');
    await network('net2', '198.51.100.0/24');
    await container(host, 'web', 'net1', ...label('role', 'db'), ...label('example.com/tier', 'two'));
    const wanted = { 'example.com/tier': 'two', role: 'db' };
    await untilLabels('web', 'net1', wanted);
    await host.docker('network', 'connect', 'net2', 'web');
    await untilLabels('web', 'net2', wanted);
    await host.docker('restart', '-t', '0', 'web');
    await untilLabels('web', 'net1', wanted);
    await untilLabels('web', 'net2', wanted);
    // Connected while it is stopped: nothing is said until it starts.
    await container(host, 'late', 'net1', ...label('role', 'late'));
    await host.docker('stop', '-t', '0', 'late');
    await host.docker('network', 'connect', 'net2', 'late');
    await host.docker('start', 'late');
    await untilLabels('late', 'net1', { role: 'late' });
    await untilLabels('late', 'net2', { role: 'late' });
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'are copied by a daemon that comes back after %s',
    async signal => {
      const { host } = matrix;
      await network('net1', '192.0.2.0/24');
      await network('net2', '198.51.100.0/24');
      await container(host, 'web', 'net1', ...label('role', 'db'));
      await untilLabels('web', 'net1', { role: 'db' });
      await host.stopServe(signal);
      await host.serve();
      await untilLabels('web', 'net1', { role: 'db' });
      await container(host, 'new', 'net1', ...label('role', 'new'));
      await untilLabels('new', 'net1', { role: 'new' });
      await host.docker('network', 'connect', 'net2', 'web');
      await untilLabels('web', 'net2', { role: 'db' });
    },
  );

  it('that are no labels to Calico stop nothing', async () => {
    const { host } = matrix;
    await network('net1', '192.0.2.0/24');
    await container(
      host,
      'odd',
      'net1',
      ...label('odd/na/me', 'x'),
      ...label('role', 'db'),
      ...label('long', 'y'.repeat(300)),
    );
    await poll('the good label', 3_000, async () => (await labelsOf(host, 'odd', 'net1'))['role'] === 'db');
    await container(host, 'next', 'net1', ...label('role', 'next'));
    await untilLabels('next', 'net1', { role: 'next' });
  });

  it('select policy from the first packet on', async () => {
    const { host } = matrix;
    await network('net1', '192.0.2.0/24');
    await container(host, 'db', 'net1', ...label('role', 'db'));
    await untilLabels('db', 'net1', { role: 'db' });
    await serveIn(host, 'db', 3306);
    const policy = (name: string, spec: object) =>
      put(host, `${POLICIES}/${name}`, {
        kind: 'GlobalNetworkPolicy',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name },
        spec,
      });
    const address = await addressIn(host, 'db', 'net1');
    const source = { selector: 'role == "frontend"' };
    const destination = { ports: [3306] };
    await policy('db', {
      selector: 'role == "db"',
      ingress: [{ action: 'Allow', protocol: 'TCP', source, destination }],
    });
    await policy('jailed', { selector: 'role == "jailed"', types: ['Egress'] });
    const outcome = async (...args: string[]) => {
      const run = ['docker', 'run', '--rm', '--net', 'net1', ...args];
      return (await host.run(run, { check: false })).stdout;
    };
    const enter = await inside(host, 'db');
    const before = await pings(host, enter);
    const often = `i=0; while [ $i -lt 20 ]; do i=$((i+1)); ping -c1 -w1 ${address} >/dev/null & usleep 25000; done; wait`;
    // The first thing they do. Without their labels the last one could: its network's profile lets it.
    const [right, wrong] = await Promise.all([
      outcome(...label('role', 'frontend'), 'busybox', 'nc', '-w', '3', address, '3306'),
      outcome('busybox', 'nc', '-w', '2', address, '3306'),
    ]);
    expect(right).toMatch(/^db /);
    expect(wrong).toBe('');
    await remove(host, `${POLICIES}/db`);
    await outcome(...label('role', 'jailed'), 'busybox', 'sh', '-c', often);
    expect(await pings(host, enter)).toBe(before);
    await outcome('busybox', 'ping', '-c1', '-w3', address);
    expect(await pings(host, enter)).toBe(before + 1);
    await remove(host, `${POLICIES}/jailed`);
  });

  it('stay where they are with CALICO_LIBNETWORK_LABEL_ENDPOINTS=false', async () => {
    const { host } = matrix;
    await network('net1', '192.0.2.0/24');
    await host.stopServe();
    await host.serve({ CALICO_LIBNETWORK_LABEL_ENDPOINTS: 'false' });
    await container(host, 'web', 'net1', ...label('role', 'db'));
    await new Promise(resolve => setTimeout(resolve, 1_000));
    expect(await labelsOf(host, 'web', 'net1')).toEqual({});
    await host.stopServe();
    await host.serve();
    // What a daemon that does copy finds.
    await untilLabels('web', 'net1', { role: 'db' });
  });
});
