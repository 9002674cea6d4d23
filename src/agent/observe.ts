import { handleKey, HANDLES_PREFIX, resourceKey } from '../datastore/keys.js';
import type { Entry, Store } from '../datastore/store.js';
import { viewDocker } from '../docker/view.js';
import type { DockerView, ViewedEngine } from '../docker/view.js';
import { DatastoreError } from '../errors.js';
import type { Dataplane } from '../host/dataplane.js';
import type { Allocator } from '../ipam/allocator.js';
import { covers, formatAddress, formatCidr, parseAddress, parseCidr } from '../ipam/cidr.js';
import type { IpamFacts } from '../ipam/facts.js';
import { RESERVATION_PREFIXES, reservingRequest } from '../ipam/reservation.js';
import type { NetworkRecord } from '../model/network-record.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { Endpoints } from '../plugin/endpoints.js';
import { endpointHandlePrefix, parseEndpointHandle } from '../ipam/handles.js';
import type { Networks } from '../plugin/networks.js';
import type { Observed, OwnAllocation, OwnReservation } from './deviations.js';
import type { SaidGone } from '../plugin/said-gone.js';

export interface ObserverParts {
  readonly store: Store;
  readonly engine: ViewedEngine;
  readonly facts: IpamFacts;
  readonly networks: Networks;
  readonly endpoints: Endpoints;
  readonly allocator: Allocator;
  readonly dataplane: Dataplane;
  readonly saidGone: SaidGone;
  /** Docker's scope is global. */
  readonly isGlobal: boolean;
}

/** Blocks that are read at the same time. */
const AT_ONCE = 16;

/** Looks at what this node has of ours, everywhere. */
export class Observer {
  private remembered = new Map<string, WorkloadEndpoint>();

  constructor(private readonly parts: ObserverParts) {}

  /**
   * The datastore first, then Docker: what is made in between, Docker has and the datastore does not show, so it is not
   * taken for gone. Three round trips, and one for each reservation that Docker does not have; all else is in memory.
   * Rejects where a part cannot be seen as it is now.
   */
  async observe(): Promise<Observed> {
    const { facts, networks, endpoints, dataplane, engine, saidGone, isGlobal } = this.parts;
    if (![facts, networks, endpoints].every(({ isCurrent }) => isCurrent))
      throw new DatastoreError('the datastore is out of sight');
    const own = endpoints.own();
    const records = networks.own();
    const allocations = await this.allocations();
    const reservations = await this.reservationHandles();
    const interfaces = await dataplane.hostInterfaces();
    const docker = await viewDocker(engine, id => networks.known(id) !== undefined);
    this.checkEngine(docker, records);
    this.remember(own, docker);
    return {
      node: facts.node,
      isGlobal,
      docker,
      endpoints: own,
      allocations,
      reservations: await this.ownReservations(reservations, docker),
      reservationHandles: new Set(reservations.map(({ handle }) => handle)),
      networks: records,
      unneededPools: this.unneededPools(docker),
      interfaces,
      remembered: this.remembered,
      saidGone: saidGone.all,
    };
  }

  /**
   * Throws where Docker does not show what it must have: it is another engine, or one that has lost sight of its cluster
   * store (20.10 shows no global networks then).
   */
  private checkEngine(docker: DockerView, records: readonly NetworkRecord[]): void {
    const { networks, isGlobal } = this.parts;
    const there = new Set(docker.networks.map(({ id }) => id));
    const missing = [...networks.served, ...(isGlobal ? records.map(({ id }) => id) : [])].find(
      id => !there.has(id),
    );
    if (missing !== undefined)
      throw new Error(
        `the engine at DOCKER_HOST does not show network ${missing}, which Docker has used: is it another engine?`,
      );
  }

  private async allocations(): Promise<OwnAllocation[]> {
    const { node } = this.parts.facts;
    const { entries } = await this.parts.store.list(handleKey(endpointHandlePrefix(node)));
    return entries.flatMap(({ key, revision }) => {
      const handle = handleIn(key);
      const parsed = parseEndpointHandle(handle);
      // The prefix is also that of a node whose name goes on with a dot.
      if (parsed?.node !== node) return [];
      return [{ handle, revision, mac: parsed.mac, address: parsed.address }];
    });
  }

  private async reservationHandles(): Promise<{ handle: string; address: string }[]> {
    const listings = await Promise.all(
      RESERVATION_PREFIXES.map(prefix => this.parts.store.list(handleKey(prefix))),
    );
    return listings.flatMap(({ entries }, index) =>
      entries.flatMap(({ key }: Entry) => {
        const address = parseAddress(handleIn(key).slice(RESERVATION_PREFIXES[index]?.length));
        return address ? [{ handle: handleIn(key), address: formatAddress(address) }] : [];
      }),
    );
  }

  /** Of those that Docker does not have: the ones that name this node. */
  private async ownReservations(
    all: readonly { handle: string; address: string }[],
    docker: DockerView,
  ): Promise<OwnReservation[]> {
    const candidates = all.filter(one => !docker.reserved.has(one.address));
    const found: OwnReservation[] = [];
    for (let at = 0; at < candidates.length; at += AT_ONCE) {
      const read = async ({ handle, address }: (typeof candidates)[number]): Promise<void> => {
        const parsed = parseAddress(address);
        const holder = parsed && (await this.parts.allocator.holder(parsed));
        const request = holder && reservingRequest(holder, this.parts.facts.node);
        if (holder?.handle_id === handle && request !== undefined) found.push({ handle, address, request });
      };
      await Promise.all(candidates.slice(at, at + AT_ONCE).map(read));
    }
    return found;
  }

  /** Pools made for Docker that no network's record, of any host, lies in, nor one of Docker's here. */
  private unneededPools(docker: DockerView): Observed['unneededPools'] {
    const recorded = this.parts.networks.all().flatMap(record => record.subnets.map(({ cidr }) => cidr));
    const subnets = [...recorded, ...docker.subnets].flatMap(cidr => parseCidr(cidr) ?? []);
    return this.parts.facts
      .allPools()
      .filter(pool => pool.isOurs && !subnets.some(subnet => covers(pool.cidr, subnet)))
      .map(({ name, cidr }) => ({
        ...{ name, cidr: formatCidr(cidr) },
        revision: this.parts.facts.pools.revisionOf(resourceKey('ippools', name)) ?? '',
      }));
  }

  /** What is in the datastore, and what was, of endpoints that Docker still has. */
  private remember(own: readonly WorkloadEndpoint[], docker: DockerView): void {
    const known = new Map([
      ...this.remembered,
      ...own.map(endpoint => [endpoint.endpointId, endpoint] as const),
    ]);
    this.remembered = new Map([...known].filter(([id]) => docker.endpointIds.has(id)));
  }
}

function handleIn(key: string): string {
  return key.slice(HANDLES_PREFIX.length);
}
