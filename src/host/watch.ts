import { parseMessages } from 'netlink';
import type { NetlinkMessage, RawNetlinkSocket } from 'netlink';
import { eachAttribute, nameOf } from './bytes.js';
import { openSocket } from './netlink.js';
import { decodeLink, decodeRoute } from './rtnetlink-messages.js';
import type { Link } from './rtnetlink-messages.js';
import { TABLE } from './nft-table.js';

/**
 * What other programs do to the kernel's tables, as it happens. A notification only says that something may be
 * missing: whoever hears it looks for himself. So a lost one (the kernel drops them when we are slow: ENOBUFS) is
 * told like any other, and our own changes cost one look more and no endless loop.
 */
export interface Watch {
  close(): void;
}

const ROUTE = { protocol: 0, link: 1, neighbour: 3, address4: 5, route4: 7, address6: 9, route6: 11 };
const NETFILTER = { protocol: 12, nftables: 7, subsystem: 10 };
const NEW_LINK = 16;
const DEL_LINK = 17;
const NEW_ADDRESS = 20;
const DEL_ADDRESS = 21;
const DEL_NEIGHBOUR = 29;
const DEL_ROUTE = 25;
const IFF_UP = 1;

/** Calls `lost` with the destination of each route of `protocol` that goes, and `up` for each link set up. */
export function watchRoutes(
  protocol: number,
  heard: { lost(destination: string): void; up(link: Link): void; overrun(): void },
): Watch {
  const socket = listen(
    ROUTE.protocol,
    [ROUTE.link, ROUTE.route4, ROUTE.route6],
    'watch routes',
    heard.overrun,
  );
  onMessages(socket, message => {
    if (message.type === DEL_ROUTE) {
      const route = decodeRoute(message.data, protocol);
      if (route !== undefined) heard.lost(route.destination);
    } else if (message.type === NEW_LINK && (message.data.readUInt32LE(12) & IFF_UP) !== 0) {
      // Bit set in ifi_change. IPv4 routes go without a word when their interface is set down.
      const link = decodeLink(message.data);
      if (link.isUp) heard.up(link);
    }
  });
  return { close: () => socket.close() };
}

/** What concerns the way to other hosts. */
export interface HeardOfPeers {
  /** A route of ours went. */
  lost(destination: string): void;
  /** An interface was set up. */
  linkUp(): void;
  /** An interface changed or went, or lost a neighbour: its index. */
  device(index: number): void;
  /** Addresses of the host, or interfaces that may have some, came or went. */
  addresses(): void;
  overrun(): void;
}

/** Follows what concerns the way to other hosts; `protocol`: of our routes. */
export function watchPeers(protocol: number, heard: HeardOfPeers): Watch {
  const groups = [ROUTE.link, ROUTE.neighbour, ROUTE.address4, ROUTE.address6, ROUTE.route4, ROUTE.route6];
  const socket = listen(ROUTE.protocol, groups, 'watch the way to other hosts', heard.overrun);
  onMessages(socket, ({ type, data }) => {
    if (type === DEL_ROUTE) {
      const route = decodeRoute(data, protocol);
      if (route !== undefined) heard.lost(route.destination);
    } else if (type === NEW_ADDRESS || type === DEL_ADDRESS) {
      // ifa_scope: those of the link or the host only, as each container's interface has, reach no other host.
      if (data[3] === 0) heard.addresses();
    } else if (type === DEL_NEIGHBOUR) heard.device(data.readInt32LE(4));
    else if (type === NEW_LINK || type === DEL_LINK) {
      heard.device(data.readInt32LE(4));
      if (isContainers(data)) return;
      if (type === DEL_LINK) heard.addresses();
      // Bit set in ifi_change.
      else if ((data.readUInt32LE(8) & data.readUInt32LE(12) & IFF_UP) !== 0) heard.linkUp();
    }
  });
  return { close: () => socket.close() };
}

/** Containers come and go all the time, and nobody is reached by their interfaces. */
function isContainers(link: Buffer): boolean {
  const { kind, name } = decodeLink(link);
  return kind === 'veth' && /^(cali|temp|veth)/.test(name);
}

/** Messages of nf_tables (linux/netfilter/nf_tables.h) that can concern our rule pair. */
const NFT = { delTable: 2, newChain: 3, delChain: 5, newRule: 6, delRule: 8 };
/** Attribute 1 is the table's name in every message that has one. */
const ATTRIBUTE = { table: 1, chainOfRule: 2, nameOfChain: 3 };
/** Chains our rule pair may be in, or depends on. */
const CHAINS = ['FORWARD', 'DOCKER-USER'];

/**
 * Calls `table` when somebody changes our nftables table, `filter` when FORWARD or DOCKER-USER or their
 * rules change: iptables-nft works through the same kernel tables.
 */
export function watchNftables(heard: { table(): void; filter(): void }): Watch {
  const overrun = (): void => {
    heard.table();
    heard.filter();
  };
  const socket = listen(NETFILTER.protocol, [NETFILTER.nftables], 'watch nftables', overrun);
  onMessages(socket, message => {
    if (message.type >> 8 !== NETFILTER.subsystem) return;
    const { table, chain, kind } = namesOf(message);
    if (table === TABLE) heard.table();
    else if (table === 'filter' && (kind === NFT.delTable || CHAINS.includes(chain))) heard.filter();
  });
  return { close: () => socket.close() };
}

function namesOf(message: NetlinkMessage): { kind: number; table: string; chain: string } {
  const kind = message.type & 0xff;
  const isChain = kind === NFT.newChain || kind === NFT.delChain;
  const isRule = kind === NFT.newRule || kind === NFT.delRule;
  const chainAttribute = isChain ? ATTRIBUTE.nameOfChain : isRule ? ATTRIBUTE.chainOfRule : undefined;
  const names = { kind, table: '', chain: '' };
  const { data } = message;
  // After struct nfgenmsg.
  eachAttribute(data, 4, (type, start, end) => {
    if (type === ATTRIBUTE.table) names.table = nameOf(data.subarray(start, end));
    else if (type === chainAttribute) names.chain = nameOf(data.subarray(start, end));
  });
  return names;
}

function listen(
  protocol: number,
  groups: readonly number[],
  what: string,
  overrun: () => void,
): RawNetlinkSocket {
  const socket = openSocket(protocol, what);
  socket.unref();
  socket.on('error', overrun);
  socket.on('truncatedMessage', overrun);
  for (const group of groups) socket.addMembership(group);
  return socket;
}

function onMessages(socket: RawNetlinkSocket, heard: (message: NetlinkMessage) => void): void {
  socket.on('message', buffer => {
    for (const message of parseMessages(buffer)) heard(message);
  });
}
