import { existsSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BODILESS } from '../../src/plugin/protocol.js';
import { TestDaemon } from './dockerd.js';
import { requestPool } from './requests.js';

/** Nothing listens there: all of this must work, or be refused, without a datastore. */
const NO_ETCD = 'http://127.0.0.1:1';

const daemon = new TestDaemon(NO_ETCD);
beforeAll(async () => void (await daemon.start()));
afterAll(() => daemon.stop());

describe('without a datastore', () => {
  it('both plugins are activated: calico is both drivers, so either use registers both', async () => {
    expect((await daemon.call('Plugin.Activate')).body).toEqual({
      Implements: ['NetworkDriver', 'IpamDriver'],
    });
    expect((await daemon.call('Plugin.Activate', undefined, { ipam: true })).body).toEqual({
      Implements: ['IpamDriver'],
    });
  });

  it('capabilities and address spaces are answered', async () => {
    expect(await daemon.ok('NetworkDriver.GetCapabilities')).toEqual({
      Scope: 'local',
      ConnectivityScope: 'global',
      GwAllocChecker: true,
    });
    expect(await daemon.ok('IpamDriver.GetCapabilities')).toEqual({
      RequiresMACAddress: true,
      RequiresRequestReplay: false,
    });
    const spaces = await daemon.ok('IpamDriver.GetDefaultAddressSpaces');
    expect(spaces.LocalDefaultAddressSpace).toBe(spaces.GlobalDefaultAddressSpace);
    expect(await daemon.ok('NetworkDriver.GwAllocCheck', { Options: {} })).toEqual({
      SkipIPv4: true,
      SkipIPv6: true,
    });
  });

  it('a request that needs it fails within 10 s and says why', async () => {
    const started = Date.now();
    expect(await daemon.refused('IpamDriver.RequestPool', requestPool('192.0.2.0/24'))).toMatch(
      /datastore|etcd/,
    );
    expect(Date.now() - started).toBeLessThan(10_000);
  });
});

describe('the protocol', () => {
  const METHODS = [
    ...[
      'GetCapabilities',
      'GwAllocCheck',
      'AllocateNetwork',
      'FreeNetwork',
      'CreateNetwork',
      'DeleteNetwork',
      'CreateEndpoint',
    ],
    ...[
      'DeleteEndpoint',
      'EndpointOperInfo',
      'Join',
      'Leave',
      'ProgramExternalConnectivity',
      'RevokeExternalConnectivity',
    ],
    ...['DiscoverNew', 'DiscoverDelete'],
  ].map(name => `NetworkDriver.${name}`);
  const IPAM = [
    'GetCapabilities',
    'GetDefaultAddressSpaces',
    'RequestPool',
    'ReleasePool',
    'RequestAddress',
    'ReleaseAddress',
  ];
  const all = [...METHODS, ...IPAM.map(name => `IpamDriver.${name}`)];

  it.each(all.filter(method => !BODILESS.has(method)))(
    '%s refuses an empty body, which is a retry that lost it',
    async method => {
      expect(await daemon.refused(method)).toContain('without a body');
      const answer = await daemon.call(method, 'nonsense');
      expect(answer).toMatchObject({ status: 400, body: { Err: expect.stringContaining('no JSON') } });
      expect((await daemon.call(method, '[1]')).status).toBe(400);
      expect((await daemon.call(method, 'null')).status).toBe(400);
    },
  );

  it('an unknown method is 404, which Docker takes for "not implemented"; a plugin has only its own', async () => {
    for (const method of ['NetworkDriver.Fly', 'toString', '', '__proto__', 'constructor'])
      expect(await daemon.call(method, {})).toMatchObject({
        status: 404,
        body: { Err: expect.stringContaining('unknown') },
      });
    expect((await daemon.call('NetworkDriver.GetCapabilities', {}, { ipam: true })).status).toBe(404);
    expect((await daemon.call('Plugin.Activate', undefined, { verb: 'GET' })).status).toBe(404);
  });

  it('2 MB are refused with an answer that can be read', async () => {
    const answer = await daemon.call('IpamDriver.RequestPool', `{"Pool":"${'x'.repeat(2_000_000)}"}`);
    expect(answer.status).toBe(413);
    expect(answer.body.Err).toBe(answer.body.Error);
    expect(await daemon.ok('IpamDriver.GetCapabilities')).toBeDefined();
  });

  it.each([
    ['IpamDriver.RequestPool', requestPool('', { AddressSpace: 'LocalDefault' }), 'AddressSpace'],
    ['IpamDriver.RequestPool', requestPool('', { AddressSpace: null }), 'AddressSpace'],
    ['IpamDriver.RequestPool', requestPool('192.0.2.0/33'), '--subnet'],
    ['IpamDriver.RequestPool', requestPool('192.0.2.5/24'), '192.0.2.0/24 is meant'],
    ['IpamDriver.RequestPool', requestPool('192.0.2.0/24', { V6: true }), 'not IPv6'],
    ['IpamDriver.RequestPool', requestPool('127.1.0.0/16'), 'loopback'],
    ['IpamDriver.RequestPool', requestPool('0.0.0.0/1'), 'loopback'],
    ['IpamDriver.RequestPool', requestPool('fe80::/64'), 'link-local'],
    ['IpamDriver.RequestPool', requestPool('', { SubPool: '192.0.2.0/28' }), 'needs a --subnet'],
    ['IpamDriver.RequestPool', requestPool('192.0.2.0/24', { SubPool: '192.0.3.0/28' }), 'not inside'],
    ['IpamDriver.RequestPool', requestPool('192.0.2.0/24', { Options: { colour: 'red' } }), 'colour'],
    ['IpamDriver.RequestPool', requestPool('192.0.2.0/24', { Options: { colour: 1 } }), 'Options["colour"]'],
    ['IpamDriver.RequestPool', requestPool('192.0.2.0/24', { Pool: 7 }), 'Pool must be a string'],
    ['NetworkDriver.CreateNetwork', { NetworkID: '../../x', Options: {} }, 'NetworkID'],
    ['NetworkDriver.Join', { NetworkID: 'a', EndpointID: 'a/b', SandboxKey: 'x' }, 'EndpointID'],
    ['NetworkDriver.Leave', { NetworkID: 'a' }, 'EndpointID is missing'],
    ['IpamDriver.ReleaseAddress', { PoolID: 'CalicoPoolIPv4', Address: 'x' }, 'no IP address'],
  ])('%s %j is refused with a text that says %s', async (method, body, words) => {
    expect(await daemon.refused(method, body)).toContain(words);
  });
});

describe('the sockets', () => {
  it('are for root only, replace a dead file, leave a live one alone, and go when the daemon does', async () => {
    const first = new TestDaemon(NO_ETCD);
    for (const socket of first.sockets) writeFileSync(socket, 'left behind');
    await first.start();
    for (const socket of first.sockets) expect(statSync(socket).mode & 0o777).toBe(0o600);
    const second = new TestDaemon(NO_ETCD);
    Object.defineProperty(second, 'sockets', { value: first.sockets });
    await expect(second.start()).rejects.toThrow(/in use: .* stop it first/);
    expect(await first.ok('IpamDriver.GetCapabilities')).toBeDefined();
    const [socket] = first.sockets;
    await first.stop();
    expect(existsSync(socket)).toBe(false);
    await second.store.close();
  });

  it('replaces a socket that a killed process left', async () => {
    const first = new TestDaemon(NO_ETCD);
    const [socket] = first.sockets;
    const server = createServer().listen(socket);
    await new Promise(resolve => server.once('listening', resolve));
    // Closing the handle without Node's unlink leaves what SIGKILL leaves.
    const { linkSync, renameSync } = await import('node:fs');
    linkSync(socket, `${socket}.dead`);
    await new Promise(resolve => server.close(resolve));
    renameSync(`${socket}.dead`, socket);
    await first.start();
    expect(await first.ok('IpamDriver.GetCapabilities')).toBeDefined();
    await first.stop();
  });
});
