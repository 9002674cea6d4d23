import { fastify } from 'fastify';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { inTime, withDeadline } from '../deadline.js';
import { CalicoError, DatastoreError, RequestError } from '../errors.js';
import { formatJson, isObject, parseJson } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { NO_METRICS } from '../metrics/metrics.js';
import type { CallOutcome, Metrics } from '../metrics/metrics.js';
import { BODILESS } from './protocol.js';
import type { Methods } from './protocol.js';

const BODY_LIMIT = 1024 * 1024;
/** Milliseconds: dockerd itself waits for ever, and holds locks meanwhile. */
export const CALL_DEADLINE = 9_000;
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';

/**
 * One plugin endpoint as a fastify instance, without a socket: what dockerd sends goes in, what it reads comes out.
 * The only place that turns an error into an answer.
 */
export function createPluginApp(
  methods: Methods,
  log: Logger,
  metrics: Metrics = NO_METRICS,
): FastifyInstance {
  const app = fastify({
    bodyLimit: BODY_LIMIT,
    requestTimeout: 0,
    // A call that comes as we stop is answered like any other.
    return503OnClosing: false,
    // Docker 20.10 sends an empty Host header.
    http: { requireHostHeader: false },
    logger: false,
  });
  // A call per connection. Into an idle one that we end, dockerd may write a call at that moment: that call is lost, and
  // repeated without its body (moby#39331). A new connection costs 0.07 ms.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    reply.header('Connection', 'close');
    done();
  });
  // dockerd sends no Content-Type at all.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body));

  app.post<{ Params: { method: string } }>('/:method', async (request, reply) => {
    const name = request.params.method;
    const method = Object.hasOwn(methods, name) ? methods[name] : undefined;
    if (!method)
      return reply
        .status(404)
        .type(CONTENT_TYPE)
        .send(refusal(`unknown method ${name}`));
    const started = performance.now();
    let body: JsonObject = {};
    try {
      body = parseBody(name, request.body);
      const answer = await answerInTime(() => Promise.resolve(method(body)));
      log.info({ method: name, ...ids(body), ms: since(started) }, 'ok');
      metrics.called(name, 'ok', seconds(started));
      return await reply.type(CONTENT_TYPE).send(answerText(answer));
    } catch (error) {
      const known = error instanceof CalicoError;
      const level = known && error.status < 500 ? 'warn' : 'error';
      const message = known ? error.message : `internal error: ${String(error)} (see the daemon's log)`;
      log[level](
        { method: name, ...ids(body), ms: since(started), ...(known ? {} : { err: error }) },
        message,
      );
      metrics.called(name, known ? outcomeOf(error) : 'failed', seconds(started));
      return reply
        .status(known ? error.status : 500)
        .type(CONTENT_TYPE)
        .send(refusal(message));
    }
  });

  app.setNotFoundHandler((request, reply) =>
    reply
      .status(404)
      .type(CONTENT_TYPE)
      .send(refusal(`unknown request ${request.method} ${request.url}`)),
  );
  // What fastify itself refuses: a body over the limit, a broken request.
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    log.warn({ reason: error.message }, 'refused a request');
    return reply
      .status(error.statusCode ?? 500)
      .type(CONTENT_TYPE)
      .send(refusal(error.message));
  });
  return app;
}

/** Both drivers' proxies read `Err` of a failed call; with status 200 the IPAM proxy would read `Error` only. */
function refusal(message: string): string {
  return JSON.stringify({ Err: message, Error: message });
}

/** AllocateNetwork gives back what it was sent, whatever that is. */
function answerText(answer: object): string {
  try {
    return formatJson(answer);
  } catch (error) {
    throw error instanceof RangeError ? new RequestError('the body is nested too deep') : error;
  }
}

function answerInTime(work: () => Promise<object>): Promise<object> {
  const late = () =>
    new DatastoreError('no answer from the datastore or the host in time: try again, and check etcd');
  return inTime(withDeadline(CALL_DEADLINE, work), CALL_DEADLINE + 500, late);
}

function parseBody(method: string, body: unknown): JsonObject {
  const sent = typeof body === 'string' ? body.trim() : '';
  if (sent === '') {
    if (BODILESS.has(method)) return {};
    throw new RequestError(
      `${method} came without a body, as Docker repeats a call whose connection was lost: try the command again`,
    );
  }
  let value: unknown;
  try {
    value = parseJson(sent);
  } catch (error) {
    throw new RequestError(
      `the body of ${method} is no JSON: ${error instanceof Error ? error.message : ''}`,
    );
  }
  if (!isObject(value)) throw new RequestError(`the body of ${method} is no JSON object`);
  return value;
}

/** What of a request belongs in its log line. */
function ids(body: JsonObject): JsonObject {
  const { NetworkID: network, EndpointID: endpoint, PoolID: pool, Address: address } = body;
  return {
    ...(network ? { network } : {}),
    ...(endpoint ? { endpoint } : {}),
    ...(pool ? { pool } : {}),
    ...(address ? { address } : {}),
  };
}

function outcomeOf(error: CalicoError): CallOutcome {
  if (error instanceof DatastoreError) return 'unavailable';
  return error.status < 500 ? 'refused' : 'failed';
}

function seconds(started: number): number {
  return (performance.now() - started) / 1_000;
}

function since(started: number): number {
  return Math.round((performance.now() - started) * 100) / 100;
}
