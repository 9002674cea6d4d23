import type { Peers } from './peers.js';
import type { HostPolicy } from './policy.js';

/**
 * The port to the host's kernel. Callers say what should be true; the implementation finds what is different and
 * changes that. Everything may be called again with the same arguments, at any time, in any state.
 */

import type { ContainerSide } from './rewire.js';

/** How one container's endpoint should be wired. */
export interface EndpointWiring {
  /** Host side of the veth, e.g. `cali736ccfa7cd6`. */
  readonly hostInterface: string;
  /** Container side before dockerd moves and renames it, e.g. `temp736ccfa7cd6`. */
  readonly containerInterface: string;
  /** Lower-case colon form; the container side's. The host side is always ee:ee:ee:ee:ee:ee. */
  readonly mac: string;
  /** Without prefix length; each gets a host route (/32 or /128) to the host interface. */
  readonly addresses: readonly string[];
  /** Bytes. */
  readonly mtu: number;
  /**
   * The container has more than one endpoint of ours, and an answer may leave by another interface than the question
   * came in: packets with any address of the container are accepted on all of them. Otherwise only its own.
   */
  readonly sharesSandbox: boolean;
  /** IPv6 next hop of the container where it is not the link-local address of ee:ee:ee:ee:ee:ee: another link-local
   *  address that the host side gets. Two interfaces of one container cannot have the same next hop. */
  readonly gateway6?: string;
}

/** A port of a container that is open on the host. */
export interface PublishedPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** The host's address it is open on; undefined: all of the family. */
  readonly hostAddress?: string;
  readonly hostPort: number;
  /** The container's; its family is the port's. */
  readonly address: string;
  readonly port: number;
  /** All addresses of the container, where it has others than `address`: it may use the port of the host as well. */
  readonly containerAddresses?: readonly string[];
}

/** A network whose endpoints reach each other and nothing else. */
export interface InternalNetwork {
  /** Host interfaces of its endpoints on this host. */
  readonly interfaces: readonly string[];
  /** Addresses of all its endpoints, on whichever host. */
  readonly members: readonly string[];
}

/** What the host reaches without us. */
export interface ForeignRoute {
  /** CIDR text. */
  readonly cidr: string;
  /** On one of the host's own interfaces, or an address of the host: a pool in it would cut the host off. */
  readonly onLink: boolean;
}

/** The host end of a veth that we made. */
export interface HostInterface {
  readonly name: string;
  /** Its other end is in another network namespace, and up: a container may be using it. */
  readonly isInUse: boolean;
}

/** What should be true on this host beyond the endpoints. CIDRs are canonical text. */
export interface HostState {
  /** This node's own blocks: each gets a blackhole route, so a free address is not sent to the default gateway. */
  readonly ownBlocks: readonly string[];
  /** Sources to masquerade when they leave the pools. */
  readonly masqueradeFrom: readonly string[];
  /** All pools: traffic to them is never masqueraded. */
  readonly pools: readonly string[];
  readonly published: readonly PublishedPort[];
  readonly internal: readonly InternalNetwork[];
}

export interface Dataplane {
  /** What concerns other hosts. */
  readonly peers: Peers;
  /**
   * Makes the veth pair with both ends in the host's namespace, sysctls and routes. An existing pair whose
   * container end is still here is used again, any other leftover of that name is replaced. Throws HostError.
   */
  attach(wiring: EndpointWiring): Promise<void>;
  /**
   * Makes a veth pair that the kernel lost while its container runs, and puts its other end back into the container, as
   * dockerd did at its start. Throws HostError.
   */
  rewire(wiring: EndpointWiring, side: ContainerSide): Promise<void>;
  /** Removes routes and veth. Missing is fine. Throws HostError. */
  detach(hostInterface: string): Promise<void>;
  /** The endpoints that should be wired now, whatever was attached by whom: repairs routes and sysctls of those
   *  whose veth exists. Returns what it repaired, in words. */
  repair(endpoints: readonly EndpointWiring[]): Promise<readonly string[]>;
  /** Routes, masquerading and forwarding that do not belong to one endpoint. Remembers `state` and repairs it when
   *  something else removes it. */
  apply(state: HostState): Promise<void>;
  /**
   * Makes the kernel enforce `policy`, and remembers it to put it back when something else removes it. Resolves when the
   * kernel enforces it, or a later one. Changes as little as there is to change: what kept its identity is not
   * looked at. Throws HostError where the kernel or nft refuses; what was enforced before stays so then.
   */
  applyPolicy(policy: HostPolicy): Promise<void>;
  /**
   * For the time before the first {@link applyPolicy}: leaves what a former daemon enforces, and where nothing is enforced,
   * closes all endpoints. Throws HostError.
   */
  holdUntilPolicy(): Promise<void>;
  /** dockerd has (re)started, and may have thrown away what lets packets pass its firewall. */
  dockerStarted(): Promise<void>;
  /** The host ends of veths that we made, whether their endpoints are known or not: to find leftovers. */
  hostInterfaces(): Promise<readonly HostInterface[]>;
  /** The host interface of a container of this host that the address is sent to. From memory. */
  routedTo(address: string): string | undefined;
  /** Host interface's MTU a new endpoint should get where nothing is configured. */
  defaultMtu(): Promise<number>;
  /** Routes of the host without ours and without the default ones, and its addresses: no pool may collide with them. */
  foreignRoutes(): Promise<readonly ForeignRoute[]>;
  /** Takes all routes of ours, the nftables table and the forwarding rules off the host. Interfaces stay. */
  removeAll(): Promise<void>;
  close(): Promise<void>;
}
