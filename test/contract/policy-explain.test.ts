import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../src/cli/policy-explain.js';
import { PacketEnds } from '../../src/cli/packet-ends.js';
import { endpointKey, networkKey, resourceKey } from '../../src/datastore/keys.js';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { Store } from '../../src/datastore/store.js';
import type { DockerContainer } from '../../src/docker/engine.js';
import { formatNewProfile } from '../../src/model/profile.js';
import { formatNewTier, STANDARD_TIERS } from '../../src/model/tier.js';
import { endpointName, formatNewEndpoint, hostInterfaceOf } from '../../src/model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../../src/model/workload-endpoint.js';
import { quiet, startEtcd } from './etcd-process.js';
import type { EtcdProcess } from './etcd-process.js';
import { put } from './store.contract.js';

const endpoint = (
  id: string,
  addresses: string[],
  labels: Record<string, string>,
  network = 'net1',
): WorkloadEndpoint => ({
  node: 'h1',
  endpointId: id.repeat(64).slice(0, 64),
  interfaceName: hostInterfaceOf(id.repeat(64)),
  mac: '02:42:00:00:00:01',
  addresses,
  profiles: [network],
  networkId: network,
  labels,
  ports: [{ protocol: 'tcp', hostPort: 8080, address: addresses[0] ?? '', port: 80 }],
});
const WEB = endpoint('a1b2', ['192.0.2.1', 'fd00::1'], { role: 'frontend' });
const DB = endpoint('b2c3', ['192.0.2.2'], { role: 'database' });
/** The first two in one internal network, on two hosts; the third outside. */
const [VAULT, AWAY] = [
  endpoint('c0de', ['192.0.2.10'], {}, 'vault'),
  { ...endpoint('cafe', ['192.0.2.11'], {}, 'vault'), node: 'h2', networkId: 'vault-of-h2' },
];
const ODD = { ...endpoint('dead', ['192.0.2.12'], {}), mac: '' };

describe('policy explain', () => {
  let etcd: EtcdProcess;
  let store: Store;

  beforeAll(async () => {
    etcd = await startEtcd();
    store = createEtcdStore({ endpoints: [etcd.endpoint] }, quiet);
    const now = new Date();
    const resource = (name: string, spec: object) => JSON.stringify({ metadata: { name }, spec });
    const texts: [string, string][] = [
      ...STANDARD_TIERS.map((tier): [string, string] => [
        resourceKey('tiers', tier.name),
        formatNewTier(tier, now),
      ]),
      [resourceKey('profiles', 'net1'), formatNewProfile('net1', now)],
      [
        resourceKey('networkpolicies', 'libnetwork/default.db'),
        resource('default.db', {
          selector: "role == 'database'",
          order: 1,
          types: ['Ingress', 'Egress'],
          ingress: [
            {
              action: 'Allow',
              protocol: 'TCP',
              source: { selector: "role == 'frontend'" },
              destination: { ports: [3306] },
            },
            { action: 'Allow', http: { methods: ['GET'] } },
          ],
        }),
      ],
      [resourceKey('profiles', 'vault'), formatNewProfile('vault', now)],
      ...['vault', 'vault-of-h2'].map((id): [string, string] => [
        networkKey(id),
        JSON.stringify({ id, node: id === 'vault' ? 'h1' : 'h2', name: 'vault', internal: true }),
      ]),
      ...[WEB, DB, VAULT, AWAY, ODD].map((one): [string, string] => [
        endpointKey(endpointName(one.node, one.endpointId)),
        formatNewEndpoint(one, now),
      ]),
    ];
    for (const [key, text] of texts) await put(store, key, text);
  });
  afterAll(async () => {
    await store.close();
    await etcd.remove();
  });

  async function explain(...args: string[]) {
    const [lines, errors]: [string[], string[]] = [[], []];
    const env = { ETCD_ENDPOINTS: etcd.endpoint, DOCKER_HOST: 'unix:///nonexistent', NODENAME: 'h1' };
    const out = {
      line: (text: string) => void lines.push(text),
      error: (text: string) => void errors.push(text),
      progress: () => undefined,
    };
    const status = await run(args, env, out);
    return { status, lines, errors };
  }

  it('names each tier, policy and rule on the way, and the verdict', async () => {
    expect(await explain('192.0.2.1', 'b2c3b2c3', 'tcp/3306')).toEqual({
      status: 0,
      lines: [
        '192.0.2.1 to b2c3b2c3 (192.0.2.2), tcp/3306',
        'egress of 192.0.2.1:',
        '  profile net1, rule 1: allow',
        'ingress of b2c3b2c3 (192.0.2.2):',
        '  tier default',
        '    policy libnetwork/db, rule 1: allow',
        'allowed',
      ],
      errors: [
        expect.stringContaining(
          'networkpolicies/libnetwork/default.db: spec.ingress[1].http is not supported',
        ),
      ],
    });
    expect(await explain('192.0.2.1', '192.0.2.2', 'tcp/3307')).toMatchObject({
      status: 1,
      lines: [
        '192.0.2.1 to 192.0.2.2, tcp/3307',
        'egress of 192.0.2.1:',
        '  profile net1, rule 1: allow',
        'ingress of 192.0.2.2:',
        '  tier default',
        '    policy libnetwork/db, rule 1: no match: the destination port is another',
        '    policy libnetwork/db, rule 2: no match: it has a field that is not supported, see the log of the daemon',
        '    end of tier default: deny',
        'denied',
      ],
    });
  });

  it('knows what is denied on the way out, what comes from nobody, and published ports', async () => {
    const out = await explain('192.0.2.2', '8.8.8.8', 'udp/53');
    expect(out.lines.slice(1)).toEqual([
      'egress of 192.0.2.2:',
      '  tier default',
      '    end of tier default: deny',
      'denied',
    ]);
    const outside = await explain('203.0.113.1', '192.0.2.1', 'tcp/80');
    expect(outside.lines.slice(1, 4)).toEqual([
      '203.0.113.1 is no container of Calico: nothing judges what it sends',
      'ingress of 192.0.2.1:',
      '  profile net1, rule 1: no match: source 203.0.113.1 is not selected by has(net1)',
    ]);
    expect(outside.status).toBe(1);
    const published = await explain('203.0.113.1', '192.0.2.1', 'tcp/80', '--published');
    expect(published.lines.slice(-2)).toEqual(['  published port: allow', 'allowed']);
    expect(published.errors.some(text => text.includes('publishes no'))).toBe(false);
    const unpublished = await explain('203.0.113.1', '192.0.2.1', 'tcp/81', '--published');
    expect(unpublished.errors).toContainEqual(
      expect.stringMatching(/^note: this container publishes no tcp\/81 of its own/),
    );
    const atHost = await explain('203.0.113.1', '203.0.113.2', 'tcp/8080');
    expect(atHost.errors).toContainEqual(
      expect.stringContaining('ask for policy explain 203.0.113.1 192.0.2.1 tcp/80 --published'),
    );
    expect((await explain('8.8.8.8', '9.9.9.9', 'icmp')).lines.at(-1)).toBe('allowed');
    expect((await explain('fd00::9', 'fd00::1', 'icmp')).lines[0]).toBe(
      'fd00::9 to fd00::1, icmpv6 type 128',
    );
  });

  it('knows that an internal network is left and entered by nobody, whatever policy says', async () => {
    for (const [from, to, inside, outside] of [
      ['192.0.2.10', '8.8.8.8', '192.0.2.10', '8.8.8.8'],
      ['192.0.2.1', '192.0.2.10', '192.0.2.10', '192.0.2.1'],
      // The host, too.
      ['127.0.0.1', '192.0.2.10', '192.0.2.10', '127.0.0.1'],
    ] as const)
      expect(await explain(from, to, 'tcp/80')).toMatchObject({
        status: 1,
        lines: [
          expect.anything(),
          `network vault of ${inside} is internal, and ${outside} is not in it: denied`,
          'denied',
        ],
      });
    expect((await explain('192.0.2.11', '192.0.2.10', 'tcp/80')).lines.at(-1)).toBe('allowed');
  });

  it('knows that an endpoint without a MAC address is closed', async () => {
    const { status, lines } = await explain('192.0.2.12', '8.8.8.8', 'tcp/80');
    expect(lines[1]).toMatch(/^192\.0\.2\.12 is closed until its endpoint has a MAC address/);
    expect(status).toBe(1);
  });

  it("and what the host sends, by the daemon's setting", async () => {
    expect((await explain('127.0.0.1', '192.0.2.2', 'tcp/1')).lines.slice(1)).toEqual([
      'what the host itself sends: allow (CALICO_LIBNETWORK_DEFAULT_HOST_ACTION)',
      'allowed',
    ]);
  });

  it.each([
    [['a', 'b'], /needs FROM, TO/],
    [['192.0.2.1', '192.0.2.2', 'tcp'], /"tcp" needs one port/],
    [['192.0.2.1', '192.0.2.2', 'quic/1'], /is no traffic/],
    [['192.0.2.1', '192.0.2.2', 'tcp/70000'], /is no port/],
    [['192.0.2.1', '192.0.2.2', '47/1'], /has no ports/],
    [['192.0.2.1', 'fd00::1', 'tcp/1'], /no addresses of the same family/],
    [['web', '192.0.2.2', 'tcp/1'], /Docker cannot be asked for web .*: name an address instead/],
  ])('refuses %j', (args, why) => expect(explain(...args)).rejects.toThrow(why));
});

describe('the ends of a packet', () => {
  const container = (name: string, id: string, ...of: WorkloadEndpoint[]): DockerContainer => ({
    id,
    name,
    labels: {},
    endpoints: of.map(({ endpointId, networkId, addresses }) => ({ endpointId, networkId, addresses })),
  });
  const both = endpoint('c3d4', ['198.51.100.1'], {}, 'net2');
  const ends = new PacketEnds(async () => [
    container('web', 'feed1111', both, WEB),
    container('db', 'feed2222', DB),
    container('plain', 'beef3333'),
  ]);
  for (const one of [WEB, DB, both]) ends.add(one);

  it('are containers by name or id, in the network that they share', async () => {
    expect(await ends.between('web', 'db')).toEqual({
      source: { name: 'web (192.0.2.1)', address: '192.0.2.1' },
      destination: { name: 'db (192.0.2.2)', address: '192.0.2.2' },
    });
    expect((await ends.between('feed1', '198.51.100.1')).source.address).toBe('198.51.100.1');
    expect((await ends.between('web', 'fd00::9')).source.address).toBe('fd00::1');
  });

  it.each([
    ['feed', /more than one container/],
    ['plain', /plain is in no network of Calico's/],
    ['nobody', /no address, no running container/],
  ])('%s is refused', (name, why) => expect(ends.between(name, 'db')).rejects.toThrow(why));
});
