import type { PeerHop } from './peers.js';
import type { RouteSpec } from './route-messages.js';
import type { RtNetlink } from './rtnetlink.js';

/** So many routes are made in one go. */
const SLICE = 2_000;

/** A route of ours with a next hop, as the kernel has it. */
interface Present {
  readonly gateway: string;
  readonly device: number | undefined;
}

/**
 * The routes to other hosts: of our protocol number in table main, told apart from those to containers (routes.ts) by
 * having a next hop. Remembers what should be there; a change costs as much as it changes, however many there are.
 * What others have put at a destination stays, until they take it away.
 */
export class PeerRoutes {
  private wanted = new Map<string, PeerHop>();
  /** Errno name of each that the kernel did not take. */
  private readonly refused = new Map<string, string>();
  private readonly missing = new Set<string>();

  /** `tunnel`: index of Calico's VXLAN device of the family, while there is one. */
  constructor(
    private readonly netlink: RtNetlink,
    private readonly protocol: number,
    private readonly tunnel: (family: 4 | 6) => number | undefined,
  ) {}

  /** How many there should be. */
  get size(): number {
    return this.wanted.size;
  }

  /** From now on just these. */
  async replaceAll(routes: ReadonlyMap<string, PeerHop>): Promise<void> {
    this.wanted = new Map(routes);
    await this.restore();
  }

  /** Adds before it deletes. */
  async change(changes: ReadonlyMap<string, PeerHop | undefined>): Promise<void> {
    const [added, moved, gone]: [string[], string[], RouteSpec[]] = [[], [], []];
    for (const [destination, hop] of changes) {
      const before = this.wanted.get(destination);
      if (hop === undefined) {
        this.wanted.delete(destination);
        const route = before && this.routeTo(destination, before);
        if (route && !this.refused.has(destination)) gone.push(route);
        this.refused.delete(destination);
        continue;
      }
      this.wanted.set(destination, hop);
      // One that was refused has another's route at its place, which a replacement would take away.
      (before === undefined || this.refused.has(destination) ? added : moved).push(destination);
    }
    await this.make(added, 'keep');
    await this.make(moved, 'replace');
    await this.netlink.deleteRoutes(gone, this.protocol);
  }

  /** A route of ours to this destination went away; answers whether {@link restoreMissing} has something to do. */
  lost(destination: string): boolean {
    if (this.wanted.has(destination)) this.missing.add(destination);
    return this.missing.size > 0;
  }

  /** Puts back what {@link lost} was told of, and tries again what was refused; answers with the destinations. */
  async restoreMissing(): Promise<string[]> {
    const destinations = [...new Set([...this.missing, ...this.refused.keys()])].filter(destination =>
      this.wanted.has(destination),
    );
    this.missing.clear();
    return this.make(destinations, 'keep');
  }

  /** Compares everything with the kernel: one dump of our routes. Answers with the destinations that were put right. */
  async restore(): Promise<string[]> {
    const present = new Map<string, Present>();
    const stray: RouteSpec[] = [];
    for (const { destination, type, gateway, device } of await this.netlink.routes({
      protocol: this.protocol,
      gateway: true,
    })) {
      if (type !== 'unicast' || gateway === undefined) continue;
      if (this.wanted.has(destination)) present.set(destination, { gateway, device });
      else stray.push({ destination, type, gateway, ...(device === undefined ? {} : { device }) });
    }
    const left = await this.devicesLeft(present);
    const [added, moved]: [string[], string[]] = [[], []];
    for (const [destination, hop] of this.wanted) {
      const now = present.get(destination);
      if (now === undefined) added.push(destination);
      else if (!this.isRight(destination, hop, now, left)) moved.push(destination);
      else this.refused.delete(destination);
    }
    this.missing.clear();
    const made = [...(await this.make(added, 'keep')), ...(await this.make(moved, 'replace'))];
    await this.netlink.deleteRoutes(stray, this.protocol);
    return made;
  }

  /** What the kernel did not take, for a person; undefined where it took everything. */
  problem(): string | undefined {
    const [first] = this.refused;
    if (first === undefined) return undefined;
    const [destination, code] = first;
    const via = this.wanted.get(destination)?.via ?? '';
    const more = this.refused.size > 1 ? `, and ${this.refused.size - 1} more` : '';
    return `no route to ${destination} via ${via}: ${REASONS[code] ?? code}${more}`;
  }

  /** Deletes every route of ours that has a next hop, and wants none any more. */
  async removeAll(): Promise<void> {
    await this.replaceAll(new Map());
  }

  /** For a person. */
  describe(destination: string): string {
    return `route ${destination} via ${this.wanted.get(destination)?.via ?? ''}`;
  }

  private async make(destinations: readonly string[], others: 'keep' | 'replace'): Promise<string[]> {
    const made: string[] = [];
    // Some at a time: the requests for a hundred thousand are forty megabytes, and long in being collected.
    for (let start = 0; start < destinations.length; start += SLICE)
      made.push(...(await this.makeSome(destinations.slice(start, start + SLICE), others)));
    return made;
  }

  private async makeSome(destinations: readonly string[], others: 'keep' | 'replace'): Promise<string[]> {
    const routes: RouteSpec[] = [];
    for (const destination of destinations) {
      const hop = this.wanted.get(destination);
      const route = hop && this.routeTo(destination, hop);
      if (route) routes.push(route);
      else if (hop) this.refused.set(destination, 'NO TUNNEL');
    }
    const codes = await this.netlink.tryRoutes(routes, this.protocol, others);
    const made: string[] = [];
    codes.forEach((code, index) => {
      const route = routes[index];
      if (route === undefined) return;
      if (code === undefined) {
        this.refused.delete(route.destination);
        made.push(route.destination);
      } else this.refused.set(route.destination, code);
    });
    return made;
  }

  private routeTo(destination: string, { via, by }: PeerHop): RouteSpec | undefined {
    const route = { destination, type: 'unicast', gateway: via } as const;
    if (by === 'underlay') return route;
    const device = this.tunnel(destination.includes(':') ? 6 : 4);
    return device === undefined ? undefined : { ...route, device, onlink: true };
  }

  private isRight(
    destination: string,
    { via, by }: PeerHop,
    now: Present,
    left: ReadonlySet<number>,
  ): boolean {
    if (now.gateway !== via) return false;
    const tunnel = this.tunnel(destination.includes(':') ? 6 : 4);
    if (by === 'vxlan') return now.device === tunnel;
    return now.device !== tunnel && (now.device === undefined || !left.has(now.device));
  }

  /**
   * Interfaces by which next hops were reached, but are no longer: an address that moves to another interface (a new
   * bridge) does not take routes with it. One next hop of each interface is asked about.
   */
  private async devicesLeft(present: ReadonlyMap<string, Present>): Promise<Set<number>> {
    const samples = new Map<number, string>();
    for (const [destination, { gateway, device }] of present)
      if (device !== undefined && this.wanted.get(destination)?.by === 'underlay')
        samples.set(device, gateway);
    const left = new Set<number>();
    for (const [device, gateway] of samples) {
      const now = (await this.netlink.lookup(gateway))?.device;
      if (now !== undefined && now !== device) left.add(device);
    }
    return left;
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EEXIST: 'another program has a route there',
  ENETUNREACH: 'this host has no route to that next hop',
  EHOSTUNREACH: 'this host has no route to that next hop',
  EINVAL: 'that next hop is not on a segment of this host; does the Node say the right subnet?',
  ENETDOWN: 'the interface is down',
  'NO TUNNEL': 'this host has no VXLAN device yet',
};
