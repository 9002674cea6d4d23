import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import {
  aliveKey,
  endpointKey,
  IPAM_CONFIG_KEY,
  NETWORKS_PREFIX,
  resourceKey,
} from '../../src/datastore/keys.js';
import type { Store } from '../../src/datastore/store.js';
import { Allocator } from '../../src/ipam/allocator.js';
import { formatAddress, parseAddress, parseCidr } from '../../src/ipam/cidr.js';
import type { Address } from '../../src/ipam/cidr.js';
import { allocationMetadata } from '../../src/ipam/block.js';
import { IpamFacts } from '../../src/ipam/facts.js';
import { endpointHandle } from '../../src/ipam/handles.js';
import { formatNewPool } from '../../src/model/ip-pool.js';
import { formatNewNode } from '../../src/model/node.js';
import { formatNetworkRecord } from '../../src/model/network-record.js';
import { formatPresence } from '../../src/model/presence.js';
import { endpointName, formatNewEndpoint } from '../../src/model/workload-endpoint.js';
import { commandHere } from './command-line.js';
import { quiet, startEtcd } from './etcd-process.js';
import type { EtcdProcess } from './etcd-process.js';
import { put } from './store.contract.js';

let etcd: EtcdProcess;
let store: Store;
const now = new Date();
const run = (...words: string[]) => commandHere(words, { ETCD_ENDPOINTS: etcd.endpoint, NODENAME: 'live-1' });
const MAC = '02:00:00:00:00:01';
const ENDPOINT = '736ccfa7cd61ced93b67f7465ddb79633ea6d1f718a8ca7d9d19226f5d3521b0';

/** Addresses of a cluster: `live` of a host that is alive, `dead` of one that is not, `used` with an endpoint. */
let live: string;
let dead: string;
let used: string;

async function addressOf(node: string): Promise<string> {
  const facts = new IpamFacts(store, node, quiet);
  await facts.ready();
  const allocator = new Allocator(store, facts, { isGlobal: false, isRouted: () => false }, quiet);
  const holder = {
    handle: (text: string) => endpointHandle(node, MAC, text),
    secondary: allocationMetadata(node),
  };
  const address = await allocator.assign({ family: 4, holder });
  facts.close();
  return formatAddress(address);
}

function parsed(text: string): Address {
  const address = parseAddress(text);
  if (!address) throw new Error(text);
  return address;
}

beforeAll(async () => {
  etcd = await startEtcd();
  store = createEtcdStore({ endpoints: [etcd.endpoint] }, quiet);
  for (const [name, text, vxlanMode] of [
    ['main', '192.0.2.0/24', 'CrossSubnet'],
    ['six', 'fd80::/64', 'Never'],
  ] as const) {
    const cidr = parseCidr(text);
    if (!cidr) throw new Error(text);
    const pool = { name, cidr, vxlanMode, natOutgoing: true, madeForDocker: false };
    await put(store, resourceKey('ippools', name), formatNewPool(pool, now));
  }
  for (const [node, address] of [
    ['live-1', '10.0.0.1/24'],
    ['live-2', '10.0.0.2/24'],
    ['far', '10.9.0.1/24'],
  ] as const)
    // prettier-ignore
    await put(store, resourceKey('nodes', node), formatNewNode(node, { addresses: { 4: address } }, now));
  for (const node of ['live-1', 'live-2'])
    await put(
      store,
      aliveKey(node),
      formatPresence({ id: node, since: '2026-01-01T00:00:00.123Z', version: '1.2.3' }),
    );
  [live, dead, used] = [await addressOf('live-1'), await addressOf('far'), await addressOf('gone')];
  const endpoint = {
    ...{ node: 'gone', endpointId: ENDPOINT, interfaceName: 'cali736ccfa7cd6', mac: MAC, addresses: [used] },
    ...{ profiles: ['my_net'], networkId: 'id-1', labels: { role: 'db' } },
    ports: [
      { protocol: 'tcp', hostPort: 8080, address: used, port: 80 },
      { protocol: 'udp', hostAddress: '127.0.0.1', hostPort: 53, address: used, port: 53 },
    ],
  } as const;
  await put(store, endpointKey(endpointName('gone', ENDPOINT)), formatNewEndpoint(endpoint, now));
  for (const node of ['gone', 'live-1']) {
    const id = node === 'gone' ? 'id-1' : 'id-2';
    const record = { id, node, name: 'my_net', created: '', internal: false, subnets: [], options: { mtu: '1400' }, rest: {} }; // prettier-ignore
    await put(store, NETWORKS_PREFIX + id, formatNetworkRecord(record));
  }
});
afterAll(async () => {
  await store.close();
  await etcd.remove();
});

test('ipam show: pools, blocks, one address', async () => {
  const { out } = await run('ipam', 'show', '--show-blocks');
  expect(out).toMatch(/^IP pool +192\.0\.2\.0\/24 +256 +3 \(1%\) +253 +3 +main$/m);
  expect(out).toMatch(/^ {2}block +192\.0\.2\.\d+\/26 +64 +1 \(1%\) +63 +far$/m);
  expect(out).toMatch(/^IP pool +fd80::\/64 +18446744073709551616 +0 \(0%\) +18446744073709551616 +0 +six$/m);
  const json = JSON.parse(
    (await run('ipam', 'show', '-o', 'json')).out.replaceAll('18446744073709551616', '1'),
  ) as object;
  expect(json).toMatchObject([
    { kind: 'pool', name: 'main', total: 256, used: 3, blocks: 3 },
    { name: 'six' },
  ]);
  const plain = JSON.parse((await run('ipam', 'show', `--ip=${used}`, '-o', 'json')).out) as object;
  expect(plain).toMatchObject({ address: used, inUse: true, pool: 'main', endpoints: expect.any(Array) });
  expect((await run('ipam', 'show', '--ip=203.0.113.9')).out).toMatch(/^state +free, and in no pool$/m);
  expect(JSON.parse((await run('ipam', 'show', '--show-configuration', '-o', 'json')).out)).toMatchObject({
    ...{ strictAffinity: false, autoAllocateBlocks: true },
  });
  expect(await run('ipam', 'show', '--show-blocks', `--ip=${used}`)).toMatchObject({
    ...{
      status: 2,
      err: expect.stringContaining('give one of --show-blocks, --ip and --show-configuration'),
    },
  });
  const one = await run('ipam', 'show', `--ip=${used}`);
  expect(one.status).toBe(0);
  expect(one.out).toMatch(/^state +in use: for MAC 02:00:00:00:00:01 of host gone$/m);
  expect(one.out).toMatch(/^pool +IPPool main \(192\.0\.2\.0\/24\)$/m);
  expect(one.out).toMatch(new RegExp(`^endpoint +host gone, network my_net, ${ENDPOINT}$`, 'm'));
  expect(await run('ipam', 'show', '--ip=nonsense')).toMatchObject({ status: 2, err: expect.stringMatching(/"nonsense" is no address/) }); // prettier-ignore
  expect((await run('ipam', 'show', '--ip=192.0.2.255')).status).toBe(1);
});

test('endpoint ls, network ls and node status', async () => {
  const endpoints = await run('endpoint', 'ls', '-o', 'wide');
  expect(endpoints.out).toMatch(new RegExp(`^736ccfa7cd61 +my_net +${used} +8080->80/tcp,127\\.0\\.0\\.1:53->53/udp +gone +736ccfa7cd61 +cali736ccfa7cd6 +${MAC} +role=db$`, 'm')); // prettier-ignore
  expect((await run('endpoint', 'ls', '--node', 'live-1')).out.trim().split('\n')).toHaveLength(1);
  expect((await run('network', 'ls', '-o', 'wide')).out).toMatch(
    /^my_net +default pools +no +1 +local +gone,live-1 +mtu=1400$/m,
  );
  const other = {
    id: 'id-3',
    node: 'far',
    name: 'my_net',
    created: '',
    internal: false,
    options: {},
    rest: {},
  };
  const subnets = [{ cidr: '198.51.100.0/24' }];
  await put(store, `${NETWORKS_PREFIX}id-3`, formatNetworkRecord({ ...other, subnets }));
  expect((await run('network', 'ls')).out).toMatch(
    /^my_net +default pools +no +1 +local +gone,live-1\nmy_net +198\.51\.100\.0\/24 +no +0 +local +far$/m,
  );
  const hosts = await run('node', 'status');
  expect(hosts.out).toMatch(/^live-1 \* +yes +10\.0\.0\.1 +1 +0 +this host$/m);
  expect(hosts.out).toMatch(/^gone +no +1 +1 +it has no Node: start its daemon$/m);
  // It has no IPv6 address, and there is a pool of those.
  expect(hosts.out).toMatch(/^live-2 +yes +10\.0\.0\.2 +0 +0 +direct, not: its Node says no IPv6 address$/m);
  expect(hosts.out).toMatch(/^far +no +10\.9\.0\.1 +1 +0 +not: its Node says no IPv6 address, not: its Node says no VXLAN tunnel address$/m); // prettier-ignore
  expect(hosts.status).toBe(1);
});

test('ipam release: never what is in use, or may be', async () => {
  const refused = await run('ipam', 'release', `--ip=${used}`);
  expect(refused).toEqual({
    ...{ status: 1, out: '' },
    err: `calico-libnetwork: ${used} is not released: endpoint 736ccfa7cd61 on host gone has it: stop its container; with --force it is released all the same, and another container may get it while this one still uses it\n`,
  });
  expect((await run('ipam', 'release', `--ip=${live}`)).err).toContain(
    `host live-1 is alive, and frees by itself what its Docker no longer has, within two minutes`,
  );
  expect(await run('ipam', 'release', `--ip=${dead}`)).toEqual({
    ...{ status: 0, err: '', out: `${dead} released (for MAC ${MAC} of host far)\n` },
  });
  expect((await run('ipam', 'release', `--ip=${dead}`)).out).toBe(`${dead} is free already\n`);
  const forced = await run('ipam', 'release', `--ip=${live}`, '--force');
  expect(forced).toMatchObject({ status: 0, out: `${live} released (for MAC ${MAC} of host live-1)\n` });
  expect(forced.err).toMatch(/^note: host live-1 is alive.*; released all the same, as --force says\n$/);
  const facts = new IpamFacts(store, 'x', quiet);
  const allocator = new Allocator(store, facts, { isGlobal: false, isRouted: () => false }, quiet);
  expect(await allocator.holder(parsed(live))).toBeUndefined();
  expect(await allocator.holder(parsed(used))).toBeDefined();
  facts.close();
  // Handles went with them: nothing contradicts itself but the endpoint of a host without Node, if that does.
  expect((await store.list('/calico/ipam/v2/handle/')).entries).toHaveLength(1);
});

test('ipam configure: changes what is named, refuses what does not fit together', async () => {
  await put(store, IPAM_CONFIG_KEY, '{"auto_allocate_blocks":true,"ipCooldownSeconds":7}');
  expect(await run('ipam', 'configure', '--strictaffinity=true', '--max-blocks-per-host=4')).toEqual({
    ...{ status: 0, out: 'IPAM configuration changed\n', err: '' },
  });
  expect(JSON.parse((await store.get(IPAM_CONFIG_KEY))?.value ?? '')).toEqual({
    ...{ strict_affinity: true, auto_allocate_blocks: true, maxBlocksPerHost: 4, ipCooldownSeconds: 7 },
  });
  const wrong = await run('ipam', 'configure', '--strictaffinity=false');
  expect(wrong.status).toBe(2);
  expect(wrong.err).toMatch(
    /^calico-libnetwork: --max-blocks-per-host needs --strictaffinity=true; 0 takes the limit away\nusage: /,
  );
  expect((await run('ipam', 'configure', '--strictaffinity=maybe')).err).toContain(
    'is true or false, not "maybe"',
  );
  expect((await run('ipam', 'show', '--show-configuration')).out).toMatch(
    /^maxBlocksPerHost +4 of each family$/m,
  );
});

test('delete ippool: refused while in use; with --force nothing in use is freed', async () => {
  const refused = await run('delete', 'ippool', 'main');
  expect(refused).toMatchObject({ status: 1, out: '' });
  expect(refused.err).toContain(
    `IPPool main (192.0.2.0/24) is needed by 1 address (${used}): disable the pool`,
  );
  expect((await run('get', 'ippool', 'main')).out).toMatch(/^main +192\.0\.2\.0\/24 +false/m);
  expect(await run('delete', 'ippool', 'main', 'six', '--force')).toMatchObject({
    ...{ status: 0, out: 'IPPool main deleted\nIPPool six deleted\n' },
  });
  const { out } = await run('ipam', 'show');
  expect(out.trim().split('\n')).toHaveLength(2);
  expect(out).toMatch(/^block without pool +192\.0\.2\.\d+\/26 +64 +1 \(1%\) +63$/m);
  expect((await run('ipam', 'show', `--ip=${used}`)).out).toMatch(
    /^block +192\.0\.2\.\d+\/26, without owner$/m,
  );
});
