import { request } from 'node:http';
import { expect } from 'vitest';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';
import { expectCleanHost } from './calico-host.js';
import { handles, keys } from './datastore.js';

/** Names of containers. */
export const namesOf = (count: number) => Array.from({ length: count }, (_, index) => `c${index}`);

/** Docker's API without its client, which costs more than what is measured here. */
export function api(host: Host, method: string, path: string, body: object = {}): Promise<void> {
  const { promise, resolve, reject } = withResolvers();
  const call = request(
    {
      socketPath: host.path('/run/docker.sock'),
      method,
      path,
      agent: false,
      headers: { 'Content-Type': 'application/json' },
    },
    answer => {
      let text = '';
      answer.on('data', chunk => (text += String(chunk)));
      answer.on('end', () =>
        (answer.statusCode ?? 500) < 400 ? resolve() : reject(new Error(`${method} ${path}: ${text}`)),
      );
    },
  );
  call.on('error', reject);
  call.end(JSON.stringify(body));
  return promise;
}

function withResolvers() {
  let resolve: () => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** Creates and starts a container by the API. `more`: of its HostConfig; `networking`: its NetworkingConfig. */
export async function start(
  host: Host,
  name: string,
  network: string,
  more: object = {},
  networking: object = {},
): Promise<void> {
  const HostConfig = { NetworkMode: network, ...more };
  const sleeping = { Image: 'busybox', Cmd: ['sleep', '1d'], StopSignal: 'KILL' };
  const body = { ...sleeping, HostConfig, NetworkingConfig: networking };
  await api(host, 'POST', `/containers/create?name=${name}`, body);
  await api(host, 'POST', `/containers/${name}/start`);
}

/** How long something takes, in milliseconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return Math.round(performance.now() - started);
}

/** Waits until this many containers run. */
export async function untilUp(host: Host, count: number): Promise<void> {
  await poll(`${count} containers up`, 60_000, async () => {
    const up = await host.docker('ps', '-q', '--filter', 'status=running');
    return up.split('\n').filter(line => line !== '').length === count;
  });
}

/** Sees that no container left anything: no address, endpoint, link, route or element of a set. */
export async function expectNothingLeft(host: Host): Promise<void> {
  await poll('handles gone', 3_000, async () => (await handles(host)).length === 0).catch(() => undefined);
  expect(await handles(host)).toEqual([]);
  expect(await keys(host, '/workloadendpoints/')).toEqual([]);
  await expectCleanHost(host);
  const table = (await host.run(['nft', 'list', 'table', 'inet', 'calico_libnetwork'])).stdout;
  expect(table).not.toMatch(/cali[0-9a-f]{11}|dnat|elements = \{ [^}]*192\.0\.2\.\d+ \./);
}
