import type {
  Dataplane,
  EndpointWiring,
  ForeignRoute,
  HostInterface,
  HostState,
} from '../../src/host/dataplane.js';

/** A dataplane that only remembers what it was told. */
export class FakeDataplane implements Dataplane {
  readonly attached = new Map<string, EndpointWiring>();
  /** Host interfaces whose other end a container has. */
  readonly inUse = new Set<string>();
  state: HostState | undefined;
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
  }
  async close(): Promise<void> {}
}
