import { pino } from 'pino';
import { expect } from 'vitest';
import { resourceKey } from '../../src/datastore/keys.js';
import type { Store } from '../../src/datastore/store.js';
import { Allocator } from '../../src/ipam/allocator.js';
import { violations } from '../../src/ipam/block.js';
import { formatAddress, parseAddress, parseCidr } from '../../src/ipam/cidr.js';
import type { Address, Cidr } from '../../src/ipam/cidr.js';
import { IpamFacts } from '../../src/ipam/facts.js';
import { PoolLifecycle } from '../../src/ipam/pool-lifecycle.js';
import { parseBlock, parseHandle } from '../../src/model/block.js';
import { formatNewPool } from '../../src/model/ip-pool.js';
import type { MemoryStore } from '../fakes/memory-store.js';

const log = pino({ level: 'silent' });
const open: IpamFacts[] = [];

/** Call it after each test. */
export function closeNodes(): void {
  for (const facts of open.splice(0)) facts.close();
}

let next = 0;

/** A holder as an endpoint is; `mac` given, the same container asks again. */
export function holder(node: string, mac = String((next += 1))) {
  return { handle: (address: string) => `libnetwork.${node}.${mac}.${address}`, secondary: { node } };
}

export function cidr(text: string): Cidr {
  const value = parseCidr(text);
  if (!value) throw new Error(text);
  return value;
}

export function address(text: string): Address {
  const value = parseAddress(text);
  if (!value) throw new Error(text);
  return value;
}

/** Writes a key whatever it is. */
export async function put(store: Store, key: string, value: string): Promise<void> {
  const before = await store.get(key);
  await store.transact({
    compare: [before ? { key, is: 'revision', revision: before.revision } : { key, is: 'absent' }],
    then: [{ put: key, value }],
  });
}

export async function remove(store: MemoryStore, key: string): Promise<void> {
  await store.transact({ compare: [{ key, is: 'present' }], then: [{ delete: key }] });
}

export async function addPool(store: Store, name: string, range: string, extra: object = {}): Promise<void> {
  const fresh = {
    name,
    cidr: cidr(range),
    vxlanMode: 'Never',
    natOutgoing: true,
    madeForDocker: false,
  } as const;
  const pool = JSON.parse(formatNewPool(fresh, new Date()));
  await put(
    store,
    resourceKey('ippools', name),
    JSON.stringify({ ...pool, spec: { ...pool.spec, ...extra } }),
  );
}

/** What one host does with addresses. */
export async function node(store: Store, name: string) {
  const facts = new IpamFacts(store, name, log);
  open.push(facts);
  await facts.ready();
  const allocator = new Allocator(store, facts, { isGlobal: false, isRouted: () => false }, log);
  const pools = new PoolLifecycle(store, facts, { autoPools: true, vxlanMode: 'Never' }, async () => [], log);
  const any = (within?: string) =>
    allocator
      .assign({ family: 4, holder: holder(name), ...(within === undefined ? {} : { within: cidr(within) }) })
      .then(formatAddress);
  const take = (text: string, mac?: string) => allocator.assignAddress(address(text), holder(name, mac));
  const reserve = (text: string, type = 'gateway') => allocator.reserve(address(text), type, { node: name });
  const free = (text: string) => allocator.release(address(text));
  return { facts, allocator, pools, any, take, reserve, free };
}

/** Every address in use by block and handle; fails where the two, or a block in itself, disagree. */
export function audit(store: MemoryStore): string[] {
  const used: string[] = [];
  const counts = new Map<string, number>();
  for (const [key, value] of Object.entries(store.dump())) {
    const block = key.includes('/assignment/') ? parseBlock(value) : undefined;
    if (!block) continue;
    expect(violations(block)).toEqual([]);
    block.allocations.forEach((index, ordinal) => {
      if (index === null) return;
      used.push(formatAddress({ family: block.cidr.family, value: block.cidr.base + BigInt(ordinal) }));
      const handle = block.attributes[index]?.handle_id ?? '';
      counts.set(handle, (counts.get(handle) ?? 0) + 1);
    });
  }
  const handles = Object.entries(store.dump()).flatMap(([key, value]) =>
    key.includes('/handle/')
      ? [
          [
            key.split('/handle/')[1] ?? '',
            Object.values(parseHandle(value)).reduce((a, b) => a + b, 0),
          ] as const,
        ]
      : [],
  );
  expect(new Map(handles)).toEqual(counts);
  return used.sort();
}
