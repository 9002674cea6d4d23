import type { AttrStream } from 'netlink';
import { createHash } from 'node:crypto';
import { eachAttribute, nameOf } from './bytes.js';
import { NLM, NetlinkError, NetlinkSocket } from './netlink.js';
import { attribute, textAttribute, u32 } from './nft-attributes.js';
import type { NftMessage } from './nft-messages.js';
import { withHeader } from './rtnetlink-messages.js';

/** The kernel's nf_tables over netlink: transactions, and the number that each of them, whoever made it, counts up. */
const NETLINK_NETFILTER = 12;
const BATCH = { begin: 16, end: 17 };
/** struct nfgenmsg of a batch: no family, version 0, and in network order the subsystem it is for. */
const BATCH_HEADER = Buffer.from([0, 0, 0, 10]);
const GENERATION_OF_BATCH = 1;
const SUBSYSTEM = 10 << 8;
const GET = {
  table: SUBSYSTEM | 1,
  chain: SUBSYSTEM | 4,
  rules: SUBSYSTEM | 7,
  sets: SUBSYSTEM | 10,
  elements: SUBSYSTEM | 13,
  generation: SUBSYSTEM | 16,
};
const NFPROTO = { ipv4: 2, ipv6: 10 };
const CHAIN = { handle: 2, name: 3, policy: 5 };
const SET = { name: 2 };
const TABLE = { handle: 4 };
const RULE = { chain: 2, handle: 3 };
const ELEMENTS = 3;
const GENERATION = { id: 1 };
/** Bytes that fit into a socket's send buffer as the kernel makes it (net.core.wmem_default less its overhead). */
const LARGEST = 100_000;

/** Opens a netlink socket at first use. */
export class NftNetlink {
  private socket: NetlinkSocket | undefined;
  private isClosed = false;

  /** How many transactions there were, modulo 2^32. Throws NetlinkError. */
  async generation(): Promise<number> {
    const request = {
      type: GET.generation,
      flags: 0,
      body: withHeader(Buffer.alloc(4)),
      what: 'ask for nftables',
    };
    const [answer] = (await this.open().request(request)).messages;
    let generation = 0;
    if (answer)
      eachAttribute(answer.data, 4, (type, start) => {
        if (type === GENERATION.id) generation = answer.data.readUInt32BE(start);
      });
    return generation;
  }

  /** Whether the messages fit into one transaction by {@link commit}. */
  static fits(messages: readonly NftMessage[]): boolean {
    return messages.reduce((sum, { body }) => sum + body.length + 16, 0) <= LARGEST;
  }

  /**
   * All messages in one transaction, if there was no other since `generation`; answers with the number it has. Throws
   * NetlinkError, with nothing done; code ERESTART where there was another.
   */
  async commit(messages: readonly NftMessage[], generation: number, what: string): Promise<number> {
    await this.transact(messages, attribute(GENERATION_OF_BATCH, u32(generation)), what);
    // The kernel leaves zero out.
    return generation === 0xffffffff ? 1 : generation + 1;
  }

  /** All messages in one transaction, whatever others did before. Throws NetlinkError, with nothing done. */
  async commitAnyway(messages: readonly NftMessage[], what: string): Promise<void> {
    await this.transact(messages, Buffer.alloc(0), what);
  }

  /** The kernel's number of a table of family inet; undefined: there is none. Throws NetlinkError. */
  async tableHandle(table: string): Promise<string | undefined> {
    const request = { type: GET.table, flags: 0, body: about(table), what: `ask for table ${table}` };
    const { code, messages } = await this.open().request(request, ['ENOENT']);
    const [answer] = messages;
    if (code !== undefined || answer === undefined) return undefined;
    let handle = '';
    eachAttribute(answer.data, 4, (type, start, end) => {
      if (type === TABLE.handle) handle = answer.data.toString('hex', start, end);
    });
    return handle;
  }

  /**
   * Of the rules of a table: how many there are in each chain that has some, and a digest of their numbers. A rule that is
   * changed, or made again, has another number. Throws NetlinkError.
   */
  async rules(table: string): Promise<{ counts: Map<string, number>; digest: string }> {
    const counts = new Map<string, number>();
    const hash = createHash('sha1');
    await this.open().dump({ type: GET.rules, body: about(table), what: `list rules of ${table}` }, data => {
      eachAttribute(data, 4, (type, start, end) => {
        if (type === RULE.handle) hash.update(data.subarray(start, end));
        if (type !== RULE.chain) return;
        const chain = nameOf(data.subarray(start, end));
        counts.set(chain, (counts.get(chain) ?? 0) + 1);
      });
      return undefined;
    });
    return { counts, digest: hash.digest('hex') };
  }

  /** A digest of all that a table of family inet is, with its elements; empty where there is none. Throws NetlinkError. */
  async digest(table: string): Promise<string> {
    const handle = await this.tableHandle(table);
    if (handle === undefined) return '';
    const sets: string[] = [];
    await this.open().dump({ type: GET.sets, body: about(table), what: `list sets of ${table}` }, data => {
      eachAttribute(data, 4, (type, start, end) => {
        if (type === SET.name) sets.push(nameOf(data.subarray(start, end)));
      });
      return undefined;
    });
    const hash = createHash('sha1').update(
      `${await this.tableHandle(table)} ${(await this.rules(table)).digest}`,
    );
    for (const set of sets) {
      hash.update(set);
      await this.elements(table, set, element => hash.update(element));
    }
    return hash.digest('hex');
  }

  /** A digest of a chain of the table `filter`, as iptables makes it: policy and rules, not counters. Throws NetlinkError. */
  async filterChain(family: 4 | 6, name: string): Promise<string> {
    const hash = createHash('sha1');
    const number = family === 4 ? NFPROTO.ipv4 : NFPROTO.ipv6;
    const chain = withHeader(Buffer.from([number, 0, 0, 0]));
    chain.emit(textAttribute(1, 'filter'));
    chain.emit(textAttribute(CHAIN.name, name));
    const what = `ask for chain ${name}`;
    const { messages } = await this.open().request({ type: GET.chain, flags: 0, body: chain, what }, [
      'ENOENT',
    ]);
    for (const { data } of messages)
      eachAttribute(data, 4, (type, start, end) => {
        if (type === CHAIN.handle || type === CHAIN.policy) hash.update(data.subarray(start, end));
      });
    const rules = withHeader(Buffer.from([number, 0, 0, 0]));
    rules.emit(textAttribute(1, 'filter'));
    rules.emit(textAttribute(RULE.chain, name));
    await this.open().dump({ type: GET.rules, body: rules, what: `list chain ${name}` }, data => {
      eachAttribute(data, 4, (type, start, end) => {
        if (type === RULE.handle) hash.update(data.subarray(start, end));
      });
      return undefined;
    });
    return hash.digest('hex');
  }

  /** Calls `visit` with the attributes of each element of a set: see {@link eachAttribute}. Throws NetlinkError. */
  async elements(table: string, set: string, visit: (element: Buffer) => void): Promise<void> {
    const request = { type: GET.elements, body: about(table, set), what: `list set ${set} of ${table}` };
    await this.open().dump(request, data => {
      eachAttribute(data, 4, (type, start, end) => {
        if (type !== ELEMENTS) return;
        const list = data.subarray(start, end);
        eachAttribute(list, 0, (_type, from, to) => visit(list.subarray(from, to)));
      });
      return undefined;
    });
  }

  close(): void {
    this.isClosed = true;
    this.socket?.close();
  }

  private async transact(messages: readonly NftMessage[], since: Buffer, what: string): Promise<void> {
    const begin = { type: BATCH.begin, flags: 0, body: Buffer.concat([BATCH_HEADER, since]) };
    const end = { type: BATCH.end, flags: 0, body: BATCH_HEADER };
    const last = messages.length - 1;
    const code = await this.open().datagram([
      begin,
      // An answer to each would be too much for the receive buffer; a refusal is told without being asked for.
      ...messages.map((message, at) =>
        at === last ? { ...message, flags: message.flags | NLM.ack } : message,
      ),
      end,
    ]);
    if (code !== undefined) throw new NetlinkError(what, code);
  }

  private open(): NetlinkSocket {
    if (this.isClosed) throw new NetlinkError('talk to nftables', 'ECANCELED');
    this.socket ??= new NetlinkSocket(NETLINK_NETFILTER);
    return this.socket;
  }
}

/** A question about an object of family inet, by its table's name and its own. */
function about(table: string, name?: string): AttrStream {
  const body = withHeader(Buffer.from([1, 0, 0, 0]));
  body.emit(textAttribute(1, table));
  if (name !== undefined) body.emit(textAttribute(2, name));
  return body;
}
