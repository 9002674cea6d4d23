import { DatastoreError } from '../../src/errors.js';
import type {
  Compare,
  Entry,
  Lease,
  Listing,
  Store,
  Transaction,
  TransactionResult,
  Watch,
  Watcher,
} from '../../src/datastore/store.js';
import { etcdRevisionOf, isNewer, revisionIn } from '../../src/datastore/revision.js';
import { MemoryWatch } from './memory-watch.js';

type Method = 'get' | 'list' | 'transact' | 'ping' | 'lease' | 'keepAlive';

/** The content of a {@link MemoryStore} at one moment. */
export interface Snapshot {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly revision: bigint;
}

/**
 * The datastore port in a Map, for unit tests. Passes the same contract tests as the one on etcd, and lets a test
 * decide when things go wrong.
 */
export class MemoryStore implements Store {
  #entries = new Map<string, Entry>();
  /** Every change of this era so far, for reads of the past. */
  readonly #history: { revision: string; key: string; entry: Entry | undefined }[] = [];
  readonly #watches = new Set<MemoryWatch>();
  readonly #failures: { method: Method; error: Error }[] = [];
  /** The keys of each lease. */
  readonly #leases = new Map<string, Set<string>>();
  #lastLease = 0;
  readonly #rewound = new Set<() => void>();
  #revision = 1n;
  /** How often it was put back to an earlier state. */
  #era = 0;
  #before: ((transaction: Transaction) => void | Promise<void>) | undefined;
  #between: (() => void | Promise<void>) | undefined;
  #closed = false;
  /** Calls of each kind so far, for tests that count round trips. */
  readonly calls: Record<Method, number> = {
    get: 0,
    list: 0,
    transact: 0,
    ping: 0,
    lease: 0,
    keepAlive: 0,
  };

  /** The next call of this kind fails and has no effect. */
  failNext(method: Method, error: Error = new DatastoreError('etcd cannot be reached (injected)')): void {
    this.#failures.push({ method, error });
  }

  /**
   * Runs a hook before every transaction is looked at: what it changes is a conflict. The hook's own transactions
   * do not call it again.
   */
  before(hook: ((transaction: Transaction) => void | Promise<void>) | undefined): void {
    this.#before = hook;
  }

  /**
   * The answer of the next transaction is lost: it takes effect, then `between` runs, then it is tried again, as
   * the real store does. Only what `between` changes decides whether the result is doubtful.
   */
  loseNextAnswer(between: () => void | Promise<void> = () => undefined): void {
    this.#between = between;
  }

  /** Breaks all watches: `lost` now, and a new `snapshot` when `again` is called. */
  interruptWatches(): { again(): void } {
    const interrupted = [...this.#watches];
    for (const watch of interrupted) watch.interrupt();
    return { again: () => interrupted.forEach(watch => watch.snapshot(this.#listing(watch.prefix))) };
  }

  /** All leases are over: their keys go. */
  expireLeases(): void {
    for (const id of [...this.#leases.keys()]) this.#endLease(id);
  }

  async lease(): Promise<Lease> {
    await this.#called('lease');
    const id = String((this.#lastLease += 1));
    this.#leases.set(id, new Set());
    return {
      id,
      keepAlive: async () => {
        await this.#called('keepAlive');
        return this.#leases.has(id);
      },
      revoke: async () => this.#endLease(id),
    };
  }

  #endLease(id: string): void {
    const then = [...(this.#leases.get(id) ?? [])].map(key => ({ delete: key }));
    this.#leases.delete(id);
    this.#apply({ compare: [], then }, false);
  }

  /** What {@link restore} puts back. */
  save(): Snapshot {
    return { entries: new Map(this.#entries), revision: this.#revision };
  }

  /**
   * What a restore of etcd from a snapshot does to those who use it: content and etcd's revision are as they were, all
   * watches break and begin again. As in `revision.ts`, the port's revisions are of a new era.
   */
  restore({ entries, revision }: Snapshot): void {
    const { again } = this.interruptWatches();
    this.#era += 1;
    this.#revision = revision;
    this.#entries = new Map(
      [...entries].map(([key, entry]) => {
        return [key, { ...entry, revision: revisionIn(this.#era, etcdRevisionOf(entry.revision)) }];
      }),
    );
    this.#history.length = 0;
    for (const [key, entry] of this.#entries) this.#history.push({ revision: entry.revision, key, entry });
    for (const listener of this.#rewound) listener();
    again();
  }

  onRewind(listener: () => void): () => void {
    this.#rewound.add(listener);
    return () => this.#rewound.delete(listener);
  }

  /** Everything, in byte order. */
  dump(): Record<string, string> {
    return Object.fromEntries(this.#listing('').entries.map(entry => [entry.key, entry.value]));
  }

  async get(key: string): Promise<Entry | undefined> {
    await this.#called('get');
    return this.#entries.get(key);
  }

  async list(prefix: string): Promise<Listing> {
    await this.#called('list');
    return this.#listing(prefix);
  }

  async *pages(prefix: string, revision?: string): AsyncGenerator<Listing> {
    await this.#called('list');
    yield this.#listing(prefix, revision);
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    await this.#called('transact');
    await this.#runHook(transaction);
    const between = this.#between;
    this.#between = undefined;
    const first = this.#apply(transaction, false);
    if (!between) return first;
    await between();
    const second = this.#apply(transaction, true);
    return !second.succeeded && first.succeeded && this.#isIntact(transaction, first.revision)
      ? first
      : second;
  }

  watch(prefix: string, watcher: Watcher): Watch {
    if (this.#closed) throw new DatastoreError('the connection to etcd was closed');
    const watch = new MemoryWatch(prefix, watcher, () => this.#watches.delete(watch));
    this.#watches.add(watch);
    watch.snapshot(this.#listing(prefix));
    return watch;
  }

  async ping(): Promise<void> {
    await this.#called('ping');
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watch of [...this.#watches]) watch.close();
  }

  async #called(method: Method): Promise<void> {
    this.calls[method]++;
    if (this.#closed) throw new DatastoreError('the connection to etcd was closed');
    await Promise.resolve(); // as with a real one, never in the same turn
    const index = this.#failures.findIndex(failure => failure.method === method);
    const [failure] = index < 0 ? [] : this.#failures.splice(index, 1);
    if (failure) throw failure.error;
  }

  async #runHook(transaction: Transaction): Promise<void> {
    const hook = this.#before;
    if (!hook) return;
    this.#before = undefined;
    await hook(transaction);
    this.#before ??= hook;
  }

  #apply(transaction: Transaction, doubtful: boolean): TransactionResult {
    if (!transaction.compare.every(compare => holds(compare, this.#entries.get(compare.key)))) {
      const found = new Map((transaction.otherwise ?? []).map(key => [key, this.#entries.get(key)]));
      return { succeeded: false, found, revision: this.#now(), doubtful };
    }
    for (const write of transaction.then)
      if ('put' in write && write.lease !== undefined && !this.#leases.has(write.lease))
        throw new DatastoreError('the lease has expired');
    const next = revisionIn(this.#era, (this.#revision + 1n).toString());
    const events: ((watch: MemoryWatch) => void)[] = [];
    for (const write of transaction.then) {
      if ('put' in write) {
        const entry = { key: write.put, value: write.value, revision: next };
        for (const keys of this.#leases.values()) keys.delete(write.put);
        if (write.lease !== undefined) this.#leases.get(write.lease)?.add(write.put);
        this.#set(write.put, entry);
        events.push(watch => watch.put(entry));
      } else if (this.#entries.has(write.delete)) {
        this.#set(write.delete, undefined);
        events.push(watch => watch.deleted(write.delete, next));
      }
    }
    // etcd counts a revision only for what changed something.
    if (events.length > 0) this.#revision++;
    for (const watch of this.#watches) for (const event of events) event(watch);
    return { succeeded: true, revision: this.#now() };
  }

  /** Whether all of a transaction's puts and deletes are still as it left them; false for mere deletes, as in etcd. */
  #isIntact({ then }: Transaction, revision: string): boolean {
    const intact = then.every(write =>
      'put' in write ? this.#entries.get(write.put)?.revision === revision : !this.#entries.has(write.delete),
    );
    return intact && then.some(write => 'put' in write);
  }

  #set(key: string, entry: Entry | undefined): void {
    if (entry) this.#entries.set(key, entry);
    else this.#entries.delete(key);
    this.#history.push({ revision: revisionIn(this.#era, (this.#revision + 1n).toString()), key, entry });
  }

  /** The entries as they were at a revision. */
  #past(revision: string): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    for (const change of this.#history) {
      if (isNewer(change.revision, revision)) break;
      if (change.entry) entries.set(change.key, change.entry);
      else entries.delete(change.key);
    }
    return entries;
  }

  #listing(prefix: string, revision = this.#now()): Listing {
    const isNow = revision === this.#now();
    const entries = [...(isNow ? this.#entries : this.#past(revision)).values()]
      .filter(entry => entry.key.startsWith(prefix))
      .sort((one, other) => Buffer.compare(Buffer.from(one.key), Buffer.from(other.key)));
    return { entries, revision };
  }

  #now(): string {
    return revisionIn(this.#era, this.#revision.toString());
  }
}

function holds(compare: Compare, entry: Entry | undefined): boolean {
  switch (compare.is) {
    case 'absent':
      return !entry;
    case 'present':
      return entry !== undefined;
    case 'revision':
      return (entry?.revision ?? '0') === compare.revision;
    case 'value':
      return entry?.value === compare.value;
  }
}
