import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
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

  it('answers what is under way, says that the connection ends, and does not wait for connections', async () => {
    expect(await call('Quick')).toEqual({ status: 200, connection: 'keep-alive' });
    const answer = call('Slow');
    await sleep(50);
    const started = performance.now();
    await stopServing(app, 5_000);
    expect(await answer).toEqual({ status: 200, connection: 'close' });
    expect(performance.now() - started).toBeLessThan(1_000);
  });

  it('answers a call that was written into an idle connection as it stops', async () => {
    expect((await call('Quick')).connection).toBe('keep-alive');
    const stopped = stopServing(app, 5_000);
    expect(await call('Quick')).toEqual({ status: 200, connection: 'close' });
    await stopped;
  });

  it('answers who connected before, and lets nobody in afterwards', async () => {
    const early = connect(path);
    await new Promise(resolve => early.once('connect', resolve));
    const stopped = stopServing(app, 5_000);
    early.write('POST /Quick HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}');
    const text = await new Promise<string>(resolve => early.once('data', data => resolve(String(data))));
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    await stopped;
    await expect(call('Quick')).rejects.toThrow(/ENOENT/);
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
