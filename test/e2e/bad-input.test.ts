import { beforeAll, expect, it } from 'vitest';
import { poll } from '../bed/poll.js';
import { CALICO, post, untilDefaultPools } from './calico-host.js';
import { dump } from './datastore.js';
import { onEachEngine, putPool } from './matrix.js';

const SUBNET = '--subnet=198.51.100.0/24';

/** What is typed after `docker network create … calico`, and what the refusal has to say. */
const REFUSED: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['mtu 67', [SUBNET, '-o', 'mtu=67'], /mtu.*68/],
  ['an mtu too long', [SUBNET, '-o', 'mtu=65536'], /mtu.*65535/],
  ['an mtu in words', [SUBNET, '-o', 'mtu=large'], /mtu=large/],
  ['an mtu too small for IPv6', [SUBNET, '--ipv6', '--subnet=fd80:1::/64', '-o', 'mtu=1279'], /mtu.*1280/],
  ['a profile that is no name', [SUBNET, '-o', 'profile=a/b'], /profile=a\/b/],
  ['an empty profile', [SUBNET, '-o', 'profile='], /profile/],
  ['an unknown -o', [SUBNET, '-o', 'colour=blue'], /unknown option -o colour.*mtu.*profile/],
  [
    'an unknown --ipam-opt',
    [SUBNET, '--ipam-opt', 'colour=blue'],
    /unknown option --ipam-opt colour.*ippools.*blockSize/,
  ],
  ['-o ippools', ['-o', 'ippools=blue'], /--ipam-opt ippools/],
  ['-o blockSize', [SUBNET, '-o', 'blockSize=26'], /--ipam-opt blockSize/],
  ['-o natOutgoing', [SUBNET, '-o', 'natOutgoing=true'], /--ipam-opt natOutgoing/],
  ['-o vxlanMode', [SUBNET, '-o', 'vxlanMode=Never'], /--ipam-opt vxlanMode/],
  ['--ipam-opt mtu', [SUBNET, '--ipam-opt', 'mtu=1400'], /--ipam-opt mtu/],
  ['blockSize 19', [SUBNET, '--ipam-opt', 'blockSize=19'], /blockSize=19.*20.*32/],
  ['blockSize 33', [SUBNET, '--ipam-opt', 'blockSize=33'], /blockSize=33.*20.*32/],
  ['an IPv6 blockSize for IPv4 alone', [SUBNET, '--ipam-opt', 'blockSize=122'], /blockSize=122/],
  ['blockSize in words', [SUBNET, '--ipam-opt', 'blockSize=big'], /blockSize=big/],
  [
    'a block wider than the subnet',
    [SUBNET, '--ipam-opt', 'blockSize=23'],
    /blockSize=23.*198\.51\.100\.0\/24/,
  ],
  ['blockSize without a subnet', ['--ipam-opt', 'blockSize=26'], /blockSize.*--subnet/],
  ['natOutgoing maybe', [SUBNET, '--ipam-opt', 'natOutgoing=maybe'], /natOutgoing=maybe.*true/],
  ['vxlanMode sometimes', [SUBNET, '--ipam-opt', 'vxlanMode=Sometimes'], /vxlanMode=Sometimes.*CrossSubnet/],
  ['a pool that does not exist', ['--ipam-opt', 'ippools=nowhere'], /ippools.*nowhere/],
  ['a pool that is disabled', ['--ipam-opt', 'ippools=off'], /ippools.*off.*disabled/],
  ['one of two pools missing', ['--ipam-opt', 'ippools=on,nowhere'], /ippools.*nowhere/],
  ['a pool name that is none', ['--ipam-opt', 'ippools=On&Off'], /ippools=On&Off/],
  ['an empty list of pools', ['--ipam-opt', 'ippools='], /ippools/],
  ['a pool of the other family', ['--ipam-opt', 'ippools=on6'], /ippools=on6.*IPv4/],
  ['IPv6 without a pool of it', ['--ipv6', '--ipam-opt', 'ippools=on'], /ippools=on.*IPv6/],
  [
    'the subnet of a disabled pool',
    ['--subnet=203.0.113.64/26'],
    /203\.0\.113\.64\/26.*off.*disabled|off.*disabled/,
  ],
  ['an aux address outside', [SUBNET, '--aux-address=a=203.0.113.5'], /203\.0\.113\.5/],
  ['a gateway outside', [SUBNET, '--gateway=203.0.113.1'], /203\.0\.113\.1/],
  ['an ip-range outside', [SUBNET, '--ip-range=203.0.113.0/28'], /203\.0\.113\.0\/28/],
  ['an ip-range around', [SUBNET, '--ip-range=198.51.0.0/16'], /198\.51\.0\.0\/16/],
  ['an IPv6 range on IPv4', [SUBNET, '--ip-range=fd80:1::/120'], /fd80:1::\/120/],
  ['an ip-range without subnet', ['--ip-range=198.51.100.0/28'], /ip-range|subnet/],
  ['two that overlap', [SUBNET, '--subnet=198.51.100.0/25'], /overlap/],
  [
    'gateway and aux the same',
    [SUBNET, '--gateway=198.51.100.1', '--aux-address=a=198.51.100.1'],
    /198\.51\.100\.1/,
  ],
  // Docker gives back neither gateway nor aux addresses where something after them is refused.
  [
    'a gateway, and IPv6 that there is none of',
    [SUBNET, '--gateway=198.51.100.1', '--ipv6', '--ipam-opt', 'ippools=nowhere'],
    /nowhere/,
  ],
  [
    'gateway and aux address of a network refused at last',
    ['--subnet=198.18.1.0/24', '--gateway=198.18.1.1', '--aux-address=a=198.18.1.9', '-o', 'mtu=67'],
    /mtu=67/,
  ],
  [
    'a gateway, and an IPv6 subnet that cannot be',
    ['--subnet=198.18.2.0/24', '--gateway=198.18.2.1', '--ipv6', '--subnet=fd80::/16'],
    /fd80::\/16/,
  ],
];

/** What Docker's client does not let through, by the API: the IPAM configuration and the refusal. */
const REFUSED_BY_API: readonly (readonly [string, object, RegExp])[] = [
  [
    'an aux address outside',
    { AuxiliaryAddresses: { a: '203.0.113.5' } },
    /203\.0\.113\.5|auxiliary address a/,
  ],
  ['a gateway outside', { Gateway: '203.0.113.1' }, /203\.0\.113\.1/],
  ['an ip-range outside', { IPRange: '203.0.113.0/28' }, /203\.0\.113\.0\/28/],
  ['an IPv6 range on IPv4', { IPRange: 'fd80:1::/120' }, /fd80:1::\/120/],
  ['an IPv6 gateway on IPv4', { Gateway: 'fd80:1::1' }, /fd80:1::1/],
];

/** The reconciler frees what Docker 20.10 forgets, here within seconds. */
const QUICK = { CALICO_LIBNETWORK_GC_GRACE: '1s', CALICO_LIBNETWORK_RECONCILE_INTERVAL: '1s' };

onEachEngine('bad input', { env: QUICK, isOuter: true }, matrix => {
  let before: Awaited<ReturnType<typeof dump>>;
  beforeAll(async () => {
    const { host } = matrix;
    await untilDefaultPools(host);
    await putPool(host, 'off', { cidr: '203.0.113.64/26', disabled: true });
    await putPool(host, 'on', { cidr: '203.0.113.128/26' });
    await putPool(host, 'on6', { cidr: 'fd80:b::/64' });
    // Until the daemon has seen the last of them.
    const args = [
      'network',
      'create',
      ...CALICO,
      '--subnet=fd80:b::/64',
      '--ipv6',
      '--ipam-opt',
      'ippools=on,on6',
    ];
    await poll(
      'the pools',
      5_000,
      async () => (await host.run(['docker', ...args, 'seen'], { check: false })).code === 0,
    );
    await host.docker('network', 'rm', 'seen');
    before = await dump(host);
  });

  /** What in etcd is not as it was. */
  async function changes(): Promise<string[]> {
    const after = await dump(matrix.host);
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
      key => before[key] !== after[key],
    );
  }

  /** Refused with this text, and nothing came of it. */
  async function check(said: string, reason: RegExp): Promise<void> {
    const { host } = matrix;
    const networks = await host.docker('network', 'ls', '--format', '{{.Name}}');
    if (networks.split('\n').includes('refused')) await host.docker('network', 'rm', 'refused');
    expect(networks.split('\n')).not.toContain('refused');
    expect(said.replaceAll('\n', ' ')).toMatch(reason);
    const changed = await changes();
    before = await dump(host);
    expect(changed, `changed in etcd by: ${said}`).toEqual([]);
  }

  it.each(REFUSED)('%s', async (_name, args, reason) => {
    const argv = ['docker', 'network', 'create', ...CALICO, ...args, 'refused'];
    const { code, stdout, stderr } = await matrix.host.run(argv, { check: false, timeout: 30_000 });
    await check(stderr + stdout, reason);
    expect(code).not.toBe(0);
  });

  it.each(REFUSED_BY_API)('%s, by the API', async (_name, config, reason) => {
    const IPAM = { Driver: 'calico-ipam', Config: [{ Subnet: '198.51.100.0/24', ...config }] };
    const answer = await post(matrix.host, '/networks/create', { Name: 'refused', Driver: 'calico', IPAM });
    // Having asked for the pool, Docker 20.10 refuses an address by itself, and tells nobody.
    if (matrix.engine === '20')
      await poll('the pool to go', 10_000, async () => (await changes()).length === 0);
    await check(answer.text, reason);
    expect(answer.status).toBeGreaterThanOrEqual(400);
  });
});
