import { DatastoreError } from '../errors.js';
import type { Logger } from '../log.js';
import { EtcdHistory } from './etcd-history.js';
import { EtcdLink, EtcdRefusal } from './etcd-link.js';
import { listPrefix, pagesOf } from './etcd-list.js';
import { checkOptions } from './etcd-options.js';
import type { EtcdOptions } from './etcd-options.js';
import { watchPrefix } from './etcd-watch.js';
import { entryOf, foundIn, ownEarlierTry, PROBE, requestOf } from './etcd-wire.js';
import { revisionIn } from './revision.js';
import type {
  Entry,
  Lease,
  Listing,
  Store,
  Transaction,
  TransactionResult,
  Watch,
  Watcher,
} from './store.js';

export type { EtcdOptions } from './etcd-options.js';

/**
 * The datastore port on etcd's v3 API. Connects with the first call, so it can be created while etcd is down.
 * Any call may be tried on several endpoints before it fails; see {@link EtcdLink}.
 *
 * @throws RequestError for options that can never work (endpoints of mixed schemes, a certificate without its key)
 */
export function createEtcdStore(options: EtcdOptions, log: Logger): Store {
  return new EtcdStore(new EtcdLink(checkOptions(options), new EtcdHistory(log), log), log);
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
    const { response, era } = await this.#link.call('range', () => request);
    const [kv] = response.kvs;
    return kv && entryOf(kv, era);
  }

  list(prefix: string): Promise<Listing> {
    return listPrefix(this.#link, prefix);
  }

  pages(prefix: string, revision?: string): AsyncIterable<Listing> {
    return pagesOf(this.#link, prefix, revision);
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    let doubtful = false;
    const { response, era } = await this.#link.call('txn', tries =>
      requestOf(transaction, (doubtful = tries.lost), tries.era),
    );
    const revision = revisionIn(era, response.header.revision);
    if (response.succeeded) return { succeeded: true, revision };
    const own = doubtful ? ownEarlierTry(transaction, response.responses, era) : undefined;
    if (own !== undefined) return { succeeded: true, revision: own };
    return { succeeded: false, found: foundIn(transaction, response.responses, era), revision, doubtful };
  }

  async lease(seconds: number): Promise<Lease> {
    const { ID } = (await this.#link.call('leaseGrant', () => ({ TTL: String(seconds), ID: '0' }))).response;
    return {
      id: ID,
      keepAlive: async () => (await this.#link.call('leaseKeepAlive', () => ({ ID }))).response.TTL !== '0',
      revoke: async () => {
        try {
          await this.#link.call('leaseRevoke', () => ({ ID }));
        } catch (error) {
          if (!(error instanceof EtcdRefusal) || error.failure.kind !== 'no-lease') throw error;
        }
      },
    };
  }

  watch(prefix: string, watcher: Watcher): Watch {
    if (this.#closed) throw new DatastoreError('the connection to etcd was closed');
    const watch = watchPrefix(this.#link, prefix, watcher, this.#log, () => this.#watches.delete(watch));
    this.#watches.add(watch);
    return watch;
  }

  async ping(): Promise<void> {
    await this.#link.call('range', () => PROBE);
  }

  onRewind(listener: () => void): () => void {
    return this.#link.history.onRewind(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watch of [...this.#watches]) watch.close();
    this.#link.close();
  }
}
