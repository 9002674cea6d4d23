import { createServer } from 'node:http';
import type { Server, ServerResponse } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JsonObject } from '../../src/model/json.js';

/** A network as a test wants Docker to have it. */
export interface FakeNetwork {
  readonly name: string;
  /** `calico` where not given. */
  readonly driver?: string;
  readonly ipam?: readonly {
    readonly Subnet: string;
    readonly Gateway?: string;
    readonly IPRange?: string;
    readonly AuxiliaryAddresses?: Readonly<Record<string, string>>;
  }[];
  readonly options?: Readonly<Record<string, string>>;
  /** More that Docker shows of it. */
  readonly more?: JsonObject;
}

/** An endpoint that Docker has. */
export interface FakeEndpoint {
  readonly network: string;
  readonly mac: string;
  readonly addresses: readonly string[];
}

/** The part of Docker's API that the daemon asks, on a unix socket: it has what a test puts into it. */
export class FakeDocker {
  readonly networks = new Map<string, FakeNetwork>();
  readonly endpoints = new Map<string, FakeEndpoint>();
  /** Answers every request with an error. */
  isBroken = false;
  /** Whole looks that were asked for. */
  looks = 0;
  private readonly folder = mkdtempSync(join(tmpdir(), 'calico-docker-'));
  private readonly streams = new Set<ServerResponse>();
  private readonly server: Server = createServer((request, response) => {
    if (this.isBroken) {
      response.writeHead(500).end('{}');
      return;
    }
    const [path = ''] = (request.url ?? '').split('?');
    if (request.method !== 'GET') {
      let text = '';
      request.on('data', chunk => (text += String(chunk)));
      request.on('end', () => {
        void this.change(`${request.method} ${path}`, text).then(({ status, answer }) =>
          response.writeHead(status).end(answer === undefined ? '' : JSON.stringify(answer)),
        );
      });
      return;
    }
    if (path === '/events') {
      this.streams.add(response);
      response.writeHead(200, { 'Content-Type': 'application/json' });
      response.flushHeaders();
      return;
    }
    const answer = this.answer(path);
    response.writeHead(answer === undefined ? 404 : 200).end(JSON.stringify(answer ?? {}));
  });

  get host(): string {
    return `unix://${join(this.folder, 'docker.sock')}`;
  }

  async start(): Promise<this> {
    await new Promise<void>(resolve => this.server.listen(join(this.folder, 'docker.sock'), resolve));
    return this;
  }

  /** What a restart of dockerd does to whoever follows it. */
  restart(): void {
    for (const stream of this.streams) stream.end();
    this.streams.clear();
  }

  event(action: string, id = '', attributes: Readonly<Record<string, string>> = {}): void {
    const actor = { ID: id, Attributes: attributes };
    const text = JSON.stringify({ Type: 'network', Action: action, Actor: actor });
    for (const stream of this.streams) stream.write(`${text}\n`);
  }

  async stop(): Promise<void> {
    this.restart();
    this.server.closeAllConnections();
    await new Promise(resolve => this.server.close(resolve));
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A call that changes something, as `POST /path`. */
  protected async change(call: string, _body: string): Promise<{ status: number; answer?: object }> {
    return { status: 404, answer: { message: `${call} is not known` } };
  }

  private answer(path: string): unknown {
    if (path === '/networks') return [...this.networks].map(([id, network]) => describe(id, network));
    if (path === '/containers/json') {
      this.looks += 1;
      return [];
    }
    const id = path.replace('/networks/', '');
    const network = this.networks.get(id);
    if (!network) return undefined;
    const inside = [...this.endpoints].filter(([, endpoint]) => endpoint.network === id);
    return {
      ...describe(id, network),
      Containers: Object.fromEntries(
        inside.map(([endpointId, { mac, addresses }]) => [
          `container-${endpointId}`,
          {
            EndpointID: endpointId,
            MacAddress: mac,
            IPv4Address:
              addresses.filter(address => !address.includes(':')).map(address => `${address}/32`)[0] ?? '',
            IPv6Address:
              addresses.filter(address => address.includes(':')).map(address => `${address}/128`)[0] ?? '',
          },
        ]),
      ),
    };
  }
}

function describe(
  id: string,
  { name, driver = 'calico', ipam = [], options = {}, more = {} }: FakeNetwork,
): object {
  return {
    Id: id,
    Name: name,
    Scope: 'local',
    Driver: driver,
    Internal: false,
    IPAM: { Driver: 'calico-ipam', Config: ipam },
    Options: options,
    ...more,
  };
}
