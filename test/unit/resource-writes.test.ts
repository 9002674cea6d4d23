import { beforeEach, describe, expect, it, test } from 'vitest';
import { IPAM_CONFIG_KEY, resourceKey, resourcesPrefix } from '../../src/datastore/keys.js';
import type { Plural } from '../../src/datastore/keys.js';
import { formatJson, objectOrEmpty, parseJson } from '../../src/model/json.js';
import { createBlock } from '../../src/ipam/block.js';
import { parseCidr } from '../../src/ipam/cidr.js';
import { blockKey } from '../../src/datastore/keys.js';
import { formatBlock } from '../../src/model/block.js';
import { deleteResources } from '../../src/resources/delete.js';
import { readResources } from '../../src/resources/resource-file.js';
import { getResource, listResources } from '../../src/resources/stored-resource.js';
import { writeResources } from '../../src/resources/write.js';
import type { WriteVerb } from '../../src/resources/write-plan.js';
import { put } from '../contract/store.contract.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { kindCalled, resource, writeTo } from './resource-kit.js';

let store: MemoryStore;
beforeEach(() => (store = new MemoryStore()));

const write = (text: string, verb: WriteVerb = 'apply', skipExists = false) =>
  writeTo(store, text, verb, skipExists);

const all = (...resources: string[]) => resources.join('\n---\n');
const pool = (name: string, cidr: string, more: object = {}) => resource('IPPool', name, { cidr, ...more });

async function stored(plural: Plural, name: string) {
  const entry = await store.get(resourceKey(plural, name));
  return entry && objectOrEmpty(parseJson(entry.value));
}

function remove(word: string, ...names: string[]): Promise<string[]> {
  return removeBy(false, word, ...names);
}

async function removeBy(force: boolean, word: string, ...names: string[]): Promise<string[]> {
  const kind = kindCalled(word);
  const lines: string[] = [];
  const namespace = kind.isNamespaced ? { namespace: 'libnetwork' } : {};
  await deleteResources(
    store,
    names.map(name => ({ kind, name, place: '', ...namespace })),
    {
      skipNotExists: false,
      force,
      done: ({ name }, outcome) => lines.push(`${name} ${outcome}`),
    },
  );
  return lines;
}

describe('verbs', () => {
  it('apply creates, leaves alone, changes', async () => {
    expect(await write(pool('a', '10.0.0.0/16'))).toEqual(['IPPool a created']);
    expect(await write(pool('a', '10.0.0.0/16'))).toEqual(['IPPool a unchanged']);
    expect(await write(pool('a', '10.0.0.0/16', { natOutgoing: true }))).toEqual(['IPPool a changed']);
    expect(await write(pool('a', '10.0.0.0/16', { natOutgoing: true }), 'replace')).toEqual([
      'IPPool a unchanged',
    ]);
  });

  it('create refuses what is there, replace what is not', async () => {
    await write(pool('a', '10.0.0.0/16'));
    expect(await write(all(pool('a', '10.0.0.0/16'), pool('b', '10.1.0.0/16')), 'create')).toEqual([
      'f.yaml:1: IPPool a exists already: use apply or replace',
    ]);
    expect(await stored('ippools', 'b')).toBeUndefined();
    expect(await write(all(pool('a', '10.0.0.0/16'), pool('b', '10.1.0.0/16')), 'create', true)).toEqual([
      'IPPool a skipped',
      'IPPool b created',
    ]);
    expect(await write(pool('c', '10.2.0.0/16'), 'replace')).toEqual([
      'f.yaml:1: IPPool c does not exist: use apply or create',
    ]);
  });

  it.each(['no JSON', '{"spec": 5}', '{"kind": "IPPool", "metadata": {"name": "other"}, "spec": {}}'])(
    'what is stored as %s is named, and can be removed',
    async value => {
      await put(store, resourceKey('ippools', 'a'), value);
      const what = 'what etcd has as IPPool a cannot be read';
      for (const verb of ['apply', 'create', 'replace'] as const)
        expect(await write(pool('a', '10.0.0.0/16'), verb)).toEqual([
          expect.stringMatching(`^f\\.yaml:1: ${what}: .* delete ippool a --force removes it$`),
        ]);
      await expect(remove('ippool', 'a')).rejects.toThrow(what);
      await expect(remove('ippool', 'a', 'b')).rejects.toThrow(
        /^nothing was deleted:\n.*\nIPPool b does not exist$/,
      );
      expect(await removeBy(true, 'ippool', 'a')).toEqual(['a deleted']);
      expect(await write(pool('a', '10.0.0.0/16'))).toEqual(['IPPool a created']);
    },
  );

  it('a resourceVersion that is old is refused, and one that is right is not', async () => {
    await write(pool('a', '10.0.0.0/16'));
    const first = (await store.get(resourceKey('ippools', 'a')))?.revision ?? '';
    const change = (revision: string, natOutgoing: boolean) =>
      resource('IPPool', 'a', { cidr: '10.0.0.0/16', natOutgoing }, { resourceVersion: revision });
    expect(await write(change(first, true), 'replace')).toEqual(['IPPool a changed']);
    const second = (await store.get(resourceKey('ippools', 'a')))?.revision;
    expect(await write(change(first, false), 'replace')).toEqual([
      `f.yaml:1: metadata.resourceVersion: somebody has changed it since: it is ${second} now and not ${first}; get it again, or take resourceVersion out to overwrite`,
    ]);
    // What it asks for is so already: nothing is lost.
    expect(await write(change(first, true), 'replace')).toEqual(['IPPool a unchanged']);
  });

  it('a change by others between look and write is looked at again', async () => {
    await write(pool('a', '10.0.0.0/16'));
    let times = 0;
    store.before(async () => {
      times += 1;
      if (times > 1) return;
      const entry = await store.get(resourceKey('ippools', 'a'));
      const value = objectOrEmpty(parseJson(entry?.value ?? ''));
      const spec = { ...objectOrEmpty(value.spec), newField: 1 };
      await put(store, resourceKey('ippools', 'a'), formatJson({ ...value, spec }));
    });
    expect(await write(pool('a', '10.0.0.0/16', { disabled: true }))).toEqual(['IPPool a changed']);
    expect(times).toBe(2);
    expect((await stored('ippools', 'a'))?.spec).toMatchObject({ disabled: true, newField: 1 });
  });

  it('a lost answer is no conflict', async () => {
    store.loseNextAnswer();
    expect(await write(pool('a', '10.0.0.0/16'), 'create')).toEqual(['IPPool a created']);
  });

  it('where one fails, it says what was written and what not', async () => {
    const text = all(pool('a', '10.0.0.0/16'), pool('b', '10.1.0.0/16'), pool('c', '10.2.0.0/16'));
    store.before(({ then }) => {
      if (then.some(one => 'put' in one && one.put.endsWith('/a'))) store.failNext('transact');
    });
    const lines: string[] = [];
    const writing = writeResources(store, readResources(text, 'f.yaml', 'libnetwork'), {
      ...{ verb: 'apply', skipExists: false, note: () => undefined },
      done: ({ name }, outcome) => lines.push(`${name} ${outcome}`),
    });
    await expect(writing).rejects.toThrow(
      /injected[^]*\n1 of 3 are written; not written: IPPool b, IPPool c/,
    );
    expect(lines).toEqual(['a created']);
  });
});

describe('what is stored', () => {
  it("a pool, with every default written out as Calico's newest client does", async () => {
    await write(pool('a', '10.0.0.0/16'));
    expect(await stored('ippools', 'a')).toEqual({
      kind: 'IPPool',
      apiVersion: 'projectcalico.org/v3',
      metadata: {
        name: 'a',
        uid: expect.stringMatching(/^[0-9a-f-]{36}$/),
        creationTimestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      },
      spec: {
        ...{
          cidr: '10.0.0.0/16',
          blockSize: 26,
          ipipMode: 'Never',
          vxlanMode: 'Never',
          nodeSelector: 'all()',
        },
        ...{ allowedUses: ['Workload', 'Tunnel'], assignmentMode: 'Automatic' },
      },
    });
  });

  it('uid and time of a file are kept on creation, those of the datastore on change; others keep their fields', async () => {
    const mine = { uid: 'one', creationTimestamp: '2020-01-01T00:00:00Z' };
    await write(resource('Tier', 'a', { order: 1 }, { ...mine, resourceVersion: '9', labels: { a: 'b' } }));
    expect(await stored('tiers', 'a')).toEqual({
      kind: 'Tier',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'a', ...mine, labels: { a: 'b' } },
      spec: { order: 1, defaultAction: 'Deny' },
      status: {},
    });
    const value = {
      ...(await stored('tiers', 'a')),
      status: { conditions: [1] },
      spec: { order: 1, weight: 1692000000123456789n },
    };
    await put(store, resourceKey('tiers', 'a'), formatJson(value));
    expect(await write(resource('Tier', 'a', { order: 2 }, { uid: 'two' }))).toEqual(['Tier a changed']);
    expect(await stored('tiers', 'a')).toMatchObject({
      metadata: { name: 'a', ...mine },
      spec: { order: 2, defaultAction: 'Deny', weight: 1692000000123456789n },
      status: { conditions: [1] },
    });
  });

  it('a field that we do not know is refused, unless it is stored just so', async () => {
    await write(pool('a', '10.0.0.0/16'));
    const value = objectOrEmpty(await stored('ippools', 'a'));
    const spec = { ...objectOrEmpty(value['spec']), future: { x: [1] } };
    await put(store, resourceKey('ippools', 'a'), formatJson({ ...value, spec }));
    const file = (future: object) => pool('a', '10.0.0.0/16', { natOutgoing: true, future });
    expect(await write(file({ x: [2] }))).toEqual([
      expect.stringMatching(/^f\.yaml:1: spec\.future: unknown field: there is cidr, blockSize, /),
    ]);
    expect(await write(file({ x: [1] }))).toEqual(['IPPool a changed']);
    expect((await stored('ippools', 'a'))?.spec).toMatchObject({ natOutgoing: true, future: { x: [1] } });
  });

  it("an IPAMConfiguration as in Calico's documentation is taken", async () => {
    const sample = resource('IPAMConfiguration', 'default', { strictAffinity: false, maxBlocksPerHost: 4 });
    expect(await write(sample)).toEqual(['IPAMConfiguration default created']);
  });

  it("the IPAM configuration, in etcd's own form, fields of others kept", async () => {
    await put(store, IPAM_CONFIG_KEY, '{"strict_affinity":false,"auto_allocate_blocks":true,"new":5}');
    const text = resource('IPAMConfiguration', 'default', { strictAffinity: true, maxBlocksPerHost: 4 });
    expect(await write(text)).toEqual(['IPAMConfiguration default changed']);
    expect(parseJson((await store.get(IPAM_CONFIG_KEY))?.value ?? '')).toEqual({
      ...{ strict_affinity: true, auto_allocate_blocks: true, maxBlocksPerHost: 4, new: 5 },
    });
    expect(await write(text)).toEqual(['IPAMConfiguration default unchanged']);
    // A field that is absent in etcd is false, not the default.
    await put(store, IPAM_CONFIG_KEY, '{"strict_affinity":true}');
    const found = await getResource(store, kindCalled('ipamconfig'), undefined, 'default');
    expect(found?.document.spec).toEqual({ strictAffinity: true, autoAllocateBlocks: false });
  });
});

describe('what has to fit to what there is', () => {
  test.each<[string, string, string]>([
    ['another range', pool('a', '10.0.0.0/15'), 'f.yaml:1: spec.cidr: the range of a pool cannot change from 10.0.0.0/16: make a new pool with another name, and move what uses this one (docs/pools.md)'],
    ['another block size', pool('a', '10.0.0.0/16', { blockSize: 24 }), 'f.yaml:1: spec.blockSize: the block size of a pool cannot change from 26: make a new pool with another name, and move what uses this one (docs/pools.md)'],
    ['in another pool', pool('b', '10.0.4.0/24'), 'f.yaml:1: spec.cidr: overlaps IPPool a (10.0.0.0/16): choose a range that is in no pool'],
    ['around another pool', pool('b', '10.0.0.0/8'), 'f.yaml:1: spec.cidr: overlaps IPPool a (10.0.0.0/16): choose a range that is in no pool'],
    ['in another pool of the file', all(pool('b', '10.8.0.0/16'), pool('c', '10.8.1.0/24')), 'f.yaml:3: spec.cidr: overlaps IPPool b (10.8.0.0/16): choose a range that is in no pool'],
    ['among blocks of another size', pool('b', '10.9.0.0/16', { blockSize: 28 }), 'f.yaml:1: spec.blockSize: addresses of an earlier pool are in use in 10.9.0.0/26, a block of another size: set blockSize: 26, or choose another range'],
    ['a policy without its tier', resource('GlobalNetworkPolicy', 'p', { tier: 'none' }), 'f.yaml:1: spec.tier: there is no Tier none: create it first, or in the same file'],
    ["another order of Calico's own tier", resource('Tier', 'default', { order: 5 }), 'f.yaml:1: spec.order: the order of Tier default is 1000000 with every Calico: leave it out'],
    ['the same twice', all(pool('b', '10.8.0.0/16'), pool('b', '10.8.0.0/16')), 'f.yaml:3: metadata.name: IPPool b is there twice: remove one'],
    ['an endpoint', resource('WorkloadEndpoint', 'x', {}), 'f.yaml:1: kind: WorkloadEndpoint cannot be written: Docker makes and removes endpoints: start or stop the container, or change its labels there'],
  ])('%s', async (_name, text, message) => {
    await write(pool('a', '10.0.0.0/16'));
    const cidr = parseCidr('10.9.0.0/26');
    if (!cidr) throw new Error('no range');
    await put(store, blockKey(cidr), formatBlock(createBlock(cidr, 'node-1', new Date())));
    const before = (await store.list('/')).entries;
    expect(await write(text)).toEqual([message]);
    expect((await store.list('/')).entries).toEqual(before);
  }); // prettier-ignore

  it('a pool keeps its block size where a file does not tell it', async () => {
    await write(pool('a', '10.0.0.0/16', { blockSize: 24 }));
    expect(await write(pool('a', '10.0.0.0/16', { disabled: true }))).toEqual(['IPPool a changed']);
    expect((await stored('ippools', 'a'))?.spec).toMatchObject({ blockSize: 24, disabled: true });
  });

  it('a pool that another makes in between is seen', async () => {
    let isFirst = true;
    store.before(async () => {
      if (!isFirst) return;
      isFirst = false;
      await write(pool('b', '10.0.4.0/24'));
    });
    await expect(write(pool('a', '10.0.0.0/16'))).rejects.toThrow(
      'spec.cidr: overlaps IPPool b (10.0.4.0/24)',
    );
    expect(await stored('ippools', 'a')).toBeUndefined();
  });

  it("Calico's own tiers have their order and action where a file does not tell them", async () => {
    await write(all(resource('Tier', 'kube-baseline', {}), resource('Tier', 'default', {})));
    expect(await stored('tiers', 'kube-baseline')).toMatchObject({
      spec: { order: 10_000_000, defaultAction: 'Pass' },
    });
    expect(await stored('tiers', 'default')).toMatchObject({
      spec: { order: 1_000_000, defaultAction: 'Deny' },
    });
    expect(await write(resource('Tier', 'default', { defaultAction: 'Pass' }))).toEqual([
      'Tier default changed',
    ]);
    expect(await write(resource('Tier', 'default', {}))).toEqual(['Tier default unchanged']);
  });

  it('a tier may come after its policies in the file; the default one is made', async () => {
    const text = all(
      resource('NetworkPolicy', 'p', { tier: 'a' }),
      resource('NetworkPolicy', 'q', {}),
      resource('Tier', 'a', {}),
    );
    expect(await write(text)).toEqual([
      'Tier a created',
      'NetworkPolicy p created',
      'NetworkPolicy q created',
    ]);
    expect(await stored('tiers', 'default')).toMatchObject({
      spec: { order: 1_000_000, defaultAction: 'Deny' },
    });
  });
});

describe('names of policies', () => {
  const policies = () => store.list(resourcesPrefix('globalnetworkpolicies'));
  const keys = async () => (await policies()).entries.map(({ key }) => key.split('/').at(-1));
  const kind = kindCalled('gnp');

  it('are stored with their tier, as every Calico reads them, and shown as they were given', async () => {
    const label = { labels: { 'projectcalico.org/tier': 'sec' } };
    await write(
      all(
        resource('Tier', 'sec', {}),
        resource('GlobalNetworkPolicy', 'a', {}),
        resource('GlobalNetworkPolicy', 'sec.b', { tier: 'sec' }),
        resource('GlobalNetworkPolicy', 'knp.default.c', {}),
      ),
    );
    expect(await keys()).toEqual(['default.a', 'knp.default.c', 'sec.b']);
    expect(
      (await policies()).entries.map(
        ({ value }) => objectOrEmpty(objectOrEmpty(parseJson(value)).metadata)['name'],
      ),
    ).toEqual(await keys());
    const { resources } = await listResources(store, kind);
    expect(resources.map(({ document }) => document.name)).toEqual(['a', 'knp.default.c', 'sec.b']);
    expect(await stored('globalnetworkpolicies', 'sec.b')).toMatchObject({ metadata: label });
  });

  it.each(['a', 'default.a'])(
    'one that a newer Calico stored as it is called stays there (%s)',
    async name => {
      await put(
        store,
        resourceKey('globalnetworkpolicies', 'a'),
        resource('GlobalNetworkPolicy', 'a', { order: 1 }),
      );
      expect(await write(resource('GlobalNetworkPolicy', name, { order: 2 }))).toEqual([
        'GlobalNetworkPolicy a changed',
      ]);
      expect(await keys()).toEqual(['a']);
      expect(await remove('gnp', name)).toEqual([`${name} deleted`]);
      expect(await keys()).toEqual([]);
    },
  );
});

describe('delete', () => {
  it('by name; what is not there is said before anything goes', async () => {
    await write(all(resource('Tier', 'a', {}), resource('Tier', 'b', {})));
    await expect(remove('tiers', 'a', 'c')).rejects.toThrow('Tier c does not exist');
    expect(await remove('TIER', 'a', 'b')).toEqual(['a deleted', 'b deleted']);
  });

  test.each<[string, string, string, RegExp]>([
    [
      'a tier with policies',
      'tier',
      'sec',
      /^Tier sec has policies, such as NetworkPolicy p: delete these first$/,
    ],
    ["Calico's own tier", 'tier', 'default', /^Tier default belongs to Calico itself and cannot be deleted$/],
    ['a Node', 'node', 'n', /use calico-libnetwork node remove n once the host is gone$/],
  ])('refuses %s', async (_name, word, name, message) => {
    const policies = [resource('NetworkPolicy', 'p', { tier: 'sec' }), resource('NetworkPolicy', 'q', {})];
    await write(all(resource('Tier', 'sec', {}), ...policies, resource('Node', 'n', {})));
    await expect(remove(word, name)).rejects.toThrow(message);
  });
});
