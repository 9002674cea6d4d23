import { expect } from 'vitest';
import type { Host } from '../bed/host.js';
import type { Machine } from '../bed/machine.js';
import { poll } from '../bed/poll.js';

/** A command that is run in the network of a container, by programs of the host: busybox has no UDP. */
export async function inside(host: Host, container: string): Promise<string[]> {
  const pid = await host.docker('inspect', '--format', '{{.State.Pid}}', container);
  expect(Number(pid), `${container} runs`).toBeGreaterThan(0);
  return ['nsenter', '--target', pid, '--net', '--'];
}

/** Answers on TCP and UDP ports with its name and who asked. */
const SERVER = `
const [name, ...ports] = process.argv.slice(1);
const say = peer => name + ' ' + String(peer).replace('::ffff:', '');
for (const port of ports.map(Number)) {
  require('node:net').createServer(s => s.on('error', () => {}).end(say(s.remoteAddress))).listen(port, '::');
  for (const type of ['udp4', 'udp6']) {
    const socket = require('node:dgram').createSocket({ type, ipv6Only: type === 'udp6' });
    socket.on('error', () => {});
    socket.on('message', (_, from) => socket.send(say(from.address), from.port, from.address));
    socket.bind(port);
  }
}
setTimeout(() => console.log('serving'), 100);`;

const CLIENT = `
const [protocol, host, port] = process.argv.slice(1);
const done = text => { process.stdout.write(text || 'nobody'); process.exit(0); };
setTimeout(() => done(''), 1500);
let said = '';
if (protocol === 'tcp') {
  const socket = require('node:net').connect({ host, port: Number(port) });
  socket.on('data', data => (said += data)).on('error', () => done('')).on('end', () => done(said));
} else {
  const socket = require('node:dgram').createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', data => done(String(data))).on('error', () => done(''));
  const send = () => socket.send('hello', Number(port), host, error => error && done(''));
  send();
  // One that is lost while the machine is busy says nothing.
  setInterval(send, 300);
}`;

/** Serves ports (TCP and UDP, both families) in a container, see {@link ask}. */
export async function serveIn(host: Host, container: string, ...ports: number[]): Promise<void> {
  const enter = await inside(host, container);
  const argv = [...enter, process.execPath, '-e', SERVER, '--', container, ...ports.map(String)];
  const server = await host.spawn(argv, { log: `server-${container}-${Date.now()}` });
  await poll(`server in ${container}`, 10_000, () => server.output().includes('serving'));
}

/** The answer of {@link serveIn}: `<container> <address that asked>`; `nobody` where none comes in time. */
export async function ask(
  machine: Pick<Machine, 'run'>,
  protocol: 'tcp' | 'udp',
  address: string,
  port: number,
  enter: readonly string[] = [],
): Promise<string> {
  const argv = [...enter, process.execPath, '-e', CLIENT, '--', protocol, address, String(port)];
  return (await machine.run(argv)).stdout;
}

/** Whether a ping is answered; `as`: from this of its own addresses. */
export async function reaches(
  machine: Pick<Machine, 'run'>,
  address: string,
  enter: readonly string[] = [],
  as?: string,
): Promise<boolean> {
  const source = as === undefined ? [] : ['-I', as];
  const argv = [...enter, 'busybox', 'ping', ...source, '-c1', '-W1', address];
  return (await machine.run(argv, { check: false })).code === 0;
}

/** Lines of a command inside a container's network, without the spaces at their ends. */
export async function linesIn(host: Host, container: string, ...argv: string[]): Promise<string[]> {
  const { stdout } = await host.run([...(await inside(host, container)), ...argv]);
  return stdout.split('\n').flatMap(line => line.trimEnd() || []);
}
