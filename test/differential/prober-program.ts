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
    socket.on('error', error => done(error.message));
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
    socket.on('error', error => done(error.message));
    socket.on('message', data => done(String(data) === String(number) ? 'answer' : `answer ${String(data)}`));
    socket.bind(sourcePort, source, () =>
      socket.send(String(number), destinationPort, destination, error => error && done(error.message)),
    );
  }).finally(() => socket.close());
}

function askIcmp({ source, destination }: Probe, wait: number): Promise<string> {
  const ping = destination.includes(':') ? ['ping', '-6'] : ['ping'];
  const argv = [...ping, '-c', '1', '-W', '5', '-I', source, destination];
  return new Promise(resolve => {
    execFile('busybox', argv, { timeout: wait, killSignal: 'SIGKILL' }, (error, stdout) => {
      if (error === null) resolve('answer');
      else resolve(error.killed === true || stdout.includes('100% packet loss') ? 'silence' : error.message);
    });
  });
}

/** Sends one UDP packet after another, each from a port of its own: each is the first of a connection. Answers with how many
 *  when it is told to stop. */
let volleys: (() => void) | undefined;
async function volley(probe: Probe, interval: number): Promise<number> {
  let isOver = false;
  volleys = () => (isOver = true);
  let sent = 0;
  for (let next = performance.now(); !isOver; next += interval) {
    await new Promise(resolve => setTimeout(resolve, Math.max(0, next - performance.now())));
    const each = { ...probe, number: probe.number + sent, sourcePort: probe.sourcePort + (sent % 20_000) };
    sent += 1;
    void askUdp(each, 1);
  }
  return sent;
}

serveLines({
  serve,
  probe,
  volley,
  stop: () => volleys?.(),
  /** Numbers of the UDP packets that arrived since it was asked last. */
  arrived: () => {
    const all = arrived;
    arrived = [];
    return all;
  },
});
