import type { AttrStream } from 'netlink';
import { HostError } from '../errors.js';
import { bytesOf, eachAttribute, textOf } from './bytes.js';
import { NetlinkSocket } from './netlink.js';
import type { NetlinkRequest } from './netlink.js';
import { is6 } from './nft-table.js';
import { withHeader } from './rtnetlink-messages.js';

/** The little of ctnetlink we need (linux/netfilter/nfnetlink_conntrack.h): find flows, and forget some. */
const NETLINK_NETFILTER = 12;
const GET = (1 << 8) | 1;
const DELETE = (1 << 8) | 2;
const CTA = { original: 1, reply: 2, id: 12, zone: 18, timestamp: 20, filter: 25 };
const TIMESTAMP = { start: 1 };
const TUPLE = { ip: 1, proto: 2 };
const IP = { source4: 1, destination4: 2, source6: 3, destination6: 4 };
const PROTO = { number: 1, sourcePort: 2, destinationPort: 3 };
const FILTER = { original: 1, reply: 2, source: 1, protocol: 1 << 3, destinationPort: 1 << 5 };
const NESTED = 0x8000;
const AF = { inet: 2, inet6: 10 };
const FAMILIES = [AF.inet, AF.inet6];
/** More ports than that are looked for in one dump of all flows of the protocol instead of a dump each. */
const DUMPS = 8;
const BATCH = 200;
/** Flows that are held at once; a container may have had as many as the kernel remembers, 262,144 and more. */
const AT_ONCE = 20_000;
/** Rounds, after which others make flows as fast as they are forgotten. */
const ROUNDS = 1_000;

/** Protocols without a connection of their own, whose flows live as long as somebody sends. */
export const PROTOCOL_NUMBERS = { udp: 17, sctp: 132 } as const;

/** A flow as conntrack remembers it: where the first packet went to, and who really answers. */
export interface Flow {
  readonly asks: string;
  readonly destination: string;
  readonly destinationPort: number;
  readonly answers: string;
  readonly answersPort: number;
}

/** The kernel's table of connections. */
export class Conntrack {
  private socket: NetlinkSocket | undefined;

  /** Forgets flows of the protocol to one of the ports that `isStale`; answers how many. Throws NetlinkError. */
  async forget(
    protocol: keyof typeof PROTOCOL_NUMBERS,
    ports: ReadonlySet<number>,
    isStale: (flow: Flow) => boolean,
  ): Promise<number> {
    this.socket ??= new NetlinkSocket(NETLINK_NETFILTER);
    const number = PROTOCOL_NUMBERS[protocol];
    const removals: Buffer[] = [];
    for (const family of FAMILIES) {
      for (const port of ports.size <= DUMPS ? ports : [undefined]) {
        const dump = { type: GET, body: dumpBody(family, number, port), what: `list ${protocol} flows` };
        const listed = await this.socket.dump(dump, data => {
          const { flow, found } = decode(data);
          // A kernel before 5.8 knows no filter and lists everything.
          const isMeant = found === number && ports.has(flow.destinationPort) && isStale(flow);
          return isMeant ? removal(data) : undefined;
        });
        for (const each of listed) removals.push(each);
      }
    }
    return this.delete(this.socket, removals);
  }

  /**
   * Forgets flows, of all protocols, that one of the addresses (canonical) has asked for or answers; answers how many.
   * Throws HostError.
   */
  async forgetAddresses(addresses: ReadonlySet<string>): Promise<number> {
    const wanted = [...addresses].map(address => ({ family: is6(address) ? AF.inet6 : AF.inet, address }));
    const bodies =
      wanted.length * 2 <= DUMPS
        ? wanted.flatMap(each => [addressBody('original', each), addressBody('reply', each)])
        : [...new Set(wanted.map(({ family }) => family))].map(header);
    let count = 0;
    for (const body of bodies)
      count += await this.forgetListed(
        body,
        ({ flow }) => addresses.has(flow.asks) || addresses.has(flow.answers),
      );
    return count;
  }

  /**
   * Forgets flows from or to one of the addresses (canonical) that began at that time (milliseconds since 1970) or later;
   * answers how many. Those of which the kernel did not write down when they began stay (`nf_conntrack_timestamp`). Throws
   * HostError.
   */
  async forgetBegun(addresses: ReadonlySet<string>, since: number): Promise<number> {
    let count = 0;
    for (const family of FAMILIES)
      count += await this.forgetListed(header(family), ({ flow, begun }) => {
        if (begun === undefined || begun < since) return false;
        return [flow.asks, flow.destination, flow.answers].some(address => addresses.has(address));
      });
    return count;
  }

  /** Of the flows in a list those that are meant: a part at a time, until a list has no more of them. */
  private async forgetListed(body: AttrStream, isMeant: (flow: Decoded) => boolean): Promise<number> {
    this.socket ??= new NetlinkSocket(NETLINK_NETFILTER);
    let count = 0;
    for (let rounds = 0; rounds < ROUNDS; rounds += 1) {
      let [room, isMore] = [AT_ONCE, false];
      const found = await this.socket.dump({ type: GET, body, what: 'list flows' }, data => {
        // A list that is taken again finds no room at worst, and is not the last then.
        isMore ||= room === 0;
        if (room === 0 || !isMeant(decode(data))) return undefined;
        room -= 1;
        return removal(data);
      });
      count += await this.delete(this.socket, found);
      if (!isMore) return count;
    }
    throw new HostError(`connections are made as fast as they are forgotten (${count} of them)`);
  }

  /** `removals`: see {@link removal}. */
  private async delete(socket: NetlinkSocket, removals: readonly Buffer[]): Promise<number> {
    for (let start = 0; start < removals.length; start += BATCH) {
      // One that has ended meanwhile is refused, and gone all the same.
      await socket.quietBatch(removals.slice(start, start + BATCH).map(deletion));
    }
    return removals.length;
  }

  close(): void {
    this.socket?.close();
    this.socket = undefined;
  }
}

/** struct nfgenmsg: family, version, resource. */
function header(family: number): AttrStream {
  return withHeader(Buffer.from([family, 0, 0, 0]));
}

function dumpBody(family: number, protocol: number, port: number | undefined): AttrStream {
  const body = header(family);
  const proto = [attribute(PROTO.number, Buffer.from([protocol]))];
  if (port !== undefined) proto.push(attribute(PROTO.destinationPort, Buffer.from([port >> 8, port & 0xff])));
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(FILTER.protocol | (port === undefined ? 0 : FILTER.destinationPort));
  body.emit(attribute(CTA.original | NESTED, attribute(TUPLE.proto | NESTED, Buffer.concat(proto))));
  body.emit(attribute(CTA.filter | NESTED, attribute(FILTER.original, flags)));
  return body;
}

/** Flows with the address as the source of one of their directions. */
function addressBody(
  direction: 'original' | 'reply',
  { family, address }: { readonly family: number; readonly address: string },
): AttrStream {
  const body = header(family);
  const source = attribute(family === AF.inet ? IP.source4 : IP.source6, bytesOf(address));
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(FILTER.source);
  body.emit(attribute(CTA[direction] | NESTED, attribute(TUPLE.ip | NESTED, source)));
  body.emit(attribute(CTA.filter | NESTED, attribute(FILTER[direction], flags)));
  return body;
}

function deletion(body: Buffer): NetlinkRequest {
  return { type: DELETE, flags: 0, body: withHeader(body), what: 'forget a flow' };
}

/** Not by the package's `push`: that loses the flag for nested attributes, which the kernel insists on here. */
function attribute(type: number, data: Uint8Array): Buffer<ArrayBuffer> {
  const bytes = Buffer.alloc((data.length + 4 + 3) & ~3);
  bytes.writeUInt16LE(data.length + 4, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(data, 4);
  return bytes;
}

interface Decoded {
  readonly flow: Flow;
  /** The protocol's number. */
  readonly found: number;
  /** Milliseconds since 1970. */
  readonly begun: number | undefined;
}

function decode(data: Buffer): Decoded {
  let begun: number | undefined;
  const [original, reply] = [new Tuple(), new Tuple()];
  eachAttribute(data, 4, (type, start, end) => {
    const bytes = data.subarray(start, end);
    if (type === CTA.original) original.read(bytes);
    else if (type === CTA.reply) reply.read(bytes);
    else if (type === CTA.timestamp) begun = startOf(bytes);
  });
  const flow = {
    asks: original.source,
    destination: original.destination,
    destinationPort: original.destinationPort,
    answers: reply.source,
    answersPort: reply.sourcePort,
  };
  return { flow, found: original.protocol, begun };
}

/** Body of the request that forgets a listed flow: short, and of its own, since there may be very many. */
function removal(data: Buffer): Buffer {
  const parts = [Buffer.from([data[0] ?? 0, 0, 0, 0])];
  eachAttribute(data, 4, (type, start, end) => {
    const isNested = type === CTA.original;
    // The id too: another flow may have the same ends by the time it is to be forgotten.
    if (isNested || type === CTA.id || type === CTA.zone)
      parts.push(attribute(isNested ? type | NESTED : type, data.subarray(start, end)));
  });
  return Buffer.concat(parts);
}

function startOf(data: Buffer): number | undefined {
  let begun: number | undefined;
  eachAttribute(data, 0, (type, start) => {
    if (type === TIMESTAMP.start) begun = Number(data.readBigUInt64BE(start) / 1_000_000n);
  });
  return begun;
}

/** One direction of a flow. */
class Tuple {
  protocol = 0;
  source = '';
  destination = '';
  sourcePort = 0;
  destinationPort = 0;

  read(data: Buffer): void {
    eachAttribute(data, 0, (type, start, end) => {
      const part = data.subarray(start, end);
      if (type === TUPLE.ip) this.readAddresses(part);
      else if (type === TUPLE.proto) this.readPorts(part);
    });
  }

  private readAddresses(data: Buffer): void {
    eachAttribute(data, 0, (type, start, end) => {
      const address = data.subarray(start, end);
      if (type === IP.source4 || type === IP.source6) this.source = textOf(address);
      else if (type === IP.destination4 || type === IP.destination6) this.destination = textOf(address);
    });
  }

  private readPorts(data: Buffer): void {
    eachAttribute(data, 0, (type, start) => {
      if (type === PROTO.number) this.protocol = data[start] ?? 0;
      else if (type === PROTO.sourcePort) this.sourcePort = data.readUInt16BE(start);
      else if (type === PROTO.destinationPort) this.destinationPort = data.readUInt16BE(start);
    });
  }
}
