import { request } from 'node:http';
import type { IncomingMessage, RequestOptions } from 'node:http';
import { isObject, parseJson, textMap } from '../model/json.js';

/** A network as the Docker API lists it. */
export interface DockerNetwork {
  readonly id: string;
  readonly name: string;
  readonly driver: string;
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
    const url = new URL(host.replace(/^(tcp|unix):/, 'http:'));
    this.target = host.startsWith('unix://')
      ? { socketPath: decodeURIComponent(host.slice('unix://'.length)) }
      : { host: url.hostname, port: url.port };
  }

  /** All networks, whatever their driver. */
  async networks(): Promise<DockerNetwork[]> {
    const answer = await this.get('/networks');
    if (!Array.isArray(answer)) return [];
    return answer
      .filter(isObject)
      .map(({ Id, Name, Driver }) => ({ id: String(Id), name: String(Name), driver: String(Driver) }));
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
