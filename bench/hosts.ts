import { Bed } from '../test/bed/bed.js';
import { startEtcd } from '../test/bed/etcd.js';
import type { Host } from '../test/bed/host.js';
import { poll } from '../test/bed/poll.js';
import { aim, median, percentile, round, say, table } from './support/report.js';
import { tools } from './support/tools.js';
import type { Tool } from './support/tools.js';

/**
 * TCP and round trips between two hosts of a bed, one contestant after the other in each round: host to host, the same
 * path wired by hand with plain routes (no rules; and with the kernel's connection tracking and nothing else), Docker's
 * overlay, calico; on one host a user-defined bridge and calico; and the time from the end of `docker run` to the first
 * packet from another host. Arguments: `--rounds=N`, `--seconds=N` of each stream, `--starts=N`.
 */

const number = (name: string, usual: number): number =>
  Number(new RegExp(`--${name}=(\\d+)`).exec(process.argv.join(' '))?.[1] ?? usual);
const ROUNDS = number('rounds', 12);
const SECONDS = number('seconds', 1);
const STARTS = number('starts', 15);
const PINGS = 300;

/** A place that packets come from or go to: a network namespace of a host. */
interface Place {
  readonly host: Host;
  /** Command line that leads there. */
  readonly enter: readonly string[];
  readonly address: string;
}

interface Contestant {
  readonly name: string;
  readonly server: Place;
  readonly client: Place;
  /** Run before each of its measurements. */
  readonly before?: () => Promise<void>;
}

const CALICO = ['--driver', 'calico', '--ipam-driver', 'calico-ipam'];
const TRACKING = `table ip hand {
  chain in {
    type filter hook prerouting priority -150
    ct state invalid drop
  }
}
`;

async function container(host: Host, name: string, network: string): Promise<Place> {
  await host.docker('run', '-d', '--name', name, '--net', network, 'busybox', 'sleep', '1d');
  const one = `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`;
  const [address = '', pid = ''] = (await host.docker('inspect', '-f', `${one} {{.State.Pid}}`, name)).split(
    ' ',
  );
  return { host, enter: ['nsenter', '-t', pid, '-n', '--'], address };
}

/** A namespace with a veth, an address and routes, and nothing besides, on a host without Docker. */
async function byHand(host: Host, other: Host, index: number): Promise<Place> {
  const address = `10.65.${index}.2`;
  const inside = ['ip', 'netns', 'exec', 'box'];
  for (const line of [
    'ip netns add box',
    'ip link add hand0 type veth peer name eth0 netns box',
    'ip link set hand0 up',
    'ip address add 169.254.1.1/32 dev hand0',
    `ip route add ${address}/32 dev hand0`,
    `ip route add 10.65.${3 - index}.0/24 via ${other.address}`,
    `ip netns exec box ip link set lo up`,
    `ip netns exec box ip link set eth0 up`,
    `ip netns exec box ip address add ${address}/32 dev eth0`,
    `ip netns exec box ip route add 169.254.1.1 dev eth0 scope link`,
    `ip netns exec box ip route add default via 169.254.1.1 dev eth0`,
  ])
    await host.run(line.split(' '));
  await host.run(['tee', '/proc/sys/net/ipv4/ip_forward'], { input: '1' });
  return { host, enter: inside, address };
}

async function overlay(hosts: readonly [Host, Host]): Promise<void> {
  const [first, second] = hosts;
  await first.docker('swarm', 'init', '--advertise-addr', first.address);
  const token = await first.docker('swarm', 'join-token', '-q', 'worker');
  await second.docker(
    'swarm',
    'join',
    '--token',
    token,
    '--advertise-addr',
    second.address,
    `${first.address}:2377`,
  );
  await first.docker('network', 'create', '-d', 'overlay', '--attachable', 'over');
}

/** Bits per second that the server got. */
async function stream(tool: Tool, { server, client }: Contestant): Promise<number> {
  const ask = tool('iperf3', '-c', server.address, '-t', String(SECONDS), '-J');
  const { stdout } = await client.host.run([...client.enter, ...ask]);
  const text = /"sum_received":\s*\{[^}]*"bits_per_second":\s*([\d.e+]+)/.exec(stdout)?.[1];
  if (text === undefined) throw new Error(`iperf3 said ${stdout}`);
  return Number(text);
}

/** Microseconds of each round trip. */
async function roundTrips(tool: Tool, { server, client }: Contestant): Promise<number[]> {
  const ask = tool('ping', '-n', '-A', '-c', String(PINGS), server.address);
  const { stdout } = await client.host.run([...client.enter, ...ask]);
  return [...stdout.matchAll(/ time=([\d.]+) ms/g)].map(match => Number(match[1]) * 1_000);
}

/**
 * Milliseconds from the end of `docker run` on the first host until the second has an answer to its packets, which it sends
 * every 2 ms from before that on. Less than none: it answered before `docker run` did.
 */
async function firstPackets(tool: Tool, target: Host, from: Place, isNewBlock: boolean): Promise<number[]> {
  const times: number[] = [];
  for (let index = -1; index < STARTS; index += 1) {
    // Of the same network as whoever asks: others are isolated from it.
    const network = isNewBlock ? 'fresh' : 'calnet';
    const address = isNewBlock ? `10.77.${index + 2}.5` : `192.0.2.${200 + index}`;
    const log = `/run/first-${isNewBlock}-${index}`;
    const ask = tool('ping', '-n', '-D', '-i', '0.002', '-W', '1', address);
    const pings = await from.host.spawn([...from.enter, ...ask], { log: log.slice(5) });
    const script =
      'docker run -d --rm --name first --net "$0" --ip "$1" busybox sleep 1d >/dev/null && echo $EPOCHREALTIME';
    const ended = Number((await target.run(['bash', '-c', script, network, address])).stdout);
    const answered = await poll(`an answer of ${address}`, 10_000, () => {
      const text = /^\[([\d.]+)\].* time=/m.exec(pings.output())?.[1];
      return text === undefined ? undefined : Number(text);
    });
    await pings.stop('SIGKILL');
    if (index >= 0) times.push((answered - ended) * 1_000);
    await target.docker('rm', '-f', 'first');
  }
  return times;
}

async function main(): Promise<void> {
  const tool = await tools();
  const bed = await Bed.up({ hosts: 4, engine: '28' });
  try {
    const [first, second, third, fourth] = [1, 2, 3, 4].map(index => bed.host(index)) as [
      Host,
      Host,
      Host,
      Host,
    ];
    const { endpoint } = await startEtcd(first);
    for (const host of [first, second]) {
      await host.serve({ ETCD_ENDPOINTS: endpoint });
      await host.dockerd();
      await host.image();
    }
    await overlay([first, second]);
    await first.docker('network', 'create', ...CALICO, '--subnet', '192.0.2.0/24', 'calnet');
    await first.docker('network', 'create', ...CALICO, '--subnet', '10.77.0.0/16', 'fresh');
    await first.docker('network', 'create', 'userbr');
    await poll('the network on the other host', 10_000, async () =>
      /calnet[^]*fresh/.test(await second.docker('network', 'ls', '--format={{.Name}}')),
    );
    const bare = (host: Host): Place => ({ host, enter: [], address: host.address });
    const hand = { server: await byHand(third, fourth, 1), client: await byHand(fourth, third, 2) };
    const untrack = async (): Promise<void> => {
      for (const { host } of [hand.server, hand.client])
        await host.run(['nft', 'delete', 'table', 'ip', 'hand'], { check: false });
    };
    const track = async (): Promise<void> => {
      for (const { host } of [hand.server, hand.client])
        await host.run(['nft', '-f', '-'], { input: TRACKING });
    };
    const calico = {
      server: await container(first, 'cal1', 'calnet'),
      client: await container(second, 'cal2', 'calnet'),
    };
    const contestants: Contestant[] = [
      { name: 'host to host', server: bare(first), client: bare(second) },
      { name: 'by hand, no rules', ...hand, before: untrack },
      { name: 'by hand, tracked', ...hand, before: track },
      { name: 'calico', ...calico },
      {
        name: 'overlay',
        server: await container(first, 'over1', 'over'),
        client: await container(second, 'over2', 'over'),
      },
      {
        name: 'one host: bridge',
        server: await container(first, 'br1', 'userbr'),
        client: await container(first, 'br2', 'userbr'),
      },
      { name: 'one host: calico', server: calico.server, client: await container(first, 'cal3', 'calnet') },
    ];
    for (const { host, enter } of new Set(contestants.map(({ server }) => server)))
      await host.spawn([...enter, ...tool('iperf3', '-s')], { log: 'iperf3' });
    const rates = new Map(contestants.map(({ name }) => [name, [] as number[]]));
    const trips = new Map(contestants.map(({ name }) => [name, [] as number[]]));
    for (let turn = -1; turn < ROUNDS; turn += 1)
      for (const one of contestants) {
        await one.before?.();
        const [rate, times] = [await stream(tool, one), await roundTrips(tool, one)];
        if (turn < 0) continue;
        rates.get(one.name)?.push(rate);
        // The fastest tenth: a wait for a processor is no part of the path.
        trips.get(one.name)?.push(percentile(times, 0.1));
      }
    report(rates, trips);
    for (const isNewBlock of [false, true]) {
      const from = isNewBlock ? await container(second, 'fresh1', 'fresh') : calico.client;
      const times = await firstPackets(tool, first, from, isNewBlock);
      const what = `docker run's end to a packet from another host, ${isNewBlock ? 'new block' : 'block in use'}`;
      aim(what, median(times), '<=', 50, ' ms');
      say(`  90th percentile ${round(percentile(times, 0.9))} ms, of ${times.length}`);
    }
  } finally {
    await bed.down();
  }
}

function report(rates: ReadonlyMap<string, number[]>, trips: ReadonlyMap<string, number[]>): void {
  const of = (name: string): readonly number[] => rates.get(name) ?? [];
  /** The median of the ratios within each round: what else the machine does changes from round to round. */
  const ratio = (one: string, other: string): number =>
    median(of(one).map((value, index) => value / (of(other)[index] ?? NaN)));
  const trip = (name: string): number => median(trips.get(name) ?? []);
  say(`${ROUNDS} rounds, one TCP stream of ${SECONDS} s and ${PINGS} round trips each in turn`);
  table([
    ['path', 'Gbit/s', 'p10', 'p90', '/ host', 'round trip µs'],
    ...[...rates].map(([name, values]) => [
      name,
      ...[0.5, 0.1, 0.9].map(share => round(percentile(values, share) / 1e9)),
      round(ratio(name, 'host to host')),
      round(trip(name)),
    ]),
  ]);
  aim('calico / by hand, tracked', ratio('calico', 'by hand, tracked'), '>=', 0.97);
  aim('calico / by hand, no rules', ratio('calico', 'by hand, no rules'), '>=', 0.97);
  aim('calico / overlay', ratio('calico', 'overlay'), '>=', 1.15);
  const extra = (name: string): number => trip(name) - trip('host to host');
  aim("extra round trip / overlay's extra", extra('calico') / extra('overlay'), '<=', 0.5);
  aim('on one host: calico / user-defined bridge', ratio('one host: calico', 'one host: bridge'), '>=', 1);
}

await main();
