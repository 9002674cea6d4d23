import { readFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blocksPrefix, POOL_CREATION_KEY } from '../../src/datastore/keys.js';
import { contains, nth, parseAddress } from '../../src/ipam/cidr.js';
import { formatAddress } from '../../src/ipam/cidr.js';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import { parseBlock } from '../../src/model/block.js';
import { eventually, startEtcd } from '../contract/etcd-process.js';
import type { EtcdProcess } from '../contract/etcd-process.js';
import { anyText, ENDLESS, mutated, runs } from '../fuzz/garbage.js';
import { isOurs, stray } from '../fuzz/stray.js';
import { addPool, cidr, put } from '../unit/ipam-node.js';
import { TestDaemon } from './dockerd.js';
import * as requests from './requests.js';

/** Milliseconds; the machine has other things to do. */
const AT_ONCE = 2_000;
/** Methods that need nothing of their body. */
const CARELESS = new Set([
  'NetworkDriver.GwAllocCheck',
  'NetworkDriver.FreeNetwork',
  'NetworkDriver.EndpointOperInfo',
  'NetworkDriver.DiscoverNew',
  'NetworkDriver.DiscoverDelete',
]);

/** Everything is formatted, as in the daemon, and nothing printed. */
const log = pino({ level: 'debug' }, new Writable({ write: (_chunk, _encoding, done) => done() }));

let etcd: EtcdProcess;
let daemon: TestDaemon;
/** By method, what a mutation starts from. */
const samples: Record<string, object> = {};
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.remove());

/** A network with a container, and calls that would be right. */
async function prepare(): Promise<void> {
  const mac = '02:42:0a:3d:00:02';
  const PoolID = await requests.makeNetwork(daemon, 'a', '10.61.0.0/24');
  const Address = await requests.requestAddress(daemon, PoolID, mac);
  await daemon.ok('NetworkDriver.CreateEndpoint', requests.createEndpoint('a', 'e1', [Address], mac));
  await daemon.ok('NetworkDriver.Join', requests.join('a', 'e1'));
  // In the background, after Join.
  await eventually(async () =>
    expect(JSON.stringify(await daemon.dump())).toContain('/var/run/docker/netns/'),
  );
  const ids = { NetworkID: requests.dockerId('a'), EndpointID: requests.dockerId('e1') };
  const port = { Proto: 6, IP: '', Port: 80, HostIP: '127.0.0.1', HostPort: 0, HostPortEnd: 0 };
  Object.assign(samples, {
    'IpamDriver.RequestPool': requests.requestPool('10.61.0.0/24', {
      SubPool: '10.61.0.128/25',
      Options: { blockSize: '26' },
    }),
    'IpamDriver.ReleasePool': { PoolID },
    'IpamDriver.RequestAddress': {
      PoolID,
      Address: '10.61.0.77',
      Options: { [requests.MAC]: mac, RequestAddressType: '' },
    },
    'IpamDriver.ReleaseAddress': { PoolID, Address: '10.61.0.77' },
    'NetworkDriver.AllocateNetwork': { NetworkID: requests.dockerId('b'), Options: { a: 'b' } },
    'NetworkDriver.FreeNetwork': { NetworkID: requests.dockerId('b') },
    'NetworkDriver.CreateNetwork': requests.createNetwork('b', ['10.61.0.0/24'], {
      mtu: '1400',
      profile: 'p',
    }),
    'NetworkDriver.DeleteNetwork': { NetworkID: requests.dockerId('b') },
    'NetworkDriver.CreateEndpoint': requests.createEndpoint('a', 'e2', ['10.61.0.77/32'], mac),
    'NetworkDriver.Join': requests.join('a', 'e1'),
    'NetworkDriver.Leave': ids,
    'NetworkDriver.DeleteEndpoint': { ...ids, EndpointID: requests.dockerId('e2') },
    'NetworkDriver.EndpointOperInfo': ids,
    'NetworkDriver.ProgramExternalConnectivity': {
      ...ids,
      Options: { 'com.docker.network.portmap': [port], 'com.docker.network.endpoint.exposedports': [] },
    },
    'NetworkDriver.RevokeExternalConnectivity': ids,
    'NetworkDriver.GwAllocCheck': { Options: {} },
    'NetworkDriver.DiscoverNew': { DiscoveryType: 1, DiscoveryData: { Address: '10.0.0.1', Self: true } },
    'NetworkDriver.DiscoverDelete': { DiscoveryType: 1, DiscoveryData: {} },
  });
}

/** Bodies that engines really sent, with the method. */
function recorded(): [string, object][] {
  return ['docker-20.10-basic', 'docker-28.5-basic'].flatMap(name =>
    readFileSync(new URL(`../fixtures/${name}.jsonl`, import.meta.url), 'utf8')
      .trim()
      .split('\n')
      .map((line): { req: string; body: object | '' } => JSON.parse(line))
      .flatMap(({ req, body }): [string, object][] => (body === '' ? [] : [[req, body]])),
  );
}

/** Sends a body and holds the answer against what dockerd is promised; the status. */
async function send(method: string, body: string, socket: { ipam?: boolean } = {}): Promise<number> {
  const before = await daemon.dump();
  const started = performance.now();
  const { status, body: answer } = await daemon.call(method, body, socket);
  const took = performance.now() - started;
  const what = { method, body: body.slice(0, 500), status, answer: JSON.stringify(answer).slice(0, 300) };
  expect(took, JSON.stringify(what)).toBeLessThan(AT_ONCE);
  if (status === 200) return status;
  expect({ ...what, isRefusal: status >= 400 && status !== 404 }).toMatchObject({ isRefusal: true });
  expect({ ...what, hasReason: /./.test(String(answer.Err)) && answer.Err === answer.Error }).toMatchObject({
    hasReason: true,
  });
  // Whatever is wrong with a body, it is not for us to be surprised.
  expect(what).not.toMatchObject({ answer: expect.stringContaining('internal error') });
  expect({ ...what, written: changes(before, await daemon.dump()) }).toMatchObject({ written: [] });
  return status;
}

/** Keys that differ, but for the one that only counts how often pools were made. */
function changes(before: Record<string, string>, after: Record<string, string>): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    key => key !== POOL_CREATION_KEY && before[key] !== after[key],
  );
}

describe('whatever is sent to a socket', () => {
  beforeAll(async () => {
    daemon = await new TestDaemon(etcd.endpoint, {}, log).start();
    await eventually(async () =>
      expect(JSON.stringify(await daemon.dump())).toContain('default-ipv4-ippool'),
    );
    await prepare();
  });
  afterAll(() => daemon.stop());

  it('what is no JSON object is refused by every method that needs one', async () => {
    const bodies = ['', ' ', '\0', '[]', '[{}]', 'null', '1', '"x"', '{', '{"a":}', '{}{}', "{'a':1}"];
    for (const method of Object.keys(samples))
      for (const body of bodies) expect([method, body, await send(method, body)]).not.toContain(200);
  });

  it('so is an empty object, and a field of another type', async () => {
    for (const [method, sample] of Object.entries(samples)) {
      if (CARELESS.has(method)) continue;
      if (method !== 'NetworkDriver.AllocateNetwork')
        expect([method, await send(method, '{}')]).not.toContain(200);
      for (const field of Object.keys(sample).filter(name =>
        /ID$|^Address$|^Pool$|^SandboxKey$|^Options$|Data$/.test(name),
      ))
        // Leave and its like need only the endpoint.
        for (const value of field === 'NetworkID' || (field === 'Options' && method.endsWith('.Join'))
          ? []
          : [5, true, [[5]], [STUBBORN]])
          expect([
            method,
            field,
            value,
            await send(method, JSON.stringify({ ...sample, [field]: value })),
          ]).not.toContain(200);
    }
  });

  it.each(Object.entries(ENDLESS))('a megabyte of %s is answered at once', async (_name, text) => {
    const within = text.slice(0, 1024 * 1024 - 30);
    for (const method of [
      'IpamDriver.RequestPool',
      'IpamDriver.RequestAddress',
      'NetworkDriver.AllocateNetwork',
    ])
      for (const body of [
        text,
        within,
        `{"PoolID":${within}}`,
        `{"Options":${within}}`,
        `{"Pool":${JSON.stringify(within.slice(0, 300_000))}}`,
      ])
        await send(method, body);
  });

  it('what was answered with an internal error, or left a pool behind', async () => {
    const create = (options: object) => requests.createNetwork('f', ['10.61.0.0/24'], options);
    const portMap = (mapping: object) => ({
      ...samples['NetworkDriver.ProgramExternalConnectivity'],
      Options: { 'com.docker.network.portmap': [mapping] },
    });
    const wrong: [string, object][] = [
      ['NetworkDriver.CreateNetwork', create({ mtu: STUBBORN })],
      ['NetworkDriver.CreateNetwork', create({ mtu: ['1400'] })],
      [
        'NetworkDriver.CreateNetwork',
        { ...create({}), IPv4Data: [{ AddressSpace: STUBBORN, Pool: '10.61.0.0/24' }] },
      ],
      [
        'NetworkDriver.CreateNetwork',
        requests.createNetwork('f', ['10.65.0.0/24', '10.66.0.0/16', '10.65.0.0/16']),
      ],
      ['NetworkDriver.ProgramExternalConnectivity', portMap({ Proto: STUBBORN, Port: 80 })],
      ['NetworkDriver.ProgramExternalConnectivity', portMap({ Proto: 6, Port: STUBBORN })],
    ];
    for (const [method, body] of wrong)
      expect([method, body, await send(method, JSON.stringify(body))]).not.toContain(200);
    const long = '{"Options":{"a":12345678901234567890}}';
    expect(await daemon.call('NetworkDriver.AllocateNetwork', long)).toMatchObject({ status: 200 });
  });

  it('any body: an answer, and nothing written where it is an error', async () => {
    const body = fc
      .constantFrom(...Object.entries(samples), ...recorded())
      .chain(([method, sample]) =>
        fc.tuple(
          fc.constant(method),
          fc.oneof({ weight: 9, arbitrary: mutated(sample) }, { weight: 1, arbitrary: anyText }),
        ),
      );
    const method = fc.oneof(
      { weight: 9, arbitrary: body },
      { weight: 1, arbitrary: fc.tuple(fc.constantFrom(...Object.keys(samples)), anyText) },
    );
    await fc.assert(
      fc.asyncProperty(method, fc.boolean(), async ([name, text], ipam) => {
        await send(name, text, { ipam: ipam && name.startsWith('IpamDriver') });
      }),
      { numRuns: runs(600) },
    );
    expect(await daemon.call('Plugin.Activate')).toMatchObject({ status: 200 });
  });
});

const STUBBORN = { toString: 1 };

describe('whatever stands in etcd', () => {
  it('the daemon starts, gives out addresses, and leaves it as it is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(stray, { minLength: 10, maxLength: 40 }), async entries => {
        etcd.control('del', '--prefix', '/calico/');
        const store = createEtcdStore({ endpoints: [etcd.endpoint] }, log);
        await addPool(store, 'p', '10.0.0.0/27', { blockSize: 29 });
        await addPool(store, 'q', '10.1.0.0/24');
        for (const [key, value] of entries) await put(store, key, value);
        await store.close();
        daemon = new TestDaemon(etcd.endpoint, { NODENAME: 'a' }, log);
        try {
          const before = await daemon.dump();
          await daemon.start();
          const ask = (PoolID: string, last: number) =>
            daemon.call('IpamDriver.RequestAddress', {
              PoolID,
              Address: '',
              Options: { [requests.MAC]: `02:42:00:00:00:0${last}` },
            });
          expect((await ask('calico:v1:10.1.0.0/24', 1)).body).toMatchObject({ Data: {} });
          const { status, body } = await ask('calico:v1:10.0.0.0/27', 2);
          if (status !== 200) expect(String(body.Err)).toMatch(/no free address/);
          else {
            const address = parseAddress(String(body.Address).replace('/32', ''));
            expect(address && contains(cidr('10.0.0.0/27'), address)).toBe(true);
            expect(inUse(before)).not.toContain(address && formatAddress(address));
          }
          for (const last of [0, 3, 8, 11, 16, 19])
            await daemon.call('IpamDriver.ReleaseAddress', {
              PoolID: 'calico:v1:10.0.0.0/27',
              Address: `10.0.0.${last}`,
            });
          const after = await daemon.dump();
          for (const [key, value] of Object.entries(before))
            if (!isOurs(key, value)) expect({ key, value: after[key] }).toEqual({ key, value });
        } finally {
          await daemon.stop();
        }
      }),
      { numRuns: Math.ceil(runs(600) / 40) },
    );
  });
});

/** Addresses in use in the pool's blocks. */
function inUse(dump: Record<string, string>): string[] {
  return Object.entries(dump).flatMap(([key, value]) => {
    const block = key.startsWith(blocksPrefix(4)) && isOurs(key, value) ? parseBlock(value) : undefined;
    return (block?.allocations ?? []).flatMap((index, ordinal) =>
      block && index !== null ? [formatAddress(nth(block.cidr, ordinal))] : [],
    );
  });
}
