import type { EndpointWiring } from './dataplane.js';
import type { Link } from './link-messages.js';
import { canonical } from './nft-table.js';
import { UNNUMBERED } from './routes.js';
import type { RtNetlink } from './rtnetlink.js';

/** What addresses a host end should have. */
interface Wanted {
  /** Of the host interface. */
  readonly index: number;
  readonly addresses: readonly string[];
}

/**
 * The few host ends that have addresses, those of containers with several endpoints.
 *
 * An additional IPv6 link-local address where the next hop is another than everywhere; the kernel takes it away when the
 * interface is set down.
 *
 * An IPv4 address that nobody talks to (scope host: the kernel never chooses it as a source) where answers may come from
 * the container's other addresses: on an interface without any, the kernel's loose check of sources is as strict as the
 * strict one (`no_addr` in __fib_validate_source). To check nothing instead (rp_filter 0) would do only on hosts whose
 * net.ipv4.conf.all.rp_filter is 0, and Ubuntu's is 2.
 */
export class HostAddresses {
  /** By host interface. */
  private readonly wanted = new Map<string, Wanted>();

  constructor(private readonly netlink: RtNetlink) {}

  /** Gives the host end its addresses. Throws NetlinkError. */
  async add(link: Link, wiring: EndpointWiring): Promise<void> {
    this.remember(link, wiring);
    const { index, addresses } = this.wanted.get(link.name) ?? { index: link.index, addresses: [] };
    for (const address of addresses) await this.netlink.addAddress(index, address);
  }

  /** Adds them to what should be there; {@link restore} makes it so. */
  remember({ name, index }: Link, { gateway6, sharesSandbox }: EndpointWiring): void {
    const addresses = [
      ...(sharesSandbox ? [UNNUMBERED] : []),
      ...(gateway6 === undefined ? [] : [canonical(gateway6)]),
    ];
    if (addresses.length === 0) this.forget(name);
    else this.wanted.set(name, { index, addresses });
  }

  /** Of an interface that goes. */
  forget(hostInterface: string): void {
    this.wanted.delete(hostInterface);
  }

  /** Puts back what is missing; answers with it in words. An interface that is gone is forgotten. */
  async restore(): Promise<string[]> {
    if (this.wanted.size === 0) return [];
    const present = new Set(
      (await this.netlink.addresses()).map(({ device, address }) => `${device} ${address}`),
    );
    const added: string[] = [];
    for (const [name, wanted] of [...this.wanted]) {
      const missing = wanted.addresses.filter(address => !present.has(`${wanted.index} ${address}`));
      if (missing.length === 0) continue;
      const link = await this.netlink.link(name);
      // Detached, or attached anew, since.
      if (this.wanted.get(name) !== wanted) continue;
      if (link?.index !== wanted.index) this.forget(name);
      // Set down it would lose them again; it is looked at once more when it comes up.
      else if (link.isUp) {
        for (const address of missing) await this.netlink.addAddress(wanted.index, address);
        added.push(...missing.map(address => `address ${address} of ${name}`));
      }
    }
    return added;
  }
}
