import { contains, parseAddress } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';
import type { InterfaceAddress, Peers } from './peers.js';

/** How a host finds its own address, as calico/node does (`IP_AUTODETECTION_METHOD`). */
export type DetectionMethod =
  | { readonly by: 'first-found' }
  /** The address from which this one is reached. */
  | { readonly by: 'can-reach'; readonly address: string }
  /** The first address of the first interface that matches one of them, in this order. */
  | { readonly by: 'interface'; readonly patterns: readonly RegExp[] }
  /** As first-found, without interfaces that match one of them. */
  | { readonly by: 'skip-interface'; readonly patterns: readonly RegExp[] }
  /** The first address inside one of them. */
  | { readonly by: 'cidr'; readonly cidrs: readonly Cidr[] };

/** Interfaces by which no other host is reached: those calico/node leaves out, and Docker's own. */
const LOCAL =
  /^(docker|cbr|br-|dummy|virbr|lxcbr|veth|lo$|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns)/;

/**
 * The host's own address of a family, as `address/length`; undefined where the method finds none. Interfaces that are
 * down, and addresses that do not last or do not leave the link, do not count.
 */
export async function detectAddress(
  host: Pick<Peers, 'addresses' | 'sourceTo'>,
  method: DetectionMethod,
  family: Family,
): Promise<string | undefined> {
  const candidates = (await host.addresses()).filter(
    ({ address, isUp, isLasting }) => isUp && isLasting && familyOf(address) === family,
  );
  const found =
    method.by === 'can-reach'
      ? await sourceAmong(candidates, host, method.address)
      : chosenBy(candidates, method);
  return found && `${found.address}/${found.prefixLength}`;
}

async function sourceAmong(
  candidates: readonly InterfaceAddress[],
  host: Pick<Peers, 'sourceTo'>,
  target: string,
): Promise<InterfaceAddress | undefined> {
  const source = await host.sourceTo(target);
  return candidates.find(({ address }) => address === source);
}

function chosenBy(
  candidates: readonly InterfaceAddress[],
  method: Exclude<DetectionMethod, { by: 'can-reach' }>,
): InterfaceAddress | undefined {
  const others = candidates.filter(({ interfaceName }) => !LOCAL.test(interfaceName));
  switch (method.by) {
    case 'first-found':
      return others[0];
    case 'skip-interface':
      return others.find(({ interfaceName }) => !method.patterns.some(one => one.test(interfaceName)));
    case 'interface':
      for (const pattern of method.patterns) {
        const found = candidates.find(({ interfaceName }) => pattern.test(interfaceName));
        if (found) return found;
      }
      return undefined;
    case 'cidr':
      return others.find(({ address }) => {
        const parsed = parseAddress(address);
        return parsed !== undefined && method.cidrs.some(cidr => contains(cidr, parsed));
      });
  }
}

function familyOf(address: string): Family {
  return address.includes(':') ? 6 : 4;
}
