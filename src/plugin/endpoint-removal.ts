import type { Dataplane } from '../host/dataplane.js';
import type { KeyedLock } from '../keyed-lock.js';
import { hostInterfaceOf } from '../model/workload-endpoint.js';
import type { Endpoints } from './endpoints.js';
import type { Joiner } from './joiner.js';
import type { PortPublisher } from './port-publisher.js';

export interface EndpointRemovalParts {
  readonly endpoints: Endpoints;
  readonly dataplane: Dataplane;
  readonly joiner: Joiner;
  readonly ports: PortPublisher;
  /** One change at a time per endpoint. */
  readonly perEndpoint: KeyedLock;
}

/**
 * Takes an endpoint away altogether: wires, ports, and its place in etcd. Missing is fine, of each; the caller holds the
 * endpoint's lock. One round trip. Throws DatastoreError, HostError.
 */
export async function removeEndpoint(parts: EndpointRemovalParts, endpointId: string): Promise<void> {
  const { endpoints, dataplane, joiner, ports } = parts;
  joiner.leave(endpointId);
  await Promise.all([dataplane.detach(hostInterfaceOf(endpointId)), endpoints.remove(endpointId)]);
  await ports.forget(endpointId);
}
