import { pino } from 'pino';
import { carryOutSync } from '../../src/agent/sync-actions.js';
import { decide } from '../../src/agent/network-sync.js';
import type { HereNetwork, SyncAction, SyncView } from '../../src/agent/network-sync.js';
import { SharedNetworks } from '../../src/agent/shared-networks.js';
import { SyncMemory } from '../../src/agent/sync-memory.js';
import { networkKey } from '../../src/datastore/keys.js';
import { DockerRefusal } from '../../src/docker/call.js';
import { parseDefinedNetwork } from '../../src/docker/defined-network.js';
import type { JsonObject } from '../../src/model/json.js';
import { formatNetworkRecord } from '../../src/model/network-record.js';
import { objectOrEmpty, textOr } from '../../src/model/json.js';
import { MemoryStore } from '../fakes/memory-store.js';

const LOG = pino({ level: 'silent' });
export const SUBNET = '192.0.2.0/24';
export const OTHER = '198.51.100.0/24';

/** Three hosts; `net` is on all where `isMade`. */
export async function cluster(isMade = true): Promise<[SyncCluster, SyncHost, SyncHost, SyncHost]> {
  const all = new SyncCluster(3);
  if (isMade) {
    await all.host(1).create('net', SUBNET);
    await all.settle();
  }
  return [all, all.host(1), all.host(2), all.host(3)];
}

/** By host: what networks it has, their subnets for `net`, and how often Docker was asked for a change. */
export const names = (all: SyncCluster) => all.hosts.map(host => Object.keys(host.has()).sort().join());
export const subnets = (all: SyncCluster) => all.hosts.map(host => host.has().net?.split('"')[3]);
export const calls = (all: SyncCluster) => all.hosts.map(host => host.calls);

/** Hosts whose dockerds and daemons share an etcd, in memory; each step is as long as a test wants it to be. */
export class SyncCluster {
  readonly store = new MemoryStore();
  readonly hosts: SyncHost[];
  now = 1_000;
  private next = 0;

  constructor(count: number) {
    this.hosts = Array.from({ length: count }, (_, index) => new SyncHost(this, `h${index + 1}`));
  }

  host(number: number): SyncHost {
    const host = this.hosts[number - 1];
    if (!host) throw new Error(`there is no h${number}`);
    return host;
  }

  newId(): string {
    this.next += 1;
    return `id${String(this.next)}`;
  }

  /** Lets all hosts look until none has anything to do; answers with how many rounds it took. */
  async settle(rounds = 40): Promise<number> {
    for (let round = 0; round < rounds; round += 1) {
      let done = 0;
      for (const host of this.hosts) done += await host.look();
      this.now += 2_000;
      // What was to be waited for is over after one more.
      if (done === 0 && (await this.quiet())) return round;
    }
    throw new Error(
      `not settled after ${rounds} rounds: ${JSON.stringify(this.hosts.map(host => host.last))}`,
    );
  }

  /** What is shared, by name; `-` where it is removed. */
  async shared(): Promise<Record<string, string>> {
    const { entries } = await this.store.list('/calico/libnetwork/v1/shared/');
    return Object.fromEntries(
      entries.map(({ value }) => {
        const { name, definition, removed } = objectOrEmpty(JSON.parse(value));
        const { subnets } = objectOrEmpty(definition);
        return [textOr(name), removed === undefined ? JSON.stringify(subnets) : '-'];
      }),
    );
  }

  private async quiet(): Promise<boolean> {
    let done = 0;
    for (const host of this.hosts) done += await host.look();
    return done === 0;
  }
}

/** One of them: what dockerd has, and a daemon that keeps it so. */
export class SyncHost {
  readonly networks = new Map<string, HereNetwork>();
  /** Ids of networks that a container is in. */
  readonly used = new Set<string>();
  /** Cut off from etcd. */
  isCut = false;
  /** Calls of Docker's API that change something. */
  calls = 0;
  reports: string[] = [];
  /** Looks for a network of the same name before it makes one; 20.10 does not do both at once. */
  checksNames = true;
  last: readonly SyncAction[] = [];
  /** What dockerd makes of a request; for one that makes something else. */
  twist = (body: JsonObject): JsonObject => body;
  private memory = new SyncMemory();
  private reported = new Set<string>();
  private readonly shared: SharedNetworks;

  constructor(
    private readonly cluster: SyncCluster,
    readonly name: string,
  ) {
    this.shared = new SharedNetworks(cluster.store, name, LOG);
  }

  /** `docker network create`; the id, or undefined where Docker or the driver refuses. */
  async create(name: string, subnet?: string, more: JsonObject = {}): Promise<string | undefined> {
    if (this.isCut || this.find(name)) return undefined;
    const config = subnet === undefined ? [] : [{ Subnet: subnet }];
    return this.make({
      Name: name,
      Driver: 'calico',
      IPAM: { Driver: 'calico-ipam', Config: config },
      ...more,
    });
  }

  /** `docker network rm`; false where Docker refuses. */
  async remove(name: string): Promise<boolean> {
    const network = this.find(name);
    if (!network || this.used.has(network.id)) return false;
    await this.destroy(network.id);
    return true;
  }

  /** The same, and Docker's word of it comes only when what is answered is called. */
  async removeSilently(name: string): Promise<() => void> {
    const id = this.find(name)?.id ?? '';
    this.networks.delete(id);
    await this.unrecord(id);
    return () => this.memory.networkDestroyed(id, this.cluster.now);
  }

  /** `docker network prune`. */
  async prune(): Promise<void> {
    for (const id of [...this.networks.keys()]) if (!this.used.has(id)) await this.destroy(id);
    this.memory.pruned();
  }

  run(name: string): boolean {
    const network = this.find(name);
    if (network) this.used.add(network.id);
    return network !== undefined;
  }

  stop(name: string): void {
    const network = this.find(name);
    if (network) this.used.delete(network.id);
  }

  /** The daemon dies and comes back; `meanwhile`: what Docker does without it. */
  async restartDaemon(meanwhile?: () => unknown): Promise<void> {
    this.memory = new SyncMemory();
    await meanwhile?.();
    this.memory = new SyncMemory();
    this.reported.clear();
    this.memory.dockerConnected();
  }

  /** dockerd loses its data; nobody is told. */
  async wipe(): Promise<void> {
    this.memory.dockerLost();
    const ids = [...this.networks.keys()];
    this.networks.clear();
    this.used.clear();
    this.memory.dockerConnected();
    for (const id of ids) await this.unrecord(id);
  }

  /**
   * One look of the daemon and what follows; how many changes were tried. `between` runs after looking, `listing` while
   * Docker's answer is on its way.
   */
  async look(between?: () => Promise<unknown>, listing?: () => Promise<unknown>): Promise<number> {
    if (this.isCut) return 0;
    const view = await this.view(listing);
    this.last = decide(view);
    await between?.();
    let done = 0;
    for (const action of this.last) {
      if (action.kind === 'wait') continue;
      if (action.kind === 'report') {
        this.report(action.key, action.text);
        continue;
      }
      done += 1;
      await carryOutSync(
        {
          engine: { createNetwork: body => this.make(body, true), removeNetwork: id => this.unmake(id) },
          shared: this.shared,
          memory: this.memory,
          log: LOG,
          driver: 'calico',
          now: () => this.cluster.now,
          report: (key, _network, text) => this.report(key, text),
        },
        action,
        view,
      ).catch(() => undefined);
    }
    return done;
  }

  /** Subnets of what it has, by name. */
  has(): Record<string, string> {
    return Object.fromEntries(
      [...this.networks.values()].map(({ name, definition }) => [name, JSON.stringify(definition.subnets)]),
    );
  }

  find(name: string): HereNetwork | undefined {
    return [...this.networks.values()].find(network => network.name === name);
  }

  private async view(listing?: () => Promise<unknown>): Promise<SyncView> {
    const { now, hosts, store } = this.cluster;
    const listed = [...this.networks.values()];
    await listing?.();
    const all = this.shared.all();
    const here = this.memory.look(listed, all, this.used, now);
    const { entries } = await store.list('/calico/libnetwork/v1/networks/');
    const records = entries.map(({ value }) => objectOrEmpty(JSON.parse(value)));
    return {
      node: this.name,
      here,
      shared: all,
      recorded: new Map(records.map(({ id, name }) => [textOr(id), textOr(name)])),
      hadHere: new Set(),
      inUse: this.memory.inUse(this.used),
      isUsedElsewhere: name =>
        hosts.some(host => host !== this && [...host.used].some(id => host.networks.get(id)?.name === name)),
      made: this.memory.fresh,
      copies: this.memory.copies,
      removals: this.memory.removals(now),
      unmakeable: this.memory.unmakeable,
    };
  }

  private async make(body: JsonObject, isSync = false): Promise<string> {
    if (isSync) this.calls += 1;
    const name = textOr(body.Name);
    if (this.find(name) && this.checksNames)
      throw new DockerRefusal(409, `{"message":"network with name ${name} already exists"}`);
    const id = this.cluster.newId();
    const network = parseDefinedNetwork({ Scope: 'local', Id: id, ...this.twist(body) });
    this.networks.set(id, { ...network, isOurs: network.driver === 'calico' });
    if (network.driver !== 'calico') return id;
    const record = {
      id,
      node: this.name,
      name,
      created: '',
      internal: false,
      subnets: [],
      options: {},
      rest: {},
    };
    await this.cluster.store.transact({
      compare: [],
      then: [{ put: networkKey(id), value: formatNetworkRecord(record) }],
    });
    return id;
  }

  private async unmake(id: string): Promise<void> {
    this.calls += 1;
    if (this.used.has(id)) throw new Error(`${this.name}: removes ${id}, which is in use`);
    await this.destroy(id);
  }

  private async destroy(id: string): Promise<void> {
    this.networks.delete(id);
    this.memory.networkDestroyed(id, this.cluster.now);
    await this.unrecord(id);
  }

  private async unrecord(id: string): Promise<void> {
    await this.cluster.store.transact({ compare: [], then: [{ delete: networkKey(id) }] });
  }

  private report(key: string, text: string): void {
    if (!this.reported.has(key)) this.reports.push(text);
    this.reported.add(key);
  }
}
