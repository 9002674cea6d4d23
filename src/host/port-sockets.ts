import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { HostError, RequestError, reason } from '../errors.js';
import type { PublishedPort } from './dataplane.js';
import { is6 } from './nft-table.js';
import { Pipes } from './pipe.js';

/** A port of the host that nobody else gets while this is open. */
export interface PortSocket {
  /** The port it is, also where any was asked for. */
  readonly port: number;
  /** Resolves when somebody else may have it. */
  close(): Promise<void>;
}

/** What to hold; port 0 takes any that is free. */
export type PortToHold = PublishedPort;

/**
 * Binds the port, as a program that serves it would: any other program then gets "address already in use", and we do
 * where one was first. Answers undefined in that case. SCTP sockets do not exist in Node; there only our own table
 * prevents a conflict. Throws RequestError where the host has no such address, HostError for anything else.
 */
export async function holdPort(wanted: PortToHold): Promise<PortSocket | undefined> {
  try {
    if (wanted.protocol === 'tcp') return await holdTcp(wanted);
    if (wanted.protocol === 'udp') return await holdUdp(wanted);
    return { port: wanted.hostPort, close: async () => undefined };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EADDRINUSE') return undefined;
    const name = `port ${wanted.hostPort}/${wanted.protocol} of ${wanted.hostAddress ?? 'the host'}`;
    if (code === 'EADDRNOTAVAIL')
      throw new RequestError(
        `${name}: this host has no address ${wanted.hostAddress ?? anyAddress(wanted)}; -p takes one of its own, or none`,
        { cause: error },
      );
    throw new HostError(`${name}: ${reason(error)}`, { cause: error });
  }
}

/** A listener and not just a bound socket: connections that reach it (see {@link Pipes}) are handed on. */
async function holdTcp(wanted: PortToHold): Promise<PortSocket> {
  const pipes = new Pipes();
  const server = createServer({ allowHalfOpen: true }, client => pipes.add(client, wanted));
  server.unref();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(
      { host: anyAddress(wanted), port: wanted.hostPort, ipv6Only: is6(wanted.address), exclusive: true },
      resolve,
    );
  });
  // Too many open files: the one connection fails.
  server.on('error', () => undefined);
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : wanted.hostPort;
  const close = (): Promise<void> =>
    new Promise(resolve => {
      server.close(() => resolve());
      pipes.close();
    });
  return { port, close };
}

/** What arrives is thrown away: nobody is there yet. */
async function holdUdp(wanted: PortToHold): Promise<PortSocket> {
  const isSix = is6(wanted.address);
  const socket = createSocket({ type: isSix ? 'udp6' : 'udp4', ipv6Only: isSix });
  socket.unref();
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ address: anyAddress(wanted), port: wanted.hostPort, exclusive: true }, resolve);
  });
  socket.on('error', () => undefined);
  return { port: socket.address().port, close: () => new Promise(resolve => socket.close(() => resolve())) };
}

function anyAddress({ hostAddress, address }: PortToHold): string {
  return hostAddress ?? (is6(address) ? '::' : '0.0.0.0');
}
