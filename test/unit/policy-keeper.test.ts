import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PolicyKeeper } from '../../src/agent/policy.js';
import { endpointKey, resourceKey } from '../../src/datastore/keys.js';
import { HostError } from '../../src/errors.js';
import { formatNewProfile } from '../../src/model/profile.js';
import { endpointName, formatNewEndpoint, hostInterfaceOf } from '../../src/model/workload-endpoint.js';
import { Endpoints } from '../../src/plugin/endpoints.js';
import { FakeDataplane } from '../fakes/dataplane.js';
import { MemoryStore } from '../fakes/memory-store.js';

const LOG = pino({ level: 'silent' });
const NOW = new Date('2026-08-22T10:00:00Z');
const ID = '7'.repeat(64);
const NAME = hostInterfaceOf(ID);

/** Writes whatever is at the key. */
async function put(store: MemoryStore, key: string, value: object | string): Promise<void> {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  await store.transact({ compare: [], then: [{ put: key, value: text }] });
}

const policy = (name: string, spec: object) => ({ kind: 'GlobalNetworkPolicy', metadata: { name }, spec });
const DB = policy('db', { selector: "role == 'db'", types: ['Ingress'], ingress: [{ action: 'Deny' }] });

function endpoint(labels: Record<string, string> = {}) {
  return formatNewEndpoint(
    {
      node: 'h1',
      endpointId: ID,
      interfaceName: NAME,
      mac: '02:42:C0:00:02:01',
      addresses: ['192.0.2.1'],
      profiles: ['net1'],
      networkId: 'n',
      labels,
      ports: [{ protocol: 'tcp', hostPort: 8080, address: '192.0.2.1', port: 80 }],
    },
    NOW,
  );
}

describe('policy on a host', () => {
  let store: MemoryStore;
  let dataplane: FakeDataplane;
  let endpoints: Endpoints;
  let keeper: PolicyKeeper | undefined;
  /** The container that the endpoint is in. */
  let sandbox: string | undefined;
  const key = endpointKey(endpointName('h1', ID));

  beforeEach(async () => {
    sandbox = '/netns/1';
    store = new MemoryStore();
    dataplane = new FakeDataplane();
    endpoints = new Endpoints(store, 'h1', { createProfiles: true, newHandle: () => '' }, LOG);
    await put(store, resourceKey('profiles', 'net1'), formatNewProfile('net1', NOW));
    await put(store, key, endpoint());
  });
  afterEach(() => {
    keeper?.close();
    endpoints.close();
  });

  function start(labelsCopied?: Promise<void>, nameIsOurs = Promise.resolve()): PolicyKeeper {
    keeper = new PolicyKeeper({
      ...{ store, node: 'h1', endpoints, dataplane, hostAction: 'policy', nameIsOurs, labelsCopied },
      sandboxOf: () => sandbox,
      log: LOG,
    });
    return keeper;
  }

  it('is that of the datastore, and follows it', async () => {
    start();
    await expect.poll(() => dataplane.policy?.endpoints.size).toBe(1);
    const first = dataplane.policy;
    expect(first).toMatchObject({
      fromHost: 'policy',
      consented: [{ address: '192.0.2.1', protocol: 6, port: 80 }],
    });
    expect(first?.endpoints.get(NAME)).toEqual({
      mac: '02:42:c0:00:02:01',
      sources: ['192.0.2.1'],
      ingress: { tiers: [], profiles: ['profile ingress net1'] },
      egress: { tiers: [], profiles: ['profile egress net1'] },
    });
    expect(first?.addressSets.get('has(net1)')?.addresses).toEqual(new Set(['192.0.2.1']));
    await put(store, resourceKey('globalnetworkpolicies', 'db'), DB);
    await put(store, key, endpoint({ role: 'db' }));
    await expect.poll(() => dataplane.policy?.endpoints.get(NAME)?.ingress.tiers.length).toBe(1);
    // Short enough to be told apart where a log line has room for little.
    expect(dataplane.policy?.endpoints.get(NAME)?.ingress.tiers[0]?.policies).toEqual([
      'policy ingress globalnetworkpolicies/db',
    ]);
    expect(dataplane.policy?.endpoints.get(NAME)?.egress).toBe(first?.endpoints.get(NAME)?.egress);
    sandbox = undefined;
    await store.transact({ compare: [], then: [{ delete: key }] });
    await expect.poll(() => dataplane.policy?.endpoints.size).toBe(0);
    // The rules wait for the next container, until the network goes.
    expect(dataplane.policy?.spares?.ingress).toHaveLength(1);
    await store.transact({ compare: [], then: [{ delete: resourceKey('profiles', 'net1') }] });
    await expect.poll(() => dataplane.policy?.rules.size).toBe(0);
  });

  it('stays for an endpoint that the datastore lost under its container, until that leaves', async () => {
    const kept = start();
    await expect.poll(() => dataplane.policy?.endpoints.size).toBe(1);
    await store.transact({ compare: [], then: [{ delete: key }] });
    await put(store, resourceKey('globalnetworkpolicies', 'all'), policy('all', { ingress: [] }));
    await expect.poll(() => dataplane.policy?.endpoints.get(NAME)?.ingress.tiers.length).toBe(1);
    sandbox = undefined;
    kept.left(ID);
    await expect.poll(() => dataplane.policy?.endpoints.size).toBe(0);
  });

  it('is enforced when Join is answered, and Join fails where it is not', async () => {
    const kept = start();
    await kept.enforce(ID, () => undefined);
    expect(dataplane.policy?.endpoints.has(NAME)).toBe(true);
    await put(store, resourceKey('globalnetworkpolicies', 'all'), policy('all', { ingress: [] }));
    const refused = vi.spyOn(dataplane, 'applyPolicy').mockRejectedValue(new HostError('nft is missing'));
    await expect.poll(() => kept.enforce(ID, () => undefined).catch(String)).toMatch(/nft is missing/);
    refused.mockRestore();
    // Tried again by itself.
    await expect.poll(() => dataplane.policy?.rules.size, { timeout: 4_000 }).toBe(3);
  });

  it('stays as a daemon before left it until all is read', async () => {
    let ours = (): void => undefined;
    start(undefined, new Promise(resolve => (ours = resolve)));
    await endpoints.ready;
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(dataplane.policy).toBeUndefined();
    ours();
    await expect.poll(() => dataplane.policy?.endpoints.size).toBe(1);
  });

  it('and, where labels count, until they were copied once', async () => {
    await put(store, resourceKey('globalnetworkpolicies', 'db'), DB);
    let copied = (): void => undefined;
    start(new Promise(resolve => (copied = resolve)));
    await endpoints.ready;
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(dataplane.policy).toBeUndefined();
    copied();
    // What was there stays open: nobody joined.
    await expect.poll(() => dataplane.policy?.endpoints.size).toBe(1);
  });

  describe('of an endpoint whose container is not known yet', () => {
    it('lets nothing pass, then judges it by its labels', async () => {
      await put(store, resourceKey('globalnetworkpolicies', 'db'), DB);
      const kept = start(Promise.resolve());
      const closed = vi.fn<() => void>();
      await kept.enforce(ID, closed);
      expect(closed).toHaveBeenCalledOnce();
      expect(kept.gate.isAwaited()).toBe(true);
      expect(dataplane.policy?.endpoints.size).toBe(0);
      await endpoints.change(ID, { labels: { role: 'db' } });
      kept.gate.known(ID);
      await expect.poll(() => dataplane.policy?.endpoints.get(NAME)?.ingress.tiers.length).toBe(1);
    });

    it('is never open before it joins', async () => {
      await put(store, resourceKey('globalnetworkpolicies', 'db'), DB);
      await store.transact({ compare: [], then: [{ delete: key }] });
      sandbox = undefined;
      const kept = start(Promise.resolve());
      await expect.poll(() => dataplane.policy?.endpoints.size).toBe(0);
      const applied = vi.spyOn(dataplane, 'applyPolicy');
      await put(store, key, endpoint());
      await expect.poll(() => kept.gate.isAwaited() || applied.mock.calls.length > 0).toBe(true);
      await kept.enforce(ID, () => undefined);
      for (const [wanted] of applied.mock.calls) expect(wanted.endpoints.size).toBe(0);
      kept.gate.known(ID);
      await expect.poll(() => dataplane.policy?.endpoints.size).toBe(1);
    });

    it('opens without labels after two seconds', async () => {
      await put(store, resourceKey('globalnetworkpolicies', 'db'), DB);
      const kept = start(Promise.resolve());
      await kept.enforce(ID, () => undefined);
      expect(dataplane.policy?.endpoints.size).toBe(0);
      await expect.poll(() => dataplane.policy?.endpoints.size, { timeout: 3_000 }).toBe(1);
      expect(kept.gate.isAwaited()).toBe(false);
    });

    it.each([
      ['there is no policy', true, undefined],
      ['labels are not copied', false, DB],
    ])('is open at once where %s', async (_why, copies, some) => {
      if (some) await put(store, resourceKey('globalnetworkpolicies', 'db'), some);
      const kept = start(copies ? Promise.resolve() : undefined);
      const closed = vi.fn<() => void>();
      await kept.enforce(ID, closed);
      expect(closed).not.toHaveBeenCalled();
      expect(dataplane.policy?.endpoints.size).toBe(1);
    });

    it('waits where a profile asks for labels, too', async () => {
      const ingress = [{ action: 'Allow', source: { selector: "role == 'web'" } }];
      await put(store, resourceKey('profiles', 'net1'), { metadata: { name: 'net1' }, spec: { ingress } });
      const kept = start(Promise.resolve());
      await kept.enforce(ID, () => undefined);
      expect(dataplane.policy?.endpoints.size).toBe(0);
      kept.gate.known(ID);
      await expect.poll(() => dataplane.policy?.endpoints.size).toBe(1);
    });
  });

  it('is what can be understood of what others wrote', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
    await put(
      store,
      resourceKey('globalnetworkpolicies', 'pre'),
      policy('pre', { preDNAT: true, applyOnForward: true }),
    );
    await put(store, resourceKey('globalnetworkpolicies', 'odd'), policy('odd', { selector: 'a = b' }));
    await put(store, resourceKey('globalnetworkpolicies', 'junk'), '{');
    await put(store, resourceKey('networkpolicies', 'libnetwork/np'), {
      metadata: { name: 'default.np' },
      spec: { ingress: [{ action: 'Allow', http: { methods: ['GET'] } }] },
    });
    keeper = new PolicyKeeper({
      ...{ store, node: 'h1', endpoints, dataplane, hostAction: 'allow', labelsCopied: undefined },
      nameIsOurs: Promise.resolve(),
      sandboxOf: () => undefined,
      log,
    });
    await keeper.enforce(ID, () => undefined);
    expect(dataplane.policy?.endpoints.get(NAME)?.ingress.tiers).toHaveLength(1);
    expect([...(dataplane.policy?.rules.values() ?? [])][0]).toEqual([]);
    expect(lines).toHaveLength(4);
    expect(lines.join('')).toMatch(/host endpoints only/);
    expect(lines.join('')).toMatch(/spec\.ingress\[0\]\.http is not supported: the rule matches nothing/);
  });
});
