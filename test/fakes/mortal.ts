import type {
  Entry,
  Lease,
  Listing,
  Store,
  Transaction,
  TransactionResult,
  Watch,
  Watcher,
} from '../../src/datastore/store.js';
import type { Dataplane, EndpointWiring, HostInterface, HostState } from '../../src/host/dataplane.js';
import type { Peers } from '../../src/host/peers.js';
import type { HostPolicy } from '../../src/host/policy.js';
import type { FakeDataplane } from './dataplane.js';

/** What a dead process waits for. */
const NEVER = new Promise<never>(() => undefined);

/**
 * The life of one process. Every effect it has on the world outside, and every answer, is counted; at the one it is told
 * to, the process dies: before the effect, or after it and before it learns of it.
 */
export class Life {
  isOver = false;
  count = 0;
  readonly over: Promise<void>;
  #die: () => void = () => undefined;

  /** `diesAt`: the effect, from 1; odd ones are before, even ones after. Infinity: lives on. */
  constructor(readonly diesAt: number) {
    this.over = new Promise(resolve => (this.#die = resolve));
  }

  /** Ends it here and now. */
  end(): void {
    this.isOver = true;
    this.#die();
  }

  /** Something that the process waits for without changing anything. */
  async read<T>(work: () => Promise<T>): Promise<T> {
    if (this.isOver) return NEVER;
    const result = await work();
    return this.isOver ? NEVER : result;
  }

  /** An effect. */
  async effect<T>(work: () => Promise<T>): Promise<T> {
    await this.point();
    const result = await work();
    await this.point();
    return result;
  }

  private async point(): Promise<void> {
    if (this.isOver) return NEVER;
    this.count += 1;
    if (this.count !== this.diesAt) return;
    this.end();
    return NEVER;
  }
}

/** A datastore as one process has it. */
export class MortalStore implements Store {
  constructor(
    private readonly store: Store,
    private readonly life: Life,
  ) {}

  get(key: string): Promise<Entry | undefined> {
    return this.life.read(() => this.store.get(key));
  }
  list(prefix: string): Promise<Listing> {
    return this.life.read(() => this.store.list(prefix));
  }
  pages(prefix: string, revision?: string): AsyncIterable<Listing> {
    return this.store.pages(prefix, revision);
  }
  transact(transaction: Transaction): Promise<TransactionResult> {
    return this.life.effect(() => this.store.transact(transaction));
  }
  watch(prefix: string, watcher: Watcher): Watch {
    return this.store.watch(prefix, watcher);
  }
  lease(seconds: number): Promise<Lease> {
    return this.life.effect(() => this.store.lease(seconds));
  }
  ping(): Promise<void> {
    return this.life.read(() => this.store.ping());
  }
  onRewind(listener: () => void): () => void {
    return this.store.onRewind(listener);
  }
  async close(): Promise<void> {}
}

/** A kernel as one process has it. */
export class MortalDataplane implements Dataplane {
  constructor(
    private readonly kernel: FakeDataplane,
    private readonly life: Life,
  ) {}

  get peers(): Peers {
    return this.kernel.peers;
  }

  attach(wiring: EndpointWiring): Promise<void> {
    return this.life.effect(() => this.kernel.attach(wiring));
  }
  rewire(wiring: EndpointWiring): Promise<void> {
    return this.life.effect(() => this.kernel.rewire(wiring));
  }
  detach(hostInterface: string): Promise<void> {
    return this.life.effect(() => this.kernel.detach(hostInterface));
  }
  repair(): Promise<readonly string[]> {
    return this.life.read(() => this.kernel.repair());
  }
  apply(state: HostState): Promise<void> {
    return this.life.effect(() => this.kernel.apply(state));
  }
  applyPolicy(policy: HostPolicy): Promise<void> {
    return this.life.effect(() => this.kernel.applyPolicy(policy));
  }
  holdUntilPolicy(): Promise<void> {
    return this.life.effect(() => this.kernel.holdUntilPolicy());
  }
  dockerStarted(): Promise<void> {
    return this.life.read(() => this.kernel.dockerStarted());
  }
  hostInterfaces(): Promise<readonly HostInterface[]> {
    return this.life.read(() => this.kernel.hostInterfaces());
  }
  routedTo(address: string): string | undefined {
    return this.kernel.routedTo(address);
  }
  defaultMtu(): Promise<number> {
    return this.life.read(() => this.kernel.defaultMtu());
  }
  foreignRoutes() {
    return this.life.read(() => this.kernel.foreignRoutes());
  }
  removeAll(): Promise<void> {
    return this.life.effect(() => this.kernel.removeAll());
  }
  async close(): Promise<void> {}
}
