import type { IncomingMessage, RequestOptions } from 'node:http';
import { formatAddress, parseAddress } from '../ipam/cidr.js';
import { formatJson, isObject, objectOrEmpty, parseJson, textList, textMap, textOr } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { callDocker, DockerRefusal, textOf } from './call.js';
import { parseDefinedNetwork } from './defined-network.js';
import type { DefinedNetwork } from './defined-network.js';

/** A network as the Docker API lists it. */
export interface DockerNetwork {
  readonly id: string;
  readonly name: string;
  readonly driver: string;
  readonly ipamDriver: string;
  readonly internal: boolean;
  /** `-o`. */
  readonly options: Readonly<Record<string, string>>;
  /** Its subnets, CIDR text; addresses are without prefix length. */
  readonly ipam: readonly {
    readonly subnet: string;
    readonly range?: string;
    readonly gateway?: string;
    readonly auxiliary: readonly string[];
  }[];
}

/** An endpoint as `docker network inspect` shows it. */
export interface DockerEndpoint {
  readonly endpointId: string;
  readonly networkId: string;
  /** Of the container, or `ep-…` where it is in none yet. */
  readonly containerId: string;
  /** Lower-case colon form. */
  readonly mac: string;
  /** Without prefix length. */
  readonly addresses: readonly string[];
}

/** A container as the Docker API lists it, from a snapshot that needs no lock of a starting container. */
export interface DockerContainer {
  readonly id: string;
  /** Without Docker's slash; undefined where Docker lists none. */
  readonly name?: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Its endpoints. While a container starts, ids and addresses may still be empty. */
  readonly endpoints: readonly { networkId: string; endpointId: string; addresses: readonly string[] }[];
}

/** An event of dockerd's stream. */
export interface DockerEvent {
  /** `network`, `container`, … */
  readonly type: string;
  /** `create`, `destroy`, `connect`, … */
  readonly action: string;
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** Milliseconds for one answer; the stream of events has none. */
const TIMEOUT = 5_000;
/** For what makes dockerd call drivers, ours and others'. */
const SLOW_TIMEOUT = 60_000;

/**
 * The little of Docker's API that we ask for. Never called while dockerd waits for an answer of ours: some of its
 * answers need locks that it holds meanwhile. Paths carry no API version: no single one suits 20.10 and 29.
 */
export class DockerEngine {
  private readonly target: RequestOptions;

  /** `host`: `unix:///path` or `tcp://host:port`. */
  constructor(host: string) {
    if (host.startsWith('unix://')) {
      this.target = { socketPath: host.slice('unix://'.length) };
      return;
    }
    const url = new URL(host.replace(/^tcp:/, 'http:'));
    this.target = { host: url.hostname, port: url.port };
  }

  /** All networks, whatever their driver. */
  async networks(): Promise<DockerNetwork[]> {
    return (await this.listNetworks()).map(parseNetwork);
  }

  /** All networks, with all that they were made of. */
  async definedNetworks(): Promise<DefinedNetwork[]> {
    return (await this.listNetworks()).map(parseDefinedNetwork);
  }

  /** Makes a network and answers with its id. Throws DockerRefusal, also where there is one of that name. */
  async createNetwork(body: JsonObject): Promise<string> {
    const answer = await this.change('POST', '/networks/create', body);
    return textOr(objectOrEmpty(answer).Id);
  }

  /** Removes a network; missing is fine. Throws DockerRefusal, also where a container is in it. */
  async removeNetwork(id: string): Promise<void> {
    await this.change('DELETE', `/networks/${id}`);
  }

  /**
   * The endpoints of a network, those of starting containers among them; none where it has gone. Takes no lock of a
   * container: answered while one starts (20.10, 26 and 28).
   */
  async endpoints(networkId: string): Promise<DockerEndpoint[]> {
    const answer = await this.get(`/networks/${networkId}`, true);
    const containers = objectOrEmpty(objectOrEmpty(answer).Containers);
    return Object.entries(containers).flatMap(([containerId, value]) => {
      const { EndpointID: id, MacAddress: mac, IPv4Address, IPv6Address } = objectOrEmpty(value);
      if (typeof id !== 'string' || id === '') return [];
      const addresses = [IPv4Address, IPv6Address].flatMap(addressOf);
      return [{ endpointId: id, networkId, containerId, mac: String(mac).toLowerCase(), addresses }];
    });
  }

  /** The running containers. */
  containers(): Promise<DockerContainer[]> {
    return this.listContainers('/containers/json');
  }

  /** A container in whatever state; undefined where there is none of that id. */
  async container(id: string): Promise<DockerContainer | undefined> {
    const filters = encodeURIComponent(JSON.stringify({ id: [id] }));
    const [container] = await this.listContainers(`/containers/json?all=1&filters=${filters}`);
    return container;
  }

  private async listNetworks(): Promise<JsonObject[]> {
    const answer = await this.get('/networks');
    if (!Array.isArray(answer)) throw new Error('Docker answered /networks with something else than a list');
    return answer.filter(isObject);
  }

  private async listContainers(path: string): Promise<DockerContainer[]> {
    const answer = await this.get(path);
    if (!Array.isArray(answer)) throw new Error(`Docker answered ${path} with something else than a list`);
    return answer.filter(isObject).map(parseContainer);
  }

  /** Calls `onEvent` for each event of these types until the connection ends; resolves then. `onOpen` runs once the
   *  stream is open: what is asked after it misses nothing. */
  async events(
    types: string[],
    onOpen: () => void,
    onEvent: (event: DockerEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ type: types }));
    const response = await this.open(`/events?filters=${filters}`, signal);
    onOpen();
    let buffered = '';
    response.setEncoding('utf8');
    for await (const chunk of response as AsyncIterable<string>) {
      const lines = (buffered + chunk).split('\n');
      buffered = lines.pop() ?? '';
      for (const line of lines) {
        const event = parseEvent(line);
        if (event) onEvent(event);
      }
    }
  }

  /** `mayBeGone`: undefined where Docker knows no such thing. */
  private async get(path: string, mayBeGone = false): Promise<unknown> {
    const signal = AbortSignal.timeout(TIMEOUT);
    const response = await this.open(path, signal, mayBeGone);
    if (response.statusCode === 404) {
      response.resume();
      return undefined;
    }
    return parseJson(await textOf(response));
  }

  private async open(path: string, signal: AbortSignal, mayBeGone = false): Promise<IncomingMessage> {
    const response = await callDocker({ ...this.target, path, signal });
    const { statusCode } = response;
    if (statusCode === 200 || (mayBeGone && statusCode === 404)) return response;
    response.resume();
    throw new Error(`Docker answered ${statusCode} to ${path.split('?')[0]}`);
  }

  /** A call that changes something. Throws DockerRefusal; any other error leaves open whether it was done. */
  private async change(method: 'POST' | 'DELETE', path: string, body?: JsonObject): Promise<unknown> {
    const signal = AbortSignal.timeout(SLOW_TIMEOUT);
    const response = await callDocker(
      { ...this.target, method, path, signal },
      body === undefined ? undefined : formatJson(body),
    );
    const text = await textOf(response);
    const { statusCode = 0 } = response;
    if (statusCode === 404 && method === 'DELETE') return undefined;
    if (statusCode < 200 || statusCode >= 300) throw new DockerRefusal(statusCode, text);
    return text === '' ? undefined : parseJson(text);
  }
}

function parseNetwork(network: JsonObject): DockerNetwork {
  const ipam = objectOrEmpty(network.IPAM);
  const configs = Array.isArray(ipam.Config) ? ipam.Config.filter(isObject) : [];
  return {
    id: String(network.Id),
    name: String(network.Name),
    driver: String(network.Driver),
    ipamDriver: String(ipam.Driver ?? ''),
    internal: network.Internal === true,
    options: textMap(network.Options),
    ipam: configs.map(({ Subnet, IPRange, Gateway, AuxiliaryAddresses }) => ({
      subnet: String(Subnet ?? ''),
      ...(typeof IPRange === 'string' && IPRange !== '' ? { range: IPRange } : {}),
      ...addressOf(Gateway).reduce((_none, gateway) => ({ gateway }), {}),
      auxiliary: Object.values(objectOrEmpty(AuxiliaryAddresses)).flatMap(addressOf),
    })),
  };
}

/**
 * An address in the one way that we write it: Docker shows what a user typed. None where there is none; throws where it is
 * no address, as a view that leaves one out would lack what Docker has.
 */
function addressOf(value: unknown): string[] {
  if (typeof value !== 'string' || value === '') return [];
  const address = parseAddress(value.split('/')[0] ?? '');
  if (!address) throw new Error(`Docker shows an address that is none: ${value}`);
  return [formatAddress(address)];
}

function parseContainer({
  Id: id,
  Names,
  Labels: labels,
  NetworkSettings: settings,
}: JsonObject): DockerContainer {
  const [name] = textList(Names);
  const networks = Object.values(objectOrEmpty(objectOrEmpty(settings).Networks)).filter(isObject);
  return {
    id: String(id),
    ...(name === undefined ? {} : { name: name.replace(/^\//, '') }),
    labels: textMap(labels),
    endpoints: networks.map(({ NetworkID, EndpointID, IPAddress, GlobalIPv6Address }) => ({
      networkId: String(NetworkID ?? ''),
      endpointId: String(EndpointID ?? ''),
      addresses: [IPAddress, GlobalIPv6Address].flatMap(addressOf),
    })),
  };
}

function parseEvent(line: string): DockerEvent | undefined {
  let event: unknown;
  try {
    event = parseJson(line);
  } catch {
    return undefined;
  }
  if (!isObject(event) || !isObject(event.Actor)) return undefined;
  return {
    type: String(event.Type),
    action: String(event.Action),
    id: String(event.Actor.ID),
    attributes: textMap(event.Actor.Attributes),
  };
}
