import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { handleKey } from '../../src/datastore/keys.js';
import { repaired } from '../../src/ipam/check-block.js';
import { checkDatastore } from '../../src/ipam/check-datastore.js';
import { assignAt, createBlock, violations } from '../../src/ipam/block.js';
import { CalicoError } from '../../src/errors.js';
import { formatAffinity, formatBlock, formatHandle, parseBlock } from '../../src/model/block.js';
import { endpointHandle, parseEndpointHandle } from '../../src/ipam/handles.js';
import { cidr, closeNodes, put, remove } from './ipam-node.js';
import { Hosts, inUse } from './sound-datastore.js';

afterEach(closeNodes);

const NODES = ['node-1', 'node-2', 'node-3'];

/** One thing that Docker asks of a host. */
const operation = fc.oneof(
  { weight: 5, arbitrary: fc.record({ run: fc.constantFrom(...NODES), family: fc.constantFrom(4 as const, 6 as const) }) }, // prettier-ignore
  { weight: 3, arbitrary: fc.record({ stop: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ network: fc.constantFrom(...NODES), gateway: fc.integer({ min: 1, max: 254 }) }) }, // prettier-ignore
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** Errors of the allocator (no address left, taken) are answers like others. */
async function carryOut(hosts: Hosts, what: Operation): Promise<void> {
  try {
    if ('run' in what) await hosts.run(what.run, what.family);
    else if ('network' in what) await hosts.addNetwork(what.network, `192.0.2.${what.gateway}`);
    else {
      const container = hosts.containers[what.stop % hosts.containers.length];
      if (container) await hosts.stop(container);
    }
  } catch (error) {
    if (!(error instanceof CalicoError)) throw error;
  }
}

/** Batches run side by side. */
async function after(batches: readonly (readonly Operation[])[]): Promise<Hosts> {
  const hosts = await Hosts.create(NODES);
  for (const batch of batches) await Promise.all(batch.map(what => carryOut(hosts, what)));
  return hosts;
}

const history = fc.array(fc.array(operation, { minLength: 1, maxLength: 8 }), {
  minLength: 1,
  maxLength: 12,
});

test('whatever several hosts do at once, there are no findings', async () => {
  await fc.assert(
    fc.asyncProperty(history, async batches => {
      const hosts = await after(batches);
      const { findings, inUse: count } = await checkDatastore(hosts.store, { fix: false, settle: 0 });
      expect(findings).toEqual([]);
      expect(count).toBe(inUse(hosts.store).length);
      closeNodes();
    }),
    { numRuns: 60 },
  );
});

/** Damage that can be repaired, to any key of that kind. */
const damage = fc.record({
  kind: fc.constantFrom('handle', 'counts', 'leftover', 'affinity', 'state', 'stale', 'free', 'attributes'),
  which: fc.nat(),
});
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never;

async function inflict({ store }: Hosts, { kind, which }: Damage): Promise<void> {
  const of = (part: string): string => {
    const keys = Object.keys(store.dump()).filter(key => key.includes(part));
    return keys[which % Math.max(1, keys.length)] ?? '';
  };
  const changeBlock = async (change: (text: string) => string): Promise<void> => {
    const key = of('/assignment/');
    if (key !== '') await put(store, key, change((await store.get(key))?.value ?? ''));
  };
  const handle = of('/v2/handle/');
  const affinity = of('/v2/host/');
  if (kind === 'handle' && handle !== '') await remove(store, handle);
  if (kind === 'counts' && handle !== '')
    await put(store, handle, formatHandle({ '192.0.2.0/28': (which % 3) + 1, 'fd00:1::/122': 2 }));
  if (kind === 'leftover')
    await put(store, handleKey(`libnetwork.node-9.0242000000ff.192.0.2.${which % 256}`), formatHandle({ '192.0.2.0/28': 1 })); // prettier-ignore
  if (kind === 'affinity' && affinity !== '') await remove(store, affinity);
  if (kind === 'state' && affinity !== '') await put(store, affinity, formatAffinity('pendingDeletion'));
  if (kind === 'stale')
    await put(store, `/calico/ipam/v2/host/node-9/ipv4/block/192.0.2.${(which % 16) * 16}-28`, formatAffinity('confirmed')); // prettier-ignore
  if (kind === 'free')
    await changeBlock(text =>
      text.replace(/"unallocated":\[[^\]]*\]/, `"unallocated":[${which % 16},${which % 3}]`),
    );
  if (kind === 'attributes')
    await changeBlock(text => {
      const block = parseBlock(text);
      return block ? formatBlock({ ...block, attributes: [...block.attributes, { handle_id: 'x' }] }) : text;
    });
}

test('--fix leaves nothing of what can be repaired, and frees no address', async () => {
  await fc.assert(
    fc.asyncProperty(history, fc.array(damage, { minLength: 1, maxLength: 10 }), async (batches, damages) => {
      const hosts = await after(batches);
      for (const one of damages) await inflict(hosts, one);
      const used = inUse(hosts.store);
      const { findings } = await checkDatastore(hosts.store, { fix: true, settle: 0 });
      expect(findings).toEqual([]);
      expect(inUse(hosts.store)).toEqual(used);
      closeNodes();
    }),
    { numRuns: 60 },
  );
});

test('a repaired block is sound, and has the same allocations by the same holders', () => {
  const range = cidr('192.0.2.0/28');
  const ordinals = fc.uniqueArray(fc.nat(15));
  fc.assert(
    fc.property(ordinals, fc.array(fc.nat(15)), ordinals, fc.nat(3), (used, free, sequenced, unreferred) => {
      let block = createBlock(range, 'node-1', new Date());
      for (const ordinal of used) block = assignAt(block, ordinal, { handle_id: `h${ordinal % 5}` });
      const damaged = {
        ...block,
        unallocated: free,
        sequenceNumbers: new Map(sequenced.map(ordinal => [ordinal, 1n])),
        attributes: [...block.attributes, ...Array.from({ length: unreferred }, () => ({ handle_id: 'x' }))],
      };
      const better = parseBlock(formatBlock(repaired(damaged, () => false)));
      if (!better) throw new Error('no block');
      expect(violations(better)).toEqual([]);
      const holders = better.allocations.map(index =>
        index === null ? null : better.attributes[index]?.handle_id,
      );
      expect(holders).toEqual(
        block.allocations.map((index, ordinal) => (index === null ? null : `h${ordinal % 5}`)),
      );
    }),
  );
});

test('a handle tells what it was made of, whatever the node is called', () => {
  const hex = fc.stringMatching(/^[0-9a-f]{12}$/);
  const name = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?$/);
  const nodes = fc.oneof(
    name,
    fc.tuple(name, hex).map(parts => parts.join('.')),
    hex,
  );
  const address = fc.oneof(fc.ipV4(), fc.constantFrom('fd00:1::', '::1', 'fd00:1::a:0'));
  fc.assert(
    fc.property(nodes, hex, address, (node, mac, given) => {
      const colons = mac.match(/../g)?.join(':') ?? '';
      expect(parseEndpointHandle(endpointHandle(node, colons, given))).toEqual({
        node,
        mac: colons,
        address: given,
      });
    }),
  );
});

test.each(['libnetwork.gateway.192.0.2.1', 'libnetwork.aux.fd00::1', 'libnetwork.9f2c1a77d0b3e4f5', 'k8s.x'])(
  'the handle %s is no endpoint’s',
  id => expect(parseEndpointHandle(id)).toBeUndefined(),
);
