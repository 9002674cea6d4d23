import type { Random } from '../chaos/random.js';
import { HOST, LOCAL, OUTSIDE, REMOTE, addressOf, placeOf } from './places.js';
import type { Place } from './places.js';
import type { World } from './world.js';
import type { PortRange } from '../../src/host/policy.js';

/** The first packet of a connection, as its sender sends it. */
export interface Packet {
  /** Place that sends it. */
  readonly from: string;
  /** Place it is sent to: the host, where it is for a published port. */
  readonly to: string;
  readonly family: 4 | 6;
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  /** 0 for ICMP. */
  readonly fromPort: number;
  /** 0 for ICMP. */
  readonly port: number;
}

/** What every place serves, by TCP and UDP. */
export const SERVED: readonly number[] = [80, 443, 3306, 5000, 5001, 8080];

/** Halves of the ports that packets come from: what a rule says about source ports tells them apart. */
export const SOURCE_PORTS: readonly [PortRange, PortRange] = [
  { first: 20_000, last: 39_999 },
  { first: 40_000, last: 59_999 },
];

/** Where a packet arrives: the container whose port of the host it is sent to, or the place itself. */
export function arrivalOf(
  world: World,
  packet: Packet,
): { readonly to: Place; readonly port: number; readonly translated: boolean } {
  if (packet.to === HOST.name && packet.protocol !== 'icmp')
    for (const { place, ports } of world.endpoints)
      for (const { hostPort, protocol, port } of ports)
        if (
          hostPort === packet.port &&
          protocol.toLowerCase() === packet.protocol &&
          addressOf(placeOf(place), packet.family) !== undefined
        )
          return { to: placeOf(place), port, translated: true };
  return { to: placeOf(packet.to), port: packet.port, translated: false };
}

/** In words, for a report. */
export function packetText({ from, to, family, protocol, fromPort, port }: Packet): string {
  const name = protocol === 'icmp' && family === 6 ? 'icmpv6' : protocol;
  const ports = protocol === 'icmp' ? ['', ''] : [`:${fromPort}`, `:${port}`];
  const address = (place: string) => addressOf(placeOf(place), family) ?? '?';
  return `${name} ${from} (${address(from)})${ports[0]} -> ${to} (${address(to)})${ports[1]}`;
}

/** Makes packets, each from a port of its own: no two are the same connection to the kernel. */
export class Packets {
  private made = 0;

  constructor(private readonly random: Random) {}

  /** Packets between places that share a family; few by ICMP, which needs a process each. */
  some(world: World, count: number): Packet[] {
    const packets: Packet[] = [];
    while (packets.length < count) {
      const packet = this.one(world);
      if (packet !== undefined) packets.push(packet);
    }
    return packets;
  }

  /** The same packet from another port. */
  anew(packet: Packet): Packet {
    if (packet.protocol === 'icmp') return packet;
    const half = SOURCE_PORTS.find(({ first, last }) => first <= packet.fromPort && packet.fromPort <= last);
    return { ...packet, fromPort: this.fromPort(half) };
  }

  private one(world: World): Packet | undefined {
    const { random } = this;
    const from = this.sender();
    const protocol = random.weighted([
      [5, 'tcp'],
      [5, 'udp'],
      [1, 'icmp'],
    ] as const);
    const family = random.pick<4 | 6>([4, 6]);
    const published = world.endpoints.flatMap(({ ports }) =>
      ports.flatMap(({ hostPort, protocol: of }) =>
        hostPort !== undefined && of.toLowerCase() === protocol ? [hostPort] : [],
      ),
    );
    const [first, ...others] = published;
    const hostPort = first !== undefined && random.chance(0.12) ? random.pick([first, ...others]) : undefined;
    const to = hostPort === undefined ? this.receiver(from) : HOST;
    if (addressOf(from, family) === undefined || addressOf(to, family) === undefined) return undefined;
    const base = { from: from.name, to: to.name, family, protocol };
    if (protocol === 'icmp') return { ...base, fromPort: 0, port: 0 };
    const packet = { ...base, fromPort: this.fromPort(), port: hostPort ?? random.pick([80, ...SERVED]) };
    if (hostPort === undefined) return packet;
    const arrival = arrivalOf(world, packet);
    // To a family that is not published, and from a container to itself: not what is tested here.
    return arrival.translated && arrival.to !== from ? packet : undefined;
  }

  private sender(): Place {
    return this.random.weighted([
      [6, this.random.pick(nonEmpty(LOCAL))],
      [2, this.random.pick(nonEmpty(REMOTE))],
      [1, this.random.pick(nonEmpty(OUTSIDE))],
      [1, HOST],
    ] as const);
  }

  /** A packet that no container of the host sends or gets is nobody's business. */
  private receiver(from: Place): Place {
    const others = nonEmpty(LOCAL.filter(place => place !== from));
    if (from.kind !== 'local') return this.random.pick(others);
    return this.random.weighted([
      [6, this.random.pick(others)],
      [2, this.random.pick(nonEmpty(REMOTE))],
      [1, this.random.pick(nonEmpty(OUTSIDE))],
      [0.5, HOST],
    ] as const);
  }

  private fromPort({ first, last } = this.random.pick(SOURCE_PORTS)): number {
    this.made += 1;
    // An even one: the next is for the second try.
    return first + ((this.made * 2) % (last - first + 1));
  }
}

/** For {@link Random.pick}. Throws where there is nothing to pick from. */
export function nonEmpty<T>(all: readonly T[]): readonly [T, ...T[]] {
  const [first, ...others] = all;
  if (first === undefined) throw new Error('nothing to pick from');
  return [first, ...others];
}
