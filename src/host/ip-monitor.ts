import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { isIP } from 'node:net';
import { hostCidr } from './bytes.js';
import { PATH } from './run.js';

/**
 * What other programs do to links, addresses, neighbours and routes, as it happens. Notifications only say that something
 * may be missing: whoever hears them looks for himself.
 *
 * By a child, `ip monitor`, and not by a netlink socket of our own: when more comes than a socket's buffer holds (someone
 * flushes six hundred routes, BIRD loads a table) the kernel reports an error by poll(2), for which the netlink package
 * 0.3.0 ends the whole process (PollHandler makes a text of a null pointer). The child only says so, and goes on.
 */

/** What listeners are told; what they do not name they do not hear. */
export interface HeardOfHost {
  /** A route of our protocol number went: its destination, CIDR text. */
  lost?(destination: string): void;
  /** An interface was set up, or was seen for the first time; `isVeth`: as containers have. */
  linkUp?(name: string, isVeth: boolean): void;
  /** An interface changed or went. */
  device?(name: string): void;
  /** An interface lost a neighbour with this address, inside or, of a tunnel, outside. */
  neighbour?(name: string, address: string): void;
  /** An address of the host that others may use came or went, or an interface that may have had one. */
  addresses?(): void;
  /** Something was not told: it may be anything. */
  overrun?(): void;
}

/** Until the child listens, and before another is started. */
const PAUSE = 300;
const RETRY = 1_000;
/** Interfaces of containers, and Docker's own veths: they come and go all the time, and nobody is reached by them. */
const VETH = /^(cali|temp|veth)/;

/** Follows the host while somebody listens. */
export class IpMonitor {
  private readonly listeners = new Set<HeardOfHost>();
  private readonly up = new Set<string>();
  private readonly marker: string;
  private child: ChildProcess | undefined;
  private timer: NodeJS.Timeout | undefined;

  /** `protocol`: of our routes. `failed` hears why there are no notifications. */
  constructor(
    protocol: number,
    private readonly failed: (reason: string) => void,
  ) {
    this.marker = ` proto ${protocol} `;
  }

  /** Calls back until the function it returns is called. */
  listen(listener: HeardOfHost): () => void {
    this.listeners.add(listener);
    if (this.child === undefined) this.start();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.close();
    };
  }

  close(): void {
    const { child } = this;
    this.child = undefined;
    clearTimeout(this.timer);
    this.listeners.clear();
    child?.kill('SIGKILL');
  }

  private start(): void {
    this.up.clear();
    // It ends with us however we end; numbers instead of names; one line for each object.
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', 'ip', '-o', '-N', 'monitor', 'label', 'address', 'link', 'route', 'neigh'],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH, LC_ALL: 'C' } },
    );
    this.child = child;
    let complaint = '';
    child.unref();
    createInterface({ input: child.stdout }).on('line', line => child === this.child && this.hear(line));
    child.stderr.on('data', text => {
      complaint = String(text).trim();
      this.tell(listener => listener.overrun?.());
    });
    const ended = (reason: string): void => {
      if (child !== this.child) return;
      this.failed(reason);
      this.timer = setTimeout(() => this.start(), RETRY).unref();
    };
    child.once('error', error => ended(error.message));
    child.once('exit', () => ended(complaint === '' ? 'ip monitor ended' : complaint));
    this.timer = setTimeout(() => this.tell(listener => listener.overrun?.()), PAUSE).unref();
  }

  private hear(line: string): void {
    const [, label, deleted, rest = ''] = /^\[(\w+)\](Deleted )?(.*)$/.exec(line) ?? [];
    const isGone = deleted !== undefined;
    if (label === 'ROUTE') {
      if (isGone && rest.includes(this.marker)) this.lost(rest);
    } else if (label === 'ADDR') {
      // Those of the link or the host only, as each container's interface has, reach no other host.
      if (/ scope 0 /.test(rest)) this.tell(listener => listener.addresses?.());
    } else if (label === 'NEIGH') {
      const [, address, name] = /^(\S+) dev (\S+)/.exec(rest) ?? [];
      if (isGone && address !== undefined && name !== undefined)
        this.tell(listener => listener.neighbour?.(name, address));
    } else if (label === 'LINK') this.link(rest, isGone);
  }

  private lost(rest: string): void {
    // A type other than unicast stands before the destination, as a number.
    const destination = rest.split(' ').find(word => word.includes('/') || isIP(word) !== 0);
    if (destination === undefined) return;
    const cidr = destination.includes('/') ? destination : hostCidr(destination);
    this.tell(listener => listener.lost?.(cidr));
  }

  private link(rest: string, isGone: boolean): void {
    const [, name, flags = ''] = /^\d+: ([^:@]+)(?:@[^:]*)?: <([^>]*)>/.exec(rest) ?? [];
    if (name === undefined) return;
    this.tell(listener => listener.device?.(name));
    const isVeth = VETH.test(name);
    if (isGone && !isVeth) this.tell(listener => listener.addresses?.());
    const wasUp = this.up.has(name);
    if (isGone || !flags.split(',').includes('UP')) this.up.delete(name);
    else if (!wasUp) {
      this.up.add(name);
      this.tell(listener => listener.linkUp?.(name, isVeth));
    }
  }

  private tell(say: (listener: HeardOfHost) => void): void {
    for (const listener of this.listeners) say(listener);
  }
}
