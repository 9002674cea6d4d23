import { getSystemErrorName } from 'node:util';
import { RawNetlinkSocket, formatMessage, parseError, parseMessages } from 'netlink';
import type { NetlinkMessage, AttrStream } from 'netlink';
import { HostError, reason } from '../errors.js';

/**
 * Requests over one netlink socket. The npm package `netlink` gives the socket and the encodings; its own request
 * layer is not used, because it loses the errno, takes an acknowledgement that arrives inside a dump for a broken
 * dump, and does not see that a dump was interrupted.
 */

/** Message flags (linux/netlink.h). */
export const NLM = {
  request: 0x1,
  ack: 0x4,
  dumpInterrupted: 0x10,
  replace: 0x100,
  exclusive: 0x200,
  dump: 0x300,
  create: 0x400,
} as const;

const TYPE_ERROR = 2;
const TYPE_DONE = 3;
/** Asked for; the kernel caps it at net.core.rmem_max. */
const RECEIVE_BUFFER = 4 * 1024 * 1024;
/** A dump that keeps being interrupted means the tables never rest; later checks will see the end of it. */
const DUMP_TRIES = 10;

/** One message to the kernel. `what` names the attempt in errors, e.g. `create veth cali0`. */
export interface NetlinkRequest {
  readonly type: number;
  readonly flags: number;
  readonly body: AttrStream;
  readonly what: string;
}

/** What the kernel said to one request: `code` is the errno's name, e.g. `EEXIST`, where it refused. */
export interface NetlinkAnswer {
  readonly code: string | undefined;
  readonly messages: readonly NetlinkMessage[];
}

/** The kernel refused a netlink request; `code` is the errno's name, e.g. `ENODEV`. */
export class NetlinkError extends HostError {
  constructor(
    readonly what: string,
    readonly code: string,
  ) {
    super(`${what}: ${code}${HINTS[code] ?? ''}`);
  }
}

const HINTS: Readonly<Record<string, string>> = {
  EPERM: ' (the daemon needs root, or CAP_NET_ADMIN in the host network namespace)',
  EOPNOTSUPP: ' (the kernel lacks support for it; is the veth module available?)',
};

/** Requests of which only refusals are told, by consecutive numbers. */
interface Quiet {
  readonly first: number;
  readonly codes: (string | undefined)[];
  /** The socket's, not the kernel's. */
  failure: string | undefined;
}

const LAST_SEQUENCE = 0x7fffffff;

interface Pending {
  readonly take: (message: NetlinkMessage) => void;
  interrupted: boolean;
  settle(code: string | undefined): void;
}

/** A netlink socket for requests; several may be under way at once. */
export class NetlinkSocket {
  private readonly socket: RawNetlinkSocket;
  private readonly port: number;
  private readonly pending = new Map<number, Pending>();
  private readonly quiet = new Set<Quiet>();
  private sequence = 1;
  private lastDump: Promise<unknown> = Promise.resolve();

  /** `protocol`: NETLINK_ROUTE = 0. The socket belongs to the network namespace of the calling thread. */
  constructor(protocol: number) {
    this.socket = openSocket(protocol, 'open netlink socket');
    this.port = this.socket.address().port;
    this.socket.unref();
    this.socket.on('message', buffer => this.receive(buffer));
    // ENOBUFS: the kernel dropped something meant for us, and nobody can say what; no answer is better than a
    // promise that never settles.
    this.socket.on('error', error => this.failAll(error.code));
    this.socket.on('truncatedMessage', () => this.failAll('EMSGSIZE'));
  }

  /**
   * Sends all requests in one datagram, hence one system call; the kernel works through them in order and a
   * refused one does not stop those after it. Never throws for a refusal: see the answers, one per request. `take`,
   * where given, gets the messages that would be in the answers.
   */
  async batch(
    requests: readonly NetlinkRequest[],
    take?: (message: NetlinkMessage) => void,
  ): Promise<NetlinkAnswer[]> {
    const parts: Uint8Array[] = [];
    const answers = requests.map(request => {
      const seq = this.nextSequence();
      this.put(parts, request, seq, NLM.ack);
      return this.expect(seq, take);
    });
    this.send(parts);
    return Promise.all(answers);
  }

  /**
   * The same for many requests that are not expected to fail: the kernel says something of refused ones only, and of the
   * last. Answers with the errno's name of each, undefined where it was done.
   */
  async quietBatch(requests: readonly NetlinkRequest[]): Promise<(string | undefined)[]> {
    if (requests.length === 0) return [];
    const codes: (string | undefined)[] = requests.map(() => undefined);
    if (this.sequence + requests.length > LAST_SEQUENCE) this.sequence = 1;
    const quiet: Quiet = { first: this.sequence, codes, failure: undefined };
    this.quiet.add(quiet);
    const parts: Uint8Array[] = [];
    let last = 0;
    requests.forEach((request, index) => {
      last = this.nextSequence();
      this.put(parts, request, last, index === requests.length - 1 ? NLM.ack : 0);
    });
    const answer = this.expect(last);
    this.send(parts);
    codes[codes.length - 1] = (await answer).code;
    this.quiet.delete(quiet);
    // Nobody knows then which were done.
    return codes.map(code => code ?? quiet.failure);
  }

  /**
   * Sends messages that the kernel works through as one, in one datagram with one number. Answers with the code of the
   * first refusal, or undefined once the message that asks for an answer has a good one.
   */
  async datagram(
    messages: readonly { readonly type: number; readonly flags: number; readonly body: Buffer }[],
  ): Promise<string | undefined> {
    const seq = this.nextSequence();
    const length = messages.reduce((sum, { body }) => sum + 16 + ((body.length + 3) & ~3), 0);
    const bytes = Buffer.alloc(length);
    let at = 0;
    for (const { type, flags, body } of messages) {
      // struct nlmsghdr.
      bytes.writeUInt32LE(16 + body.length, at);
      bytes.writeUInt16LE(type, at + 4);
      bytes.writeUInt16LE(flags | NLM.request, at + 6);
      bytes.writeUInt32LE(seq, at + 8);
      bytes.writeUInt32LE(this.port, at + 12);
      body.copy(bytes, at + 16);
      at += 16 + ((body.length + 3) & ~3);
    }
    const answer = this.expect(seq);
    this.socket.send(bytes, {}, error => error && this.failAll(error.code));
    return (await answer).code;
  }

  /** One request; throws {@link NetlinkError} where the kernel refuses, unless its errno is in `tolerated`. */
  async request(request: NetlinkRequest, tolerated: readonly string[] = []): Promise<NetlinkAnswer> {
    const [answer] = await this.batch([request]);
    if (answer?.code !== undefined && !tolerated.includes(answer.code)) {
      throw new NetlinkError(request.what, answer.code);
    }
    return answer ?? { code: undefined, messages: [] };
  }

  /**
   * All objects of one kind, consistent: a dump during which the table changed is taken again. `decode` answers
   * undefined for what is not wanted, and is called as messages arrive: a large dump is never held as a whole.
   */
  async dump<T>(
    request: Omit<NetlinkRequest, 'flags'>,
    decode: (data: Buffer) => T | undefined,
  ): Promise<readonly T[]> {
    // The kernel runs one dump per socket at a time and answers EBUSY to the next.
    const turn = this.lastDump.then(async () => {
      for (let tries = 1; ; tries += 1) {
        const found: T[] = [];
        const take = (message: NetlinkMessage): void => {
          const decoded = decode(message.data);
          if (decoded !== undefined) found.push(decoded);
        };
        const [answer] = await this.batch([{ ...request, flags: NLM.dump }], take);
        if (answer?.code === undefined) return found;
        const isPassing = ['EINTR', 'ENOBUFS'].includes(answer.code);
        if (!isPassing || tries === DUMP_TRIES) throw new NetlinkError(request.what, answer.code);
      }
    });
    this.lastDump = turn.catch(() => undefined);
    return turn;
  }

  /** Requests under way fail with ECANCELED. */
  close(): void {
    this.failAll('ECANCELED');
    this.socket.close();
  }

  private nextSequence(): number {
    const { sequence } = this;
    this.sequence = (sequence % LAST_SEQUENCE) + 1;
    return sequence;
  }

  /** Adds a message to a datagram. */
  private put(parts: Uint8Array[], { type, flags, body }: NetlinkRequest, seq: number, ack: number): void {
    const data = body.bufs;
    const bytes = formatMessage({ type, flags: flags | NLM.request | ack, seq, port: this.port, data });
    parts.push(...bytes);
    const length = bytes.reduce((sum, part) => sum + part.length, 0);
    if (length % 4 !== 0) parts.push(Buffer.alloc(4 - (length % 4)));
  }

  private send(parts: readonly Uint8Array[]): void {
    if (parts.length > 0)
      this.socket.send(Buffer.concat(parts), {}, error => error && this.failAll(error.code));
  }

  private expect(seq: number, take?: (message: NetlinkMessage) => void): Promise<NetlinkAnswer> {
    // Only a request under way keeps the process alive.
    if (this.pending.size === 0) this.socket.ref();
    return new Promise(resolve => {
      const messages: NetlinkMessage[] = [];
      this.pending.set(seq, {
        take: take ?? (message => messages.push(message)),
        interrupted: false,
        settle: code => {
          this.pending.delete(seq);
          if (this.pending.size === 0) this.socket.unref();
          resolve({ code, messages });
        },
      });
    });
  }

  private receive(buffer: Buffer): void {
    for (const message of parseMessages(buffer)) {
      const pending = this.pending.get(message.seq);
      if (pending === undefined) {
        if (message.type === TYPE_ERROR) this.refuseQuietly(message);
        continue;
      }
      if ((message.flags & NLM.dumpInterrupted) !== 0) pending.interrupted = true;
      if (message.type === TYPE_ERROR)
        pending.settle(errnoName(parseError(message.data, message.flags).errno));
      else if (message.type === TYPE_DONE)
        pending.settle(pending.interrupted ? 'EINTR' : doneCode(message.data));
      else pending.take(message);
    }
  }

  private refuseQuietly({ seq, data, flags }: NetlinkMessage): void {
    for (const { first, codes } of this.quiet)
      if (seq >= first && seq < first + codes.length)
        codes[seq - first] = errnoName(parseError(data, flags).errno);
  }

  private failAll(code: string): void {
    for (const quiet of this.quiet) quiet.failure = code;
    for (const pending of [...this.pending.values()]) pending.settle(code);
  }
}

/** Opens a netlink socket with a large receive buffer; throws HostError. */
export function openSocket(protocol: number, what: string): RawNetlinkSocket {
  try {
    return new RawNetlinkSocket(protocol, { recvBufferSize: RECEIVE_BUFFER, sendBufferSize: 0 });
  } catch (error) {
    throw new HostError(`${what}: ${reason(error)}`, { cause: error });
  }
}

/** What nftables says to a transaction that another one overtook. */
const ERESTART = 85;

/** A dump that fails half-way says so in the payload of its last message. */
function doneCode(data: Buffer): string | undefined {
  return data.length >= 4 ? errnoName(data.readInt32LE(0)) : undefined;
}

function errnoName(errno: number): string | undefined {
  if (errno === 0) return undefined;
  // Node has no name for what is not an error of a system call.
  if (errno === -ERESTART) return 'ERESTART';
  try {
    return getSystemErrorName(errno);
  } catch {
    return `errno ${-errno}`;
  }
}
