import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { Presence } from '../../src/agent/presence.js';
import { aliveKey, handleKey, ownerKey } from '../../src/datastore/keys.js';
import { endpointHandle } from '../../src/ipam/handles.js';
import { createLogger } from '../../src/log.js';
import { formatPresence, parsePresence } from '../../src/model/presence.js';
import { MemoryStore } from '../fakes/memory-store.js';

const KEY = aliveKey('node-1');
const open: Presence[] = [];
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(open.splice(0).map(presence => presence.close()));
});

function host(store: MemoryStore, id: string, node = 'node-1'): Presence {
  const presence = new Presence(store, { node, id, version: '1' }, createLogger('silent'));
  open.push(presence);
  return presence;
}

const holder = (store: MemoryStore) => parsePresence(store.dump()[KEY] ?? '')?.id;
const settled = (check: () => void) => vi.waitFor(check, { timeout: 2_000, interval: 5 });
const calls = () => ({ 'NetworkDriver.Join': () => ({}), 'NetworkDriver.GetCapabilities': () => ({}) });
const aWrite = { compare: [], then: [{ put: '/w', value: '1' }] };

test('the key is there while the host lives, is put again when its lease is lost, and goes with it', async () => {
  const store = new MemoryStore();
  const one = host(store, 'one');
  await one.ours;
  expect(holder(store)).toBe('one');
  expect(() => one.check()).not.toThrow();
  store.expireLeases();
  await settled(() => expect(holder(store)).toBe('one'));
  await one.close();
  expect(Object.keys(store.dump())).toEqual([ownerKey('node-1')]);
});

test('the name of a host that is not seen to live is no other’s while it has containers or addresses', async () => {
  const store = new MemoryStore();
  await host(store, 'one').ours;
  await open.pop()?.close();
  const handle = handleKey(endpointHandle('node-1', '02:42:00:00:00:01', '192.0.2.1'));
  await store.transact({ compare: [], then: [{ put: handle, value: '{}' }] });
  const before = store.dump();
  const two = host(store, 'two');
  await expect(two.guard(store).transact(aWrite)).rejects.toThrow(
    /has containers of another host called node-1: .*NODENAME.*node remove node-1/,
  );
  expect(() => two.check()).toThrow('another host called node-1');
  expect(store.dump()).toEqual(before);
  // Itself it is again at once.
  await host(store, 'one').ours;
  await open.pop()?.close();
  // And once nothing is left, the name is free.
  await store.transact({ compare: [{ key: handle, is: 'present' }], then: [{ delete: handle }] });
  await vi.waitFor(() => expect(() => two.check()).not.toThrow(), { timeout: 6_000, interval: 50 });
  await two.ours;
  expect((await two.guard(store).transact(aWrite)).succeeded).toBe(true);
});

test('of two new hosts that start with one name at once, the one that has it keeps it when it is cut off', async () => {
  const store = new MemoryStore();
  const hosts = new Map(['one', 'two'].map(id => [id, host(store, id)]));
  await settled(() => expect(holder(store)).toBeDefined());
  const first = holder(store) ?? '';
  await hosts.get(first)?.ours;
  const handle = handleKey(endpointHandle('node-1', '02:42:00:00:00:01', '192.0.2.1'));
  await hosts
    .get(first)
    ?.guard(store)
    .transact({ compare: [], then: [{ put: handle, value: '{}' }] });
  expect(JSON.parse(store.dump()[ownerKey('node-1')] ?? '{}')).toEqual({ id: first });
  await hosts.get(first)?.close();
  const second = hosts.get(first === 'one' ? 'two' : 'one');
  await vi.waitFor(() => expect(() => second?.check()).toThrow('has containers of another host'), {
    timeout: 6_000,
    interval: 50,
  });
  expect(holder(store)).toBeUndefined();
});

test('a host that was removed while it was cut off has its name again when it is back', async () => {
  const store = new MemoryStore();
  const one = host(store, 'one');
  await one.ours;
  store.expireLeases();
  await store.transact({ compare: [], then: [{ delete: ownerKey('node-1') }] });
  await settled(() => expect(holder(store)).toBe('one'));
  await settled(() => expect(store.dump()[ownerKey('node-1')]).toContain('one'));
});

test('a keep-alive every ten seconds is all it costs', async () => {
  vi.useFakeTimers();
  const store = new MemoryStore();
  const one = host(store, 'one');
  await vi.advanceTimersByTimeAsync(100);
  await one.ours;
  const before = { ...store.calls };
  await vi.advanceTimersByTimeAsync(600_000);
  expect(store.calls.keepAlive - before.keepAlive).toBe(60);
  expect({ ...store.calls, keepAlive: 0 }).toEqual({ ...before, keepAlive: 0 });
});

test('a second live host with the name fails every call, writes nothing, and goes on when the first is gone', async () => {
  const store = new MemoryStore();
  const one = host(store, 'one');
  await one.ours;
  const before = store.dump();
  const two = host(store, 'two');
  const ours = vi.fn();
  void two.ours.then(ours);
  const guarded = two.guard(store);
  const gated = two.gate(calls());
  // Already before it has looked.
  await expect(guarded.transact(aWrite)).rejects.toThrow(
    /^another live host calls itself node-1 \(since 20.*\): give this host another name with NODENAME$/,
  );
  expect(() => gated['NetworkDriver.Join']?.({})).toThrow('another live host calls itself node-1');
  expect(gated['NetworkDriver.GetCapabilities']?.({})).toEqual({});
  await pause(50);
  expect(store.dump()).toEqual(before);
  expect(ours).not.toHaveBeenCalled();
  expect(() => one.check()).not.toThrow();
  store.expireLeases();
  // Either may be the quicker one; the other then stands back.
  await settled(() => expect(holder(store)).toBeDefined());
  await one.close();
  await settled(() => expect(holder(store)).toBe('two'));
  await two.ours;
  expect(gated['NetworkDriver.Join']?.({})).toEqual({});
  expect((await guarded.transact(aWrite)).succeeded).toBe(true);
});

test('the same host takes its key over at once', async () => {
  const store = new MemoryStore();
  const lease = await store.lease();
  const value = formatPresence({ id: 'one', since: '2026-01-01T00:00:00.000Z', version: '0' });
  await store.transact({ compare: [], then: [{ put: KEY, value, lease: lease.id }] });
  const one = host(store, 'one');
  await one.ours;
  expect(parsePresence(store.dump()[KEY] ?? '')?.version).toBe('1');
  await lease.revoke(); // the dead daemon's lease is no longer the key's
  expect(holder(store)).toBe('one');
});

test('of two copies of one host the later has the name; they do not write in turns', async () => {
  const store = new MemoryStore();
  const one = host(store, 'same');
  await one.ours;
  await pause(5);
  const two = host(store, 'same');
  await two.ours;
  await settled(() => expect(() => one.check()).toThrow('another live host'));
  const writes = store.calls.transact;
  await pause(100);
  expect(store.calls.transact - writes).toBeLessThan(2);
  expect(() => two.check()).not.toThrow();
});

test('a datastore put back to before the key was there gets it again', async () => {
  const store = new MemoryStore();
  const empty = store.save();
  const one = host(store, 'one');
  await one.ours;
  const later = store.save();
  store.restore(empty);
  await settled(() => expect(holder(store)).toBe('one'));
  store.restore(later);
  await pause(50);
  expect(() => one.check()).not.toThrow();
  expect(holder(store)).toBe('one');
});

test('a datastore that cannot be asked, or refuses the key alone, closes nothing', async () => {
  const store = new MemoryStore();
  for (let count = 0; count < 3; count++) store.failNext('lease');
  const one = host(store, 'one');
  await one.ours;
  expect(holder(store)).toBeUndefined();
  expect(() => one.check()).not.toThrow();
  await one.guard(store).transact(aWrite);
  store.interruptWatches();
  expect(() => one.check()).not.toThrow();
});
