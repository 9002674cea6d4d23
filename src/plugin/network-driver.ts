import { RequestError } from '../errors.js';
import type { Dataplane, EndpointWiring } from '../host/dataplane.js';
import { goTime } from '../ipam/block.js';
import { formatCidr, hasHostBits, parseAddress, parseCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import type { KeyedLock } from '../keyed-lock.js';
import type { JsonObject } from '../model/json.js';
import { containerInterfaceOf, hostInterfaceOf } from '../model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { Endpoints } from './endpoints.js';
import { id, mac, object, objects, requiredText, text } from './fields.js';
import { checkAddressSpaces, networkOptions } from './network-options.js';
import type { Networks } from './networks.js';
import { GATEWAY4, GATEWAY6 } from './protocol.js';
import type { JoinResponse, Methods } from './protocol.js';
import type { RequestLoop } from './request-loop.js';

export interface NetworkDriverParts {
  readonly node: string;
  readonly scope: 'local' | 'global';
  /** What interfaces are called inside containers. */
  readonly interfacePrefix: string;
  /** Bytes; undefined: the host's. */
  readonly mtu: number | undefined;
  readonly networks: Networks;
  readonly endpoints: Endpoints;
  readonly dataplane: Dataplane;
  readonly loop: RequestLoop;
  /** One call at a time per endpoint. */
  readonly perEndpoint: KeyedLock;
  /** Docker's name of a network, if it is known by now. */
  networkName(networkId: string): string | undefined;
  /** True for the range that stands for the default pools: nobody named it. */
  isDefaultSubnet(subnet: Cidr): boolean;
}

/** Docker's NetworkDriver: networks are records, endpoints are Calico's, wires are the dataplane's. */
export function networkDriver(parts: NetworkDriverParts): Methods {
  const { networks, endpoints, dataplane, perEndpoint } = parts;
  const serialised =
    (work: (endpointId: string, body: JsonObject) => Promise<object>) =>
    (body: JsonObject): Promise<object> => {
      const endpointId = id(body, 'EndpointID');
      return perEndpoint.run(endpointId, () => work(endpointId, body));
    };

  return {
    'NetworkDriver.GetCapabilities': () => ({
      Scope: parts.scope,
      ConnectivityScope: 'global',
      GwAllocChecker: true,
    }),
    // moby ≥ 28: no address is spent on a gateway.
    'NetworkDriver.GwAllocCheck': () => ({ SkipIPv4: true, SkipIPv6: true }),
    // A swarm manager's; -o options reach the nodes only if they are echoed here.
    'NetworkDriver.AllocateNetwork': body => ({ Options: object(body, 'Options') }),
    'NetworkDriver.FreeNetwork': () => ({}),

    /** One round trip. */
    'NetworkDriver.CreateNetwork': async body => {
      const networkId = id(body, 'NetworkID');
      const { internal, options } = networkOptions(object(body, 'Options'));
      const data = [...objects(body, 'IPv4Data'), ...objects(body, 'IPv6Data')];
      checkAddressSpaces(data);
      const name = parts.networkName(networkId);
      await networks.create({
        id: networkId,
        node: parts.node,
        ...(name === undefined ? {} : { name }),
        created: goTime(new Date()),
        internal,
        subnets: data
          .flatMap(subnetOf)
          .filter(subnet => !parts.isDefaultSubnet(subnet))
          .map(formatCidr),
        options,
        rest: {},
      });
      parts.loop.settled();
      return {};
    },

    /** Two round trips, more where a pool goes with it. Missing is fine. */
    'NetworkDriver.DeleteNetwork': async body => {
      await networks.remove(id(body, 'NetworkID'));
      return {};
    },

    /** One round trip. */
    'NetworkDriver.CreateEndpoint': serialised(async (endpointId, body) => {
      const networkId = id(body, 'NetworkID');
      const network = await networks.get(networkId);
      if (!network)
        throw new RequestError(
          `network ${networkId} is not known to Calico: remove it with docker network rm and create it again`,
        );
      const wanted = object(body, 'Interface');
      const addresses = [addressOf(wanted, 'Address'), addressOf(wanted, 'AddressIPv6')].filter(
        address => address !== undefined,
      );
      if (addresses.length === 0)
        throw new RequestError(
          'no address was given for the endpoint: the network needs --ipam-driver calico-ipam',
        );
      const given = mac(text(wanted, 'MacAddress'), 'Interface.MacAddress');
      const hardware = given ?? macFor(endpointId);
      const profile = parts.networkName(networkId) ?? network.name;
      await endpoints.create({
        node: parts.node,
        endpointId,
        interfaceName: hostInterfaceOf(endpointId),
        mac: hardware,
        addresses,
        profiles: profile === undefined ? [] : [profile],
        networkId,
        labels: {},
      });
      if (profile === undefined) endpoints.nameLater(endpointId, () => parts.networkName(networkId));
      // Only what the request left open may be filled in.
      return { Interface: given === undefined ? { MacAddress: hardware } : {} };
    }),

    /** No round trip: the endpoint is in memory since CreateEndpoint. */
    'NetworkDriver.Join': serialised(async (endpointId, body) => {
      requiredText(body, 'SandboxKey');
      const endpoint = await endpoints.get(endpointId);
      if (!endpoint)
        throw new RequestError(
          `endpoint ${endpointId} is not known to Calico: remove the container and start it again`,
        );
      await dataplane.attach(wiringOf(endpoint, parts.mtu ?? (await dataplane.defaultMtu())));
      return joinResponse(endpoint, parts.interfacePrefix);
    }),

    /** No round trip. Missing is fine: after a power cut there is no interface left. */
    'NetworkDriver.Leave': serialised(async endpointId => {
      await dataplane.detach(hostInterfaceOf(endpointId));
      return {};
    }),

    /** One round trip. Missing is fine. */
    'NetworkDriver.DeleteEndpoint': serialised(async endpointId => {
      await Promise.all([dataplane.detach(hostInterfaceOf(endpointId)), endpoints.remove(endpointId)]);
      return {};
    }),

    'NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
    'NetworkDriver.ProgramExternalConnectivity': () => ({}),
    'NetworkDriver.RevokeExternalConnectivity': () => ({}),
    'NetworkDriver.DiscoverNew': () => ({}),
    'NetworkDriver.DiscoverDelete': () => ({}),
  };
}

/** How an endpoint is wired on the host. `mtu` in bytes. */
export function wiringOf(endpoint: WorkloadEndpoint, mtu: number): EndpointWiring {
  return {
    hostInterface: endpoint.interfaceName,
    containerInterface: containerInterfaceOf(endpoint.endpointId),
    mac: endpoint.mac,
    addresses: endpoint.addresses,
    mtu,
  };
}

/** Everything goes to a next hop that only the host behind the veth answers for. A v6 route on an endpoint without v6
 *  is an error to dockerd. */
function joinResponse(endpoint: WorkloadEndpoint, prefix: string): JoinResponse {
  const has4 = endpoint.addresses.some(address => !address.includes(':'));
  const has6 = endpoint.addresses.some(address => address.includes(':'));
  const onLink = (destination: string) => ({ Destination: destination, RouteType: 1, NextHop: '' }) as const;
  return {
    InterfaceName: { SrcName: containerInterfaceOf(endpoint.endpointId), DstPrefix: prefix },
    ...(has4 ? { Gateway: GATEWAY4 } : {}),
    ...(has6 ? { GatewayIPv6: GATEWAY6 } : {}),
    StaticRoutes: [...(has4 ? [onLink(`${GATEWAY4}/32`)] : []), ...(has6 ? [onLink(`${GATEWAY6}/128`)] : [])],
    DisableGatewayService: true,
  };
}

/** The subnet of one of CreateNetwork's pools. */
function subnetOf(data: JsonObject): Cidr[] {
  const pool = text(data, 'Pool');
  const cidr = parseCidr(pool);
  if (pool !== '' && (!cidr || hasHostBits(pool))) throw new RequestError(`Pool "${pool}" is no CIDR`);
  return cidr ? [cidr] : [];
}

function addressOf(wanted: JsonObject, field: string): string | undefined {
  const value = text(wanted, field);
  if (value === '') return undefined;
  const address = value.split('/')[0] ?? '';
  if (!parseAddress(address)) throw new RequestError(`Interface.${field} "${value}" is no IP address`);
  return address;
}

/** A locally administered address that is the same for the same endpoint. */
function macFor(endpointId: string): string {
  const hex = Buffer.from(endpointId).toString('hex').slice(-8).padStart(8, '0');
  return `02:42:${hex.match(/../g)?.join(':') ?? '00:00:00:00'}`;
}
