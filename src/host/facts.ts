import { hostCidr } from './bytes.js';
import type { ForeignRoute } from './dataplane.js';
import type { Link } from './link-messages.js';
import type { RtNetlink } from './rtnetlink.js';

/** MTU in bytes where the host does not say. */
const ETHERNET_MTU = 1500;

/** MTU of the interface of the default route (IPv4's first, then IPv6's), else 1500. */
export async function defaultMtu(netlink: RtNetlink): Promise<number> {
  const routes = await netlink.routes({ isDefault: true });
  for (const destination of ['0.0.0.0/0', '::/0']) {
    const candidates = routes.filter(route => route.destination === destination && route.type === 'unicast');
    const [best] = candidates.sort((a, b) => a.metric - b.metric);
    if (best === undefined) continue;
    const link = (await netlink.links()).find(({ index }) => index === best.device);
    if (link !== undefined) return link.mtu;
  }
  return ETHERNET_MTU;
}

/** Names of Calico's interfaces, whoever made them: of containers, and tunnels. */
export const CALICO_INTERFACE = /^(cali|tunl|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali)/;

/**
 * What the host reaches without us, as CIDRs: destinations of routes not of our protocol number, without the default
 * routes, and its own addresses. Without IPv6's link-local and multicast, which every interface has, and without addresses
 * of Calico's interfaces: those of tunnels come from a pool themselves.
 */
export async function foreignRoutes(netlink: RtNetlink, ourProtocol: number): Promise<ForeignRoute[]> {
  const routes = await netlink.routes({ notProtocol: ourProtocol });
  const found = new Map<string, boolean>();
  for (const { destination, hasGateway, type } of routes)
    found.set(destination, found.get(destination) === true || (!hasGateway && type === 'unicast'));
  const links = await netlink.links();
  const calicos = new Set(links.filter(({ name }) => CALICO_INTERFACE.test(name)).map(({ index }) => index));
  for (const { address, device } of await netlink.addresses())
    if (!calicos.has(device)) found.set(hostCidr(address), true);
  return [...found]
    .map(([cidr, onLink]) => ({ cidr, onLink }))
    .filter(({ cidr }) => !cidr.endsWith('/0') && !/^(fe[89ab]|ff|127\.)/.test(cidr) && cidr !== '::1/128')
    .sort((a, b) => (a.cidr < b.cidr ? -1 : 1));
}

/** Veths whose names begin with `prefix`. */
export async function hostLinks(netlink: RtNetlink, prefix: string): Promise<Link[]> {
  return (await netlink.links()).filter(({ kind, name }) => kind === 'veth' && name.startsWith(prefix));
}
