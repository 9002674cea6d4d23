import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { serveLines } from './line-server.js';

/**
 * Runs in a namespace (probers.ts): serves ports and sends many packets at once. A UDP packet carries its number; which numbers
 * arrived is remembered, answered or not.
 */

/** A packet to be sent. */
export interface Probe {
  readonly number: number;
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

let arrived: number[] = [];

/** `addresses`: all of the namespace; a UDP answer has to come from the one that was asked. */
async function serve(ports: readonly number[], addresses: readonly string[]): Promise<void> {
  for (const port of ports) {
    const server = createServer(socket => socket.on('error', () => undefined).end('here'));
    await new Promise<void>((resolve, reject) => server.on('error', reject).listen(port, '::', resolve));
    for (const own of addresses) {
      const socket = createSocket(own.includes(':') ? 'udp6' : 'udp4');
      socket.on('error', () => undefined);
      socket.on('message', (data, { port: peer, address }) => {
        arrived.push(Number(String(data)));
        socket.send(data, peer, address);
      });
      await new Promise<void>(resolve => socket.bind(port, own, resolve));
    }
  }
}

/** Of each, in order: `answer`, `silence` until `wait` milliseconds after the last was sent, or what went wrong. */
function probe(probes: readonly Probe[], wait: number): Promise<string[]> {
  const ask = { tcp: askTcp, udp: askUdp, icmp: askIcmp };
  return Promise.all(probes.map(each => ask[each.protocol](each, wait)));
}

/** What is dropped on its way out of the very host is an error to its sender. */
function failure(error: Error): string {
  return 'code' in error && error.code === 'EPERM' ? 'silence' : error.message;
}

function askTcp({ source, sourcePort, destination, destinationPort }: Probe, wait: number): Promise<string> {
  return new Promise(resolve => {
    const from = { localAddress: source, localPort: sourcePort };
    const socket = connect({ host: destination, port: destinationPort, ...from });
    const done = (outcome: string): void => {
      clearTimeout(timer);
      // Without this one side of the connection would stay for a minute.
      socket.resetAndDestroy();
      resolve(outcome);
    };
    const timer = setTimeout(() => done('silence'), wait);
    socket.on('error', error => done(failure(error)));
    socket.on('data', () => done('answer'));
  });
}

function askUdp(
  { number, source, sourcePort, destination, destinationPort }: Probe,
  wait: number,
): Promise<string> {
  const socket: Socket = createSocket(destination.includes(':') ? 'udp6' : 'udp4');
  return new Promise<string>(resolve => {
    const timer = setTimeout(() => resolve('silence'), wait);
    const done = (outcome: string): void => {
      clearTimeout(timer);
      resolve(outcome);
    };
    socket.on('error', error => done(failure(error)));
    socket.on('message', data => done(String(data) === String(number) ? 'answer' : `answer ${String(data)}`));
    socket.bind(sourcePort, source, () =>
      socket.send(String(number), destinationPort, destination, error => error && done(failure(error))),
    );
  }).finally(() => socket.close());
}

function askIcmp({ source, destination }: Probe, wait: number): Promise<string> {
  const ping = destination.includes(':') ? ['ping', '-6'] : ['ping'];
  const argv = [...ping, '-c', '1', '-W', '5', '-I', source, destination];
  return new Promise(resolve => {
    execFile('busybox', argv, { timeout: wait, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      if (error === null) resolve('answer');
      else
        resolve(
          error.killed === true || /100% packet loss/.test(stdout) || /not permitted/.test(stderr)
            ? 'silence'
            : error.message,
        );
    });
  });
}

/** Sends until it is told to stop one UDP packet after another, `interval` milliseconds apart, each from a port of its
 *  own, so that each is the first of a connection; numbers go up from the one given. Answers with how many. */
let stopVolley = (): void => undefined;
async function volley(probe: Probe, interval: number): Promise<number> {
  let isOver = false;
  stopVolley = () => void (isOver = true);
  let sent = 0;
  for (let next = performance.now(); !isOver; next += interval) {
    await new Promise(resolve => setTimeout(resolve, Math.max(0, next - performance.now())));
    const { number, sourcePort } = probe;
    void askUdp({ ...probe, number: number + sent, sourcePort: sourcePort + (sent % 20_000) }, 1);
    sent += 1;
  }
  return sent;
}

/** When a packet is answered first, of those sent every 2 ms: milliseconds since 1970. Throws after `limit` ms. */
async function firstAnswer(probe: Probe, limit: number): Promise<number> {
  const end = Date.now() + limit;
  for (let turn = 0; ; turn += 1) {
    const each = { ...probe, sourcePort: probe.sourcePort + turn };
    const asked = askUdp(each, 20).then(outcome => (outcome === 'answer' ? Date.now() : undefined));
    const next = new Promise<undefined>(resolve => setTimeout(resolve, 2, undefined));
    const answered = await Promise.race([asked, next]);
    if (answered !== undefined) return answered;
    if (Date.now() > end) throw new Error(`no answer from ${probe.destination} within ${limit} ms`);
  }
}

/** Asks a server by HTTP; answers with when it was asked and when it had answered, and what. */
async function post(url: string, body: object): Promise<{ asked: number; answered: number; text: string }> {
  const asked = Date.now();
  const text = await (await fetch(url, { method: 'POST', body: JSON.stringify(body) })).text();
  return { asked, answered: Date.now(), text };
}

serveLines({
  serve,
  probe,
  volley,
  stop: () => stopVolley(),
  firstAnswer,
  post,
  /** Numbers of the UDP packets that arrived since it was asked last. */
  arrived: () => {
    const all = arrived;
    arrived = [];
    return all;
  },
});
