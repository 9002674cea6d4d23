import { mkdtempSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { createPluginApp } from '../../src/plugin/app.js';
import { handedSockets } from '../../src/plugin/handed-sockets.js';
import { listenOnSocket, stopServing } from '../../src/plugin/socket.js';
import { watchdogInterval } from '../../src/service-manager.js';

const folder = mkdtempSync(join(tmpdir(), 'calico-stop-'));
const path = join(folder, 'calico.sock');
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

afterAll(() => {
  agent.destroy();
  rmSync(folder, { recursive: true });
});

/** What dockerd writes. */
const QUICK = 'POST /Quick HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}';

/** Connections that are open on our side a moment later. */
function connectionsOf(app: ReturnType<typeof createPluginApp>): Promise<number> {
  return sleep(20).then(
    () => new Promise(resolve => app.server.getConnections((_error, count) => resolve(count))),
  );
}

/** How a call ended, and whether the other side keeps the connection. */
function call(method: string): Promise<{ status: number; connection: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: path, path: `/${method}`, method: 'POST', agent }, answer => {
      answer.resume();
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, connection: answer.headers.connection ?? '' }),
      );
    });
    sent.on('error', reject);
    sent.end('{}');
  });
}

describe('a daemon that stops', () => {
  let app: ReturnType<typeof createPluginApp>;
  beforeEach(async () => {
    const slow = () => sleep(300).then(() => ({}));
    app = createPluginApp({ Slow: slow, Quick: () => ({}) }, pino({ level: 'silent' }));
    await listenOnSocket(app, path);
  });

  it('ends each connection with its answer: there is never an idle one that could be cut under a call', async () => {
    expect(await call('Quick')).toEqual({ status: 200, connection: 'close' });
    expect(await call('Unknown')).toEqual({ status: 404, connection: 'close' });
    const client = connect({ path, allowHalfOpen: true });
    client.write(QUICK);
    await once(client.resume(), 'end');
    expect(await connectionsOf(app)).toBe(0);
    client.destroy();
    await stopServing(app, 500);
  });

  it('answers what is under way, and waits for nothing else', async () => {
    await call('Quick');
    const answer = call('Slow');
    await sleep(50);
    const started = performance.now();
    await stopServing(app, 5_000);
    expect(await answer).toEqual({ status: 200, connection: 'close' });
    expect(performance.now() - started).toBeLessThan(1_000);
  });

  it('answers a call that was written while the daemon did something else, and had not read it as it stopped', async () => {
    const early = connect(path);
    const [server] = (await once(app.server, 'connection')) as [Socket];
    server.pause();
    early.write(QUICK);
    const answer = once(early, 'data');
    const stopped = stopServing(app, 5_000);
    await sleep(300);
    server.resume();
    expect(String(await answer)).toMatch(/^HTTP\/1\.1 200 /);
    await stopped;
  });

  it('answers who connected before, and lets nobody in afterwards', async () => {
    const early = connect(path);
    await new Promise(resolve => early.once('connect', resolve));
    const stopped = stopServing(app, 5_000);
    early.write(QUICK);
    const text = await new Promise<string>(resolve => early.once('data', data => resolve(String(data))));
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    await stopped;
    await expect(call('Quick')).rejects.toThrow(/ENOENT/);
  });

  it('answers everybody who is in the queue of its socket while it is busy', async () => {
    const many = Array.from({ length: 20 }, () => connect(path));
    const answers = many.map(async client => {
      await once(client, 'connect');
      client.write(QUICK);
      return String(await once(client, 'data'));
    });
    const stopped = stopServing(app, 5_000);
    // So long that the pause of stopServing is over before anybody is accepted.
    for (const end = Date.now() + 200; Date.now() < end;);
    for (const answer of await Promise.all(answers)) expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    await stopped;
  });

  it('is not kept for long by a connection that says nothing', async () => {
    const silent = connect(path);
    await once(app.server, 'connection');
    const started = performance.now();
    await stopServing(app, 10_000);
    expect(performance.now() - started).toBeLessThan(2_000);
    silent.destroy();
  });

  it('is not kept by a connection that says half a request', async () => {
    const half = connect(path);
    half.on('error', () => undefined);
    half.write('POST /Quick HTTP/1.1\r\nContent-Length: 100\r\n\r\n{');
    await sleep(50);
    const started = performance.now();
    await stopServing(app, 500);
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe('what a service manager hands over', () => {
  it('is what it says in our own name only', () => {
    expect(handedSockets({}, ['calico.sock'])).toEqual(new Map());
    expect(handedSockets({ LISTEN_FDS: '2', LISTEN_PID: '1' }, ['calico.sock'])).toEqual(new Map());
    expect(handedSockets({ LISTEN_FDS: 'x', LISTEN_PID: String(process.pid) }, ['calico.sock'])).toEqual(
      new Map(),
    );
  });

  it('is refused where it is something else', () => {
    const env = { LISTEN_FDS: '1', LISTEN_PID: String(process.pid) };
    expect(() => handedSockets(env, ['calico.sock'])).toThrow(
      /^descriptor 3 was handed over and is .*: the socket unit must have ListenStream= for calico\.sock/,
    );
  });

  it('says how often it wants a sign of life: three in its time', () => {
    expect(watchdogInterval({ WATCHDOG_USEC: '180000000' })).toBe(60_000);
    expect(watchdogInterval({ WATCHDOG_USEC: '3000', WATCHDOG_PID: '1' })).toBeUndefined();
    expect(watchdogInterval({})).toBeUndefined();
  });
});
