import type { Store, Transaction, TransactionResult } from './store.js';

/** The store, all of whose writes go through `transact`. */
export function withTransact(
  store: Store,
  transact: (transaction: Transaction) => Promise<TransactionResult>,
): Store {
  return {
    get: key => store.get(key),
    list: prefix => store.list(prefix),
    pages: (prefix, revision) => store.pages(prefix, revision),
    transact,
    lease: seconds => store.lease(seconds),
    watch: (prefix, watcher) => store.watch(prefix, watcher),
    ping: () => store.ping(),
    onRewind: listener => store.onRewind(listener),
    close: () => store.close(),
  };
}
