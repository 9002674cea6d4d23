import type { SaidGone } from './said-gone.js';
import { RequestError } from '../errors.js';
import { goTime } from '../ipam/block.js';
import { formatCidr, hasHostBits, parseAddress, parseCidr } from '../ipam/cidr.js';
import type { Address, Cidr } from '../ipam/cidr.js';
import type { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import { objectOrEmpty } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import type { NetworkRecord } from '../model/network-record.js';
import { hostInterfaceOf } from '../model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { NetworkCreations } from './creations.js';
import { removeEndpoint } from './endpoint-removal.js';
import type { EndpointRemovalParts } from './endpoint-removal.js';
import { id, mac, object, objects, requiredText, text } from './fields.js';
import { checkEndpointOptions } from './endpoint-options.js';
import { checkAddressSpaces, networkOptions } from './network-options.js';
import type { Networks } from './networks.js';
import type { PoolRequests } from './pool-requests.js';
import type { Methods } from './protocol.js';

export interface NetworkDriverParts extends EndpointRemovalParts {
  readonly node: string;
  readonly scope: 'local' | 'global';
  readonly networks: Networks;
  readonly pools: Pick<PoolLifecycle, 'checkHere'>;
  readonly requests: PoolRequests;
  readonly creations: NetworkCreations;
  readonly saidGone: SaidGone;
  /** The profile of a network's endpoints: its name, if Docker has told it by now, or what `-o profile` says. */
  profileOf(networkId: string): string | undefined;
}

/** Docker's NetworkDriver: networks are records, endpoints are Calico's, wires are the dataplane's. */
export function networkDriver(parts: NetworkDriverParts): Methods {
  const { networks, endpoints, dataplane, joiner, ports, perEndpoint } = parts;
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
      const ranges = data.map(subnetOf);
      const subnets = ranges.filter(range => range.length > 0 && parts.requests.isNamed(range));
      parts.requests.checkBlockSizes(subnets);
      if (!networks.known(networkId)) await parts.pools.checkHere(subnets);
      await networks.create({
        id: networkId,
        node: parts.node,
        created: goTime(new Date()),
        internal,
        subnets: subnets.map(subnet => {
          const range = parts.requests.rangeOf(subnet);
          return { cidr: formatCidr(subnet), ...(range ? { range: formatCidr(range) } : {}) };
        }),
        options,
        rest: {},
      });
      networks.served.add(networkId);
      for (const subnet of subnets) parts.creations.created(subnet, reservedOf(data));
      parts.requests.settled(ranges.filter(range => !subnets.includes(range)).map(({ family }) => family));
      return {};
    },

    /** Two round trips, more where a pool goes with it. Missing is fine. */
    'NetworkDriver.DeleteNetwork': async body => {
      const networkId = id(body, 'NetworkID');
      networks.served.delete(networkId);
      await parts.saidGone.during(networkId, () => networks.remove(networkId));
      return {};
    },

    /** One round trip. */
    'NetworkDriver.CreateEndpoint': serialised(async (endpointId, body) => {
      const network = await knownNetwork(networks, body);
      checkEndpointOptions(object(body, 'Options'));
      const wanted = object(body, 'Interface');
      const addresses = [addressOf(wanted, 'Address'), addressOf(wanted, 'AddressIPv6')].filter(
        address => address !== undefined,
      );
      if (addresses.length === 0)
        throw new RequestError(
          'no address was given for the endpoint: the network needs --ipam-driver calico-ipam',
        );
      const hardware = mac(text(wanted, 'MacAddress'), 'Interface.MacAddress');
      if (hardware === undefined)
        throw new RequestError(
          'Interface.MacAddress is missing: the network needs --ipam-driver calico-ipam',
        );
      const profile = parts.profileOf(network.id);
      const endpoint: WorkloadEndpoint = {
        node: parts.node,
        endpointId,
        interfaceName: hostInterfaceOf(endpointId),
        mac: hardware,
        addresses,
        profiles: profile === undefined ? [] : [profile],
        networkId: network.id,
        labels: {},
        ports: [],
      };
      await endpoints.create(endpoint);
      // The name may have come while the endpoint was being written.
      if (profile === undefined) endpoints.setMissingProfiles(parts.profileOf);
      // Only what the request left open may be filled in, and it left nothing.
      return { Interface: {} };
    }),

    /** No round trip: the endpoint is in memory since CreateEndpoint. */
    'NetworkDriver.Join': serialised(async (endpointId, body) => {
      const sandbox = requiredText(body, 'SandboxKey');
      const network = await knownNetwork(networks, body);
      const endpoint = await endpoints.get(endpointId);
      if (!endpoint)
        throw new RequestError(
          `endpoint ${endpointId} is not known to Calico: remove the container and start it again`,
        );
      return joiner.join(endpoint, network, sandbox);
    }),

    /** Two round trips where ports are published, else none. */
    'NetworkDriver.ProgramExternalConnectivity': serialised(async (endpointId, body) => {
      const endpoint = await endpoints.get(endpointId);
      if (endpoint) await ports.publish(endpoint, object(body, 'Options'));
      return {};
    }),

    /** Two round trips where ports were published, else none. */
    'NetworkDriver.RevokeExternalConnectivity': serialised(async endpointId => {
      await ports.withdraw(endpointId);
      return {};
    }),

    /** No round trip. Missing is fine: after a power cut there is no interface left. */
    'NetworkDriver.Leave': serialised(async endpointId => {
      joiner.leave(endpointId);
      await dataplane.detach(hostInterfaceOf(endpointId));
      // dockerd may have forgotten to revoke (after live-restore it does).
      await ports.withdraw(endpointId);
      return {};
    }),

    /** One round trip. Missing is fine. */
    'NetworkDriver.DeleteEndpoint': serialised(async endpointId => {
      await parts.saidGone.during(endpointId, () => removeEndpoint(parts, endpointId));
      return {};
    }),

    'NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
    'NetworkDriver.DiscoverNew': () => ({}),
    'NetworkDriver.DiscoverDelete': () => ({}),
  };
}

async function knownNetwork(networks: Networks, body: JsonObject): Promise<NetworkRecord> {
  const networkId = id(body, 'NetworkID');
  const network = await networks.get(networkId);
  if (network) {
    networks.served.add(networkId);
    return network;
  }
  throw new RequestError(
    `network ${networkId} is not known to Calico yet: try again in a moment; if it stays so, remove it with docker network rm and create it again`,
  );
}

/** The range of one of CreateNetwork's pools; all addresses where it stands for the default pools. */
function subnetOf(data: JsonObject): Cidr {
  const pool = text(data, 'Pool');
  const cidr = parseCidr(pool);
  if (!cidr || hasHostBits(pool)) throw new RequestError(`Pool "${pool}" is no CIDR`);
  return cidr;
}

/** The gateways and auxiliary addresses of CreateNetwork's pools. */
function reservedOf(data: readonly JsonObject[]): Address[] {
  const texts = data.flatMap(pool => [pool.Gateway, ...Object.values(objectOrEmpty(pool.AuxAddresses))]);
  return texts.flatMap(value => parseAddress(String(value).split('/')[0] ?? '') ?? []);
}

function addressOf(wanted: JsonObject, field: string): string | undefined {
  const value = text(wanted, field);
  if (value === '') return undefined;
  const address = value.split('/')[0] ?? '';
  if (!parseAddress(address)) throw new RequestError(`Interface.${field} "${value}" is no IP address`);
  return address;
}
