import type { Store } from '../datastore/store.js';
import { inTime } from '../deadline.js';
import { DatastoreError } from '../errors.js';
import type { Dataplane } from '../host/dataplane.js';
import type { HostPolicy } from '../host/policy.js';
import type { Logger } from '../log.js';
import { measuredApply, NO_METRICS } from '../metrics/metrics.js';
import type { Metrics } from '../metrics/metrics.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { Endpoints } from '../plugin/endpoints.js';
import { policyEndpoint } from '../policy/facts.js';
import { PolicyResolver } from '../policy/resolve.js';
import { keepApplied } from './keep-applied.js';
import type { KeptApplied } from './keep-applied.js';
import { policySources } from './policy-sources.js';
import type { PolicySource } from './policy-sources.js';

export interface PolicyKeeperParts {
  readonly store: Store;
  readonly node: string;
  readonly endpoints: Pick<Endpoints, 'ready' | 'entries' | 'onEntries' | 'at' | 'key'>;
  readonly dataplane: Pick<Dataplane, 'applyPolicy'>;
  /** What the host itself sends to its containers. */
  readonly hostAction: HostPolicy['fromHost'];
  /** Resolves when what the datastore says of this host's name is about this host. */
  readonly nameIsOurs: Promise<void>;
  /** The container an endpoint of this host is in. */
  sandboxOf(endpointId: string): string | undefined;
  readonly metrics?: Metrics;
  readonly log: Logger;
}

/** Milliseconds that a Join waits for the datastore to be read: less than a call may take. */
const PATIENCE = 8_000;

/**
 * Keeps the kernel enforcing what the datastore says. What a daemon before this one put there stays in force until all has
 * been read; what was last read stays while the datastore is away.
 */
export class PolicyKeeper {
  private readonly resolver: PolicyResolver;
  private readonly sources: readonly PolicySource[];
  /** Keys of each source that changed since the resolver was told. */
  private readonly pending = new Map<PolicySource, Set<string>>();
  private readonly own: PolicySource;
  private readonly kept: KeptApplied;
  private readonly ready: Promise<void>;
  private isReady = false;
  private enforced: HostPolicy | undefined;

  constructor(private readonly parts: PolicyKeeperParts) {
    const { store, node, endpoints, hostAction, metrics = NO_METRICS, log } = parts;
    this.resolver = new PolicyResolver(node, hostAction);
    this.own = {
      ready: endpoints.ready,
      keys: function* () {
        for (const [key] of endpoints.entries()) yield key;
      },
      onEntries: listener => endpoints.onEntries(listener),
      tell: (resolver, key) => this.tellEndpoint(resolver, key, endpoints.at(key)),
      close: () => undefined,
    };
    this.sources = [...policySources(store, log), this.own];
    this.kept = keepApplied(
      'policy',
      measuredApply(metrics, 'policy', () => this.apply()),
      log,
    );
    for (const source of this.sources) {
      this.pending.set(source, new Set());
      source.onEntries(keys => {
        this.note(source, keys);
        if (this.isReady) this.kept.changed();
      });
    }
    this.ready = Promise.all([parts.nameIsOurs, ...this.sources.map(source => source.ready)]).then(() => {
      this.isReady = true;
      for (const source of this.sources) this.note(source, source.keys());
      this.kept.changed();
    });
    // Closed before it was: then nobody asks.
    this.ready.catch(() => undefined);
  }

  /**
   * Resolves when the kernel enforces what is now known of an endpoint of this host. No round trip. Throws DatastoreError
   * where the datastore was never read, HostError where the kernel refuses.
   */
  async enforce(endpointId: string): Promise<void> {
    await inTime(
      this.ready,
      PATIENCE,
      () => new DatastoreError('policy is not known yet: the datastore is unreachable: check etcd'),
    );
    this.note(this.own, [this.parts.endpoints.key(endpointId)]);
    await this.kept.applyNow();
  }

  close(): void {
    this.kept.stop();
    for (const source of this.sources) source.close();
  }

  private async apply(): Promise<void> {
    for (const [source, keys] of this.pending) {
      const told = [...keys];
      keys.clear();
      for (const key of told) source.tell(this.resolver, key);
    }
    const policy = this.resolver.resolve();
    if (policy === this.enforced) return;
    await this.parts.dataplane.applyPolicy(policy);
    this.enforced = policy;
  }

  private tellEndpoint(resolver: PolicyResolver, key: string, endpoint: WorkloadEndpoint | undefined): void {
    if (!endpoint) return resolver.setEndpoint(key, undefined);
    const sandbox = endpoint.node === this.parts.node ? this.parts.sandboxOf(endpoint.endpointId) : undefined;
    resolver.setEndpoint(key, policyEndpoint(endpoint, sandbox));
  }

  private note(source: PolicySource, keys: Iterable<string>): void {
    const pending = this.pending.get(source);
    for (const key of keys) pending?.add(key);
  }
}
