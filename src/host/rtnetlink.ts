import { addressBody, decodeAddress } from './address-messages.js';
import type { HostAddress } from './address-messages.js';
import { allLinksBody, decodeLink, groupBody, linkBody, namedLinkBody, vethBody } from './link-messages.js';
import type { Link, VethSpec } from './link-messages.js';
import { NLM, NetlinkError, NetlinkSocket } from './netlink.js';
import type { NetlinkAnswer, NetlinkRequest } from './netlink.js';
import { decodeLookup, decodeRoute, describe, lookupBody, routeBody } from './route-messages.js';
import type { Lookup, Route, RouteFilter, RouteSpec } from './route-messages.js';
import { RTM, SCOPE, withHeader } from './rtnetlink-messages.js';

/**
 * Requests to rtnetlink. Why netlink and not `ip -batch`: a veth with its route takes 0.8 ms instead of 4.5, and no
 * process (bench/netlink.ts); RequestAddress, CreateEndpoint and Join together may take 6.
 */
/** More would only make the datagram big; the kernel's send buffer is about 200 kB. */
const BATCH = 200;

/** Links, addresses and routes of the network namespace this was made in. Refusals are {@link NetlinkError}s. */
export class RtNetlink {
  private readonly socket = new NetlinkSocket(0);

  /**
   * Makes the pair and answers with its first end, in one system call. Refused with EEXIST where either name is
   * taken.
   */
  async createVeth(spec: VethSpec): Promise<Link> {
    const what = `create veth ${spec.name} with ${spec.peerName}`;
    const body = vethBody(spec);
    const create = { type: RTM.newLink, flags: NLM.create | NLM.exclusive, body, what };
    const [made, got] = await this.socket.batch([create, getLink(spec.name)]);
    if (made?.code !== undefined) throw new NetlinkError(what, made.code);
    const link = firstLink(got);
    if (link === undefined) throw new NetlinkError(what, got?.code ?? 'ENODEV');
    return link;
  }

  /** The interface of that name, or undefined. */
  async link(name: string): Promise<Link | undefined> {
    const answer = await this.socket.request(getLink(name), ['ENODEV']);
    return firstLink(answer);
  }

  /** All interfaces. */
  async links(): Promise<readonly Link[]> {
    return this.socket.dump({ type: RTM.getLink, body: allLinksBody(), what: 'list interfaces' }, decodeLink);
  }

  /** Sets an interface up. */
  async setUp(index: number): Promise<void> {
    const request = {
      type: RTM.newLink,
      flags: 0,
      body: linkBody(index, true),
      what: `set interface ${index} up`,
    };
    await this.socket.request(request);
  }

  /** Puts an interface into a link group. */
  async setGroup(index: number, group: number): Promise<void> {
    const what = `set the group of interface ${index}`;
    await this.socket.request({ type: RTM.newLink, flags: 0, body: groupBody(index, group), what });
  }

  /** Deletes an interface (a veth: both ends). Answers false where there is none of that name. */
  async deleteLink(name: string): Promise<boolean> {
    const request = {
      type: RTM.delLink,
      flags: 0,
      body: namedLinkBody(name),
      what: `delete interface ${name}`,
    };
    return (await this.socket.request(request, ['ENODEV'])).code === undefined;
  }

  /** Addresses of all interfaces. */
  async addresses(): Promise<readonly HostAddress[]> {
    const body = withHeader(Buffer.alloc(8));
    return this.socket.dump({ type: RTM.getAddr, body, what: 'list addresses' }, decodeAddress);
  }

  /** Gives an interface an address, see {@link addressBody}. It may have it. */
  async addAddress(index: number, address: string): Promise<void> {
    const body = addressBody(index, address);
    const what = `add address ${address} to interface ${index}`;
    await this.socket.request({ type: RTM.newAddr, flags: NLM.create | NLM.replace, body, what });
  }

  /** Routes of table main, both families, without cached ones. */
  async routes(filter: RouteFilter = {}): Promise<readonly Route[]> {
    const request = { type: RTM.getRoute, body: withHeader(Buffer.alloc(12)), what: 'list routes' };
    return this.socket.dump(request, data => decodeRoute(data, filter));
  }

  /**
   * Makes routes. `replace`: whatever has the same destination and metric goes. `keep`: it stays, and the answer
   * does not name the route. Answers with the routes that were made; throws where the kernel refuses one.
   */
  async addRoutes(
    routes: readonly RouteSpec[],
    protocol: number,
    others: 'replace' | 'keep',
  ): Promise<RouteSpec[]> {
    const codes = await this.tryRoutes(routes, protocol, others);
    codes.forEach((code, index) => {
      const route = routes[index];
      if (code === undefined || route === undefined || (others === 'keep' && code === 'EEXIST')) return;
      throw new NetlinkError(`add route ${describe(route)}`, code);
    });
    return routes.filter((_route, index) => codes[index] === undefined);
  }

  /** The same; answers with the name of the kernel's refusal of each route, undefined where it was made. */
  async tryRoutes(
    routes: readonly RouteSpec[],
    protocol: number,
    others: 'replace' | 'keep',
  ): Promise<(string | undefined)[]> {
    return this.all(
      routes,
      route => ({
        type: RTM.newRoute,
        flags: NLM.create | (others === 'replace' ? NLM.replace : NLM.exclusive),
        body: routeBody(route, protocol, scopeOf(route)),
        what: `add route`,
      }),
      undefined,
    );
  }

  /** How the kernel would reach an address; undefined where it cannot. */
  async lookup(address: string): Promise<Lookup | undefined> {
    const request = { type: RTM.getRoute, flags: 0, body: lookupBody(address), what: `route to ${address}` };
    const unreachable = ['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL'];
    const [message] = (await this.socket.request(request, unreachable)).messages;
    return message === undefined ? undefined : decodeLookup(message.data);
  }

  /** Deletes routes of that protocol number; missing ones are fine. */
  async deleteRoutes(routes: readonly RouteSpec[], protocol: number): Promise<void> {
    await this.all(
      routes,
      route => ({
        type: RTM.delRoute,
        flags: 0,
        body: routeBody(route, protocol, SCOPE.any),
        what: `delete route ${describe(route)}`,
      }),
      ['ESRCH', 'ENODEV', 'ENOENT'],
    );
  }

  /** Ends the socket. */
  close(): void {
    this.socket.close();
  }

  /**
   * Answers with one errno name, or undefined, per request; throws on the first that is not tolerated, if any is not.
   * Requests are made batch by batch: there may be a hundred thousand.
   */
  private async all<T>(
    subjects: readonly T[],
    requestOf: (subject: T) => NetlinkRequest,
    tolerated: readonly string[] | undefined,
  ): Promise<(string | undefined)[]> {
    const codes: (string | undefined)[] = [];
    for (let start = 0; start < subjects.length; start += BATCH) {
      const requests = subjects.slice(start, start + BATCH).map(requestOf);
      codes.push(...(await this.socket.quietBatch(requests)));
    }
    codes.forEach((code, index) => {
      const subject = subjects[index];
      if (code === undefined || subject === undefined || (tolerated?.includes(code) ?? true)) return;
      throw new NetlinkError(requestOf(subject).what, code);
    });
    return codes;
  }
}

/** A route to an interface of ours leads to neighbours, one with a next hop does not; IPv6 knows no scopes. */
function scopeOf({ type, destination, gateway }: RouteSpec): number {
  const isLink = type === 'unicast' && gateway === undefined && !destination.includes(':');
  return isLink ? SCOPE.link : SCOPE.universe;
}

function getLink(name: string): NetlinkRequest {
  return { type: RTM.getLink, flags: 0, body: namedLinkBody(name), what: `look up interface ${name}` };
}

function firstLink(answer: NetlinkAnswer | undefined): Link | undefined {
  const [message] = answer?.messages ?? [];
  return message === undefined ? undefined : decodeLink(message.data);
}
