import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import { containerInterfaceOf } from '../model/workload-endpoint.js';
import { GATEWAY4, GATEWAY6 } from './protocol.js';
import type { JoinResponse } from './protocol.js';

/** The next hop of the nth endpoint of a container: 169.254.1.n. */
export function gateway4(place: number): string {
  return GATEWAY4.replace(/1$/, String(place));
}

/** The IPv6 next hop: a link-local address of the host's side of the veth. */
export function gateway6(place: number): string {
  return place === 1 ? GATEWAY6 : `fe80::${place.toString(16)}`;
}

/**
 * What dockerd is to do inside the container. Everything goes to a next hop that only the host behind the veth answers
 * for. `routes`: what an endpoint that may not be the default one is to be used for (CIDR text). `internal`: only for
 * those, there is no default route. A v6 route on an endpoint without v6 is an error to dockerd.
 */
export function joinResponse(
  endpoint: WorkloadEndpoint,
  options: { prefix: string; place: number; routes: readonly string[]; internal: boolean },
): JoinResponse {
  const hops = [
    ...(endpoint.addresses.some(address => !address.includes(':')) ? [gateway4(options.place)] : []),
    ...(endpoint.addresses.some(address => address.includes(':')) ? [gateway6(options.place)] : []),
  ];
  const [hop4, hop6] = [hops.find(hop => !hop.includes(':')), hops.find(hop => hop.includes(':'))];
  return {
    InterfaceName: { SrcName: containerInterfaceOf(endpoint.endpointId), DstPrefix: options.prefix },
    ...(hop4 !== undefined && !options.internal ? { Gateway: hop4 } : {}),
    ...(hop6 !== undefined && !options.internal ? { GatewayIPv6: hop6 } : {}),
    StaticRoutes: [
      ...hops.map(hop => ({
        Destination: `${hop}/${hop.includes(':') ? 128 : 32}`,
        RouteType: 1 as const,
        NextHop: '',
      })),
      ...options.routes.flatMap(destination => {
        const hop = destination.includes(':') ? hop6 : hop4;
        return hop === undefined ? [] : [{ Destination: destination, RouteType: 0 as const, NextHop: hop }];
      }),
    ],
    DisableGatewayService: true,
  };
}
