import { Agent, request } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import type { Logger } from 'pino';
import { loadConfig } from '../../src/config.js';
import { listen } from '../../src/daemon.js';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { Store } from '../../src/datastore/store.js';
import { startObservation } from '../../src/metrics/observation.js';
import type { Observation } from '../../src/metrics/observation.js';
import { createServices } from '../../src/services.js';
import type { Services } from '../../src/services.js';
import { FakeDataplane } from '../fakes/dataplane.js';

/** An answer as dockerd's proxies see it. */
export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** The daemon without a host and without Docker: real sockets, real etcd, a dataplane that only remembers. */
export class TestDaemon {
  readonly folder = mkdtempSync(join(tmpdir(), 'calico-socket-'));
  readonly dataplane = new FakeDataplane();
  readonly store: Store;
  readonly services: Services;
  apps: FastifyInstance[] = [];
  private readonly observation: Observation | undefined;
  private readonly etcd: Store;
  private readonly connections = new Agent({ keepAlive: true });

  constructor(
    endpoint: string,
    env: Record<string, string> = {},
    private readonly log: Logger = pino({ level: 'silent' }),
    /** Whether the node's name is this daemon's; by default it is. */
    name?: Parameters<typeof createServices>[4],
  ) {
    const config = loadConfig({ NODENAME: 'node-1', DOCKER_HOST: 'unix:///nonexistent', ...env });
    this.observation =
      config.metricsAddress &&
      startObservation(config.metricsAddress, { node: 'node-1', version: '0.0.1-test' }, log);
    this.etcd = createEtcdStore({ endpoints: [endpoint] }, log);
    this.store = this.observation?.measure(this.etcd) ?? this.etcd;
    const { metrics } = this.observation ?? {};
    this.services = createServices(config, this.store, this.dataplane, log, name, metrics);
  }

  get sockets(): [string, string] {
    return [join(this.folder, 'calico.sock'), join(this.folder, 'calico-ipam.sock')];
  }

  async start(): Promise<this> {
    this.apps = await listen(this.sockets, this.services.methods, this.log, {
      metrics: this.observation?.metrics,
    });
    this.services.start();
    this.observation?.follow(this.services, this.etcd);
    return this;
  }

  async stop(): Promise<void> {
    this.services.stop();
    this.connections.destroy();
    await Promise.all(this.apps.map(app => app.close()));
    await this.store.close();
    await this.observation?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** One call as Docker sends it: no Content-Type, an empty Host, no body at all where `body` is undefined. */
  call(method: string, body?: unknown, { ipam = false, verb = 'POST' } = {}): Promise<Answer> {
    const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const call = request(
        {
          socketPath: this.sockets[ipam ? 1 : 0],
          path: `/${method}`,
          method: verb,
          agent: this.connections,
          headers: {
            Host: '',
            Accept: 'application/vnd.docker.plugins.v1.2+json',
            'Content-Length': Buffer.byteLength(text),
          },
        },
        response => {
          let answer = '';
          response.on('data', chunk => (answer += String(chunk)));
          response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(answer) }));
        },
      );
      call.on('error', reject);
      call.end(text);
    });
  }

  /** A call that must work; its answer. Throws what dockerd would show. */
  async ok(method: string, body?: unknown): Promise<Record<string, unknown>> {
    const answer = await this.call(method, body);
    if (answer.status !== 200) throw new Error(`${method}: ${String(answer.body.Err)}`);
    return answer.body;
  }

  /** A call that must be refused; what dockerd shows. Both drivers' proxies must find the text. */
  async refused(method: string, body?: unknown): Promise<string> {
    const answer = await this.call(method, body);
    if (answer.status === 200 || answer.status === 404)
      throw new Error(`${method} was answered ${answer.status}`);
    if (answer.body.Err !== answer.body.Error) throw new Error('Err and Error differ');
    return String(answer.body.Err);
  }

  /** Everything in etcd, without what changes by itself. */
  async dump(): Promise<Record<string, string>> {
    const { entries } = await this.store.list('/calico/');
    return Object.fromEntries(entries.map(({ key, value }) => [key, value]));
  }
}
