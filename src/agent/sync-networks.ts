import type { Logger } from 'pino';
import { withDeadline, withoutDeadline } from '../deadline.js';
import { isCalicoDriver } from '../docker/defined-network.js';
import type { DockerEngine, DockerEvent } from '../docker/engine.js';
import { reason } from '../errors.js';
import { isNetworkName } from '../model/shared-network.js';
import type { SharedNetwork } from '../model/shared-network.js';
import type { Endpoints } from '../plugin/endpoints.js';
import type { Networks } from '../plugin/networks.js';
import { Backoff } from './backoff.js';
import type { Presence } from './presence.js';
import { decide } from './network-sync.js';
import type { SyncAction, SyncView } from './network-sync.js';
import type { SharedNetworks } from './shared-networks.js';
import { carryOutSync } from './sync-actions.js';
import { SyncMemory } from './sync-memory.js';

/** Milliseconds for one thing that is done; Docker may take a minute for a network. */
const PATIENCE = 75_000;
/** Milliseconds between looks, however much happens: one sees it all. */
const PACE = 50;
/** Milliseconds by which a timer may be early. */
const EARLY = 5;

export interface NetworkSyncParts {
  readonly node: string;
  /** What Docker here calls our driver. */
  readonly driver: string;
  /** Nothing is done before the name is this host's, nor while another live host has it. */
  readonly name: Pick<Presence, 'ours' | 'check'>;
  readonly engine: DockerEngine;
  readonly shared: SharedNetworks;
  /** The records of all hosts. */
  readonly networks: Networks;
  /** Of all hosts. */
  readonly endpoints: Endpoints;
  /** Milliseconds between looks where nothing happens. */
  readonly interval: number;
  readonly log: Logger;
}

/**
 * Keeps the networks of this host and those of the cluster the same: looks at both, {@link decide}s, and acts, one thing
 * after another. What fails is tried again, ever more slowly. Runs beside the drivers, never inside a call of theirs: what
 * it asks Docker makes Docker call them.
 */
export class NetworkSync {
  private readonly memory = new SyncMemory();
  private readonly backoff = new Backoff();
  private readonly reported = new Set<string>();
  /** Networks of this host that go when no container is in them. */
  private waitingFor: readonly string[] = [];
  /** Something that was removed here is to be forgotten when it has gone everywhere. */
  private isToForget = false;
  private isConnected = false;
  private hasName = false;
  private isBlind = true;
  private isStopped = false;
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;
  private isAgain = false;
  private lookedAt = -Infinity;
  private complaint = '';

  constructor(private readonly parts: NetworkSyncParts) {
    const { name, shared, networks, endpoints } = parts;
    void name.ours.then(() => {
      this.hasName = true;
      this.look();
    });
    shared.onChange(() => this.look());
    networks.onChange(() => {
      if (this.isToForget || this.isBlind) this.look();
    });
    endpoints.onChange(() => {
      if (this.isBlind || (this.waitingFor.length > 0 && this.isOneFree())) this.look();
    });
  }

  /** dockerd answers. */
  dockerConnected(): void {
    this.isConnected = true;
    this.memory.dockerConnected();
    this.backoff.clear();
    this.look();
  }

  /** dockerd is away. */
  dockerLost(): void {
    this.isConnected = false;
    this.memory.dockerLost();
  }

  /** An event about a network. */
  happened({ action, id }: DockerEvent): void {
    if (action === 'destroy') this.memory.networkDestroyed(id, now());
    else if (action === 'prune') this.memory.pruned();
    else if (action !== 'create') return;
    this.look();
  }

  close(): void {
    this.isStopped = true;
    clearTimeout(this.timer);
    this.parts.shared.close();
  }

  /** Looks soon; what comes while one look runs causes one more. */
  private look(): void {
    if (this.isStopped || !this.isConnected) return;
    if (this.running) {
      this.isAgain = true;
      return;
    }
    const early = this.lookedAt + PACE - now();
    if (early > 0) return this.lookIn(early);
    this.lookedAt = now();
    this.running = withoutDeadline(() => this.run()).finally(() => {
      this.running = undefined;
      if (this.isAgain) this.look();
    });
  }

  private lookIn(milliseconds: number): void {
    clearTimeout(this.timer);
    if (!this.isStopped) this.timer = setTimeout(() => this.look(), milliseconds + EARLY).unref();
  }

  /** One look, and what follows from it. Never throws. */
  private async run(): Promise<void> {
    this.isAgain = false;
    clearTimeout(this.timer);
    let next = this.parts.interval;
    try {
      const view = await this.view();
      if (view) next = Math.min(next, await this.act(decide(view), view));
      this.complaint = '';
    } catch (error) {
      this.complain(reason(error));
      next = Math.min(next, 1_000);
    }
    this.lookIn(Math.min(next, this.memory.dueIn(now())));
  }

  /** Undefined where the datastore is out of sight: the mirrors say when it is back. */
  private async view(): Promise<SyncView | undefined> {
    const { node, name, engine, shared, networks, endpoints } = this.parts;
    if (!this.hasName) return undefined;
    name.check();
    const listed = await engine.definedNetworks();
    this.isBlind = ![shared, networks, endpoints].every(({ isCurrent }) => isCurrent);
    if (this.isBlind || !this.isConnected) return undefined;
    // All of this is read in one turn, after Docker was: what Docker lacks was not made before.
    const all = shared.all();
    const defined = listed.map(network => ({
      ...network,
      isOurs:
        network.isPlain &&
        isNetworkName(network.name) &&
        (isCalicoDriver(network.driver) || networks.known(network.id) !== undefined),
    }));
    const usedHere = new Set(endpoints.own().map(({ networkId }) => networkId));
    const here = this.memory.look(defined, all, usedHere, now());
    this.isToForget = [...all.values()].some(({ removed }) => removed?.by === node);
    return {
      node,
      here,
      shared: all,
      recorded: new Map(networks.all().map(({ id, name }) => [id, name])),
      hadHere: new Set(networks.own().flatMap(({ name }) => name ?? [])),
      inUse: this.memory.inUse(usedHere),
      isUsedElsewhere: (called, network) => this.isUsedElsewhere(called, network),
      made: this.memory.fresh,
      copies: this.memory.copies,
      removals: this.memory.removals(now()),
      unmakeable: this.memory.unmakeable,
    };
  }

  /** Milliseconds until something that failed is to be tried again. */
  private async act(actions: readonly SyncAction[], view: SyncView): Promise<number> {
    this.waitingFor = actions.flatMap(action => (action.kind === 'wait' ? [action.network.id] : []));
    let next = Infinity;
    for (const action of actions) {
      if (action.kind === 'wait') continue;
      if (action.kind === 'report') {
        this.report(action.key, action.name, action.text);
        continue;
      }
      const name = 'shared' in action ? action.shared.name : action.network.name;
      const key = `${action.kind} ${name}`;
      if (this.isStopped || !this.isConnected) break;
      if (this.backoff.left(key, now()) > 0) {
        next = Math.min(next, this.backoff.left(key, now()));
        continue;
      }
      try {
        const parts = { ...this.parts, memory: this.memory, report: this.report, now };
        await withDeadline(PATIENCE, () => carryOutSync(parts, action, view));
        this.backoff.succeeded(key);
        this.isAgain = true;
      } catch (error) {
        const text = reason(error);
        if (this.backoff.failed(key, text, now()))
          this.parts.log.warn(
            { network: name, reason: text },
            `cannot ${action.kind} a network of the cluster`,
          );
        next = Math.min(next, this.backoff.left(key, now()));
      }
    }
    return next;
  }

  private isOneFree(): boolean {
    const used = new Set(this.parts.endpoints.own().map(({ networkId }) => networkId));
    return this.waitingFor.some(id => !used.has(id));
  }

  private isUsedElsewhere(name: string, { definition }: SharedNetwork): boolean {
    const { node, endpoints, networks } = this.parts;
    const profile = definition.options.profile ?? name;
    return endpoints.all().some(endpoint => {
      if (endpoint.node === node) return false;
      const recorded = networks.known(endpoint.networkId)?.name;
      return recorded === undefined ? endpoint.profiles.includes(profile) : recorded === name;
    });
  }

  private readonly report = (key: string, network: string, text: string): void => {
    if (this.reported.has(key)) return;
    if (this.reported.size > 10_000) this.reported.clear();
    this.reported.add(key);
    this.parts.log.warn({ network }, text);
  };

  private complain(text: string): void {
    if (text !== this.complaint)
      this.parts.log.warn({ reason: text }, "cannot compare Docker's networks with the cluster's now");
    this.complaint = text;
  }
}

function now(): number {
  return performance.now();
}
