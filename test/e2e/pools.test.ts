import { afterEach, expect, it } from 'vitest';
import { isObject, objectOrEmpty, parseJson } from '../../src/model/json.js';
import type { JsonObject } from '../../src/model/json.js';
import { poll } from '../bed/poll.js';
import { CALICO, container, expectCleanHost, ping, post } from './calico-host.js';
import { dump, keys } from './datastore.js';
import { addressIn, clear, letAllPass, onEachEngine, putPool, remove, sweep } from './matrix.js';
import { ask, inside, linesIn, reaches, serveIn } from './traffic.js';

onEachEngine('pools of networks', { isOuter: true }, matrix => {
  afterEach(() => sweep(matrix.host));
  const create = (...args: string[]) => matrix.host.docker('network', 'create', ...CALICO, ...args);
  const parsed = async (part: string): Promise<JsonObject> => {
    const found = Object.entries(await dump(matrix.host)).find(([key]) => key.includes(part));
    const value = parseJson(found?.[1] ?? 'null');
    if (!isObject(value)) throw new Error(`nothing in etcd at ${part}`);
    return value;
  };
  const specOf = async (part: string) => objectOrEmpty((await parsed(part))['spec']);
  const starts = async (network: string, names: readonly string[]) => {
    await Promise.all(names.map(name => container(matrix.host, name, network)));
    return Promise.all(names.map(name => addressIn(matrix.host, name, network)));
  };

  it('several --subnet are used in turn, also those of IPv6', async () => {
    const { host } = matrix;
    const four = ['--subnet=192.0.2.0/30', '--subnet=198.51.100.0/30'];
    const six = ['--ipv6', '--subnet=fd80:1::/126', '--subnet=fd80:2::/126'];
    await create(...four, ...six, 'several');
    const names = Array.from({ length: 8 }, (_, index) => `s${index}`);
    const addresses = await starts('several', names);
    expect(new Set(addresses).size).toBe(8);
    expect(addresses.filter(address => address.startsWith('192.0.2.'))).toHaveLength(4);
    expect(addresses.filter(address => address.startsWith('198.51.100.'))).toHaveLength(4);
    const six6 = await Promise.all(names.map(name => addressIn(host, name, 'several', 6)));
    expect(six6.filter(address => address.startsWith('fd80:1:'))).toHaveLength(4);
    expect(six6.filter(address => address.startsWith('fd80:2:'))).toHaveLength(4);
    const from = await inside(host, 's0');
    for (const address of [...addresses, ...six6])
      expect(await reaches(host, address, from), address).toBe(true);
    // None is left in either; the text names what is full.
    expect(await host.dockerFails('run', '--rm', '--net', 'several', 'busybox', 'true')).toMatch(
      /192\.0\.2\.0\/30|198\.51\.100\.0\/30/,
    );
    await host.docker('rm', '-f', 's2');
    await container(host, 'again', 'several');
    const again = await addressIn(host, 'again', 'several');
    expect(addresses).toContain(again);
    // By name from the second.
    await host.docker('rm', '-f', 'again', ...names.slice(1));
    const last = addresses[0] === '198.51.100.2' || six6[0] === 'fd80:2::2' ? 1 : 2;
    await container(host, 'named', 'several', '--ip', `198.51.100.${last}`, '--ip6', `fd80:2::${last}`);
    await ping(host, 's0', `198.51.100.${last}`);
    await ping(host, 's0', `fd80:2::${last}`);
    await clear(host, 'several');
    expect(await keys(host, '192-0-2-0')).toEqual([]);
    expect(await keys(host, '198-51-100-0')).toEqual([]);
    await expectCleanHost(host);
  });

  it('refuses a network that shares the first of several subnets only', async () => {
    const { host } = matrix;
    // By the API: Docker's client sends subnets in an order of its own.
    const make = (name: string, ...subnets: string[]) => {
      const Config = subnets.map(Subnet => ({ Subnet }));
      const IPAM = { Driver: 'calico-ipam', Config };
      return post(host, '/networks/create', { Name: name, Driver: 'calico', IPAM, CheckDuplicate: true });
    };
    expect((await make('several', '192.0.2.0/30', '198.51.100.0/30')).status).toBe(201);
    // Its name is learned in the background.
    await poll('the name', 5_000, async () =>
      (await dump(host))[(await keys(host, '/networks/'))[0] ?? '']?.includes('several'),
    );
    const before = await dump(host);
    for (const others of [[], ['203.0.113.0/30'], ['203.0.113.0/30', '198.51.100.0/30']]) {
      const answer = await make('other', '192.0.2.0/30', ...others);
      expect(answer.status, answer.text).toBeGreaterThanOrEqual(400);
      expect(answer.text).toContain('--subnet 192.0.2.0/30');
      expect(answer.text).toContain('several');
      expect(await dump(host)).toEqual(before);
    }
    // The same ones are fine.
    expect((await make('same', '192.0.2.0/30', '198.51.100.0/30')).status).toBe(201);
    await host.docker('network', 'rm', 'same');
    await clear(host, 'several');
  });

  it('-o mtu and -o profile', async () => {
    const { host } = matrix;
    await create('--subnet=192.0.2.0/24', '-o', 'mtu=1300', '-o', 'profile=shared', 'small');
    await create('--subnet=198.51.100.0/24', '-o', 'com.docker.network.driver.mtu=1400', 'docker');
    await container(host, 'ann', 'small');
    await container(host, 'ben', 'docker');
    expect((await linesIn(host, 'ann', 'ip', 'link', 'show', 'cali0')).join()).toContain(' mtu 1300 ');
    expect((await linesIn(host, 'ben', 'ip', 'link', 'show', 'cali0')).join()).toContain(' mtu 1400 ');
    const links = (await host.run(['ip', '-oneline', 'link'])).stdout.split('\n');
    expect(links.filter(line => /: cali.* mtu 1300 /.test(line))).toHaveLength(1);
    const endpoints = Object.entries(await dump(host)).filter(([key]) => key.includes('/workloadendpoints/'));
    const profiles = endpoints.map(
      ([, text]) => objectOrEmpty(objectOrEmpty(parseJson(text ?? ''))['spec'])['profiles'],
    );
    expect(profiles).toContainEqual(['shared']);
    expect(await keys(host, '/profiles/shared')).toHaveLength(1);
    expect(await keys(host, '/profiles/small')).toEqual([]);
    await clear(host, 'small', 'docker');
  });

  it('--ipam-opt ippools: of the pools that are named, in both families', async () => {
    const { host } = matrix;
    const made = [
      await putPool(host, 'blue', { cidr: '203.0.113.0/28', blockSize: 29, assignmentMode: 'Manual' }),
      await putPool(host, 'blue6', { cidr: 'fd80:b::/64', blockSize: 122, assignmentMode: 'Manual' }),
      await putPool(host, 'red', { cidr: '203.0.113.64/26', blockSize: 26 }),
    ];
    await poll('pools in the mirror', 5_000, async () => {
      const argv = [
        'docker',
        'network',
        'create',
        ...CALICO,
        '--ipv6',
        '--ipam-opt',
        'ippools=blue,blue6',
        'chosen',
      ];
      return (await host.run(argv, { check: false })).code === 0;
    });
    const addresses = await starts('chosen', ['ann', 'ben']);
    for (const address of addresses) expect(address).toMatch(/^203\.0\.113\.([0-9]|1[0-5])$/);
    expect(await addressIn(host, 'ann', 'chosen', 6)).toMatch(/^fd80:b::/);
    await ping(host, 'ann', addresses[1] ?? '');
    await ping(host, 'ann', await addressIn(host, 'ben', 'chosen', 6));
    // With a --subnet inside the named pool, and not inside it.
    await create('--subnet=203.0.113.8/29', '--ipam-opt', 'ippools=blue', 'within');
    await container(host, 'cat', 'within');
    expect(await addressIn(host, 'cat', 'within')).toMatch(/^203\.0\.113\.([89]|1[0-5])$/);
    const args = ['--subnet=203.0.113.64/27', '--ipam-opt', 'ippools=blue', 'refused'];
    expect(await host.dockerFails('network', 'create', ...CALICO, ...args)).toMatch(
      /203\.0\.113\.64\/27.*ippools/,
    );
    await clear(host, 'chosen', 'within');
    // A user's pools stay.
    const left = await keys(host);
    for (const key of made) expect(left).toContain(key);
    for (const key of made) await remove(host, key);
  });

  it('--ipam-opt blockSize, natOutgoing and vxlanMode of a pool made on the fly', async () => {
    const { host, bed } = matrix;
    await letAllPass(host);
    const wish = ['blockSize=28', 'natOutgoing=false', 'vxlanMode=CrossSubnet'].flatMap(each => [
      '--ipam-opt',
      each,
    ]);
    await create('--subnet=192.0.2.0/24', ...wish, 'plain');
    expect(await specOf('/ippools/docker-192-0-2-0-24')).toMatchObject({
      cidr: '192.0.2.0/24',
      blockSize: 28,
      natOutgoing: false,
      vxlanMode: 'CrossSubnet',
    });
    await container(host, 'ann', 'plain');
    const address = await addressIn(host, 'ann', 'plain');
    expect(await keys(host, '/ipam/v2/assignment/ipv4/block/192.0.2.')).toEqual([
      expect.stringMatching(/block\/192\.0\.2\.\d+-28$/),
    ]);
    // Without NAT the outside sees the container itself; it needs a way back.
    await bed.fabric(['ip', 'route', 'replace', '192.0.2.0/24', 'via', host.address]);
    await create('--subnet=198.51.100.0/24', 'nat');
    await container(host, 'ben', 'nat');
    const outside = await bed.outside.spawn(serverOutside, host.logFile('outside'));
    await poll('server', 5_000, () => outside.output().includes('serving'));
    expect(await ask(host, 'tcp', '10.99.0.1', 7000, await inside(host, 'ann'))).toBe(address);
    expect(await ask(host, 'tcp', '10.99.0.1', 7000, await inside(host, 'ben'))).toBe(host.address);
    await serveIn(host, 'ann', 80);
    expect(await ask(bed.outside, 'tcp', address, 80)).toBe('ann 10.99.0.1');
    // The pool is as another network wishes, or it is refused.
    const second = ['--subnet=192.0.2.0/24', '--ipam-opt', 'blockSize=27', 'second'];
    expect(await host.dockerFails('network', 'create', ...CALICO, ...second)).toMatch(/blockSize/);
    outside.kill();
    await clear(host, 'plain', 'nat');
    expect(await keys(host, '192-0-2-0')).toEqual([]);
  });
});

const serverOutside = [
  process.execPath,
  '-e',
  "require('node:net').createServer(s => s.on('error', () => {}).end(s.remoteAddress.replace('::ffff:', '')))" +
    ".listen(7000, '::', () => console.log('serving'))",
];
