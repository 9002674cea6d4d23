import type { InterfaceAddress, PeerHop, Peers, Tunnel, TunnelPeer } from '../../src/host/peers.js';
import type {
  Dataplane,
  EndpointWiring,
  ForeignRoute,
  HostInterface,
  HostState,
} from '../../src/host/dataplane.js';
import type { HostPolicy } from '../../src/host/policy.js';

/** A way to other hosts that only remembers what it was told. */
export class FakePeers implements Peers {
  readonly routes = new Map<string, PeerHop>();
  readonly tunnels = new Map<4 | 6, (Tunnel & { ends: readonly TunnelPeer[] }) | undefined>();
  own: InterfaceAddress[] = [];
  private readonly listeners = new Set<() => void>();

  async routeAll(routes: ReadonlyMap<string, PeerHop>): Promise<void> {
    this.routes.clear();
    await this.route(routes);
  }
  async route(changes: ReadonlyMap<string, PeerHop | undefined>): Promise<void> {
    for (const [destination, hop] of changes)
      if (hop) this.routes.set(destination, hop);
      else this.routes.delete(destination);
  }
  async tunnel(family: 4 | 6, tunnel: Tunnel | undefined, ends: readonly TunnelPeer[]): Promise<void> {
    this.tunnels.set(family, tunnel && { ...tunnel, ends });
  }
  tunnelMtu(family: 4 | 6): number | undefined {
    return this.tunnels.get(family) && (family === 4 ? 1450 : 1430);
  }
  async addresses(): Promise<readonly InterfaceAddress[]> {
    return this.own;
  }
  async sourceTo(_address: string): Promise<string | undefined> {
    return this.own[0]?.address;
  }
  onAddressChange(changed: () => void): () => void {
    this.listeners.add(changed);
    return () => this.listeners.delete(changed);
  }
  /** The host has other addresses now. */
  readdress(own: InterfaceAddress[]): void {
    this.own = own;
    for (const listener of this.listeners) listener();
  }
}

/** A dataplane that only remembers what it was told. */
export class FakeDataplane implements Dataplane {
  readonly peers = new FakePeers();
  readonly attached = new Map<string, EndpointWiring>();
  /** Host interfaces whose other end a container has. */
  readonly inUse = new Set<string>();
  state: HostState | undefined;
  policy: HostPolicy | undefined;
  /** The next applyPolicy fails with it. */
  policyFailure: Error | undefined;
  routes: ForeignRoute[] = [];
  /** The next attach fails with it. */
  failure: Error | undefined;

  async attach(wiring: EndpointWiring): Promise<void> {
    const { failure } = this;
    this.failure = undefined;
    if (failure) throw failure;
    this.attached.set(wiring.hostInterface, wiring);
  }
  async rewire(wiring: EndpointWiring): Promise<void> {
    await this.attach(wiring);
    this.inUse.add(wiring.hostInterface);
  }
  async detach(hostInterface: string): Promise<void> {
    this.attached.delete(hostInterface);
  }
  async repair(): Promise<readonly string[]> {
    return [];
  }
  async apply(state: HostState): Promise<void> {
    this.state = state;
  }
  async applyPolicy(policy: HostPolicy): Promise<void> {
    const { policyFailure } = this;
    this.policyFailure = undefined;
    if (policyFailure) throw policyFailure;
    this.policy = policy;
  }
  async holdUntilPolicy(): Promise<void> {}
  async dockerStarted(): Promise<void> {}
  async hostInterfaces(): Promise<readonly HostInterface[]> {
    return [...this.attached.keys()].map(name => ({ name, isInUse: this.inUse.has(name) }));
  }
  routedTo(address: string): string | undefined {
    return [...this.attached.values()].find(({ addresses }) => addresses.includes(address))?.hostInterface;
  }
  async defaultMtu(): Promise<number> {
    return 1500;
  }
  async foreignRoutes(): Promise<readonly ForeignRoute[]> {
    return this.routes;
  }
  async removeAll(): Promise<void> {
    this.state = undefined;
    this.policy = undefined;
  }
  async close(): Promise<void> {}
}
