import { createServer } from 'node:http';
import type { Server, ServerResponse } from 'node:http';
import { reason } from '../errors.js';
import type { Logger } from '../log.js';
import type { PrometheusMetrics } from './prometheus.js';

/** Where it is served. `port` 0: any that is free. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface MetricsServer {
  /** The port that it is served on; undefined before it is. */
  port(): number | undefined;
  close(): Promise<void>;
}

/** Milliseconds after which a port that was taken is tried again: what we replace may still be ending. */
const RETRY = 2_000;
/** Milliseconds for a request; whoever is slower is no Prometheus. */
const PATIENCE = 5_000;
const CONNECTIONS = 32;

/**
 * Serves `/metrics`, `/live` (the process answers) and `/ready` (it can do its work; else 503, with what it waits for, one
 * line each). Begins at once, in the background: where the port is taken, that is logged and tried again, since containers
 * need their network more than anybody needs figures.
 *
 * @param waitingFor what is missing for the work, in words; empty where nothing is
 */
export function serveMetrics(
  address: ListenAddress,
  metrics: Pick<PrometheusMetrics, 'text' | 'contentType'>,
  waitingFor: () => readonly string[],
  log: Logger,
): MetricsServer {
  const server = createServer({ requestTimeout: PATIENCE, headersTimeout: PATIENCE }, (request, response) => {
    const path = request.url?.split('?')[0];
    request.resume();
    if (request.method !== 'GET' && request.method !== 'HEAD') return say(response, 405, 'only GET\n');
    if (path === '/live') return say(response, 200, 'ok\n');
    if (path === '/ready') {
      const missing = waitingFor();
      return missing.length === 0
        ? say(response, 200, 'ok\n')
        : say(response, 503, missing.map(line => `${line}\n`).join(''));
    }
    if (path !== '/metrics') return say(response, 404, 'here are /metrics, /live and /ready\n');
    metrics.text().then(
      text => say(response, 200, text, metrics.contentType),
      (error: unknown) => {
        log.error({ reason: reason(error) }, 'cannot tell the metrics');
        say(response, 500, 'internal error: see the log of the daemon\n');
      },
    );
  });
  server.maxConnections = CONNECTIONS;
  const ending = keepListening(server, address, log);
  return {
    port: () => portOf(server),
    close: () => {
      ending();
      server.closeAllConnections();
      return new Promise(resolve => server.close(() => resolve()));
    },
  };
}

/** Listens, if not now then later. Returns what ends the trying. */
function keepListening(server: Server, address: ListenAddress, log: Logger): () => void {
  let timer: NodeJS.Timeout | undefined;
  let isSaid = false;
  const listen = (): void => void server.listen(address);
  server.on('listening', () => log.info({ host: address.host, port: portOf(server) }, 'serving metrics'));
  server.on('error', error => {
    if (!isSaid)
      log.error(
        { ...address, reason: error.message },
        'cannot serve metrics; trying again. See CALICO_LIBNETWORK_METRICS_ADDRESS',
      );
    isSaid = true;
    if (!server.listening) timer = setTimeout(listen, RETRY).unref();
  });
  listen();
  return () => clearTimeout(timer);
}

function portOf(server: Server): number | undefined {
  const address = server.address();
  return typeof address === 'object' ? address?.port : undefined;
}

function say(
  response: ServerResponse,
  status: number,
  text: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'Content-Type': type, 'Cache-Control': 'no-store' });
  response.end(text);
}
