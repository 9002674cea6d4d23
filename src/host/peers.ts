/**
 * The port to what of the kernel concerns other hosts: how this one is reached, and how it reaches them. As with
 * the dataplane, callers say what should be true, again and again, and the implementation changes what is different.
 */

/** Where packets for a destination on another host are sent. */
export interface PeerHop {
  /** Of the destination's family. */
  readonly via: string;
  /** `underlay`: by the interface the kernel reaches it by; `vxlan`: by Calico's VXLAN device of the family. */
  readonly by: 'underlay' | 'vxlan';
}

/** An address of one of the host's interfaces. */
export interface InterfaceAddress {
  readonly interfaceName: string;
  /** Of the interface. */
  readonly isUp: boolean;
  /** Without prefix length. */
  readonly address: string;
  readonly prefixLength: number;
  /** May be told others: not one of the link, the host, or for a time only. */
  readonly isLasting: boolean;
}

/** The far end of a VXLAN. */
export interface TunnelPeer {
  /** Inside the tunnel. */
  readonly address: string;
  /** Lower-case colon form. */
  readonly mac: string;
  /** Of the host, outside. */
  readonly host: string;
}

/** Calico's VXLAN device of one family. */
export interface Tunnel {
  /** This host's, inside the tunnel. */
  readonly address: string;
  readonly mac: string;
  /** This host's, outside; its interface is the underlay, and bounds the MTU. */
  readonly host: string;
}

export interface Peers {
  /** The routes to other hosts, all of them, by destination (CIDR text); others of ours lose theirs. Throws HostError. */
  routeAll(routes: ReadonlyMap<string, PeerHop>): Promise<void>;
  /** What is different now; undefined: no route any more. The rest stays as it is. Throws HostError. */
  route(changes: ReadonlyMap<string, PeerHop | undefined>): Promise<void>;
  /**
   * Calico's VXLAN of one family with these hosts at its other ends, or none: then our device goes. Before routes by it
   * are asked for, and the other way round at its end. Throws HostError.
   */
  tunnel(family: 4 | 6, tunnel: Tunnel | undefined, ends: readonly TunnelPeer[]): Promise<void>;
  /** The largest packet that fits through it, in bytes; undefined where there is none. */
  tunnelMtu(family: 4 | 6): number | undefined;
  /** All addresses of the host, in the order of its interfaces. */
  addresses(): Promise<readonly InterfaceAddress[]>;
  /** The address of the host that the kernel would use to reach another; undefined where it cannot. */
  sourceTo(address: string): Promise<string | undefined>;
  /** Calls back after addresses or interfaces of the host have changed; returns a function that ends it. */
  onAddressChange(changed: () => void): () => void;
}

/** What the encapsulation takes of each packet, in bytes: headers of IP, UDP, VXLAN and Ethernet. */
export const VXLAN_OVERHEAD = { 4: 50, 6: 70 } as const;

/** The largest packet that fits through the VXLAN of a family; a guess from the host's MTU while there is none yet. */
export function encapsulatedMtu(peers: Pick<Peers, 'tunnelMtu'>, family: 4 | 6, hostMtu: number): number {
  return peers.tunnelMtu(family) ?? hostMtu - VXLAN_OVERHEAD[family];
}
