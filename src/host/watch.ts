import { parseMessages } from 'netlink';
import type { NetlinkMessage, RawNetlinkSocket } from 'netlink';
import { eachAttribute, nameOf } from './bytes.js';
import { openSocket } from './netlink.js';
import { TABLE } from './nft-table.js';

/**
 * What other programs do to the kernel's nftables, as it happens. A notification only says that something may be
 * missing: whoever hears it looks for himself. So a lost one (the kernel drops them when we are slow: ENOBUFS) is
 * told like any other, and our own changes cost one look more and no endless loop.
 */
export interface Watch {
  close(): void;
}

const NETFILTER = { protocol: 12, nftables: 7, subsystem: 10 };
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
