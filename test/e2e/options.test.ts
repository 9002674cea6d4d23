import { afterEach, expect, it } from 'vitest';
import { objectOrEmpty } from '../../src/model/json.js';
import { poll } from '../bed/poll.js';
import { CALICO, container, expectCleanHost } from './calico-host.js';
import { dump, handles, keys } from './datastore.js';
import { addressIn, clear, endpointOf, inspected, onEachEngine, sweep } from './matrix.js';
import { ask, inside, linesIn, reaches, serveIn } from './traffic.js';

/** What stays when networks are gone: profiles, which a user may have edited, and what the default pools have. */
const STAYS = /\/profiles\/|default-ipv|192\.168\.|192-168/;

onEachEngine('options of networks', { isOuter: true }, matrix => {
  afterEach(() => sweep(matrix.host));
  const create = (...args: string[]) => matrix.host.docker('network', 'create', ...CALICO, ...args);
  const fails = (...args: string[]) => matrix.host.dockerFails('network', 'create', ...CALICO, ...args);
  const start = async (network: string, count: number) => {
    const names = Array.from({ length: count }, (_, index) => `${network}-${index}`);
    await Promise.all(names.map(name => container(matrix.host, name, network)));
    return Promise.all(names.map(name => addressIn(matrix.host, name, network)));
  };
  const nothingIsLeft = async () => {
    expect((await keys(matrix.host)).filter(key => !STAYS.test(key))).toEqual([]);
    await expectCleanHost(matrix.host, /^169\.254\.1\.0\/24 dev lo |^blackhole 192\.168\./);
  };

  it('--ip-range smaller than a block: just those addresses, others only by name', async () => {
    const { host } = matrix;
    await create('--subnet=192.0.2.0/24', '--ip-range=192.0.2.132/30', 'part');
    const addresses = await start('part', 4);
    expect(addresses.sort()).toEqual(['192.0.2.132', '192.0.2.133', '192.0.2.134', '192.0.2.135']);
    const text = await host.dockerFails('run', '--rm', '--net', 'part', 'busybox', 'true');
    expect(text).toContain('192.0.2.132/30');
    await container(host, 'named', 'part', '--ip', '192.0.2.7');
    expect(await addressIn(host, 'named', 'part')).toBe('192.0.2.7');
    expect(await reaches(host, '192.0.2.135', await inside(host, 'named'))).toBe(true);
    await clear(host, 'part');
    await nothingIsLeft();
  });

  it('--ip-range of several blocks, and of IPv6', async () => {
    const { host } = matrix;
    const six = ['--ipv6', '--subnet=fd80:1::/64', '--ip-range=fd80:1::8:0/126'];
    await create('--subnet=192.0.2.0/24', '--ip-range=192.0.2.128/25', ...six, 'part');
    const four = await start('part', 4);
    for (const address of four) expect(Number(address.split('.')[3])).toBeGreaterThanOrEqual(128);
    const found = four.map((_, index) => addressIn(host, `part-${index}`, 'part', 6));
    expect((await Promise.all(found)).sort()).toEqual(
      ['', '1', '2', '3'].map(last => (last === '' ? 'fd80:1::8:0' : `fd80:1::8:${last}`)),
    );
    await clear(host, 'part');
    await nothingIsLeft();
  });

  it('--gateway and --aux-address: kept back, shown, and freed with the network', async () => {
    const { host } = matrix;
    const kept = ['--gateway=198.51.100.1', '--aux-address=printer=198.51.100.3'];
    await create('--subnet=198.51.100.0/29', ...kept, 'kept');
    const held = (await handles(host)).filter(key => key.includes('198.51.100.'));
    expect(held).toHaveLength(2);
    const { IPAM: ipam } = await inspected(host, 'network', 'inspect', 'kept');
    expect(objectOrEmpty(ipam)['Config']).toEqual([
      {
        Subnet: '198.51.100.0/29',
        Gateway: '198.51.100.1',
        AuxiliaryAddresses: { printer: '198.51.100.3' },
      },
    ]);
    const rest = [0, 2, 4, 5, 6, 7].map(last => `198.51.100.${last}`);
    expect((await start('kept', 6)).sort()).toEqual(rest);
    expect(await host.dockerFails('run', '--rm', '--net', 'kept', 'busybox', 'true')).toContain(
      '198.51.100.0/29',
    );
    for (const address of ['198.51.100.1', '198.51.100.3'])
      expect(
        await host.dockerFails('run', '--rm', '--net', 'kept', '--ip', address, 'busybox', 'true'),
      ).toContain(address);
    // A second network of this host wants the same, or what a container has.
    const second = ['--subnet=198.51.100.0/29', '--aux-address'];
    for (const [name, address] of Object.entries({ printer: '198.51.100.3', taken: '198.51.100.4' })) {
      const before = await dump(host);
      expect(await fails(...second, `${name}=${address}`, 'second')).toContain(address);
      expect(await dump(host)).toEqual(before);
    }
    await clear(host, 'kept');
    await nothingIsLeft();
  });

  it('--gateway and --aux-address of IPv6', async () => {
    const { host } = matrix;
    const six = ['--subnet=fd80:1::/126', '--gateway=fd80:1::1', '--aux-address=x=fd80:1::2'];
    await create('--ipv6', '--subnet=192.0.2.0/24', ...six, 'kept');
    await container(host, 'one', 'kept');
    await container(host, 'two', 'kept');
    const addresses = [await addressIn(host, 'one', 'kept', 6), await addressIn(host, 'two', 'kept', 6)];
    expect(addresses.sort()).toEqual(['fd80:1::', 'fd80:1::3']);
    await clear(host, 'kept');
    await nothingIsLeft();
  });

  it('keeps no IPv4 address of a container that gets no IPv6', async () => {
    const { host } = matrix;
    await create('--ipv6', '--subnet=203.0.113.0/24', '--subnet=fd80:9::/127', 'scarce');
    await container(host, 'one', 'scarce');
    await container(host, 'two', 'scarce');
    const before = await handles(host);
    const said = await host.dockerFails('run', '--rm', '--net', 'scarce', 'busybox', 'true');
    expect(said).toContain('fd80:9::/127');
    await host.dockerFails('run', '--rm', '--net', 'scarce', '--ip6', 'fd80:9::1', 'busybox', 'true');
    await poll('the addresses', 5_000, async () => (await handles(host)).length === before.length);
    expect(await handles(host)).toEqual(before);
    await clear(host, 'scarce');
    await nothingIsLeft();
  });

  it('--internal: its own network and nothing else', async () => {
    const { host, bed } = matrix;
    const six = ['--ipv6', '--subnet=fd80:1::/64'];
    await create('--internal', '--subnet=192.0.2.0/24', ...six, 'inner');
    await create('--subnet=198.51.100.0/24', '--ipv6', '--subnet=fd80:2::/64', 'outer');
    await Promise.all([
      container(host, 'ann', 'inner', '-p', '9000:80'),
      container(host, 'ben', 'inner'),
      container(host, 'cat', 'outer'),
      container(host, 'dog', 'bridge'),
    ]);
    await serveIn(host, 'ann', 80);
    await serveIn(host, 'cat', 80);
    const [ann, ben] = [await inside(host, 'ann'), await inside(host, 'ben')];
    const cat = await inside(host, 'cat');
    const at = {
      ann: [await addressIn(host, 'ann', 'inner'), await addressIn(host, 'ann', 'inner', 6)],
      cat: [await addressIn(host, 'cat', 'outer'), await addressIn(host, 'cat', 'outer', 6)],
      dog: await addressIn(host, 'dog', 'bridge'),
    };
    for (const address of at.ann) {
      expect(await reaches(host, address, ben), `ben to ${address}`).toBe(true);
      expect(await ask(host, 'tcp', address, 80, ben)).toMatch(/^ann /);
    }
    expect(await host.docker('exec', 'ben', 'ping', '-c1', '-W2', 'ann')).toContain('1 packets received');
    const routes = [
      ...(await linesIn(host, 'ann', 'ip', 'route')),
      ...(await linesIn(host, 'ann', 'ip', '-6', 'route')),
    ];
    expect(routes.filter(route => route.startsWith('default'))).toEqual([]);
    // Even with a default route of its own, which a container may make.
    await host.run([...ann, 'ip', 'route', 'add', 'default', 'via', '169.254.1.1']);
    const places = [host.address, '10.99.0.1', '169.254.1.1', at.dog, ...at.cat, host.address6, 'fd99::1'];
    const reached = await Promise.all(places.map(place => reaches(host, place, ann)));
    expect(places.filter((_, index) => reached[index])).toEqual([]);
    await bed.fabric(['ip', 'route', 'replace', '192.0.2.0/24', 'via', host.address]);
    await bed.fabric(['ip', 'route', 'replace', 'fd80:1::/64', 'via', host.address6]);
    for (const address of at.ann) {
      expect(await reaches(host, address), `host to ${address}`).toBe(false);
      expect(await reaches(bed.outside, address), `outside to ${address}`).toBe(false);
      expect(await reaches(host, address, cat), `cat to ${address}`).toBe(false);
    }
    expect(await reaches(host, at.ann[0] ?? '', await inside(host, 'dog'))).toBe(false);
    for (const asks of [bed.outside, host]) expect(await ask(asks, 'tcp', host.address, 9000)).toBe('nobody');
    expect(await ask(host, 'tcp', host.address, 9000, cat)).toBe('nobody');
    expect((await inspected(host, 'network', 'inspect', 'inner'))['Internal']).toBe(true);
    await clear(host, 'inner', 'outer');
    await nothingIsLeft();
  });

  it('inspect shows what is true', async () => {
    const { host } = matrix;
    const six = ['--ipv6', '--subnet=fd80:1::/64'];
    await create('--subnet=192.0.2.0/24', '--ip-range=192.0.2.64/26', ...six, 'true');
    await container(host, 'ann', 'true');
    const shown = await endpointOf(host, 'ann', 'true');
    const lines = (await linesIn(host, 'ann', 'ip', '-oneline', 'address', 'show', 'cali0')).join('\n');
    expect(lines).toContain(`inet ${String(shown['IPAddress'])}/${String(shown['IPPrefixLen'])} `);
    expect(lines).toContain(
      `inet6 ${String(shown['GlobalIPv6Address'])}/${String(shown['GlobalIPv6PrefixLen'])} `,
    );
    expect((await linesIn(host, 'ann', 'cat', '/proc/net/arp')).length).toBeGreaterThan(0);
    const link = (await linesIn(host, 'ann', 'ip', '-oneline', 'link', 'show', 'cali0')).join();
    expect(link).toContain(`link/ether ${String(shown['MacAddress'])} `);
    const defaults = [
      ...(await linesIn(host, 'ann', 'ip', 'route', 'show', 'default')),
      ...(await linesIn(host, 'ann', 'ip', '-6', 'route', 'show', 'default')),
    ];
    expect(defaults[0]).toContain(`via ${String(shown['Gateway'])} `);
    expect(defaults[1]).toContain(`via ${String(shown['IPv6Gateway'])} `);
    const network = await inspected(host, 'network', 'inspect', 'true');
    const config = objectOrEmpty(network['IPAM'])['Config'];
    expect(config).toMatchObject([
      { Subnet: '192.0.2.0/24', IPRange: '192.0.2.64/26' },
      { Subnet: 'fd80:1::/64' },
    ]);
    expect(Object.values(objectOrEmpty(network['Containers']))).toMatchObject([
      {
        Name: 'ann',
        MacAddress: shown['MacAddress'],
        IPv4Address: `${String(shown['IPAddress'])}/32`,
        IPv6Address: `${String(shown['GlobalIPv6Address'])}/128`,
      },
    ]);
    await clear(host, 'true');
    await nothingIsLeft();
  });
});
