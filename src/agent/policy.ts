import type { Store } from '../datastore/store.js';
import { inTime } from '../deadline.js';
import { DatastoreError, reason } from '../errors.js';
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
import { LabelGate } from './label-gate.js';
import { policySources } from './policy-sources.js';
import type { PolicySource } from './policy-sources.js';

export interface PolicyKeeperParts {
  readonly store: Store;
  readonly node: string;
  readonly endpoints: Pick<Endpoints, 'ready' | 'entries' | 'onEntries' | 'at' | 'key'>;
  readonly dataplane: Pick<Dataplane, 'applyPolicy' | 'holdUntilPolicy' | 'hostInterfaces'>;
  /** What the host itself sends to its containers. */
  readonly hostAction: HostPolicy['fromHost'];
  /** Resolves when what the datastore says of this host's name is about this host. */
  readonly nameIsOurs: Promise<void>;
  /** Resolves when Docker's labels have been copied once, or Docker is away; undefined: they are not copied. */
  readonly labelsCopied: Promise<void> | undefined;
  /** The container an endpoint of this host is in. */
  sandboxOf(endpointId: string): string | undefined;
  readonly metrics?: Metrics;
  readonly log: Logger;
}

/** Milliseconds that a Join waits for the datastore to be read: less than a call may take. */
const PATIENCE = 8_000;
/** Milliseconds that the start waits for Docker's labels. */
const LABELS_PATIENCE = 2_000;
/** Milliseconds that the start waits for endpoints that the datastore lost: with the labels', less than a Join waits. */
const PUT_BACK_PATIENCE = 5_000;
/** Milliseconds between two looks meanwhile. */
const PUT_BACK_PAUSE = 250;

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
  /** Ids of endpoints of this host that the resolver knows, by key. */
  private readonly told = new Map<string, string>();
  /** Endpoints that wait for their labels. */
  readonly gate: LabelGate;
  private isReady = false;
  private isClosed = false;
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
    const keyOf = (endpointId: string) => endpoints.key(endpointId);
    this.gate = new LabelGate(
      {
        opened: endpointId => {
          this.note(this.own, [keyOf(endpointId)]);
          this.kept.changed();
        },
        exists: endpointId => endpoints.at(keyOf(endpointId)) !== undefined,
      },
      log,
    );
    this.ready = this.begin();
    // Closed before it was: then nobody asks.
    this.ready.catch(() => undefined);
  }

  /**
   * Resolves when the kernel enforces what is now known of an endpoint of this host. No round trip. Throws DatastoreError
   * where the datastore was never read, HostError where the kernel refuses.
   *
   * @param closed runs where the endpoint stays closed until its labels are known
   */
  async enforce(endpointId: string, closed: () => void): Promise<void> {
    await inTime(
      this.ready,
      PATIENCE,
      () => new DatastoreError('policy is not known yet: the datastore is unreachable: check etcd'),
    );
    // Who joins is new: Docker tells whose it is a moment later.
    if (this.waitsForLabels()) {
      this.gate.close(endpointId);
      closed();
    }
    this.note(this.own, [this.parts.endpoints.key(endpointId)]);
    await this.kept.applyNow();
  }

  /** An endpoint is no longer in a container: if the datastore lost it before, it is forgotten now. */
  left(endpointId: string): void {
    const key = this.parts.endpoints.key(endpointId);
    if (!this.told.has(key) || this.parts.endpoints.at(key)) return;
    this.note(this.own, [key]);
    if (this.isReady) this.kept.changed();
  }

  close(): void {
    this.isClosed = true;
    this.kept.stop();
    this.gate.stop();
    for (const source of this.sources) source.close();
  }

  private async begin(): Promise<void> {
    const { nameIsOurs, labelsCopied, dataplane, log } = this.parts;
    // A container whose policy nobody knows yet is not reached, nor does it reach anybody.
    dataplane.holdUntilPolicy().catch((error: unknown) => {
      log.error({ reason: reason(error) }, 'cannot close endpoints until their policy is known');
    });
    await Promise.all([nameIsOurs, ...this.sources.map(source => source.ready)]);
    for (const source of this.sources) this.note(source, source.keys());
    this.tellAll();
    // A daemon before this one may have left an endpoint closed whose labels nobody has copied yet: until they are, what
    // it put into the kernel stays.
    const patience = new Promise(resolve => setTimeout(resolve, LABELS_PATIENCE).unref());
    if (labelsCopied && this.resolver.asksForLabels) await Promise.race([labelsCopied, patience]);
    await this.untilPutBack();
    this.isReady = true;
    this.kept.changed();
  }

  /**
   * Where the datastore lost endpoints of running containers while no daemon was there to see, the reconciler puts them back
   * in a moment. Until then what the daemon before this one put into the kernel is better than closing them.
   */
  private async untilPutBack(): Promise<void> {
    const until = performance.now() + PUT_BACK_PATIENCE;
    while (!this.isClosed && performance.now() < until) {
      const known = new Set(
        [...this.parts.endpoints.entries()].map(([, { interfaceName }]) => interfaceName),
      );
      // Not to be told is no reason to keep everybody waiting.
      const interfaces = await this.parts.dataplane.hostInterfaces().catch(() => []);
      if (!interfaces.some(({ name, isInUse }) => isInUse && !known.has(name))) return;
      await new Promise(resolve => setTimeout(resolve, PUT_BACK_PAUSE).unref());
    }
  }

  private tellAll(): void {
    for (const [source, keys] of this.pending) {
      const told = [...keys];
      keys.clear();
      for (const key of told) source.tell(this.resolver, key);
    }
  }

  private async apply(): Promise<void> {
    this.tellAll();
    const policy = this.resolver.resolve();
    if (policy === this.enforced) return;
    await this.parts.dataplane.applyPolicy(policy);
    this.enforced = policy;
  }

  private tellEndpoint(resolver: PolicyResolver, key: string, endpoint: WorkloadEndpoint | undefined): void {
    if (!endpoint) {
      // Lost under a running container: it stays as it was until the reconciler puts it back, or it leaves.
      const endpointId = this.told.get(key);
      if (endpointId !== undefined && this.parts.sandboxOf(endpointId) !== undefined) return;
      this.told.delete(key);
      return resolver.setEndpoint(key, undefined);
    }
    if (endpoint.node !== this.parts.node) return resolver.setEndpoint(key, policyEndpoint(endpoint));
    const { endpointId } = endpoint;
    const sandbox = this.parts.sandboxOf(endpointId);
    // Who is in no container yet joins in a moment. Opened for so long, his address would look like one that its container
    // has left when Join closes him, and he would wait until its flows are forgotten.
    const isToJoin = this.isReady && !this.told.has(key) && (sandbox ?? endpoint.sandbox) === undefined;
    if (isToJoin && this.waitsForLabels()) this.gate.close(endpointId);
    this.told.set(key, endpointId);
    resolver.setEndpoint(key, policyEndpoint(endpoint, sandbox), this.gate.isOpen(endpointId));
  }

  private waitsForLabels(): boolean {
    return this.parts.labelsCopied !== undefined && this.resolver.asksForLabels;
  }

  private note(source: PolicySource, keys: Iterable<string>): void {
    const pending = this.pending.get(source);
    for (const key of keys) pending?.add(key);
  }
}
