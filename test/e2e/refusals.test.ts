import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import type { Engine } from '../bed/engines.js';
import type { Host } from '../bed/host.js';
import type { Running } from '../bed/running.js';
import { CALICO, container, expectCleanHost, post, traces, untilDefaultPools } from './calico-host.js';
import { dump } from './datastore.js';

describe.each<Engine>(['20', '28'])('what is refused on Docker %s', engine => {
  let bed: Bed;
  let host: Host;
  let daemon: Running;

  beforeAll(async () => {
    bed = await Bed.up({ engine });
    host = bed.host(1);
    daemon = await host.serve();
    await host.dockerd();
    await host.image();
    await untilDefaultPools(host);
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
    await host.docker('network', 'create', ...CALICO, 'free');
    await container(host, 'taker', 'net24', '--ip', '192.0.2.5');
  });
  afterAll(() => bed?.down());
  // Where something was not refused, what comes next is to be tested all the same.
  afterEach(() => host.run(['docker', 'network', 'rm', 'refused'], { check: false }));

  /** Everything a refused command may not change. */
  const state = async () => ({
    etcd: await dump(host),
    host: await traces(host),
    networks: await host.docker('network', 'ls', '--no-trunc', '--format', '{{.ID}} {{.Name}}'),
    endpoints: (await host.run(['ip', '-brief', 'link'])).stdout.split('\n').length,
  });

  /** Does what fails, and answers with its message; sees that nothing else came of it. */
  async function refused(attempt: () => Promise<string>): Promise<string> {
    const before = await state();
    const text = await attempt();
    // A container that did not start is Docker's own left-over.
    const created = await host.docker('ps', '-aq', '--filter', 'status=created');
    if (created !== '') await host.docker('rm', '-f', ...created.split('\n'));
    expect(await state()).toEqual(before);
    expect(daemon.ended, daemon.tail()).toBe(false);
    return text;
  }
  const docker = (...args: string[]) => refused(() => host.dockerFails(...args));
  const create = (...args: string[]) => docker('network', 'create', ...CALICO, ...args, 'refused');
  const run = (...args: string[]) => docker('run', '-d', ...args, 'busybox', 'sleep', '1d');

  /** `docker network create` by the API, where the client would already say no. */
  const createByApi = (ipam: object, options: object = {}) =>
    refused(async () => {
      const IPAM = { Driver: 'calico-ipam', Config: [ipam] };
      const answer = await post(host, '/networks/create', {
        Name: 'refused',
        Driver: 'calico',
        IPAM,
        ...options,
      });
      expect(answer.status, answer.text).toBeGreaterThanOrEqual(400);
      return answer.text;
    });

  it('a network that is none', async () => {
    expect(await run('--net', 'nowhere')).toContain('nowhere');
  });

  it('a subnet that is none, also where Docker lets it through', async () => {
    for (const subnet of ['192.0.2.0/33', 'tomorrow', '192.0.2.0'])
      expect(await createByApi({ Subnet: subnet }), subnet).toContain(subnet);
  });

  it('an --ip-range outside of the subnet', async () => {
    const text = await createByApi({ Subnet: '198.51.100.0/24', IPRange: '203.0.113.0/28' });
    expect(text).toContain('203.0.113.0/28');
  });

  it('a subnet of address bits right of its prefix, in words', async () => {
    expect(await createByApi({ Subnet: '198.51.100.77/24' })).toMatch(/198\.51\.100\.(77|0)\/24/);
  });

  it('an address outside of the subnet', async () => {
    expect(await run('--net', 'net24', '--ip', '203.0.113.5')).toMatch(/203\.0\.113\.5|no configured subnet/);
  });

  it('an address on a network without a subnet', async () => {
    expect(await run('--net', 'free', '--ip', '192.168.0.5')).toContain('user configured subnets');
  });

  it('an address that is taken', async () => {
    const text = await run('--net', 'net24', '--ip', '192.0.2.5');
    expect(text).toContain('192.0.2.5');
    expect(text).toMatch(/taken|in use|already/);
  });

  it('a container too many', async () => {
    await host.docker('network', 'create', ...CALICO, '--subnet=198.51.100.0/30', 'tiny');
    const names = ['full-1', 'full-2', 'full-3', 'full-4'];
    for (const name of names) await container(host, name, 'tiny');
    const text = await run('--net', 'tiny');
    expect(text).toContain('198.51.100.0/30');
    expect(text).toMatch(/no (free )?address|exhausted|full/);
    // And there is room again.
    await host.docker('rm', '-f', 'full-2');
    await container(host, 'full-5', 'tiny');
    await host.docker('rm', '-f', 'full-1', 'full-3', 'full-4', 'full-5');
    await host.docker('network', 'rm', 'tiny');
    expect(Object.keys(await dump(host)).filter(key => key.includes('198.51.100.'))).toEqual([]);
  });

  it('options that are none', async () => {
    expect(await create('-o', 'colour=blue')).toMatch(/unknown option -o colour/);
    expect(await create('--ipam-opt', 'colour=blue')).toMatch(/unknown option --ipam-opt colour/);
    expect(await create('--subnet=198.51.100.0/24', '-o', 'colour=blue')).toMatch(/-o colour/);
  });

  it('a MAC address that is none, or that no interface can have', async () => {
    expect(await run('--net', 'net24', '--mac-address', 'zz:zz')).toMatch(/zz:zz/);
    expect(await run('--net', 'net24', '--mac-address', '01:00:5e:00:00:01')).toMatch(
      /01:00:5e:00:00:01.*(multicast|group)/i,
    );
    expect(await run('--net', 'net24', '--mac-address', '00:00:00:00:00:00')).toMatch(/MAC/);
  });

  it('subnets that overlap a pool without lying in it', async () => {
    for (const subnet of ['192.0.0.0/16', '192.0.2.0/23']) {
      const text = await create('--subnet', subnet);
      expect(text).toContain(subnet);
      // The pool's name and its range.
      expect(text).toContain('docker-192-0-2-0-24');
      expect(text).toContain('192.0.2.0/24');
    }
  });

  it('a subnet the host itself is in: its own network would be cut off', async () => {
    const text = await create(`--subnet=${host.address.replace(/\d+$/, '0')}/24`);
    expect(text).toContain('10.99.0.0/24');
    expect(text).toMatch(/route|interface|host/);
  });

  it("Docker's own IPAM", async () => {
    for (const ipam of [[], ['--subnet=198.51.100.0/24']])
      expect(await docker('network', 'create', '-d', 'calico', ...ipam, 'refused')).toContain(
        '--ipam-driver calico-ipam',
      );
  });

  it('an IPv6 network where no pool is', async () => {
    expect(await create('--ipv6')).toMatch(/--subnet.*CALICO_IPV6POOL_CIDR/);
  });

  it('and all is well after it', async () => {
    await host.docker('rm', '-f', 'taker');
    await host.docker('network', 'rm', 'net24', 'free');
    await expectCleanHost(host);
    expect(Object.keys(await dump(host)).filter(key => /handle|192\.0\.2\./.test(key))).toEqual([]);
  });

  it('a subnet without pool where pools are not made by themselves', async () => {
    await host.stopServe();
    daemon = await host.serve({ CALICO_LIBNETWORK_AUTO_POOLS: 'false' });
    const text = await create('--subnet=198.51.100.0/24');
    expect(text).toContain('198.51.100.0/24');
    expect(text).toContain('CALICO_LIBNETWORK_AUTO_POOLS');
    // A part of a pool that is there will do.
    await host.docker('network', 'create', ...CALICO, '--subnet=192.168.7.0/24', 'part');
    await host.docker('network', 'rm', 'part');
  });
});
