import type { Logger } from 'pino';
import { withDeadline, withoutDeadline } from '../deadline.js';
import { reason } from '../errors.js';
import type { Dataplane, EndpointWiring } from '../host/dataplane.js';
import { formatCidr } from '../ipam/cidr.js';
import type { IpamFacts } from '../ipam/facts.js';
import type { NetworkRecord } from '../model/network-record.js';
import { containerInterfaceOf } from '../model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { Endpoints } from './endpoints.js';
import { gateway6, joinResponse } from './join-response.js';
import type { JoinResponse } from './protocol.js';
import { Sandboxes } from './sandboxes.js';

export interface JoinerParts {
  readonly endpoints: Endpoints;
  readonly dataplane: Dataplane;
  readonly facts: IpamFacts;
  /** What interfaces are called inside containers. */
  readonly interfacePrefix: string;
  /** Bytes; undefined: the host's. */
  readonly mtu: number | undefined;
  /** Largest packet, in bytes, on the way to an address on another host; undefined: as on the host's own interface. */
  pathMtu(address: string, hostMtu: number): number | undefined;
  /** Brings the host up to date with what the datastore says, before a container can talk. */
  applyHostState(): Promise<void>;
  /** Resolves when the kernel enforces an endpoint's policy; before that nothing passes. Throws HostError, DatastoreError. */
  enforcePolicy(endpointId: string, sandboxKey: string): Promise<void>;
  /** An endpoint is in no container any more. */
  left(endpointId: string): void;
  readonly log: Logger;
}

/** Milliseconds for which the host's MTU is remembered. */
const MTU_MEMORY = 10_000;

/** Wires endpoints into their containers. */
export class Joiner {
  private readonly sandboxes = new Sandboxes();
  private mtu: { value: number; until: number } | undefined;

  constructor(private readonly parts: JoinerParts) {}

  /** Takes over endpoints that were joined before this daemon started; how each is wired. */
  async restore(
    endpoints: readonly WorkloadEndpoint[],
    networkOf: (id: string) => NetworkRecord | undefined,
  ): Promise<EndpointWiring[]> {
    for (const { sandbox, endpointId } of endpoints)
      if (sandbox) this.sandboxes.restore(sandbox.key, endpointId, sandbox.place);
    const mtu = await this.defaultMtu();
    return endpoints.map(endpoint =>
      this.wiringOf(
        endpoint,
        networkMtu(networkOf(endpoint.networkId)) ?? this.fitting(mtu, endpoint),
        endpoint.sandbox?.place ?? 1,
      ),
    );
  }

  /** Wires an endpoint into its container; what dockerd is to do with the other end. No round trip. */
  async join(endpoint: WorkloadEndpoint, network: NetworkRecord, sandbox: string): Promise<JoinResponse> {
    const { dataplane, endpoints } = this.parts;
    const { place } = this.sandboxes.join(sandbox, endpoint.endpointId);
    const mtu = networkMtu(network) ?? this.fitting(await this.defaultMtu(), endpoint);
    if (network.internal) await this.parts.applyHostState();
    await Promise.all([
      dataplane.attach(this.wiringOf(endpoint, mtu, place)),
      this.parts.enforcePolicy(endpoint.endpointId, sandbox),
    ]);
    const siblings = this.sandboxes
      .siblings(endpoint.endpointId)
      .flatMap(id => endpoints.own().find(other => other.endpointId === id) ?? []);
    // The first of a container was wired before anybody knew that there would be a second.
    if (siblings.length > 0)
      await dataplane.repair(siblings.map(other => this.wiringOf(other, mtu, other.sandbox?.place ?? 1)));
    this.recordLater(endpoint.endpointId, { key: sandbox, place });
    return this.response(endpoint, network, place);
  }

  private response(endpoint: WorkloadEndpoint, network: NetworkRecord, place: number): JoinResponse {
    const wanted = place > 1 || network.internal ? this.rangesOf(network, endpoint) : [];
    return joinResponse(endpoint, {
      prefix: this.parts.interfacePrefix,
      place,
      routes: this.sandboxes.claimRoutes(endpoint.endpointId, wanted),
      internal: network.internal,
    });
  }

  /** Wires an endpoint anew whose interface the kernel lost while its container runs. Throws HostError. */
  async rewire(endpoint: WorkloadEndpoint, network: NetworkRecord): Promise<void> {
    if (!endpoint.sandbox) return;
    const { key: sandbox, place } = endpoint.sandbox;
    const { Gateway, GatewayIPv6, StaticRoutes } = this.response(endpoint, network, place);
    const defaults = [
      ...(Gateway === undefined ? [] : [{ destination: '0.0.0.0/0', nextHop: Gateway }]),
      ...(GatewayIPv6 === undefined ? [] : [{ destination: '::/0', nextHop: GatewayIPv6 }]),
    ];
    const mtu = networkMtu(network) ?? (await this.defaultMtu());
    await this.parts.dataplane.rewire(this.wiringOf(endpoint, mtu, place), {
      sandbox,
      // dockerd counts them as they come.
      interfaceName: `${this.parts.interfacePrefix}${place - 1}`,
      routes: [
        ...StaticRoutes.map(({ Destination: destination, NextHop: nextHop }) =>
          nextHop === '' ? { destination } : { destination, nextHop },
        ),
        ...defaults,
      ],
    });
  }

  /** The container an endpoint is in. */
  sandboxOf(endpointId: string): string | undefined {
    return this.sandboxes.of(endpointId);
  }

  leave(endpointId: string): void {
    this.sandboxes.leave(endpointId);
    this.parts.left(endpointId);
  }

  private wiringOf(endpoint: WorkloadEndpoint, mtu: number, place: number): EndpointWiring {
    return {
      hostInterface: endpoint.interfaceName,
      containerInterface: containerInterfaceOf(endpoint.endpointId),
      mac: endpoint.mac,
      addresses: endpoint.addresses,
      mtu,
      sharesSandbox: this.sandboxes.siblings(endpoint.endpointId).length > 0,
      ...(place > 1 ? { gateway6: gateway6(place) } : {}),
    };
  }

  /** What the network's other endpoints can have as addresses: its subnets, or the pools this address is from. */
  private rangesOf(network: NetworkRecord, endpoint: WorkloadEndpoint): string[] {
    if (network.subnets.length > 0) return network.subnets.map(({ cidr }) => cidr);
    const { facts } = this.parts;
    const families = endpoint.addresses.map(address => (address.includes(':') ? 6 : 4));
    return facts
      .allPools()
      .filter(pool => pool.automatic && families.includes(pool.cidr.family))
      .map(pool => formatCidr(pool.cidr));
  }

  /** Remembered for a moment: to find it the kernel lists all its routes, one for each endpoint among them. */
  private async defaultMtu(): Promise<number> {
    if (this.parts.mtu !== undefined) return this.parts.mtu;
    if (!this.mtu || this.mtu.until < Date.now())
      this.mtu = { value: await this.parts.dataplane.defaultMtu(), until: Date.now() + MTU_MEMORY };
    return this.mtu.value;
  }

  /** An MTU, or less where the endpoint's packets are encapsulated on their way. What is configured stays. */
  private fitting(mtu: number, { addresses }: WorkloadEndpoint): number {
    if (this.parts.mtu !== undefined) return mtu;
    return Math.min(mtu, ...addresses.map(address => this.parts.pathMtu(address, mtu) ?? mtu));
  }

  /** For the daemon after us; nothing waits for it. */
  private recordLater(endpointId: string, sandbox: { key: string; place: number }): void {
    withoutDeadline(() => {
      withDeadline(30_000, () => this.parts.endpoints.change(endpointId, { sandbox })).catch(
        (error: unknown) =>
          this.parts.log.warn(
            { endpoint: endpointId, reason: reason(error) },
            'cannot record the container of an endpoint',
          ),
      );
    });
  }
}

function networkMtu(network: NetworkRecord | undefined): number | undefined {
  return network?.options.mtu === undefined ? undefined : Number(network.options.mtu);
}
