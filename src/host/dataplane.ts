/**
 * The port to the host's kernel. Callers say what should be true; the implementation finds what is different and
 * changes that. Everything may be called again with the same arguments, at any time, in any state.
 */

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
}

/** What should be true on this host beyond the endpoints. CIDRs are canonical text. */
export interface HostState {
  /** This node's own blocks: each gets a blackhole route, so a free address is not sent to the default gateway. */
  readonly ownBlocks: readonly string[];
  /** Sources to masquerade when they leave the pools. */
  readonly masqueradeFrom: readonly string[];
  /** All pools: traffic to them is never masqueraded. */
  readonly pools: readonly string[];
}

export interface Dataplane {
  /**
   * Makes the veth pair with both ends in the host's namespace, sysctls and routes. An existing pair whose
   * container end is still here is used again, any other leftover of that name is replaced. Throws HostError.
   */
  attach(wiring: EndpointWiring): Promise<void>;
  /** Removes routes and veth. Missing is fine. Throws HostError. */
  detach(hostInterface: string): Promise<void>;
  /** The endpoints that should be wired now, whatever was attached by whom: repairs routes and sysctls of those
   *  whose veth exists. Returns what it repaired, in words. */
  repair(endpoints: readonly EndpointWiring[]): Promise<readonly string[]>;
  /** Routes, masquerading and forwarding that do not belong to one endpoint. Remembers `state` and repairs it when
   *  something else removes it. */
  apply(state: HostState): Promise<void>;
  /** dockerd has (re)started, and may have thrown away what lets packets pass its firewall. */
  dockerStarted(): Promise<void>;
  /** Names of the host interfaces of endpoints, known or not: to find leftovers. */
  hostInterfaces(): Promise<readonly string[]>;
  /** Host interface's MTU a new endpoint should get where nothing is configured. */
  defaultMtu(): Promise<number>;
  /** Routes of the host as CIDR text without ours, to choose a pool that collides with none. */
  foreignRoutes(): Promise<readonly string[]>;
  /** Takes all routes of ours, the nftables table and the forwarding rules off the host. Interfaces stay. */
  removeAll(): Promise<void>;
  close(): Promise<void>;
}
