/**
 * The port to etcd: what the rest of the daemon asks of a datastore, and nothing else.
 *
 * Values are text; `model/` turns them into objects. Revisions are text, as etcd's 64-bit numbers do not fit a
 * JavaScript number. They only grow, and none comes twice, even where the datastore itself goes back (it was restored
 * from a snapshot): what was read or written before that compares unequal to all there is (see `revision.ts`), so
 * nobody who remembers revisions need forget them. There is no unconditional write: every change is a
 * {@link Transaction} that says what it believes to be true.
 */

/** One key as read: its value and the revision (etcd's mod_revision) a later compare can name. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  readonly revision: string;
}

/** What must be true for a transaction to take effect. */
export type Compare =
  | { readonly key: string; readonly is: 'absent' }
  | { readonly key: string; readonly is: 'present' }
  | { readonly key: string; readonly is: 'revision'; readonly revision: string }
  | { readonly key: string; readonly is: 'value'; readonly value: string };

export type Write =
  | {
      readonly put: string;
      readonly value: string;
      /** Id of the lease it goes with. */ readonly lease?: string;
    }
  | { readonly delete: string };

export interface Transaction {
  readonly compare: readonly Compare[];
  readonly then: readonly Write[];
  /** Keys to read, in the same round trip, where a compare fails: what is needed to try again. */
  readonly otherwise?: readonly string[];
}

export type TransactionResult =
  | { readonly succeeded: true; /** Revision of every key put. */ readonly revision: string }
  | {
      readonly succeeded: false;
      /** The keys of `otherwise` as they are; undefined where a key is absent. */
      readonly found: ReadonlyMap<string, Entry | undefined>;
      /** The revision `found` was read at. */
      readonly revision: string;
      /**
       * An earlier try of this transaction was sent and its answer lost: it may have been applied, and what
       * `found` shows may build on it. The caller looks for its own mark before it concludes that it lost.
       */
      readonly doubtful: boolean;
    };

export interface Listing {
  readonly entries: readonly Entry[];
  /** The revision all entries were read at; a watch from here misses nothing. */
  readonly revision: string;
}

/** What a {@link Store.watch} reports. Callbacks run in the order of revisions and must not throw. */
export interface Watcher {
  /**
   * What of a value is needed: applied to each value of a snapshot as its page arrives, so that a large prefix is never in
   * memory as a whole. Not every store does, and puts come as they are: the watcher tells one form from the other.
   */
  digest?(key: string, value: string): string;
  /** The whole prefix, first and after every gap (broken, compacted or silent watch; a datastore that went back).
   *  Replaces all known before. */
  snapshot(listing: Listing): void;
  put(entry: Entry): void;
  deleted(key: string, revision: string): void;
  /** The datastore cannot be reached; what was reported may be stale until the next `snapshot`. Called once, and
   *  once more where it turns out to refuse us. */
  lost?(error: Error): void;
}

export interface Watch {
  /** Resolves once the first snapshot was delivered. */
  readonly ready: Promise<void>;
  close(): void;
}

/** A time that keys last, unless it is extended. A transaction that names an expired one fails with DatastoreError. */
export interface Lease {
  readonly id: string;
  /** Extends it to its full time again; false where it has expired. One round trip; nothing is written to disk. */
  keepAlive(): Promise<boolean>;
  /** Ends it now, and deletes its keys; fine where it has expired. One round trip. */
  revoke(): Promise<void>;
}

/**
 * Every method throws {@link DatastoreError} when the datastore does not answer within the deadline in force
 * (see `deadline.ts`).
 */
export interface Store {
  /** One round trip. */
  get(key: string): Promise<Entry | undefined>;
  /** All keys that begin with `prefix`, in byte order, at one revision; one round trip per page of 1,000. */
  list(prefix: string): Promise<Listing>;
  /**
   * The same page by page, for what need not be held in memory all at once. With `revision`, as it was then: so that
   * several prefixes can be read as of one moment. Throws also where etcd has compacted that revision meanwhile.
   */
  pages(prefix: string, revision?: string): AsyncIterable<Listing>;
  /** One round trip. */
  transact(transaction: Transaction): Promise<TransactionResult>;
  /** A new lease, for keys that are to vanish with whoever wrote them. One round trip. */
  lease(seconds: number): Promise<Lease>;
  /** Follows a prefix for ever: lists, watches, and lists again after any gap, with back-off while unreachable. */
  watch(prefix: string, watcher: Watcher): Watch;
  /** One round trip; throws where no endpoint answers. */
  ping(): Promise<void>;
  /**
   * Calls back each time the datastore is found to have gone back to an earlier state, before the answer that shows it is
   * given; watches list again by themselves. For what is derived from etcd and kept elsewhere. Returns what ends it.
   */
  onRewind(listener: () => void): () => void;
  close(): Promise<void>;
}
