import type { PublishedPort } from './dataplane.js';
import { isOnLoopback4 } from './nft-published.js';
import type { HostRoutes } from './routes.js';
import { ensureSettings, writeSetting } from './sysctl.js';
import type { Setting } from './sysctl.js';

/**
 * route_localnet on the interfaces of the containers that have a port open on the host's 127.0.0.1, and on no other:
 * the kernel sends nothing from 127.0.0.1 by an interface without it, and takes no answer back. What else it would
 * open, the table closes (nft-published.ts).
 */
export class LoopbackPorts {
  private addresses: ReadonlySet<string> = new Set();
  /** Interfaces that were given it. */
  private readonly open = new Set<string>();
  /** Nobody has said yet for which: what the daemon before this one opened stays. */
  private isTold = false;

  constructor(private readonly routes: HostRoutes) {}

  /** From now on for these ports. */
  want(published: readonly PublishedPort[]): void {
    this.addresses = new Set(published.filter(isOnLoopback4).map(({ address }) => address));
    if (!this.isTold) {
      this.isTold = true;
      this.restore();
      return;
    }
    const wanted = this.interfaces();
    for (const name of [...this.open]) {
      if (wanted.has(name)) continue;
      writeSetting(setting(name, '0'));
      this.open.delete(name);
    }
    for (const name of wanted) if (!this.open.has(name)) this.give(name);
  }

  /** An interface was made, or made anew. */
  attached(name: string): void {
    this.open.delete(name);
    if (this.interfaces().has(name)) this.give(name);
  }

  /** Looks at every endpoint's interface; answers with what was put right. */
  restore(): string[] {
    if (!this.isTold) return [];
    const wanted = this.interfaces();
    return this.routes.endpointInterfaces().flatMap(name => {
      if (!wanted.has(name)) return ensureSettings([setting(name, '0')]);
      this.open.add(name);
      return ensureSettings([setting(name, '1')]);
    });
  }

  /** Takes it from these interfaces. */
  closeAll(names: readonly string[]): void {
    this.addresses = new Set();
    this.open.clear();
    for (const name of names) writeSetting(setting(name, '0'));
  }

  private give(name: string): void {
    if (writeSetting(setting(name, '1'))) this.open.add(name);
  }

  private interfaces(): Set<string> {
    const owners = [...this.addresses].map(address => this.routes.ownerOf(address));
    return new Set(owners.filter(name => name !== undefined));
  }
}

function setting(name: string, value: string): Setting {
  return [`ipv4/conf/${name}/route_localnet`, value];
}
