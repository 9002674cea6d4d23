import type { PeerHop } from '../host/peers.js';
import { contains, parseAddress } from '../ipam/cidr.js';
import type { Family } from '../ipam/cidr.js';
import type { Encapsulation } from '../model/ip-pool.js';
import type { CalicoNode } from '../model/node.js';

/** No route leads there, and why, for a person. */
export interface Unreachable {
  readonly unreachable: string;
}

/**
 * A networking mode: how this host reaches another, from what their Nodes say. Pure. One mode is one function; the
 * place of a further one (BGP) is here.
 */
export type NetworkingMode = (own: CalicoNode, peer: CalicoNode, family: Family) => PeerHop | Unreachable;

/** Unencapsulated, straight to the other host: both have to be on one segment, as no router in between knows the way. */
export const plain: NetworkingMode = (own, peer, family) => {
  const address = peer.addresses[family];
  if (!address) return { unreachable: `its Node says no IPv${family} address` };
  const here = own.addresses[family];
  if (!here) return { unreachable: `the Node of this host says no IPv${family} address` };
  if (here.address === address.address) return sameHost(address.address);
  const parsed = parseAddress(address.address);
  if (parsed && contains(here.subnet, parsed)) return { via: address.address, by: 'underlay' };
  return {
    unreachable: `${address.address} is in another subnet and the IPPool does not encapsulate: set its vxlanMode to CrossSubnet`,
  };
};

/** Encapsulated in UDP between the hosts' addresses. */
export const vxlan: NetworkingMode = (own, peer, family) => {
  const [address, here] = [peer.addresses[family], own.addresses[family]];
  if (!address) return { unreachable: `its Node says no IPv${family} address` };
  if (!here) return { unreachable: `the Node of this host says no IPv${family} address` };
  if (here.address === address.address) return sameHost(address.address);
  const end = peer.tunnels[family];
  return end ? { via: end.address, by: 'vxlan' } : { unreachable: `its Node says no VXLAN tunnel address` };
};

/** Encapsulated only where that is needed. */
export const crossSubnet: NetworkingMode = (own, peer, family) => {
  const direct = plain(own, peer, family);
  return 'via' in direct ? direct : vxlan(own, peer, family);
};

/** What is sent there would come back. */
function sameHost(address: string): Unreachable {
  return {
    unreachable: `its Node says ${address}, which is the address of this host: if this host had that name before, take it away with calico-libnetwork node remove`,
  };
}

/** By an IPPool's `vxlanMode`. */
export const MODES: Readonly<Record<Encapsulation, NetworkingMode>> = {
  Never: plain,
  Always: vxlan,
  CrossSubnet: crossSubnet,
};
