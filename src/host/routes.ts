import { hostCidr } from './bytes.js';
import type { EndpointWiring } from './dataplane.js';
import type { Link } from './link-messages.js';
import { NetlinkError } from './netlink.js';
import type { Route, RouteSpec } from './route-messages.js';
import type { RtNetlink } from './rtnetlink.js';

/**
 * Containers have 169.254.1.1 as IPv4 gateway, and one with several endpoints .2, .3 … on the further ones; no
 * interface anywhere has such an address.
 */
export const GATEWAYS4 = '169.254.1.0/24';

/** The one of them that is never a gateway: what host ends have that need to have any address (host-addresses.ts). */
export const UNNUMBERED = '169.254.1.0';

/**
 * The kernel answers ARP for an address it proxies only if it has a unicast route to it out of another interface.
 * The default route is one, but a host may have none, or lose it with its uplink, and its containers could then not
 * even reach each other. This route always is one. It goes to `lo`, which always exists; what is really sent to such
 * an address would go round there until its TTL ends, so our table drops it (nft.ts). A local address instead would
 * answer too, but not where net.ipv4.conf.all.arp_ignore is set (kube-proxy, keepalived), and would open one more
 * way to the host's services. The kernel gives lo index 1 in every namespace.
 */
const GATEWAY_ROUTE: RouteSpec = { destination: GATEWAYS4, type: 'unicast', device: 1 };

/** What an endpoint's host end should have. */
interface Wired {
  /** Of the host interface. */
  readonly index: number;
  readonly destinations: readonly string[];
}

/**
 * The routes we own, all of one protocol number in table main, told apart by type and device: unicast to a veth's
 * host end (an endpoint's), unicast to lo (the gateway's), blackhole (a block's). Those with a next hop are not meant
 * (peer-routes.ts). Remembers what should be there.
 * Routes of other protocol numbers are never deleted; an endpoint's route replaces what has the same destination.
 */
export class HostRoutes {
  /** By host interface. */
  private readonly endpoints = new Map<string, Wired>();
  /** The host interface each destination belongs to: the last that asked for it. */
  private readonly owners = new Map<string, string>();
  private blocks: readonly string[] = [];
  private hasGateway = false;

  constructor(
    private readonly netlink: RtNetlink,
    private readonly protocol: number,
  ) {}

  /** Routes an endpoint's addresses to its host end, away from any other interface. */
  async addEndpoint(link: Link, wiring: EndpointWiring): Promise<void> {
    const destinations = wiring.addresses.map(hostCidr);
    const routes = destinations.map(destination => endpointRoute(destination, link.index));
    await this.netlink.addRoutes(routes, this.protocol, 'replace');
    this.claim(link, destinations);
  }

  /** Removes an endpoint's routes, known or found; answers whether its interface exists. Missing is fine. */
  async removeEndpoint(hostInterface: string): Promise<boolean> {
    const known = this.endpoints.get(hostInterface)?.destinations;
    this.forget(hostInterface);
    const link = await this.netlink.link(hostInterface);
    if (link === undefined) return false;
    const destinations = known ?? (await this.routesTo(link.index)).map(route => route.destination);
    const routes = destinations.map(destination => endpointRoute(destination, link.index));
    await this.netlink.deleteRoutes(routes, this.protocol);
    return true;
  }

  /** Adds an endpoint to what should be there; {@link restore} makes it so. */
  remember(link: Link, wiring: EndpointWiring): void {
    this.claim(link, wiring.addresses.map(hostCidr));
  }

  /** One blackhole route per block; ours for other blocks go. Endpoint routes stay. */
  async applyBlocks(blocks: readonly string[]): Promise<void> {
    // A block of one address would have the same destination as its endpoint's route.
    this.blocks = blocks.filter(block => !/^[^:]*\/32$|\/128$/.test(block));
    this.hasGateway = true;
    await this.restore();
    const wanted = new Set(this.blocks);
    const stale = (await this.ours()).filter(
      ({ type, destination }) => type === 'blackhole' && !wanted.has(destination),
    );
    const routes = stale.map(({ destination }) => blackhole(destination));
    await this.netlink.deleteRoutes(routes, this.protocol);
  }

  /** The host interface the address is routed to. */
  ownerOf(address: string): string | undefined {
    return this.owners.get(hostCidr(address));
  }

  /** Host interfaces of all endpoints that are to have routes. */
  endpointInterfaces(): string[] {
    return [...this.endpoints.keys()];
  }

  /** Whether losing the route to this destination is a loss. */
  isWanted(destination: string): boolean {
    if (this.hasGateway && destination === GATEWAYS4) return true;
    return this.owners.has(destination) || this.blocks.includes(destination);
  }

  /** Whether an endpoint on this host end is to have routes. */
  isEndpoint(hostInterface: string): boolean {
    return this.endpoints.has(hostInterface);
  }

  /** Puts back what is missing; answers with it in words. An endpoint whose interface is gone is forgotten. */
  async restore(): Promise<string[]> {
    const present = new Set((await this.ours()).map(routeKey));
    const isMissing = (route: RouteSpec): boolean => !present.has(routeKey(route));
    const shared = this.blocks.map(blackhole);
    if (this.hasGateway) shared.push(GATEWAY_ROUTE);
    // Foreign routes stay: a block's may be BIRD's, with the same effect.
    const added = await this.netlink.addRoutes(shared.filter(isMissing), this.protocol, 'keep');
    for (const [name, wired] of [...this.endpoints]) {
      // Where all is well, one dump of our routes is all this takes.
      if (!this.wantedRoutes(name, wired.index).some(isMissing)) continue;
      const link = await this.netlink.link(name);
      // Detached, or attached anew, since.
      if (this.endpoints.get(name) !== wired) continue;
      if (link === undefined) this.forget(name);
      else added.push(...(await this.restoreEndpoint(this.wantedRoutes(name, link.index).filter(isMissing))));
    }
    return added.map(route => `${route.type} route ${route.destination}`);
  }

  /** Deletes every route of our protocol number but those to other hosts, and wants none any more. */
  async removeAll(): Promise<void> {
    this.blocks = [];
    this.hasGateway = false;
    this.endpoints.clear();
    this.owners.clear();
    const routes = (await this.ours()).map(({ type, destination, device }): RouteSpec => {
      return type === 'blackhole' || device === undefined
        ? blackhole(destination)
        : endpointRoute(destination, device);
    });
    await this.netlink.deleteRoutes(routes, this.protocol);
  }

  private claim(link: Link, destinations: readonly string[]): void {
    this.forget(link.name);
    this.endpoints.set(link.name, { index: link.index, destinations });
    for (const destination of destinations) this.owners.set(destination, link.name);
  }

  private forget(hostInterface: string): void {
    for (const destination of this.endpoints.get(hostInterface)?.destinations ?? []) {
      if (this.owners.get(destination) === hostInterface) this.owners.delete(destination);
    }
    this.endpoints.delete(hostInterface);
  }

  private wantedRoutes(hostInterface: string, index: number): RouteSpec[] {
    const destinations = this.endpoints.get(hostInterface)?.destinations ?? [];
    const owned = destinations.filter(destination => this.owners.get(destination) === hostInterface);
    return owned.map(destination => endpointRoute(destination, index));
  }

  private async restoreEndpoint(routes: readonly RouteSpec[]): Promise<RouteSpec[]> {
    if (routes.length === 0) return [];
    try {
      return await this.netlink.addRoutes(routes, this.protocol, 'replace');
    } catch (error) {
      // The interface went, or was set down, since it was listed.
      if (error instanceof NetlinkError && ['ENODEV', 'ENETDOWN', 'EINVAL'].includes(error.code)) return [];
      throw error;
    }
  }

  private ours(): Promise<readonly Route[]> {
    return this.netlink.routes({ protocol: this.protocol, gateway: false });
  }

  private async routesTo(device: number): Promise<Route[]> {
    return (await this.ours()).filter(route => route.type === 'unicast' && route.device === device);
  }
}

function endpointRoute(destination: string, device: number): RouteSpec {
  return { destination, type: 'unicast', device };
}

function blackhole(destination: string): RouteSpec {
  return { destination, type: 'blackhole' };
}

/** An IPv6 blackhole route shows lo as its device, an IPv4 one none. */
function routeKey({ type, destination, device }: Route | RouteSpec): string {
  return type === 'blackhole' ? `blackhole ${destination}` : `${type} ${destination} ${device}`;
}
