import { putU32 } from 'netlink';
import type { AttrStream } from 'netlink';
import { bytesOf, eachAttribute, textOf } from './bytes.js';
import { decodeLink } from './link-messages.js';
import type { Link } from './link-messages.js';
import { withHeader } from './rtnetlink-messages.js';

/** The rtnetlink messages about a VXLAN device and its neighbours (linux/if_link.h, linux/neighbour.h). */

/** Calico's, in every cluster. */
export const VNI = 4096;
export const PORT = 4789;

/** Message types. */
export const NEIGHBOUR = { new: 28, delete: 29, get: 30 };
const IFLA = { address: 1, ifname: 3, mtu: 4, linkinfo: 18, group: 27 };
const INFO = { kind: 1, data: 2 };
const VXLAN = { id: 1, local4: 4, learning: 7, port: 15, local6: 17 };
const NDA = { dst: 1, lladdr: 2 };
const IFA = { address: 1, local: 2 };
const FAMILIES = { 4: 2, 6: 10, bridge: 7 };
const NUD_PERMANENT = 0x80;
const NTF_SELF = 2;
const IFF_UP = 1;
const NODAD = 2;

/** How to make a VXLAN device. */
export interface VxlanSpec {
  readonly name: string;
  readonly mac: string;
  /** Bytes. */
  readonly mtu: number;
  /** IFLA_GROUP. */
  readonly group: number;
  /** The host's address that packets leave from. */
  readonly local: string;
}

/** A VXLAN device as it is. */
export interface VxlanLink extends Link {
  readonly id: number;
  readonly port: number;
  readonly local: string | undefined;
  readonly isLearning: boolean;
}

/** Body of RTM_NEWLINK for Calico's VXLAN device, up; it learns nothing by itself. */
export function vxlanBody(spec: VxlanSpec): AttrStream {
  const body = withHeader(linkHeader(0));
  body.push(IFLA.ifname, Buffer.from(`${spec.name}\0`));
  body.push(IFLA.address, macBytes(spec.mac));
  body.push(IFLA.mtu, putU32(spec.mtu));
  body.push(IFLA.group, putU32(spec.group));
  const local = bytesOf(spec.local);
  const port = Buffer.alloc(2);
  port.writeUInt16BE(PORT);
  body.push(IFLA.linkinfo, info => {
    info.push(INFO.kind, Buffer.from('vxlan'));
    info.push(INFO.data, data => {
      data.push(VXLAN.id, putU32(VNI));
      data.push(local.length === 4 ? VXLAN.local4 : VXLAN.local6, local);
      data.push(VXLAN.learning, Buffer.from([0]));
      data.push(VXLAN.port, port);
    });
  });
  return body;
}

/** Body of RTM_NEWLINK that sets an existing device up, with these properties. */
export function changedLinkBody(index: number, { mac, mtu }: Pick<VxlanSpec, 'mac' | 'mtu'>): AttrStream {
  const body = withHeader(linkHeader(index));
  body.push(IFLA.address, macBytes(mac));
  body.push(IFLA.mtu, putU32(mtu));
  return body;
}

/** Reads a VXLAN device from an RTM_NEWLINK payload; undefined where it is a device of another kind. */
export function decodeVxlan(data: Buffer): VxlanLink | undefined {
  const link = decodeLink(data);
  if (link.kind !== 'vxlan') return undefined;
  let [id, port, isLearning] = [0, 0, false];
  let local: string | undefined;
  eachAttribute(data, 16, (type, start, end) => {
    if (type !== IFLA.linkinfo) return;
    eachAttribute(data.subarray(start, end), 0, (kind, from, to) => {
      if (kind !== INFO.data) return;
      const info = data.subarray(start + from, start + to);
      eachAttribute(info, 0, (attribute, at, till) => {
        if (attribute === VXLAN.id) id = info.readUInt32LE(at);
        else if (attribute === VXLAN.port) port = info.readUInt16BE(at);
        else if (attribute === VXLAN.learning) isLearning = info[at] !== 0;
        else if (attribute === VXLAN.local4 || attribute === VXLAN.local6)
          local = textOf(info.subarray(at, till));
      });
    });
  });
  return { ...link, id, port, local, isLearning };
}

/** Body of a request about an address of a device, of the full prefix length and of every scope. */
export function deviceAddressBody(index: number, address: string): AttrStream {
  const bytes = bytesOf(address);
  const header = Buffer.alloc(8);
  header[0] = bytes.length === 4 ? FAMILIES[4] : FAMILIES[6];
  header[1] = bytes.length * 8;
  header[2] = bytes.length === 4 ? 0 : NODAD;
  header.writeUInt32LE(index, 4);
  const body = withHeader(header);
  body.push(IFA.local, bytes);
  body.push(IFA.address, bytes);
  return body;
}

/** A neighbour of a device: `at` is where `mac` is, inside the tunnel (`arp`) or outside (`fdb`). */
export interface Neighbour {
  readonly table: 'arp' | 'fdb';
  readonly mac: string;
  readonly at: string;
}

/** Body of a request about a permanent neighbour. */
export function neighbourBody(index: number, { table, mac, at }: Neighbour): AttrStream {
  const address = bytesOf(at);
  const family = table === 'fdb' ? FAMILIES.bridge : address.length === 4 ? FAMILIES[4] : FAMILIES[6];
  const body = withHeader(neighbourHeader(family, index, table === 'fdb' ? NTF_SELF : 0));
  body.push(NDA.dst, address);
  body.push(NDA.lladdr, macBytes(mac));
  return body;
}

/** Body of a dump of all neighbours of one table, of all devices. */
export function neighboursBody(table: Neighbour['table'], family: 4 | 6): AttrStream {
  return withHeader(neighbourHeader(table === 'fdb' ? FAMILIES.bridge : FAMILIES[family], 0, 0));
}

/** Reads a permanent neighbour of a device from an RTM_NEWNEIGH payload; undefined for any other. */
export function decodeNeighbour(data: Buffer, index: number): Neighbour | undefined {
  if (data.readInt32LE(4) !== index || (data.readUInt16LE(8) & NUD_PERMANENT) === 0) return undefined;
  let [mac, at] = ['', ''];
  eachAttribute(data, 12, (type, start, end) => {
    if (type === NDA.dst) at = textOf(data.subarray(start, end));
    else if (type === NDA.lladdr && end - start === 6)
      mac = (data.toString('hex', start, end).match(/../g) ?? []).join(':');
  });
  return mac === '' || at === ''
    ? undefined
    : { table: data[0] === FAMILIES.bridge ? 'fdb' : 'arp', mac, at };
}

/** struct ndmsg: family, padding, index, state, flags, type. */
function neighbourHeader(family: number, index: number, flags: number): Buffer {
  const header = Buffer.alloc(12);
  header[0] = family;
  header.writeInt32LE(index, 4);
  header.writeUInt16LE(NUD_PERMANENT, 8);
  header[10] = flags;
  return header;
}

/** struct ifinfomsg, up. */
function linkHeader(index: number): Buffer {
  const header = Buffer.alloc(16);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(IFF_UP, 8);
  header.writeUInt32LE(IFF_UP, 12);
  return header;
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}
