import { putU32 } from 'netlink';
import type { AttrStream } from 'netlink';
import { eachAttribute, nameOf } from './bytes.js';
import { withHeader } from './rtnetlink-messages.js';

/** The rtnetlink messages about network interfaces (linux/if_link.h). */

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
const IFF_UP = 1;
const IFF_RUNNING = 0x40;

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

function infoKind(data: Buffer): string {
  let kind = '';
  eachAttribute(data, 0, (type, start, end) => {
    if (type === INFO.kind) kind = nameOf(data.subarray(start, end));
  });
  return kind;
}

function macText(bytes: Buffer): string {
  return bytes.length === 6 ? (bytes.toString('hex').match(/../g) ?? []).join(':') : '';
}

function zeroTerminated(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}
