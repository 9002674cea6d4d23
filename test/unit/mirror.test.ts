import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { Mirror } from '../../src/datastore/mirror.js';
import type { Store, Watch, Watcher } from '../../src/datastore/store.js';
import { remaining, withDeadline } from '../../src/deadline.js';
import { createLogger } from '../../src/log.js';
import { MemoryStore } from '../fakes/memory-store.js';

const quiet = createLogger('silent');
const text = (_: string, value: string): string | undefined => (value === 'bad' ? undefined : value);
const content = (mirror: Mirror<string>): Record<string, string> => Object.fromEntries(mirror.entries());

async function put(store: Store, key: string, value: string): Promise<string> {
  const result = await store.transact({ compare: [], then: [{ put: key, value }] });
  return result.succeeded ? result.revision : '';
}

/** A store that only hands out the watcher, so that a test plays the datastore report by report. */
function played(): { store: Store; watcher(): Watcher } {
  let watcher: Watcher | undefined;
  const watch = (_: string, given: Watcher): Watch => {
    watcher = given;
    return { ready: Promise.resolve(), close: () => undefined };
  };
  const store = Object.assign(new MemoryStore(), { watch });
  return {
    store,
    watcher: () => {
      if (!watcher) throw new Error('nobody watches');
      return watcher;
    },
  };
}

test('it holds what the prefix holds, and follows it', async () => {
  const store = new MemoryStore();
  await put(store, '/p/1', 'a');
  await put(store, '/q/1', 'x');
  const mirror = new Mirror(store, '/p/', text, quiet);
  expect(mirror.isCurrent).toBe(false);
  await mirror.ready;
  expect(mirror.isCurrent).toBe(true);
  expect(content(mirror)).toEqual({ '/p/1': 'a' });
  const revision = await put(store, '/p/2', 'b');
  await store.transact({ compare: [], then: [{ delete: '/p/1' }] });
  await turn();
  expect(content(mirror)).toEqual({ '/p/2': 'b' });
  expect([mirror.get('/p/2'), mirror.revisionOf('/p/2'), mirror.size]).toEqual(['b', revision, 1]);
});

test('what does not parse is left out, with one line in the log', async () => {
  const lines: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
  const store = new MemoryStore();
  await put(store, '/p/bad', 'bad');
  await put(store, '/p/worse', 'worse');
  await put(store, '/p/good', 'good');
  const parse = (key: string, value: string): string | undefined => {
    if (value === 'worse') throw new Error('no JSON');
    return text(key, value);
  };
  const mirror = new Mirror(store, '/p/', parse, log);
  await mirror.ready;
  expect(content(mirror)).toEqual({ '/p/good': 'good' });
  store.interruptWatches().again();
  await turn();
  expect(lines.map(line => (JSON.parse(line) as { path: string }).path)).toEqual(['/p/bad', '/p/worse']);
});

test('an entry that turns bad vanishes, and comes back when it is mended', async () => {
  const store = new MemoryStore();
  const mirror = new Mirror(store, '/p/', text, quiet);
  await mirror.ready;
  for (const [value, seen] of [
    ['good', 'good'],
    ['bad', undefined],
    ['mended', 'mended'],
  ] as const) {
    // prettier-ignore
    await put(store, '/p/1', value);
    await turn();
    expect(mirror.get('/p/1')).toBe(seen);
  }
});

test('a burst of changes calls back once', async () => {
  const store = new MemoryStore();
  const mirror = new Mirror(store, '/p/', text, quiet);
  await mirror.ready;
  await turn();
  let calls = 0;
  const end = mirror.onChange(() => calls++);
  const then = Array.from({ length: 20 }, (_, index) => ({ put: `/p/${index}`, value: 'v' }));
  await store.transact({ compare: [], then });
  await turn();
  await turn();
  expect([calls, mirror.size]).toEqual([1, 20]);
  const { again } = store.interruptWatches();
  await turn();
  await turn();
  expect([calls, mirror.isCurrent]).toEqual([2, false]);
  again();
  await turn();
  await turn();
  expect([calls, mirror.isCurrent]).toEqual([3, true]);
  end();
  await put(store, '/p/1', 'w');
  await turn();
  await turn();
  expect(calls).toBe(3);
});

test('listeners run outside the deadline of whoever made the change', async () => {
  const mirror = new Mirror(played().store, '/p/', text, quiet);
  const left = new Promise(done => mirror.onChange(() => done(remaining(60_000))));
  await withDeadline(10, async () => mirror.observe({ key: '/p/1', value: 'mine', revision: '100' }));
  expect(await left).toBe(60_000);
});

test('our own write is visible at once, and no older report undoes it', () => {
  const { store, watcher } = played();
  const mirror = new Mirror(store, '/p/', text, quiet);
  watcher().snapshot({ entries: [{ key: '/p/1', value: 'old', revision: '5' }], revision: '9' });
  mirror.observe({ key: '/p/1', value: 'mine', revision: '100' });
  watcher().put({ key: '/p/1', value: 'theirs', revision: '99' });
  expect([mirror.get('/p/1'), mirror.revisionOf('/p/1')]).toEqual(['mine', '100']);
  watcher().deleted('/p/1', '99');
  watcher().snapshot({ entries: [{ key: '/p/1', value: 'old', revision: '5' }], revision: '99' });
  expect(mirror.get('/p/1')).toBe('mine');
  watcher().put({ key: '/p/1', value: 'later', revision: '101' });
  expect(mirror.get('/p/1')).toBe('later');
  mirror.observe({ key: '/p/1', value: 'mine, told late', revision: '100' });
  expect(mirror.get('/p/1')).toBe('later');
});

test('our own delete is not undone by an older put', () => {
  const { store, watcher } = played();
  const mirror = new Mirror(store, '/p/', text, quiet);
  watcher().snapshot({ entries: [{ key: '/p/1', value: 'old', revision: '5' }], revision: '9' });
  mirror.observeDeleted('/p/1', '20');
  watcher().put({ key: '/p/1', value: 'older', revision: '19' });
  watcher().snapshot({ entries: [{ key: '/p/1', value: 'older', revision: '19' }], revision: '19' });
  mirror.observe({ key: '/p/1', value: 'older', revision: '19' });
  expect(mirror.get('/p/1')).toBeUndefined();
  watcher().put({ key: '/p/1', value: 'new', revision: '21' });
  expect(mirror.get('/p/1')).toBe('new');
});

test('a datastore put back to an earlier state replaces all, also what we wrote and the watch had not brought yet', async () => {
  const store = new MemoryStore();
  await put(store, '/p/kept', 'a');
  await put(store, '/p/changed', 'old');
  const saved = store.save();
  const mirror = new Mirror(store, '/p/', text, quiet);
  await mirror.ready;
  const before = mirror.revisionOf('/p/kept') ?? '';
  const lost = await put(store, '/p/changed', 'new');
  mirror.observe({ key: '/p/changed', value: 'new', revision: lost });
  await put(store, '/p/added', 'c');
  mirror.observe({ key: '/p/ahead', value: 'mine', revision: '1000' });
  await turn();
  expect(content(mirror)).toEqual({
    '/p/kept': 'a',
    '/p/changed': 'new',
    '/p/added': 'c',
    '/p/ahead': 'mine',
  });
  let rewinds = 0;
  store.onRewind(() => (rewinds += 1));
  store.restore(saved);
  await turn();
  expect(content(mirror)).toEqual({ '/p/kept': 'a', '/p/changed': 'old' });
  // An answer from before that comes late changes nothing, and what it says cannot be compared with.
  mirror.observe({ key: '/p/added', value: 'c', revision: '1001' });
  expect(mirror.get('/p/added')).toBeUndefined();
  const onTop = (revision: string) =>
    store.transact({
      compare: [{ key: '/p/kept', is: 'revision', revision }],
      then: [{ delete: '/p/kept' }],
    });
  expect(await onTop(before)).toMatchObject({ succeeded: false });
  expect(await onTop(mirror.revisionOf('/p/kept') ?? '')).toMatchObject({ succeeded: true });
  const again = await put(store, '/p/changed', 'newer');
  await turn();
  expect([mirror.get('/p/changed'), mirror.revisionOf('/p/changed')]).toEqual(['newer', again]);
  expect([mirror.get('/p/kept'), rewinds]).toEqual([undefined, 1]);
});

test('a write outside the prefix is none of its business, and nothing moves after close', async () => {
  const store = new MemoryStore();
  const mirror = new Mirror(store, '/p/', text, quiet);
  await mirror.ready;
  mirror.observe({ key: '/q/1', value: 'x', revision: '50' });
  mirror.close();
  mirror.observe({ key: '/p/1', value: 'x', revision: '50' });
  await put(store, '/p/1', 'y');
  await turn();
  expect(mirror.size).toBe(0);
});

/** A write of ours or of others, and how many reports of the watch are delivered before it. */
const step = fc.record({
  key: fc.constantFrom('/p/1', '/p/2', '/p/3'),
  value: fc.option(fc.constantFrom('a', 'b', 'bad')),
  isOurs: fc.boolean(),
  delivered: fc.nat(3),
  relist: fc.integer({ min: 0, max: 9 }),
});

test('however writes, reports and new lists interleave, a key never goes back in time, and all ends in agreement', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), steps => {
      const { store, watcher } = played();
      const mirror = new Mirror(store, '/p/', text, quiet);
      const truth = new Map<string, { key: string; value: string; revision: string }>();
      const reports: (() => void)[] = [];
      const list = () => watcher().snapshot({ entries: [...truth.values()], revision: String(revision) });
      let revision = 7; // so that the number of digits changes on the way
      list();
      for (const { key, value, isOurs, delivered, relist } of steps) {
        for (const report of reports.splice(0, delivered)) report();
        const now = String(++revision);
        if (value === null) {
          truth.delete(key);
          reports.push(() => watcher().deleted(key, now));
          if (isOurs) mirror.observeDeleted(key, now);
        } else {
          const entry = { key, value, revision: now };
          truth.set(key, entry);
          reports.push(() => watcher().put(entry));
          if (isOurs) mirror.observe(entry);
        }
        if (isOurs) expect(mirror.get(key)).toBe(value === null ? undefined : text(key, value));
        if (relist === 0) {
          reports.length = 0;
          list();
        }
      }
      for (const report of reports) report();
      const expected = [...truth.values()].filter(({ key, value }) => text(key, value) !== undefined);
      expect(content(mirror)).toEqual(Object.fromEntries(expected.map(({ key, value }) => [key, value])));
    }),
  );
});
