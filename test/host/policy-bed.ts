import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { HostState } from '../../src/host/dataplane.js';
import type { HostPolicy, HostRule, HostTier } from '../../src/host/policy.js';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';
import { plain } from './plain-policy.js';
import { Talker } from './talker.js';
import type { Protocol } from './talker.js';

/** The host, as the outside and its containers see it. */
export const HOST4 = '198.51.100.1';
export const HOST6 = '2001:db8::1';
/** Port 8002 of the host is port 80 of the second container. */
export const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26', 'fd65::/122'],
  masqueradeFrom: [],
  pools: ['10.65.0.0/16', 'fd65::/64'],
  published: (['tcp', 'udp'] as const).map(protocol => ({
    protocol,
    hostPort: 8002,
    address: '10.65.0.2',
    port: 80,
    containerAddresses: ['10.65.0.2', 'fd65::2'],
  })),
  internal: [],
};
/** Allows everything. */
export const ALL: HostRule = { action: 'allow', source: {}, destination: {} };
const CLOSED: HostPolicy = {
  endpoints: new Map(),
  rules: new Map(),
  addressSets: new Map(),
  portSets: new Map(),
  consented: [6, 17].map(protocol => ({ address: '10.65.0.2', protocol, port: 80 })),
  fromHost: 'allow',
};

/** Containers 1 and 2 of a network of their own; 3 of another. What is given is another policy for the second's ingress. */
export function policy(
  names: readonly number[],
  tiers: readonly HostTier[] = [],
  more: Partial<HostPolicy> = {},
): HostPolicy {
  return {
    ...CLOSED,
    ...more,
    endpoints: new Map(
      names.map(n => [
        `cali${n}`,
        {
          mac: endpoint(n).mac,
          sources: [`10.65.0.${n}`, `fd65::${n}`],
          ingress: { tiers: n === 2 ? tiers : [], profiles: [n < 3 ? 'net1/in' : 'net2/in'] },
          egress: { tiers: [], profiles: ['all/out'] },
        },
      ]),
    ),
    rules: new Map([
      ['net1/in', [{ ...ALL, source: { sets: ['net1'] } }]],
      ['net2/in', [{ ...ALL, source: { sets: ['net2'] } }]],
      ['all/out', [ALL]],
      ...(more.rules ?? []),
    ]),
    addressSets: new Map([
      ['net1', { addresses: new Set(['10.65.0.1', 'fd65::1', '10.65.0.2', 'fd65::2']), nets: [] }],
      ['net2', { addresses: new Set(['10.65.0.3', 'fd65::3']), nets: [] }],
      ...(more.addressSets ?? []),
    ]),
  };
}

/** The second container lets in what these rules say. */
export function letIn(rules: readonly HostRule[], more: Partial<HostPolicy> = {}): HostPolicy {
  const tiers = [{ policies: ['default.test/in'], otherwise: 'deny' }] as const;
  return policy([1, 2, 3], tiers, { ...more, rules: new Map([['default.test/in', rules]]) });
}

/** A host with three containers, the second of which serves two ports, and a namespace outside. */
export interface PolicyBed {
  readonly host: PretendHost;
  readonly outside: Namespace;
  container(n: number): Namespace;
  /** Number 0 is the outside, 4 the host. */
  talker(n: number): Talker;
  /** Who answers, asked from a port that was not used before: UDP has connections too. */
  who(from: number, protocol: Protocol, address: string, port: number): Promise<string>;
  enforce(wanted: HostPolicy): Promise<void>;
  listing(): Promise<string>;
}

let nextPort = 20_000;

/** A port that no other question comes from. */
export function freshPort(): number {
  return (nextPort += 1);
}

/**
 * Boots the bed before all tests of a file, and ends it after them. All is closed at first. Fails each test in which the
 * table had to be replaced: a change that the kernel refused would go unnoticed.
 */
export function usePolicyBed(): () => PolicyBed {
  let bed: PolicyBed | undefined;
  const talkers: Talker[] = [];
  beforeAll(async () => {
    const clean = await prepare();
    const host = await PretendHost.boot();
    const outside = await host.outside();
    await outside.all([`ip route add 10.65.0.0/26 via ${HOST4}`, `ip -6 route add fd65::/122 via ${HOST6}`]);
    await host.call('apply', STATE);
    await host.call('holdUntilPolicy');
    const containers: Namespace[] = [];
    for (const n of [1, 2, 3]) {
      containers.push(await host.container(endpoint(n, [`10.65.0.${n}`, `fd65::${n}`])));
    }
    talkers.push(...[outside, ...containers, host].map(space => new Talker(space)));
    const talker = (n: number): Talker => present(talkers[n]);
    for (const port of [80, 81]) await talker(2).serve(port, 'two');
    await talker(4).serve(90, 'host');
    await until(() => outside.reaches(HOST6));
    bed = {
      host,
      outside,
      talker,
      container: n => present(containers[n - 1]),
      who: (from, protocol, address, port) =>
        talker(from).who(protocol, address, port, protocol === 'udp' ? freshPort() : 0),
      enforce: wanted => host.call('enforce', plain(wanted)),
      listing: () => host.run('nft -n list table inet calico_policy'),
    };
    return () => {
      host.shutDown();
      clean();
    };
  });
  afterAll(() => talkers.forEach(each => each.end()));
  afterEach(async () => {
    expect(JSON.stringify(await bed?.host.call('logged'))).not.toContain('replacing');
  });
  return () => present(bed);
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('there is no such part of the bed');
  return value;
}
