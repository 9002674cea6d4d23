import type { Listing, Store, Watcher } from '../datastore/store.js';
import { measured } from './metrics.js';
import type { Metrics } from './metrics.js';
import type { PoolUse } from './pool-use.js';

/** The store, whose answers are timed and whose watches' gaps are counted; `use` overhears what they say of blocks. */
export function measuredStore(store: Store, metrics: Metrics, use?: Pick<PoolUse, 'overhear'>): Store {
  const timed = <T>(operation: string, work: () => Promise<T>): Promise<T> =>
    measured(work, (isOk, seconds) => metrics.asked(operation, isOk, seconds));
  store.onRewind(() => metrics.rewound());
  return {
    get: key => timed('get', () => store.get(key)),
    list: prefix => timed('list', () => store.list(prefix)),
    pages: (prefix, revision) => timedPages(store.pages(prefix, revision), metrics),
    transact: transaction => timed('transact', () => store.transact(transaction)),
    lease: async seconds => {
      const lease = await timed('lease', () => store.lease(seconds));
      return {
        id: lease.id,
        keepAlive: () => timed('keep-alive', () => lease.keepAlive()),
        revoke: () => timed('revoke', () => lease.revoke()),
      };
    },
    watch: (prefix, watcher) =>
      store.watch(prefix, countingGaps(prefix, use?.overhear(prefix, watcher) ?? watcher, metrics)),
    ping: () => timed('ping', () => store.ping()),
    onRewind: listener => store.onRewind(listener),
    close: () => store.close(),
  };
}

/** A page is one question, whatever its reader does before the next. */
async function* timedPages(pages: AsyncIterable<Listing>, metrics: Metrics): AsyncIterable<Listing> {
  const iterator = pages[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await measured(
        () => iterator.next(),
        (isOk, seconds) => metrics.asked('list', isOk, seconds),
      );
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await iterator.return?.();
  }
}

/** The same watcher; each snapshot but the first is the end of a gap. */
function countingGaps(prefix: string, watcher: Watcher, metrics: Metrics): Watcher {
  let isFirst = true;
  const { digest } = watcher;
  return {
    ...(digest ? { digest: (key: string, value: string) => digest(key, value) } : {}),
    snapshot(listing) {
      if (!isFirst) metrics.watchRestarted(prefix);
      isFirst = false;
      watcher.snapshot(listing);
    },
    put: entry => watcher.put(entry),
    deleted: (key, revision) => watcher.deleted(key, revision),
    lost: error => watcher.lost?.(error),
  };
}
