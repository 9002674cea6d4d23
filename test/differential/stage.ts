import type { HostState, PublishedPort } from '../../src/host/dataplane.js';
import { PretendHost } from '../host/pretend-host.js';
import type { Namespace } from '../host/pretend-host.js';
import { LineProcess } from './line-process.js';
import { HOST, LOCAL, OUTSIDE, PLACES, REMOTE, addressOf, placeOf } from './places.js';
import type { Packet } from './packets.js';
import { SERVED, packetText } from './packets.js';
import type { Probe } from './prober-program.js';
import type { World } from './world.js';

/** Milliseconds in which a packet that passes is certainly answered on a machine that is not busy; 30 times what it takes. */
const WAIT = 150;
/** The same on a busy machine: for packets that should have been answered. */
const PATIENCE = 3000;

const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26', 'fd65::/122'],
  masqueradeFrom: ['10.65.0.0/16', 'fd65::/64'],
  pools: ['10.65.0.0/16', '10.66.0.0/16', 'fd65::/64', 'fd66::/64'],
  published: [],
  internal: [],
};

/** What became of a packet. `half`: it arrived, and its answer did not. */
export type Outcome = 'passed' | 'dropped' | 'half';

/**
 * A host with containers, an uplink, other hosts' containers and the world behind it, and in each a program that sends and
 * answers packets. Everything is wired by the real dataplane and nobody's policy is in force.
 */
export class Stage {
  private sent = 0;
  private published = '[]';

  private constructor(
    readonly host: PretendHost,
    private readonly probers: ReadonlyMap<string, LineProcess>,
  ) {}

  static async build(): Promise<Stage> {
    const host = await PretendHost.boot();
    await host.call('apply', STATE);
    const uplink = await host.outside();
    await uplink.all(['ip route add default via 198.51.100.1', 'ip -6 route add default via 2001:db8::1']);
    for (const address of [...REMOTE, ...OUTSIDE].flatMap(({ addresses }) => addresses)) {
      const isV6 = address.includes(':');
      await uplink.run(`ip addr add ${address}/${isV6 ? '128' : '32'} dev cable${isV6 ? ' nodad' : ''}`);
    }
    for (const subnet of ['10.66.0.0/24', '203.0.113.0/24'])
      await host.run(`ip route add ${subnet} via 198.51.100.2`);
    for (const subnet of ['fd66::/64', 'fd67::/64'])
      await host.run(`ip -6 route add ${subnet} via 2001:db8::2`);
    // A connection of an earlier world must not let in a packet of this one.
    await host.all(
      ['udp_timeout', 'udp_timeout_stream', 'icmp_timeout', 'icmpv6_timeout', 'tcp_timeout_close'].map(
        name => `busybox sysctl -q -w net.netfilter.nf_conntrack_${name}=1`,
      ),
    );
    const spaces = new Map<string, Namespace>([[HOST.name, host]]);
    for (const { name, wiring } of LOCAL)
      if (wiring !== undefined) spaces.set(name, await host.container(wiring));
    const probers = new Map([...spaces].map(([name, space]) => [name, prober(space)]));
    const beyond = prober(uplink);
    for (const { name } of [...REMOTE, ...OUTSIDE]) probers.set(name, beyond);
    await Promise.all(
      [...new Set(probers.values())].map(each =>
        each.call(
          'serve',
          SERVED,
          PLACES.flatMap(({ name, addresses }) => (probers.get(name) === each ? addresses : [])),
        ),
      ),
    );
    const stage = new Stage(host, probers);
    await stage.warmUp();
    return stage;
  }

  /** What becomes of packets, in order. `expected`: whether it should pass; who disappoints is asked again, with patience. */
  async send(packets: readonly Packet[], expected: readonly boolean[]): Promise<Outcome[]> {
    const outcomes = await this.once(packets, WAIT);
    const again = packets.flatMap((_, index) =>
      outcomes[index] !== 'passed' && expected[index] === true ? [index] : [],
    );
    // A packet that was lost for another reason than policy: the machine was busy for as long as we waited.
    const second = await this.once(
      again.flatMap(index => anew(packets[index])),
      PATIENCE,
    );
    again.forEach((index, at) => (outcomes[index] = second[at] ?? 'dropped'));
    return outcomes;
  }

  /** Opens on the host the ports that the world says are published. */
  async publish(world: World): Promise<void> {
    const published = publishedIn(world);
    const text = JSON.stringify(published);
    if (text === this.published) return;
    await this.host.call('apply', { ...STATE, published });
    this.published = text;
  }

  /** Ends everything. */
  async end(): Promise<void> {
    await Promise.all([...new Set(this.probers.values())].map(each => each.end()));
    this.host.shutDown();
  }

  private async once(packets: readonly Packet[], wait: number): Promise<Outcome[]> {
    const first = this.sent + 1;
    this.sent += packets.length;
    const outcomes = new Map<number, string>();
    const batches = new Map<LineProcess, Probe[]>();
    packets.forEach((packet, index) => {
      const sender = this.proberOf(packet.from);
      batches.set(sender, [...(batches.get(sender) ?? []), probeOf(packet, first + index)]);
    });
    await Promise.all(
      [...batches].map(async ([sender, probes]) => {
        const answers = await sender.call('probe', probes, wait);
        probes.forEach(({ number }, at) => outcomes.set(number, textAt(answers, at)));
      }),
    );
    const arrived = new Set<number>();
    for (const each of new Set(this.probers.values()))
      for (const number of (await each.call('arrived')) as number[]) arrived.add(number);
    return packets.map((packet, index) => {
      const outcome = outcomes.get(first + index);
      if (outcome === 'answer') return 'passed';
      if (outcome !== 'silence') throw new Error(`${packetText(packet)}: ${String(outcome)}`);
      return arrived.has(first + index) ? 'half' : 'dropped';
    });
  }

  /** Waits until everybody reaches everybody: addresses of the host's interfaces are tentative at first. */
  private async warmUp(): Promise<void> {
    const packets: Packet[] = [];
    for (const from of PLACES)
      for (const to of PLACES) {
        const touchesHost = from.kind === 'local' || to.kind === 'local';
        for (const family of [4, 6] as const)
          if (from !== to && touchesHost && addressOf(from, family) && addressOf(to, family))
            packets.push({
              ...{ from: from.name, to: to.name, family, protocol: 'tcp' },
              ...{ fromPort: 10_000 + packets.length * 20, port: 80 },
            });
      }
    let left = packets;
    const end = Date.now() + 20_000;
    while (left.length > 0) {
      const outcomes = await this.once(left, 500);
      left = left.filter((_, index) => outcomes[index] !== 'passed').flatMap(anew);
      const [stuck] = left;
      if (stuck !== undefined && Date.now() > end)
        throw new Error(`without any policy: no ${packetText(stuck)}`);
    }
  }

  private proberOf(place: string): LineProcess {
    const found = this.probers.get(place);
    if (found === undefined) throw new Error(`nobody is at ${place}`);
    return found;
  }
}

function prober(space: Namespace): LineProcess {
  return new LineProcess(
    ['nsenter', '-t', String(space.pid), '-n', '-m'],
    'test/differential/prober-program.ts',
  );
}

function probeOf({ from, to, family, protocol, fromPort, port }: Packet, number: number): Probe {
  const [source = '', destination = ''] = [from, to].map(place => addressOf(placeOf(place), family));
  return { number, protocol, source, sourcePort: fromPort, destination, destinationPort: port };
}

/** The same packet of another connection: the kernel does not give a port to two at once. */
function anew(packet: Packet | undefined): Packet[] {
  if (packet === undefined) return [];
  return [packet.protocol === 'icmp' ? packet : { ...packet, fromPort: packet.fromPort + 1 }];
}

/** By each of the endpoint's families, as dockerd asks for it. */
function publishedIn(world: World): PublishedPort[] {
  return world.endpoints.flatMap(({ place, ports }) =>
    ports.flatMap(({ hostPort, protocol, port }) =>
      hostPort === undefined
        ? []
        : placeOf(place).addresses.map(address => ({
            ...{ hostPort, address, port },
            protocol: protocol === 'TCP' ? ('tcp' as const) : ('udp' as const),
          })),
    ),
  );
}

function textAt(answers: unknown, at: number): string {
  return Array.isArray(answers) ? String(answers[at]) : 'no answers';
}
