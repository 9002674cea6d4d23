import { withoutDeadline } from '../deadline.js';
import { reason } from '../errors.js';
import type { Logger } from '../log.js';
import { isNewer } from './revision.js';
import type { Entry, Listing, Store, Watch, Watcher } from './store.js';

/** Turns a value into an object; undefined, or an error thrown, where it is none. */
export type Parse<T> = (key: string, value: string) => T | undefined;

/**
 * A live copy of one prefix in memory, so that readers need no round trip. It follows the datastore by a watch,
 * and is told of our own writes by {@link observe}, which makes them visible before the watch brings them. Where the
 * datastore goes back to an earlier state, the next copy replaces all of it: by revision it is later than anything else.
 *
 * Entries that do not parse are left out, with one line in the log for each of their revisions.
 */
export class Mirror<T> {
  /** Resolves with the first complete copy; rejects where the mirror is closed before that. */
  readonly ready: Promise<void>;
  readonly #prefix: string;
  readonly #parse: Parse<T>;
  readonly #log: Logger;
  readonly #watch: Watch;
  readonly #listeners = new Set<() => void>();
  readonly #entryListeners = new Set<(keys: ReadonlySet<string>) => void>();
  /** Keys that changed since entry listeners were called last. */
  #touched = new Set<string>();
  #values = new Map<string, T>();
  /** Revision of every key the prefix has, also of those that do not parse. */
  #revisions = new Map<string, string>();
  /** Our own writes and deletes the watch has not come to yet: its older events must not undo them. */
  readonly #ahead = new Map<string, string>();
  /** How far the watch has come. */
  #seen = '0';
  #isCurrent = false;
  #trouble: string | undefined;
  #isClosed = false;
  #changed: NodeJS.Immediate | undefined;

  /** `digest`: see {@link Watcher.digest}; `parse` has to take what it makes, too. */
  constructor(store: Store, prefix: string, parse: Parse<T>, log: Logger, digest?: Watcher['digest']) {
    this.#prefix = prefix;
    this.#parse = parse;
    this.#log = log;
    this.#watch = store.watch(prefix, {
      ...(digest ? { digest } : {}),
      snapshot: listing => this.#replace(listing),
      put: entry => this.#reported(entry.key, entry.revision, entry),
      deleted: (key, revision) => this.#reported(key, revision, undefined),
      lost: error => {
        this.#trouble = error.message;
        this.#setCurrent(false);
      },
    });
    this.ready = this.#watch.ready;
  }

  /** False before the first copy is complete and while the datastore is out of sight: what is read may be old. */
  get isCurrent(): boolean {
    return this.#isCurrent;
  }

  /** Why it is not current, where etcd has said so. */
  get trouble(): string | undefined {
    return this.#isCurrent ? undefined : this.#trouble;
  }

  get size(): number {
    return this.#values.size;
  }

  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  /** The revision to compare with in a transaction that builds on `get(key)`. */
  revisionOf(key: string): string | undefined {
    return this.#revisions.get(key);
  }

  /** In no particular order. */
  values(): IterableIterator<T> {
    return this.#values.values();
  }

  /** Pairs of key and value, in no particular order. */
  entries(): IterableIterator<[string, T]> {
    return this.#values.entries();
  }

  /**
   * Calls back after changes of the content or of `isCurrent`: once for a burst of them, never synchronously.
   *
   * @returns a function that ends it
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Calls back with the keys whose value appeared, changed or went from now on: once for a burst, never synchronously.
   * For a prefix that is too large to be looked at as a whole after each change.
   *
   * @returns a function that ends it
   */
  onEntries(listener: (keys: ReadonlySet<string>) => void): () => void {
    this.#entryListeners.add(listener);
    return () => this.#entryListeners.delete(listener);
  }

  /** Tells of our own successful put, so that it is visible now. The newer revision wins, whoever brings it. */
  observe(entry: Entry): void {
    this.#foresee(entry.key, entry.revision, entry);
  }

  /** Tells of our own successful delete. `revision` is that of the transaction. */
  observeDeleted(key: string, revision: string): void {
    this.#foresee(key, revision, undefined);
  }

  /** Ends the watch; nothing changes and nobody is called afterwards. */
  close(): void {
    this.#isClosed = true;
    this.#watch.close();
    this.#listeners.clear();
    this.#entryListeners.clear();
    if (this.#changed) clearImmediate(this.#changed);
  }

  #foresee(key: string, revision: string, entry: Entry | undefined): void {
    if (this.#isClosed || !key.startsWith(this.#prefix)) return;
    // The watch may have overtaken the answer to our write: then it has said all there is to say.
    if (!isNewer(revision, this.#seen) || !isNewer(revision, this.#ahead.get(key) ?? '0')) return;
    this.#ahead.set(key, revision);
    this.#apply(key, entry);
  }

  #reported(key: string, revision: string, entry: Entry | undefined): void {
    const isOld = !isNewer(revision, this.#ahead.get(key) ?? '0');
    this.#arriveAt(revision);
    if (!isOld) this.#apply(key, entry);
  }

  #replace(listing: Listing): void {
    this.#arriveAt(listing.revision);
    const [values, revisions] = [this.#values, this.#revisions];
    this.#values = new Map();
    this.#revisions = new Map();
    for (const entry of listing.entries) {
      if (this.#ahead.has(entry.key)) continue;
      // The same revision is the same value: keep the object, and do not complain of it twice.
      if (revisions.get(entry.key) === entry.revision)
        carry(entry.key, values, revisions, this.#values, this.#revisions);
      else this.#apply(entry.key, entry);
    }
    for (const key of this.#ahead.keys()) carry(key, values, revisions, this.#values, this.#revisions);
    for (const key of values.keys()) if (!this.#values.has(key)) this.#touch(key);
    this.#isCurrent = true;
    this.#announce();
  }

  /** The watch has come this far; own writes up to here are no longer ahead of it. */
  #arriveAt(revision: string): void {
    this.#seen = revision;
    for (const [key, ahead] of this.#ahead) if (!isNewer(ahead, revision)) this.#ahead.delete(key);
  }

  #apply(key: string, entry: Entry | undefined): void {
    const value = entry && this.#parsed(entry);
    if (entry) this.#revisions.set(key, entry.revision);
    else this.#revisions.delete(key);
    if (value === undefined) this.#values.delete(key);
    else this.#values.set(key, value);
    this.#touch(key);
    this.#announce();
  }

  #parsed(entry: Entry): T | undefined {
    let why = 'it is none of ours';
    try {
      const value = this.#parse(entry.key, entry.value);
      if (value !== undefined) return value;
    } catch (error) {
      why = reason(error);
    }
    this.#log.warn(
      { path: entry.key, revision: entry.revision, reason: why },
      'left out an entry that does not parse',
    );
    return undefined;
  }

  #setCurrent(isCurrent: boolean): void {
    if (this.#isCurrent === isCurrent) return;
    this.#isCurrent = isCurrent;
    this.#announce();
  }

  #touch(key: string): void {
    if (this.#entryListeners.size > 0) this.#touched.add(key);
  }

  #announce(): void {
    if (this.#isClosed) return;
    this.#changed ??= setImmediate(() => {
      this.#changed = undefined;
      const keys = this.#touched;
      if (keys.size > 0) this.#touched = new Set();
      for (const listener of this.#entryListeners) if (keys.size > 0) this.#tell(() => listener(keys));
      for (const listener of this.#listeners) this.#tell(listener);
    });
  }

  #tell(listener: () => void): void {
    try {
      // What made the change may have been a request with a deadline; its listeners are no part of it.
      withoutDeadline(listener);
    } catch (error) {
      this.#log.error({ prefix: this.#prefix, err: error }, 'a listener of a mirror failed');
    }
  }
}

function carry<T>(
  key: string,
  values: ReadonlyMap<string, T>,
  revisions: ReadonlyMap<string, string>,
  toValues: Map<string, T>,
  toRevisions: Map<string, string>,
): void {
  const [value, revision] = [values.get(key), revisions.get(key)];
  if (value !== undefined) toValues.set(key, value);
  if (revision !== undefined) toRevisions.set(key, revision);
}
