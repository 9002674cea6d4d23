import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PortRequest } from '../../src/host/port-reservations.js';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';
import { Talker } from './talker.js';

let host: PretendHost;
let others: Talker;
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
  others = new Talker(host);
});
afterEach(() => {
  others.end();
  host.shutDown();
});

function want(port: Partial<PortRequest>): PortRequest {
  const hostPort = port.hostPort ?? 8080;
  return { protocol: 'tcp', hostPort, hostPortEnd: hostPort, address: '10.65.0.1', port: 80, ...port };
}

const reserve = async (key: string, ...wanted: PortRequest[]): Promise<number[]> =>
  (await host.call('reserve', key, wanted)).map(({ hostPort }) => hostPort);

describe.each(['tcp', 'udp', 'sctp'] as const)('%s', protocol => {
  test('a port belongs to one, until released', async () => {
    expect(await host.call('reserve', 'a', [want({ protocol })])).toEqual([
      { protocol, hostPort: 8080, address: '10.65.0.1', port: 80 },
    ]);
    await expect(reserve('b', want({ protocol }))).rejects.toThrow(
      `PortInUseError: port 8080/${protocol} of the host is in use by container endpoint a: choose another with -p`,
    );
    await expect(reserve('b', want({ protocol, hostAddress: '127.0.0.1' }))).rejects.toThrow('in use');
    expect(await reserve('b', want({ protocol, address: 'fd65::1' }))).toEqual([8080]);
    await host.call('release', 'a');
    await host.call('release', 'a');
    expect(await reserve('c', want({ protocol }))).toEqual([8080]);
  });

  test('all or nothing, and the same again', async () => {
    await reserve('a', want({ protocol, hostPort: 82 }));
    const three = [81, 82, 83].map(hostPort => want({ protocol, hostPort }));
    await expect(reserve('b', ...three)).rejects.toThrow('port 82');
    expect(await reserve('c', ...three.filter(({ hostPort }) => hostPort !== 82))).toEqual([81, 83]);
    expect(await reserve('c', ...three.filter(({ hostPort }) => hostPort !== 82))).toEqual([81, 83]);
    await host.call('release', 'a');
    expect(await reserve('c', ...three)).toEqual([81, 82, 83]);
  });

  test('of a range the first free, of any one that is, the same for both families', async () => {
    const range = want({ protocol, hostPort: 90, hostPortEnd: 91 });
    await reserve('a', want({ protocol, hostPort: 90, address: 'fd65::1' }));
    expect(await reserve('b', range, { ...range, address: 'fd65::2' })).toEqual([91, 91]);
    expect(await reserve('c', range)).toEqual([90]);
    await expect(reserve('d', range)).rejects.toThrow(
      `ports 90-91/${protocol} of the host are all in use, the last by container endpoint b: choose others with -p`,
    );
    const any = want({ protocol, hostPort: 0 });
    const [four, six, second] = await reserve('e', any, { ...any, address: 'fd65::1' }, { ...any, port: 81 });
    expect(four).toBeGreaterThan(1024);
    expect(six).toBe(four);
    expect(second).not.toBe(four);
    expect(await reserve('e', any, { ...any, address: 'fd65::1' }, { ...any, port: 81 })).toEqual([
      four,
      six,
      second,
    ]);
  });
});

describe('processes of the host', () => {
  test.each(['tcp', 'udp'] as const)('that have a %s port keep it', async protocol => {
    await others.serve(8080, 'process');
    for (const address of ['10.65.0.1', 'fd65::1']) {
      await expect(reserve('a', want({ protocol, address }))).rejects.toThrow(
        `port 8080/${protocol} of the host is in use by another process`,
      );
    }
    expect(await reserve('a', want({ protocol, hostPortEnd: 8081 }))).toEqual([8081]);
  });

  test('do not get what is reserved', async () => {
    await reserve('a', want({ address: 'fd65::1' }));
    await expect(others.serve(8080, 'process')).rejects.toThrow('EADDRINUSE');
  });
});

test("an address that is not the host's is refused, and so is one of another family", async () => {
  await expect(reserve('a', want({ hostAddress: '203.0.113.9' }))).rejects.toThrow(
    'RequestError: port 8080/tcp of 203.0.113.9: this host has no address 203.0.113.9; -p takes one of its own, or none',
  );
  await expect(reserve('a', want({ hostAddress: '::1' }))).rejects.toThrow('different families');
  expect(await reserve('a', want({ hostAddress: '127.0.0.1' }))).toEqual([8080]);
});

test('a connection to ::1 reaches the container, ends half by half, and breaks with it', async () => {
  await host.outside();
  await host.call('apply', {
    ownBlocks: [],
    masqueradeFrom: [],
    pools: ['fd65::/64'],
    published: await host.call('reserve', 'a', [want({ address: 'fd65::1' })]),
    internal: [],
  });
  const container = await host.container(endpoint(1, ['10.65.0.1', 'fd65::1']));
  const inside = new Talker(container);
  await expect(others.ask('tcp', '::1', 8080)).rejects.toThrow(/ECONNRESET|no answer/);
  await inside.serve(80, 'inside');
  const long = 'x'.repeat(300_000);
  for (let round = 0; round < 20; round += 1) {
    expect(await others.ask('tcp', '::1', 8080, long)).toBe('inside 2001:db8::1 300000');
  }
  const open = async (): Promise<number> =>
    (await host.run('busybox netstat -tn')).split('\n').filter(line => / fd65::1:80 +ESTABLISHED/.test(line))
      .length;
  expect(await open()).toBe(0);
  await others.open('::1', 8080);
  await others.open('::1', 8080);
  await until(async () => (await open()) === 2);
  // Waits for all of them to end.
  await host.call('release', 'a');
  await expect(others.ask('tcp', '::1', 8080)).rejects.toThrow('ECONNREFUSED');
  expect(await open()).toBe(0);
  await others.serve(8080, 'process');
  inside.end();
});
