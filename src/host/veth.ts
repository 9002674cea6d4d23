import { HostError } from '../errors.js';
import type { EndpointWiring, HostInterface } from './dataplane.js';
import type { Link } from './link-messages.js';
import { NetlinkError } from './netlink.js';
import type { LinkReaper } from './reaper.js';
import type { RtNetlink } from './rtnetlink.js';
import { checkInterfaceName, ensureSettings, readSetting, writeSetting } from './sysctl.js';
import type { Setting } from './sysctl.js';

/**
 * MAC of every host end, as in Calico: all containers may then share one static neighbour, and the link-local
 * address made from it is the same everywhere: fe80::ecee:eeff:feee:eeee, the containers' IPv6 gateway.
 */
export const HOST_MAC = 'ee:ee:ee:ee:ee:ee';

/** Tells our host ends from those of another Calico on the same host, which have such names too. */
const LINK_GROUP = 81;

/**
 * Milliseconds until the host asks again for a container's MAC. It asks in vain where packets come before dockerd has
 * brought the container's end up, and those that come after it would wait for the kernel's usual second.
 */
const ASK_AGAIN = '20';

/** Host ends that we made, without those being deleted. */
export async function hostInterfaces(netlink: RtNetlink, reaper: LinkReaper): Promise<HostInterface[]> {
  return (await netlink.links())
    .filter(({ kind, group, name }) => kind === 'veth' && group === LINK_GROUP && !reaper.isDeleting(name))
    .map(({ name, isPeerElsewhere, isRunning }) => ({ name, isInUse: isPeerElsewhere && isRunning }));
}

/**
 * Settings of a host end that the IPv4 side needs. Not among them: route_localnet, which Calico sets everywhere for
 * Kubernetes' node ports, and we where a port is open on 127.0.0.1 (loopback.ts).
 */
function settings4(name: string, sharesSandbox: boolean): Setting[] {
  return [
    // Answers ARP for 169.254.1.1 (and anything else the host has a route for) with HOST_MAC, without waiting the
    // random 0-0.8 s meant for several proxies on one wire.
    [`ipv4/neigh/${name}/proxy_delay`, '0'],
    [`ipv4/neigh/${name}/retrans_time_ms`, ASK_AGAIN],
    [`ipv4/conf/${name}/proxy_arp`, '1'],
    [`ipv4/conf/${name}/forwarding`, '1'],
    // Strict (1): a container cannot send with an address that is not routed to it. Loose (2), with any address that
    // is routed at all, where its answers may leave by another of its interfaces; ARP requests are judged by the same
    // rule. Loose works with an address only (host-addresses.ts). (The kernel uses the larger of this and conf.all.)
    [`ipv4/conf/${name}/rp_filter`, sharesSandbox ? '2' : '1'],
  ];
}

/** A container must not be able to give the host a route by router advertisements, whatever its addresses. */
function settingsAlways6(name: string): Setting[] {
  return [[`ipv6/conf/${name}/accept_ra`, '0']];
}

/**
 * The link-local address appears when dockerd brings the container's end up. It is wanted at once and made from the
 * MAC: no duplicate address detection, which would hold it back for a second or two, and eui64 (0) instead of a
 * random address.
 */
function settings6(name: string): Setting[] {
  return [
    [`ipv6/neigh/${name}/retrans_time_ms`, ASK_AGAIN],
    [`ipv6/conf/${name}/addr_gen_mode`, '0'],
    [`ipv6/conf/${name}/accept_dad`, '0'],
    [`ipv6/conf/${name}/dad_transmits`, '0'],
    [`ipv6/conf/${name}/disable_ipv6`, '0'],
    [`ipv6/conf/${name}/proxy_ndp`, '1'],
    [`ipv6/conf/${name}/forwarding`, '1'],
  ];
}

/** All settings the host end of this endpoint should have. */
export function endpointSettings(wiring: EndpointWiring): Setting[] {
  const name = checkInterfaceName(wiring.hostInterface);
  const always = [...settings4(name, wiring.sharesSandbox), ...settingsAlways6(name)];
  return hasIpv6(wiring) ? [...always, ...settings6(name)] : always;
}

/** Whether the endpoint has an IPv6 address. */
export function hasIpv6(wiring: EndpointWiring): boolean {
  return wiring.addresses.some(address => address.includes(':'));
}

/** Veth pairs of endpoints. */
export class Veths {
  constructor(
    private readonly netlink: RtNetlink,
    private readonly reaper: LinkReaper,
  ) {}

  /**
   * Makes the pair, or takes the one that is there if its container end still is; answers with the host end. The
   * container end is left down: dockerd moves it, and brings it up where it belongs.
   */
  async ensure(wiring: EndpointWiring): Promise<Link> {
    checkInterfaceName(wiring.hostInterface);
    checkInterfaceName(wiring.containerInterface);
    if (hasIpv6(wiring) && readSetting('ipv6/conf/all/forwarding') === undefined) {
      throw new HostError(
        `${wiring.hostInterface}: IPv6 address, but this host's kernel has IPv6 turned off`,
      );
    }
    await this.reaper.settled(wiring.hostInterface);
    const link = await this.createOrReuse(wiring);
    try {
      for (const setting of endpointSettings(wiring)) writeSetting(setting);
    } catch (error) {
      await this.reaper.delete(link.name).catch(() => undefined);
      throw error;
    }
    return link;
  }

  /** Puts back the settings that differ, and sets the host end up; answers with what it did. */
  async repair(link: Link, wiring: EndpointWiring): Promise<string[]> {
    if (!link.isUp) await this.netlink.setUp(link.index);
    if (link.group !== LINK_GROUP) await this.netlink.setGroup(link.index, LINK_GROUP);
    return [...(link.isUp ? [] : [`${link.name} up`]), ...ensureSettings(endpointSettings(wiring))];
  }

  private async createOrReuse(wiring: EndpointWiring): Promise<Link> {
    try {
      return await this.create(wiring);
    } catch (error) {
      if (!(error instanceof NetlinkError && error.code === 'EEXIST')) throw error;
    }
    const reusable = await this.reusable(wiring);
    if (reusable !== undefined) return reusable;
    await this.reaper.delete(wiring.hostInterface);
    await this.reaper.delete(wiring.containerInterface);
    return this.create(wiring);
  }

  private create(wiring: EndpointWiring): Promise<Link> {
    return this.netlink.createVeth({
      name: wiring.hostInterface,
      mac: HOST_MAC,
      peerName: wiring.containerInterface,
      peerMac: wiring.mac,
      mtu: wiring.mtu,
      group: LINK_GROUP,
    });
  }

  /** The leftover pair, if it is the one that would be made: dockerd retries a call whose connection broke. */
  private async reusable(wiring: EndpointWiring): Promise<Link | undefined> {
    const host = await this.netlink.link(wiring.hostInterface);
    const container = await this.netlink.link(wiring.containerInterface);
    if (host === undefined || container === undefined) return undefined;
    const isPair = host.peerIndex === container.index && container.peerIndex === host.index;
    const isWanted = container.mac === wiring.mac && container.mtu === wiring.mtu && host.mac === HOST_MAC;
    if (host.kind !== 'veth' || host.isPeerElsewhere || !isPair || !isWanted) return undefined;
    if (!host.isUp) await this.netlink.setUp(host.index);
    return host;
  }
}
