import { DatastoreError } from '../../src/errors.js';
import type {
  Compare,
  Entry,
  Listing,
  Store,
  Transaction,
  TransactionResult,
  Watch,
  Watcher,
} from '../../src/datastore/store.js';
import { MemoryWatch } from './memory-watch.js';

type Method = 'get' | 'list' | 'transact' | 'ping';

/**
 * The datastore port in a Map, for unit tests. Passes the same contract tests as the one on etcd, and lets a test
 * decide when things go wrong.
 */
export class MemoryStore implements Store {
  readonly #entries = new Map<string, Entry>();
  /** Every change so far, for reads of the past. */
  readonly #history: { revision: bigint; key: string; entry: Entry | undefined }[] = [];
  readonly #watches = new Set<MemoryWatch>();
  readonly #failures: { method: Method; error: Error }[] = [];
  #revision = 1n;
  #before: ((transaction: Transaction) => void | Promise<void>) | undefined;
  #between: (() => void | Promise<void>) | undefined;
  #closed = false;
  /** Calls of each kind so far, for tests that count round trips. */
  readonly calls: Record<Method, number> = { get: 0, list: 0, transact: 0, ping: 0 };

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
      return { succeeded: false, found, revision: String(this.#revision), doubtful };
    }
    const next = (this.#revision + 1n).toString();
    const events: ((watch: MemoryWatch) => void)[] = [];
    for (const write of transaction.then) {
      if ('put' in write) {
        const entry = { key: write.put, value: write.value, revision: next };
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
    return { succeeded: true, revision: this.#revision.toString() };
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
    this.#history.push({ revision: this.#revision + 1n, key, entry });
  }

  /** The entries as they were at a revision. */
  #past(revision: string): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    for (const change of this.#history) {
      if (change.revision > BigInt(revision)) break;
      if (change.entry) entries.set(change.key, change.entry);
      else entries.delete(change.key);
    }
    return entries;
  }

  #listing(prefix: string, revision = String(this.#revision)): Listing {
    const isNow = revision === String(this.#revision);
    const entries = [...(isNow ? this.#entries : this.#past(revision)).values()]
      .filter(entry => entry.key.startsWith(prefix))
      .sort((one, other) => Buffer.compare(Buffer.from(one.key), Buffer.from(other.key)));
    return { entries, revision };
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
