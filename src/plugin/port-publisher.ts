import type { Logger } from 'pino';
import { reason } from '../errors.js';
import type { PortReservations } from '../host/port-reservations.js';
import type { JsonObject } from '../model/json.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { Endpoints } from './endpoints.js';
import { portRequests } from './port-mappings.js';

/**
 * `-p`: ports of containers that are open on the host. They are part of the endpoint in etcd for as long as Docker says
 * so, and the host's rules follow from that; a port is reserved by a socket of ours, so that no other process gets it.
 */
export class PortPublisher {
  constructor(
    private readonly endpoints: Endpoints,
    private readonly reservations: PortReservations,
    /** Brings the host up to date with what the datastore says. */
    private readonly applyHostState: () => Promise<void>,
    private readonly log: Logger,
  ) {}

  /** Opens the ports that the options of ProgramExternalConnectivity name. Throws where one is taken: opens none. */
  async publish(endpoint: WorkloadEndpoint, options: JsonObject): Promise<void> {
    const wanted = portRequests(options, endpoint.addresses);
    if (wanted.length === 0) return this.withdraw(endpoint.endpointId);
    const ports = await this.reservations.reserve(endpoint.endpointId, wanted);
    try {
      await this.endpoints.change(endpoint.endpointId, { ports });
      await this.applyHostState();
    } catch (error) {
      await this.reservations.release(endpoint.endpointId);
      throw error;
    }
  }

  /** Closes an endpoint's ports; fine where it has none or is gone. */
  async withdraw(endpointId: string): Promise<void> {
    const endpoint = await this.endpoints.get(endpointId);
    if (endpoint && endpoint.ports.length > 0) {
      await this.endpoints.change(endpointId, { ports: [] });
      await this.applyHostState();
    }
    await this.reservations.release(endpointId);
  }

  /** The same for an endpoint that no longer exists. */
  async forget(endpointId: string): Promise<void> {
    await this.reservations.release(endpointId);
  }

  /** Reserves again what endpoints had before this daemon started. A port that another process took meanwhile stays
   *  translated to its container; only later conflicts are not seen. */
  async restore(endpoints: readonly WorkloadEndpoint[]): Promise<void> {
    for (const { endpointId, ports } of endpoints) {
      if (ports.length === 0) continue;
      const wanted = ports.map(port => ({ ...port, hostPortEnd: port.hostPort }));
      await this.reservations
        .reserve(endpointId, wanted)
        .catch((error: unknown) =>
          this.log.warn(
            { endpoint: endpointId, reason: reason(error) },
            'cannot reserve published ports again',
          ),
        );
    }
  }
}
