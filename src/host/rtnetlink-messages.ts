import { AttrStream, putU32 } from 'netlink';
import { bytesOf, eachAttribute, nameOf, textOf } from './bytes.js';

/**
 * The rtnetlink messages we need (linux/rtnetlink.h, linux/if_link.h). Objects are decoded here, attribute by
 * attribute, and not by the package's complete decoders: those throw on an attribute whose length a newer kernel
 * changed. Numbers are in the machine's byte order, which is little-endian wherever the package has a binding.
 */

/** A network interface. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** Lower-case colon form; '' where it has none. */
  readonly mac: string;
  /** Bytes. */
  readonly mtu: number;
  readonly isUp: boolean;
  /** Of a veth: the other end is up too. */
  readonly isRunning: boolean;
  /** IFLA_GROUP; 0 where nobody set one. */
  readonly group: number;
  /** Kind of a virtual device, e.g. `veth`; '' for hardware. */
  readonly kind: string;
  /** Index of a veth's other end, in whatever namespace that is. */
  readonly peerIndex: number | undefined;
  /** Whether the other end is in another network namespace. */
  readonly isPeerElsewhere: boolean;
}

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

/** An address of the host. */
export interface HostAddress {
  readonly address: string;
  /** Of the subnet it is in. */
  readonly prefixLength: number;
  readonly device: number;
  /** rt_scope: 0 = global. */
  readonly scope: number;
  /** IPv6: temporary, deprecated, or not known to be unique (yet): not to be told others. */
  readonly isPassing: boolean;
}

/** How to make a veth pair. The first end is created up, the second is left down. */
export interface VethSpec {
  readonly name: string;
  readonly mac: string;
  readonly peerName: string;
  readonly peerMac: string;
  /** Bytes, both ends. */
  readonly mtu: number;
  /** IFLA_GROUP of the first end: `ip link show group N`. */
  readonly group: number;
}

/** Message types. */
export const RTM = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddr: 20,
  getAddr: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
};
const IFLA = {
  address: 1,
  ifname: 3,
  mtu: 4,
  link: 5,
  linkinfo: 18,
  group: 27,
  extMask: 29,
  linkNetnsid: 37,
};
const INFO = { kind: 1, data: 2 };
const VETH_INFO_PEER = 1;
const RTA = { dst: 1, oif: 4, priority: 6, multipath: 9, table: 15, gateway: 5, prefsrc: 7, via: 18 };
const IFA = { address: 1, local: 2 };
/** Temporary, duplicate, deprecated, tentative. */
const IFA_F_PASSING = 0x01 | 0x08 | 0x20 | 0x40;
const RTNH_F_ONLINK = 4;
const IFF_UP = 1;
const IFF_RUNNING = 0x40;
const TABLE_MAIN = 254;
/** rtm_scope. Link: the destination is on this interface, there is no next hop to resolve; IPv6 knows no scopes. */
export const SCOPE = { universe: 0, link: 253, host: 254, any: 255 };
const ROUTE_TYPES = { unicast: 1, blackhole: 6 };
/** Reads a link from an RTM_NEWLINK payload. */
export function decodeLink(data: Buffer): Link {
  const flags = data.readUInt32LE(8);
  const [isUp, isRunning] = [(flags & IFF_UP) !== 0, (flags & IFF_RUNNING) !== 0];
  let [name, mac, mtu, kind, group] = ['', '', 0, '', 0];
  let peerIndex: number | undefined;
  let isPeerElsewhere = false;
  eachAttribute(data, 16, (type, start, end) => {
    if (type === IFLA.ifname) name = nameOf(data.subarray(start, end));
    else if (type === IFLA.mtu) mtu = data.readUInt32LE(start);
    else if (type === IFLA.address) mac = macText(data.subarray(start, end));
    else if (type === IFLA.group) group = data.readUInt32LE(start);
    else if (type === IFLA.link) peerIndex = data.readUInt32LE(start);
    else if (type === IFLA.linkNetnsid) isPeerElsewhere = true;
    else if (type === IFLA.linkinfo) kind = infoKind(data.subarray(start, end));
  });
  return {
    index: data.readInt32LE(4),
    name,
    mac,
    mtu,
    isUp,
    isRunning,
    kind,
    group,
    peerIndex,
    isPeerElsewhere,
  };
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

/** How the kernel would reach an address. */
export interface Lookup {
  /** The address it would come from. */
  readonly source: string | undefined;
  readonly device: number | undefined;
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

/** Reads an address from an RTM_NEWADDR payload; undefined for other families. */
export function decodeAddress(data: Buffer): HostAddress | undefined {
  if (data[0] !== 2 && data[0] !== 10) return undefined;
  let [address, local] = ['', ''];
  eachAttribute(data, 8, (type, start, end) => {
    if (type === IFA.address) address = textOf(data.subarray(start, end));
    // On a point-to-point interface IFA_ADDRESS is the other side's.
    else if (type === IFA.local) local = textOf(data.subarray(start, end));
  });
  return {
    address: local === '' ? address : local,
    prefixLength: data[1] ?? 0,
    device: data.readUInt32LE(4),
    scope: data[3] ?? 0,
    isPassing: data[0] === 10 && ((data[2] ?? 0) & IFA_F_PASSING) !== 0,
  };
}

/**
 * Body of a request to give an interface an address of its own and no route: an IPv6 link-local one, at once
 * (IFA_F_NODAD), or an IPv4 one that is never a source.
 */
export function addressBody(index: number, address: string): AttrStream {
  const bytes = bytesOf(address);
  const [family, flags, scope] = bytes.length === 16 ? [10, 2, SCOPE.link] : [2, 0, SCOPE.host];
  // struct ifaddrmsg: family, prefix length, flags, scope, index.
  const header = Buffer.from([family, bytes.length * 8, flags, scope, 0, 0, 0, 0]);
  header.writeUInt32LE(index, 4);
  const body = withHeader(header);
  body.push(IFA.local, bytes);
  return body;
}

/** Body of a request about the interface of that name. */
export function namedLinkBody(name: string): AttrStream {
  const body = linkBody(0);
  body.push(IFLA.ifname, zeroTerminated(name));
  return body;
}

/** Body of RTM_NEWLINK for a veth pair, the first end up. */
export function vethBody(spec: VethSpec): AttrStream {
  const body = linkBody(0, true);
  putLink(body, spec.name, spec.mac, spec.mtu);
  body.push(IFLA.group, putU32(spec.group));
  body.push(IFLA.linkinfo, info => {
    info.push(INFO.kind, Buffer.from('veth'));
    info.push(INFO.data, data =>
      data.push(VETH_INFO_PEER, peer => {
        peer.emit(linkHeader(0, 0));
        putLink(peer, spec.peerName, spec.peerMac, spec.mtu);
      }),
    );
  });
  return body;
}

/** Body of a dump of all interfaces, without their counters, which are most of it (RTEXT_FILTER_SKIP_STATS). */
export function allLinksBody(): AttrStream {
  const body = linkBody(0);
  body.push(IFLA.extMask, putU32(8));
  return body;
}

/** Body of a request about an interface by index; `setUp` sets it up. */
export function linkBody(index: number, setUp = false): AttrStream {
  return withHeader(linkHeader(index, setUp ? IFF_UP : 0));
}

/** Body of a request to put an interface into a link group. */
export function groupBody(index: number, group: number): AttrStream {
  const body = linkBody(index);
  body.push(IFLA.group, putU32(group));
  return body;
}

function putLink(out: AttrStream, name: string, mac: string, mtu: number): void {
  out.push(IFLA.ifname, zeroTerminated(name));
  out.push(IFLA.address, Buffer.from(mac.replaceAll(':', ''), 'hex'));
  out.push(IFLA.mtu, putU32(mtu));
}

/** struct ifinfomsg: family, type, index, flags, change. */
function linkHeader(index: number, flags: number): Buffer {
  const header = Buffer.alloc(16);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(flags, 12);
  return header;
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

/** A message body that begins with a struct; zeros ask a dump for everything. */
export function withHeader(header: Buffer): AttrStream {
  const body = new AttrStream();
  body.emit(header);
  return body;
}

function infoKind(data: Buffer): string {
  let kind = '';
  eachAttribute(data, 0, (type, start, end) => {
    if (type === INFO.kind) kind = nameOf(data.subarray(start, end));
  });
  return kind;
}

/** A route in words, for errors. */
export function describe(route: RouteSpec): string {
  const via = route.gateway === undefined ? '' : ` via ${route.gateway}`;
  return `${route.type} ${route.destination}${via}${route.device === undefined ? '' : ` on interface ${route.device}`}`;
}

function macText(bytes: Buffer): string {
  return bytes.length === 6 ? (bytes.toString('hex').match(/../g) ?? []).join(':') : '';
}

function zeroTerminated(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}
