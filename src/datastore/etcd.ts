import { DatastoreError } from '../errors.js';
import type { Logger } from '../log.js';
import { EtcdLink } from './etcd-link.js';
import { listPrefix, pagesOf } from './etcd-list.js';
import { checkOptions } from './etcd-options.js';
import type { EtcdOptions } from './etcd-options.js';
import { watchPrefix } from './etcd-watch.js';
import { entryOf, foundIn, ownEarlierTry, requestOf } from './etcd-wire.js';
import type { Entry, Listing, Store, Transaction, TransactionResult, Watch, Watcher } from './store.js';

export type { EtcdOptions } from './etcd-options.js';

/**
 * The datastore port on etcd's v3 API. Connects with the first call, so it can be created while etcd is down.
 * Any call may be tried on several endpoints before it fails; see {@link EtcdLink}.
 *
 * @throws RequestError for options that can never work (endpoints of mixed schemes, a certificate without its key)
 */
export function createEtcdStore(options: EtcdOptions, log: Logger): Store {
  return new EtcdStore(new EtcdLink(checkOptions(options), log), log);
}

class EtcdStore implements Store {
  readonly #link: EtcdLink;
  readonly #log: Logger;
  readonly #watches = new Set<Watch>();
  #closed = false;

  constructor(link: EtcdLink, log: Logger) {
    this.#link = link;
    this.#log = log;
  }

  async get(key: string): Promise<Entry | undefined> {
    const request = { key: Buffer.from(key) };
    const { kvs } = await this.#link.call('range', () => request);
    return kvs[0] && entryOf(kvs[0]);
  }

  list(prefix: string): Promise<Listing> {
    return listPrefix(this.#link, prefix);
  }

  pages(prefix: string, revision?: string): AsyncIterable<Listing> {
    return pagesOf(this.#link, prefix, revision);
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    let doubtful = false;
    const response = await this.#link.call('txn', ({ lost }) => requestOf(transaction, (doubtful = lost)));
    if (response.succeeded) return { succeeded: true, revision: response.header.revision };
    const own = doubtful ? ownEarlierTry(transaction, response.responses) : undefined;
    if (own !== undefined) return { succeeded: true, revision: own };
    const { revision } = response.header;
    return { succeeded: false, found: foundIn(transaction, response.responses), revision, doubtful };
  }

  watch(prefix: string, watcher: Watcher): Watch {
    if (this.#closed) throw new DatastoreError('the connection to etcd was closed');
    const watch = watchPrefix(this.#link, prefix, watcher, this.#log, () => this.#watches.delete(watch));
    this.#watches.add(watch);
    return watch;
  }

  async ping(): Promise<void> {
    // A linearizable read: answered only where a majority of the cluster works. Any key will do, also an absent one.
    const request = { key: Buffer.from('/calico'), count_only: true };
    await this.#link.call('range', () => request);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watch of [...this.#watches]) watch.close();
    this.#link.close();
  }
}
