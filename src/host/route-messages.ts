import type { AttrStream } from 'netlink';
import { bytesOf, eachAttribute, textOf } from './bytes.js';
import { withHeader } from './rtnetlink-messages.js';

/** The rtnetlink messages about routes of table main (linux/rtnetlink.h). */

/** What a route does. Other types of the kernel's are `other`. */
export type RouteType = 'unicast' | 'blackhole' | 'other';

/** A route of table main. */
export interface Route {
  /** CIDR text, e.g. `10.0.0.1/32`, `::/0`. */
  readonly destination: string;
  readonly type: RouteType;
  /** rtm_protocol. */
  readonly protocol: number;
  /** Index of the outgoing interface; the first next hop's of several. */
  readonly device: number | undefined;
  readonly metric: number;
  /** It leads to a next hop; without one its destinations are on the interface itself. */
  readonly hasGateway: boolean;
  /** The next hop, where there is just one, of the destination's family. */
  readonly gateway: string | undefined;
}

/** A route to make. */
export interface RouteSpec {
  readonly destination: string;
  readonly type: 'unicast' | 'blackhole';
  readonly device?: number;
  /** Next hop, of the destination's family. Without a device the kernel takes the one it reaches it by. */
  readonly gateway?: string;
  /** The next hop is on the device, whatever the device's own addresses are. */
  readonly onlink?: boolean;
}

/** Which routes are wanted of a dump; the kernel may have a hundred thousand others. */
export interface RouteFilter {
  /** Of this protocol number only. */
  readonly protocol?: number;
  /** Of any but this. */
  readonly notProtocol?: number;
  /** Only those with a next hop, or only those without. */
  readonly gateway?: boolean;
  /** Only default routes. */
  readonly isDefault?: true;
}

/** How the kernel would reach an address. */
export interface Lookup {
  /** The address it would come from. */
  readonly source: string | undefined;
  readonly device: number | undefined;
}

const RTA = { dst: 1, oif: 4, priority: 6, multipath: 9, table: 15, gateway: 5, prefsrc: 7, via: 18 };
const RTNH_F_ONLINK = 4;
const TABLE_MAIN = 254;
const ROUTE_TYPES = { unicast: 1, blackhole: 6 };

/** Reads a route of table main from an RTM_NEWROUTE or RTM_DELROUTE payload; undefined for any other. */
export function decodeRoute(data: Buffer, filter: RouteFilter = {}): Route | undefined {
  const [family, length, table, proto, type] = [data[0], data[1] ?? 0, data[4], data[5] ?? 0, data[7]];
  const isCached = (data.readUInt32LE(8) & 0x200) !== 0;
  if (isCached || (filter.protocol !== undefined && proto !== filter.protocol)) return undefined;
  if (proto === filter.notProtocol || (filter.isDefault === true && length !== 0)) return undefined;
  if (family !== 2 && family !== 10) return undefined;
  const bytes = family === 2 ? 4 : 16;
  let device: number | undefined;
  let hasGateway = false;
  // Where they begin: no text is made of what nobody wants.
  let [destinationAt, gatewayAt] = [0, 0];
  let [metric, realTable] = [0, table];
  eachAttribute(data, 12, (attribute, start, end) => {
    if (attribute === RTA.dst) destinationAt = start;
    else if (attribute === RTA.gateway || attribute === RTA.via || attribute === RTA.multipath) {
      hasGateway = true;
      if (attribute === RTA.gateway) gatewayAt = start;
      // struct rtnexthop: length, flags, hops, ifindex
      if (attribute === RTA.multipath && end - start >= 8) device ??= data.readInt32LE(start + 4);
    } else if (attribute === RTA.oif) device = data.readUInt32LE(start);
    else if (attribute === RTA.priority) metric = data.readUInt32LE(start);
    else if (attribute === RTA.table) realTable = data.readUInt32LE(start);
  });
  if (realTable !== TABLE_MAIN) return undefined;
  if (filter.gateway !== undefined && filter.gateway !== hasGateway) return undefined;
  const textAt = (at: number): string => textOf(data.subarray(at, at + bytes));
  const any = family === 2 ? '0.0.0.0' : '::';
  const name: RouteType =
    type === ROUTE_TYPES.unicast ? 'unicast' : type === ROUTE_TYPES.blackhole ? 'blackhole' : 'other';
  return {
    destination: `${destinationAt === 0 ? any : textAt(destinationAt)}/${length}`,
    type: name,
    protocol: proto,
    device,
    metric,
    hasGateway,
    gateway: gatewayAt === 0 ? undefined : textAt(gatewayAt),
  };
}

/** Reads the answer to a {@link lookupBody}. */
export function decodeLookup(data: Buffer): Lookup {
  let source: string | undefined;
  let device: number | undefined;
  eachAttribute(data, 12, (attribute, start, end) => {
    if (attribute === RTA.prefsrc) source = textOf(data.subarray(start, end));
    else if (attribute === RTA.oif) device = data.readUInt32LE(start);
  });
  return { source, device };
}

/** Body of a lookup of the route to one address, as the kernel would choose it. */
export function lookupBody(address: string): AttrStream {
  const dst = bytesOf(address);
  const body = withHeader(
    Buffer.from([dst.length === 4 ? 2 : 10, dst.length * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
  );
  body.push(RTA.dst, dst);
  return body;
}

/** Body of a request to make or delete a route in table main; `scope` see {@link SCOPE}. */
export function routeBody(route: RouteSpec, protocol: number, scope: number): AttrStream {
  const [address = '', length] = route.destination.split('/');
  const dst = bytesOf(address);
  const type = ROUTE_TYPES[route.type];
  const gateway = route.gateway === undefined ? undefined : bytesOf(route.gateway);
  // One buffer for all: there may be a hundred thousand routes to make.
  const size = 12 + attributeSize(dst) + attributeSize(gateway) + (route.device === undefined ? 0 : 8);
  const body = Buffer.alloc(size);
  // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, 32 bits of flags.
  body.set([dst.length === 4 ? 2 : 10, Number(length), 0, 0, TABLE_MAIN, protocol, scope, type]);
  body.writeUInt32LE(route.onlink === true ? RTNH_F_ONLINK : 0, 8);
  let at = putAttribute(body, 12, RTA.dst, dst);
  if (gateway) at = putAttribute(body, at, RTA.gateway, gateway);
  if (route.device !== undefined) {
    body.writeUInt16LE(8, at);
    body.writeUInt16LE(RTA.oif, at + 2);
    body.writeUInt32LE(route.device, at + 4);
  }
  return withHeader(body);
}

/** Addresses need no padding: their lengths are multiples of four. */
function attributeSize(value: Buffer | undefined): number {
  return value === undefined ? 0 : 4 + value.length;
}

/** Writes an attribute at an offset; answers with the offset after it. */
function putAttribute(body: Buffer, at: number, type: number, value: Buffer): number {
  body.writeUInt16LE(attributeSize(value), at);
  body.writeUInt16LE(type, at + 2);
  value.copy(body, at + 4);
  return at + attributeSize(value);
}

/** A route in words, for errors. */
export function describe(route: RouteSpec): string {
  const via = route.gateway === undefined ? '' : ` via ${route.gateway}`;
  return `${route.type} ${route.destination}${via}${route.device === undefined ? '' : ` on interface ${route.device}`}`;
}
