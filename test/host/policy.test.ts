import { afterAll, beforeAll, expect, test } from 'vitest';
import type { HostState } from '../../src/host/dataplane.js';
import type { HostPolicy } from '../../src/host/policy.js';
import { PretendHost, endpoint, prepare } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';
import { plain } from './plain-policy.js';
import { Talker } from './talker.js';

const HOST4 = '198.51.100.1';
const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26', 'fd65::/122'],
  masqueradeFrom: [],
  pools: ['10.65.0.0/16'],
  published: [],
  internal: [],
};
const ALLOW = [{ action: 'allow', source: {}, destination: {} }] as const;

/** Containers 1 and 2 of a network of their own; 3 of another. */
function isolated(names: readonly number[]): HostPolicy {
  return {
    endpoints: new Map(
      names.map(n => [
        `cali${n}`,
        {
          mac: endpoint(n).mac,
          sources: [`10.65.0.${n}`, `fd65::${n}`],
          ingress: { tiers: [], profiles: [n < 3 ? 'net1/ingress' : 'net2/ingress'] },
          egress: { tiers: [], profiles: ['all/egress'] },
        },
      ]),
    ),
    rules: new Map([
      ['net1/ingress', [{ action: 'allow', source: { sets: ['net1'] }, destination: {} }]],
      ['net2/ingress', [{ action: 'allow', source: { sets: ['net2'] }, destination: {} }]],
      ['all/egress', ALLOW],
    ]),
    addressSets: new Map([
      ['net1', { addresses: new Set(['10.65.0.1', 'fd65::1', '10.65.0.2', 'fd65::2']), nets: [] }],
      ['net2', { addresses: new Set(['10.65.0.3', 'fd65::3']), nets: [] }],
    ]),
    portSets: new Map(),
    consented: [],
    fromHost: 'allow',
  };
}

let host: PretendHost;
let outside: Namespace;
const containers: Namespace[] = [];
let talkers: Talker[] = [];

function container(n: number): Namespace {
  const found = containers[n - 1];
  if (found === undefined) throw new Error(`no container ${n}`);
  return found;
}

beforeAll(async () => {
  const clean = await prepare();
  host = await PretendHost.boot();
  outside = await host.outside();
  await outside.all([`ip route add 10.65.0.0/26 via ${HOST4}`]);
  await host.call('apply', STATE);
  await host.call('holdUntilPolicy');
  for (const n of [1, 2, 3]) {
    containers.push(await host.container(endpoint(n, [`10.65.0.${n}`, `fd65::${n}`])));
  }
  talkers = [outside, ...containers].map(space => new Talker(space));
  return () => {
    host.shutDown();
    clean();
  };
});
afterAll(() => talkers.forEach(each => each.end()));

test('all is closed until there is a policy, and open as it says then', async () => {
  expect(await container(1).reaches('10.65.0.2')).toBe(false);
  expect(await container(1).reaches(HOST4)).toBe(false);
  expect(await host.reaches('10.65.0.1')).toBe(false);
  await host.call('enforce', plain(isolated([1, 2])));
  expect(await container(1).reaches('10.65.0.2')).toBe(true);
  expect(await container(1).reaches('fd65::2')).toBe(true);
  expect(await container(1).reaches(HOST4)).toBe(true);
  expect(await host.reaches('10.65.0.1')).toBe(true);
  expect(await host.reaches('10.65.0.3')).toBe(false);
  expect(await container(3).reaches(HOST4)).toBe(false);
  await host.call('enforce', plain(isolated([1, 2, 3])));
  expect(await container(1).reaches('10.65.0.3')).toBe(false);
  expect(await container(3).reaches(HOST4)).toBe(true);
  expect(await outside.reaches('10.65.0.1')).toBe(false);
});
