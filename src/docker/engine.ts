import { request } from 'node:http';
import type { IncomingMessage, RequestOptions } from 'node:http';
import { isObject, objectOrEmpty, parseJson, textMap } from '../model/json.js';
import type { JsonObject } from '../model/json.js';

/** A network as the Docker API lists it. */
export interface DockerNetwork {
  readonly id: string;
  readonly name: string;
  readonly driver: string;
}

/** A container as the Docker API lists it, from a snapshot that needs no lock of a starting container. */
export interface DockerContainer {
  readonly id: string;
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
    const answer = await this.get('/networks');
    if (!Array.isArray(answer)) return [];
    return answer
      .filter(isObject)
      .map(({ Id, Name, Driver }) => ({ id: String(Id), name: String(Name), driver: String(Driver) }));
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

  private async listContainers(path: string): Promise<DockerContainer[]> {
    const answer = await this.get(path);
    return Array.isArray(answer) ? answer.filter(isObject).map(parseContainer) : [];
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

  private async get(path: string): Promise<unknown> {
    const response = await this.open(path, AbortSignal.timeout(TIMEOUT));
    let text = '';
    response.setEncoding('utf8');
    for await (const chunk of response as AsyncIterable<string>) text += chunk;
    return parseJson(text);
  }

  private open(path: string, signal: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const call = request(
        { ...this.target, path, signal, agent: false, headers: { Host: 'docker' } },
        response => {
          if (response.statusCode === 200) return resolve(response);
          response.resume();
          reject(new Error(`Docker answered ${response.statusCode} to ${path.split('?')[0]}`));
        },
      );
      call.on('error', reject);
      call.end();
    });
  }
}

function parseContainer({ Id: id, Labels: labels, NetworkSettings: settings }: JsonObject): DockerContainer {
  const networks = Object.values(objectOrEmpty(objectOrEmpty(settings).Networks)).filter(isObject);
  return {
    id: String(id),
    labels: textMap(labels),
    endpoints: networks.map(({ NetworkID, EndpointID, IPAddress, GlobalIPv6Address }) => ({
      networkId: String(NetworkID ?? ''),
      endpointId: String(EndpointID ?? ''),
      addresses: [IPAddress, GlobalIPv6Address].filter(
        (address): address is string => typeof address === 'string' && address !== '',
      ),
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
