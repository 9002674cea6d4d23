import { afterAll, beforeAll, describe, expect } from 'vitest';
import { Bed } from '../bed/bed.js';
import type { Engine } from '../bed/engines.js';
import { ENGINES, OUTER_ENGINES } from '../bed/engines.js';
import type { Host } from '../bed/host.js';
import type { JsonObject } from '../../src/model/json.js';
import { isObject, objectOrEmpty, parseJson } from '../../src/model/json.js';
import { EMBEDDED } from './datastore.js';

/** A host with an engine, our daemon and an image, for one file's tests. */
export interface Matrix {
  readonly engine: Engine;
  readonly bed: Bed;
  readonly host: Host;
}

export interface MatrixOptions {
  /** Of our daemon. */
  readonly env?: Readonly<Record<string, string>>;
  /** Options of dockerd. */
  readonly dockerd?: readonly string[];
  /** A policy lets everything pass: for tests of what is wired, across networks and from outside. */
  readonly isOpen?: boolean;
  /** The engines one after another, for what measures time. */
  readonly oneByOne?: boolean;
  /** On the oldest and the newest engine only. */
  readonly isOuter?: boolean;
}

/** Runs tests on each engine, one host each; the engines side by side, the tests of each one after another. */
export function onEachEngine(
  title: string,
  { env = {}, dockerd = [], isOpen = false, oneByOne = false, isOuter = false }: MatrixOptions,
  tests: (matrix: Matrix) => void,
): void {
  const onEngine = (engine: Engine) => {
    let bed: Bed | undefined;
    beforeAll(async () => {
      bed = await Bed.up({ engine });
      const host = bed.host(1);
      await host.serve(env);
      if (isOpen) await letAllPass(host);
      await host.dockerd(...dockerd);
      await host.image();
    });
    afterAll(() => bed?.down());
    const up = (): Bed => {
      if (bed === undefined) throw new Error('there is no bed');
      return bed;
    };
    tests({
      engine,
      get bed() {
        return up();
      },
      get host() {
        return up().host(1);
      },
    });
  };
  describe.each(isOuter ? OUTER_ENGINES : ENGINES)(
    `${title} on Docker %s`,
    { concurrent: !oneByOne },
    engine => {
      describe('', { concurrent: false }, () => onEngine(engine));
    },
  );
}

/** What `docker inspect` or `docker network inspect` prints about one thing. */
export async function inspected(host: Host, ...args: string[]): Promise<JsonObject> {
  const answer = parseJson(await host.docker(...args));
  const [first] = Array.isArray(answer) ? (answer as unknown[]) : [];
  if (!isObject(first)) throw new Error(`docker ${args.join(' ')} printed no object`);
  return first;
}

/** A container's endpoint in a network, as Docker shows it. */
export async function endpointOf(host: Host, container: string, network: string): Promise<JsonObject> {
  const { NetworkSettings: settings } = await inspected(host, 'inspect', container);
  const endpoint = objectOrEmpty(objectOrEmpty(settings)['Networks'])[network];
  if (!isObject(endpoint)) throw new Error(`${container} is not in ${network}`);
  return endpoint;
}

/** A container's address in a network; IPv6 with `family` 6. */
export async function addressIn(
  host: Host,
  container: string,
  network: string,
  family: 4 | 6 = 4,
): Promise<string> {
  const endpoint = await endpointOf(host, container, network);
  const address = String(endpoint[family === 4 ? 'IPAddress' : 'GlobalIPv6Address'] ?? '');
  expect(address, `address of ${container} in ${network}`).toMatch(family === 4 ? /^\d+\./ : /:/);
  return address;
}

/** Writes a key to the daemon's etcd, as calicoctl would. */
export async function put(host: Host, key: string, value: object): Promise<void> {
  await host.run(['etcdctl', '--endpoints', EMBEDDED, 'put', key], {
    input: JSON.stringify(value),
    env: { ETCDCTL_API: '3' },
  });
}

/** Deletes a key of the daemon's etcd. */
export async function remove(host: Host, key: string): Promise<void> {
  await host.run(['etcdctl', '--endpoints', EMBEDDED, 'del', key], { env: { ETCDCTL_API: '3' } });
}

/** A policy of the daemon's etcd by which everything passes, both ways, whatever the network. */
export async function letAllPass(host: Host): Promise<void> {
  const rules = [{ action: 'Allow' }];
  await put(host, '/calico/resources/v3/projectcalico.org/globalnetworkpolicies/open', {
    kind: 'GlobalNetworkPolicy',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'open' },
    spec: { selector: 'all()', types: ['Ingress', 'Egress'], ingress: rules, egress: rules },
  });
}

const POOLS = '/calico/resources/v3/projectcalico.org/ippools/';

/** Makes an IPPool behind the daemon's back, and answers with its key. */
export async function putPool(host: Host, name: string, spec: JsonObject): Promise<string> {
  const key = POOLS + name;
  await put(host, key, {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name,
      uid: '7d0d9cd1-1f9a-4c5c-8a0c-6a7c8a6f0001',
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    spec: { ipipMode: 'Never', vxlanMode: 'Never', nodeSelector: 'all()', natOutgoing: true, ...spec },
  });
  return key;
}

/** Removes all containers and the networks of these names. */
export async function clear(host: Host, ...networks: string[]): Promise<void> {
  const all = await host.docker('ps', '-aq');
  if (all !== '') await host.docker('rm', '-f', ...all.split('\n'));
  if (networks.length > 0) await host.docker('network', 'rm', ...networks);
}

/** Removes what a test left, so that one failure stays one: all containers, and networks that are not Docker's own. */
export async function sweep(host: Host): Promise<void> {
  const containers = await host.docker('ps', '-aq');
  if (containers !== '') await host.run(['docker', 'rm', '-f', ...containers.split('\n')], { check: false });
  const networks = await host.docker('network', 'ls', '-q', '--filter', 'type=custom');
  if (networks !== '') await host.run(['docker', 'network', 'rm', ...networks.split('\n')], { check: false });
}
