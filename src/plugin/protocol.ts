import type { JsonObject } from '../model/json.js';

/** Docker's plugin protocol: method names, option keys and the shapes of our answers. */

/** Answers one method. The body is `{}` where the method has none. */
export type Method = (body: JsonObject) => Promise<object> | object;
/** By full name, `NetworkDriver.Join`. */
export type Methods = Readonly<Record<string, Method>>;

/** Methods that dockerd calls with an empty body. An empty body anywhere else is a retry whose body was lost with
 *  the first connection (moby#39331): it must be refused, never taken for defaults. */
export const BODILESS: ReadonlySet<string> = new Set([
  'Plugin.Activate',
  'NetworkDriver.GetCapabilities',
  'IpamDriver.GetCapabilities',
  'IpamDriver.GetDefaultAddressSpaces',
]);

export const LABEL = {
  generic: 'com.docker.network.generic',
  internal: 'com.docker.network.internal',
  enableIpv4: 'com.docker.network.enable_ipv4',
  enableIpv6: 'com.docker.network.enable_ipv6',
  gateway: 'com.docker.network.gateway',
  macAddress: 'com.docker.network.endpoint.macaddress',
  requestType: 'RequestAddressType',
} as const;

/** The address spaces we answer with. Both strings are the same: moby ≥ 27 then skips its own check of our pools
 *  against the host's routes, which would ask for another pool for ever; the check on 20.10 to 26 does not look. */
export const ADDRESS_SPACE = 'CalicoGlobalAddressSpace';
/** Also accepted: the old plugin's networks were created with it. */
const OLD_ADDRESS_SPACE = 'CalicoLocalAddressSpace';

export function isOurAddressSpace(space: string): boolean {
  return space === ADDRESS_SPACE || space === OLD_ADDRESS_SPACE;
}

/** The gateway of every container: no machine has it, the host answers ARP for it on each veth. */
export const GATEWAY4 = '169.254.1.1';
/** The link-local address of the host side of every veth, which follows from its MAC ee:ee:ee:ee:ee:ee. */
export const GATEWAY6 = 'fe80::ecee:eeff:feee:eeee';

/** Join's answer. */
export interface JoinResponse {
  readonly InterfaceName: { readonly SrcName: string; readonly DstPrefix: string };
  readonly Gateway?: string;
  readonly GatewayIPv6?: string;
  /** RouteType 1: on link; 0: by a next hop. */
  readonly StaticRoutes: readonly { Destination: string; RouteType: 0 | 1; NextHop: string }[];
  /** Keeps docker_gwbridge away. */
  readonly DisableGatewayService: boolean;
}
