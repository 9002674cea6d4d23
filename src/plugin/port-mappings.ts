import { RequestError } from '../errors.js';
import type { PublishedPort } from '../host/dataplane.js';
import type { PortRequest } from '../host/port-reservations.js';
import { parseAddress } from '../ipam/cidr.js';
import { formatJson, numberOrZero } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { objects, text } from './fields.js';

/** What dockerd says of `-p` and `-P`, in CreateEndpoint, Join and ProgramExternalConnectivity. */
const PORT_MAP = 'com.docker.network.portmap';

const PROTOCOLS: Readonly<Record<number, PublishedPort['protocol']>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

/**
 * The ports to open on the host for an endpoint with these addresses: one request for each mapping and each family it
 * is meant for (`-p 80:80` both, `-p 127.0.0.1:80:80` its own). `options`: those of ProgramExternalConnectivity.
 */
export function portRequests(options: JsonObject, addresses: readonly string[]): PortRequest[] {
  return objects(options, PORT_MAP).flatMap(mapping => {
    const protocol = PROTOCOLS[numberOrZero(mapping.Proto)];
    if (!protocol) throw new RequestError(`-p: protocol ${formatJson(mapping.Proto)} cannot be published`);
    const port = portNumber(mapping.Port, 'Port');
    const hostPort = portNumber(mapping.HostPort ?? 0, 'HostPort');
    const hostPortEnd = portNumber(mapping.HostPortEnd ?? 0, 'HostPortEnd') || hostPort;
    const hostAddress = text(mapping, 'HostIP');
    const wanted = hostAddress === '' ? undefined : parseAddress(hostAddress);
    if (hostAddress !== '' && !wanted)
      throw new RequestError(`-p: host address "${hostAddress}" is no IP address`);
    const everywhere = !wanted || wanted.value === 0n;
    return addresses.flatMap(address => {
      if (wanted && wanted.family !== (address.includes(':') ? 6 : 4)) return [];
      return [{ protocol, ...(everywhere ? {} : { hostAddress }), hostPort, hostPortEnd, address, port }];
    });
  });
}

function portNumber(value: unknown, field: string): number {
  if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > 65_535)
    throw new RequestError(`-p: ${field} ${formatJson(value)} is no port number`);
  return Number(value);
}
