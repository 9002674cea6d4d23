import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const CONNECT_MILLISECONDS = 500;
const PAUSE_MILLISECONDS = 300;
/** By then silence itself has been reason enough to give the connection up. */
const LONGEST_MILLISECONDS = 20_000;

/**
 * Whether the way to an endpoint was broken and is whole again: asked where an established connection has fallen silent.
 * TCP sends what was lost again ever more rarely, so that such a connection may stay silent for as long after the break
 * as the break was; a new one works at once. An etcd that is only slow has its connections accepted by its kernel all
 * the time: false, and nobody adds to its load.
 *
 * Costs a TCP connection, closed without a word; one every second while the way is broken. Never rejects.
 *
 * @param endpoint in the form `scheme://host:port`
 */
export async function wasBroken(endpoint: string): Promise<boolean> {
  const { hostname, port } = new URL(endpoint.replace(/^https?:/, 'tcp:'));
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const until = Date.now() + LONGEST_MILLISECONDS;
  for (let isBroken = false; Date.now() < until; isBroken = true) {
    if (await accepts(host, Number(port))) return isBroken;
    await pause(PAUSE_MILLISECONDS, undefined, { ref: false });
  }
  return false;
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host, port, timeout: CONNECT_MILLISECONDS });
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.on('connect', () => end(true)).on('timeout', () => end(false));
    socket.on('error', () => end(false));
  });
}
