import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { NodeRegistration } from '../../src/agent/node-registration.js';
import { NodeWriter } from '../../src/agent/node-writer.js';
import { mirrorOfNodes } from '../../src/agent/other-hosts.js';
import { loadConfig } from '../../src/config.js';
import { resourceKey } from '../../src/datastore/keys.js';
import { detectAddress } from '../../src/host/autodetect.js';
import type { InterfaceAddress } from '../../src/host/peers.js';
import { createLogger } from '../../src/log.js';
import { formatChangedNode, formatNewNode, parseNode } from '../../src/model/node.js';
import { poll } from '../bed/poll.js';
import { FakePeers } from '../fakes/dataplane.js';
import { MemoryStore } from '../fakes/memory-store.js';

const quiet = createLogger('silent');
const KEY = resourceKey('nodes', 'h1');

function on(
  interfaceName: string,
  address: string,
  prefixLength: number,
  more: Partial<InterfaceAddress> = {},
) {
  return { interfaceName, isUp: true, address, prefixLength, isLasting: true, ...more };
}
const ETH0 = on('eth0', '10.0.0.1', 24);
const OTHER = on('eth0', '10.0.0.7', 25);

/** What the settings say to do with a host that has these addresses. */
async function detected(env: Record<string, string>, own: InterfaceAddress[], family: 4 | 6 = 4) {
  const host = new FakePeers();
  host.own = own;
  const config = loadConfig({ NODENAME: 'h1', ...env });
  return detectAddress(host, family === 4 ? config.ipDetection : config.ip6Detection, family);
}

describe("the host's address", () => {
  const hosts = [
    on('lo', '127.0.0.1', 8, { isLasting: false }),
    on('docker0', '172.17.0.1', 16),
    on('br-0123456789ab', '172.18.0.1', 16),
    on('eth9', '10.9.9.9', 24, { isUp: false }),
    on('eth0', 'fe80::1', 64, { isLasting: false }),
    on('eth1', '10.1.0.1', 20),
    on('eth0', '10.0.0.1', 24),
    on('eth0', 'fd00::1', 64),
  ];
  it.each([
    ['first-found', '10.1.0.1/20'],
    ['interface=eth0', '10.0.0.1/24'],
    ['interface=ens.*,docker.*,eth0', '172.17.0.1/16'],
    ['skip-interface=eth1', '10.0.0.1/24'],
    ['cidr=192.168.0.0/16,10.0.0.0/24', '10.0.0.1/24'],
    ['cidr=192.168.0.0/16', undefined],
    ['interface=eth9', undefined],
  ])('with %s is %s', async (method, expected) => {
    expect(await detected({ IP_AUTODETECTION_METHOD: method }, hosts)).toBe(expected);
  });

  it('with can-reach is the one the kernel would use', async () => {
    const host = new FakePeers();
    host.own = hosts;
    host.sourceTo = async target => (target === '192.0.2.1' ? '10.0.0.1' : undefined);
    const { ipDetection } = loadConfig({ NODENAME: 'h1', IP_AUTODETECTION_METHOD: 'can-reach=192.0.2.1' });
    expect(await detectAddress(host, ipDetection, 4)).toBe('10.0.0.1/24');
  });

  it('is of the family that is asked for', async () =>
    expect(await detected({}, hosts, 6)).toBe('fd00::1/64'));

  it.each([
    ['IP', '10.0.0.300'],
    ['IP', 'fd00::1'],
    ['IP6', '10.0.0.1'],
    ['IP_AUTODETECTION_METHOD', 'guess'],
    ['IP_AUTODETECTION_METHOD', 'cidr=x'],
    ['IP_AUTODETECTION_METHOD', 'cidr=10.0.0.0'],
    ['IP_AUTODETECTION_METHOD', 'can-reach=fd00::1'],
    ['IP6_AUTODETECTION_METHOD', 'interface=('],
  ])('cannot be set to nonsense: %s=%s', (name, value) =>
    expect(() => loadConfig({ NODENAME: 'h1', [name]: value })).toThrow(name),
  );
});

describe('the Node of this host', () => {
  const open: { close(): void }[] = [];
  afterEach(() => open.splice(0).forEach(part => part.close()));

  /** A daemon's registration, started on a store. */
  function registered(store: MemoryStore, env: Record<string, string>, own = [ETH0], log = quiet) {
    const config = loadConfig({ NODENAME: 'h1', ...env });
    const host = new FakePeers();
    host.own = own;
    const nodes = mirrorOfNodes(store, quiet);
    const registration = new NodeRegistration({
      ...{ writer: new NodeWriter(store, 'h1', nodes), nodes, host, log },
      source: { 4: config.ip, 6: config.ip6 },
      method: { 4: config.ipDetection, 6: config.ip6Detection },
    });
    open.push(registration, nodes);
    registration.start();
    return host;
  }
  const address = (store: MemoryStore) => parseNode(store.dump()[KEY] ?? '')?.addresses[4]?.text;
  const becomes = (store: MemoryStore, text: string | undefined) =>
    poll(`address ${text}`, 2_000, () => address(store) === text);
  async function put(store: MemoryStore, value: string): Promise<void> {
    await store.transact({ compare: [], then: [{ put: KEY, value }] });
  }
  /** Long enough for what should not happen to happen. */
  const aMoment = () => new Promise(resolve => setTimeout(resolve, 50));

  it('appears where there is none, and follows the host to another address', async () => {
    const store = new MemoryStore();
    const host = registered(store, {});
    await becomes(store, '10.0.0.1/24');
    host.readdress([OTHER]);
    await becomes(store, '10.0.0.7/25');
  });

  it('follows the host at once when the datastore is back in sight', async () => {
    const store = new MemoryStore();
    const host = registered(store, {});
    await becomes(store, '10.0.0.1/24');
    const watches = store.interruptWatches();
    host.readdress([OTHER]);
    await aMoment();
    expect(address(store)).toBe('10.0.0.1/24');
    watches.again();
    await becomes(store, '10.0.0.7/25');
  });

  it('costs nothing while it is right', async () => {
    const store = new MemoryStore();
    const host = registered(store, {});
    await becomes(store, '10.0.0.1/24');
    await aMoment();
    const { get, transact } = store.calls;
    for (let times = 0; times < 5; times += 1) {
      host.readdress([ETH0, on('eth1', '10.4.0.1', 24)]);
      await aMoment();
    }
    expect(store.calls).toMatchObject({ get, transact });
  });

  it('keeps an address that an operator wrote, and all that others did', async () => {
    const store = new MemoryStore();
    await put(store, formatNewNode('h1', { addresses: { 4: '203.0.113.5/32' } }, new Date()));
    const before = store.dump()[KEY];
    const host = registered(store, {});
    await aMoment();
    host.readdress([OTHER]);
    await aMoment();
    expect(store.dump()[KEY]).toBe(before);
  });

  it('gets an address where somebody made it without', async () => {
    const store = new MemoryStore();
    const theirs = { kind: 'Node', metadata: { name: 'h1', labels: { rack: 'r1' } }, spec: { orchRefs: [] } };
    await put(store, JSON.stringify(theirs));
    registered(store, {});
    await becomes(store, '10.0.0.1/24');
    expect(JSON.parse(store.dump()[KEY] ?? '')).toMatchObject({
      metadata: { labels: { rack: 'r1' } },
      spec: { orchRefs: [], bgp: { ipv4Address: '10.0.0.1/24' } },
    });
  });

  it('has the address that is set, with the prefix length of its interface', async () => {
    const store = new MemoryStore();
    await put(store, formatNewNode('h1', { addresses: { 4: '10.0.0.1/24' } }, new Date()));
    registered(store, { IP: '10.0.0.7' }, [ETH0, OTHER]);
    await becomes(store, '10.0.0.7/25');
    const other = new MemoryStore();
    registered(other, { IP: '192.0.2.7' });
    await becomes(other, '192.0.2.7/32');
  });

  it('learns which subnet the address that is set is in, when an interface has it at last', async () => {
    const store = new MemoryStore();
    const host = registered(store, { IP: '10.0.0.7' }, []);
    await becomes(store, '10.0.0.7/32');
    host.readdress([OTHER]);
    await becomes(store, '10.0.0.7/25');
    // Lost again it is still what it was.
    host.readdress([]);
    await aMoment();
    expect(address(store)).toBe('10.0.0.7/25');
  });

  it('has no address of either family: that is said once of each', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
    const host = registered(new MemoryStore(), { IP6: 'autodetect' }, [], log);
    for (let times = 0; times < 3; times += 1) {
      await aMoment();
      host.readdress([]);
    }
    expect(lines).toHaveLength(2);
  });

  it('may say an address that no interface has, as behind a translation, which is said once', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
    const store = new MemoryStore();
    const host = registered(store, { IP: '203.0.113.9/24' }, [ETH0], log);
    await becomes(store, '203.0.113.9/24');
    host.readdress([OTHER]);
    await aMoment();
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('IP=203.0.113.9/24 is on no interface of this host');
    registered(store, { IP: '10.0.0.1/25' }, [ETH0], log);
    await becomes(store, '10.0.0.1/25');
    expect(lines).toHaveLength(1);
  });

  it('is found anew at each start with autodetect', async () => {
    const store = new MemoryStore();
    await put(store, formatNewNode('h1', { addresses: { 4: '203.0.113.5/32' } }, new Date()));
    registered(store, { IP: 'autodetect' });
    await becomes(store, '10.0.0.1/24');
  });

  it('has no address with none, but labels can be given to it', async () => {
    const store = new MemoryStore();
    registered(store, { IP: 'none' });
    await poll('a Node', 2_000, () => store.dump()[KEY] !== undefined);
    await aMoment();
    expect(address(store)).toBeUndefined();
  });

  it('comes back when somebody deletes it', async () => {
    const store = new MemoryStore();
    registered(store, {});
    await becomes(store, '10.0.0.1/24');
    await store.transact({ compare: [], then: [{ delete: KEY }] });
    await becomes(store, undefined).catch(() => undefined);
    await becomes(store, '10.0.0.1/24');
  });

  it('loses no field that somebody writes at the same moment', async () => {
    const store = new MemoryStore();
    await put(store, JSON.stringify({ kind: 'Node', metadata: { name: 'h1' }, spec: {} }));
    let isDone = false;
    store.before(async () => {
      if (isDone) return;
      isDone = true;
      const text = store.dump()[KEY] ?? '';
      const changed = formatChangedNode(text, {
        tunnels: { 4: { address: '10.65.0.1', mac: '66:00:00:00:00:01' } },
      });
      await put(store, changed ?? '');
    });
    registered(store, {});
    await becomes(store, '10.0.0.1/24');
    expect(parseNode(store.dump()[KEY] ?? '')?.tunnels[4]?.address).toBe('10.65.0.1');
  });
});
