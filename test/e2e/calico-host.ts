import { request } from 'node:http';
import { expect } from 'vitest';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';
import { dump } from './datastore.js';

export const CALICO = ['--driver', 'calico', '--ipam-driver', 'calico-ipam'] as const;

/** What the containers of these tests do. They end at the first signal, as sleep as PID 1 does not. */
const SLEEP = ['--stop-signal', 'KILL', 'busybox', 'sleep', '1d'] as const;

/** Says to whoever connects from where they came, then hangs up. */
const PEER_REPORTER =
  "require('node:net').createServer(s => s.on('error', () => {}).end(s.remoteAddress + '\\n')).listen(7000, '::')";

/** Runs a container in the background. `args` as for `docker run`. */
export function container(host: Host, name: string, network: string, ...args: string[]): Promise<string> {
  return host.docker('run', '-d', '--name', name, '--net', network, ...args, ...SLEEP);
}

/** The address Docker shows for a container. */
export async function addressOf(host: Host, name: string): Promise<string> {
  const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
  const address = await host.docker('inspect', '--format', format, name);
  expect(address, `address of ${name}`).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
  return address;
}

/** Pings once from a container; throws with ping's output if nothing comes back. */
export async function ping(host: Host, from: string, to: string): Promise<void> {
  expect(await host.docker('exec', from, 'ping', '-c1', '-W3', to)).toContain('1 packets received');
}

/** Starts to answer on TCP port 7000, in whatever network namespace `enter` leads to, with the peer's address. */
export const reportPeers = (enter: readonly string[]): string[] => [
  ...enter,
  process.execPath,
  '-e',
  PEER_REPORTER,
];

/** The address as which a container is seen by what {@link reportPeers} started at `server`. */
export async function seenAs(host: Host, from: string, server: string): Promise<string> {
  const connect = () => host.run(['docker', 'exec', from, 'nc', '-w', '3', server, '7000'], { check: false });
  const { stdout } = await poll(`answer of ${server} to ${from}`, 10_000, async () => {
    const result = await connect();
    return result.code === 0 && result.stdout !== '' ? result : undefined;
  });
  return stdout.trim().replace(/^::ffff:/, '');
}

/** What calico leaves on a host: our interfaces, and the routes of our protocol number. */
export async function traces(host: Host): Promise<{ links: string[]; routes: string[] }> {
  const lines = async (...args: string[]) =>
    (await host.run(['ip', ...args])).stdout.split('\n').flatMap(line => line.trim() || []);
  return {
    links: (await lines('-oneline', 'link')).filter(line => /^\d+: cali/.test(line)),
    routes: [
      ...(await lines('route', 'show', 'proto', '81')),
      ...(await lines('-6', 'route', 'show', 'proto', '81')),
    ],
  };
}

/**
 * Waits until no interface of ours is left and no route but those that match `stay`: by default what belongs to
 * blocks, not to endpoints. Interfaces and blocks' routes go a moment after Docker is answered.
 */
export async function expectCleanHost(
  host: Host,
  stay = /^169\.254\.1\.0\/24 dev lo |^blackhole /,
): Promise<void> {
  let left: string[] = [];
  const isClean = async () => {
    const { links, routes } = await traces(host);
    left = [...links, ...routes.filter(route => !stay.test(route))];
    return left.length === 0;
  };
  await poll('a clean host', 3_000, isClean).catch(() => undefined);
  expect(left, 'left on the host').toEqual([]);
}

/** Waits until the daemon has made the pools it makes at start; answers with what its etcd then has. */
export function untilDefaultPools(
  host: Host,
  families: readonly (4 | 6)[] = [4],
): Promise<Awaited<ReturnType<typeof dump>>> {
  return poll('default pools', 10_000, async () => {
    const found = await dump(host).catch(() => ({}));
    const has = (family: number) =>
      Object.keys(found).some(key => key.endsWith(`/ippools/default-ipv${family}-ippool`));
    return families.every(has) && found;
  });
}

/** Whether the outside world answers a container. */
export function pingOutside(host: Host, from: string): Promise<void> {
  return ping(host, from, '10.99.0.1');
}

/** Docker's API where its client would stop us. Answers with status and body. */
export function post(host: Host, path: string, body: object): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        socketPath: host.path('/run/docker.sock'),
        method: 'POST',
        path,
        headers: { 'Content-Type': 'application/json' },
      },
      answer => {
        let text = '';
        answer.on('data', chunk => (text += String(chunk)));
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
      },
    );
    call.on('error', reject);
    call.end(JSON.stringify(body));
  });
}

/** Takes a program from a host's /usr/sbin, and answers with what brings it back. */
export async function without(host: Host, program: string): Promise<() => Promise<unknown>> {
  const script = `mkdir -p /run/real /run/less && mount --bind /usr/sbin /run/real && for each in /run/real/*; do
    [ "\${each##*/}" = ${program} ] || ln -s "$each" /run/less/; done && mount --bind /run/less /usr/sbin`;
  await host.run(['sh', '-c', script]);
  return () => host.run(['umount', '/usr/sbin']);
}
