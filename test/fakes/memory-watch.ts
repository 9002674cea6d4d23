import { DatastoreError } from '../../src/errors.js';
import type { Entry, Listing, Watch, Watcher } from '../../src/datastore/store.js';

/** A watch of `MemoryStore`. Delivers in order, each report in a turn of its own, as a network would. */
export class MemoryWatch implements Watch {
  readonly ready: Promise<void>;
  readonly prefix: string;
  readonly #watcher: Watcher;
  readonly #closed: () => void;
  #tail: Promise<void> = Promise.resolve();
  #isClosed = false;
  #isInterrupted = false;
  #becomeReady: () => void = () => undefined;
  #giveUpReady: (error: Error) => void = () => undefined;

  constructor(prefix: string, watcher: Watcher, closed: () => void) {
    this.prefix = prefix;
    this.#watcher = watcher;
    this.#closed = closed;
    this.ready = new Promise((resolve, reject) => {
      this.#becomeReady = resolve;
      this.#giveUpReady = reject;
    });
    this.ready.catch(() => undefined);
  }

  snapshot(listing: Listing): void {
    this.#isInterrupted = false;
    this.#deliver(() => {
      try {
        this.#watcher.snapshot(listing);
      } finally {
        this.#becomeReady();
      }
    });
  }

  put(entry: Entry): void {
    if (entry.key.startsWith(this.prefix) && !this.#isInterrupted)
      this.#deliver(() => this.#watcher.put(entry));
  }

  deleted(key: string, revision: string): void {
    if (key.startsWith(this.prefix) && !this.#isInterrupted)
      this.#deliver(() => this.#watcher.deleted(key, revision));
  }

  interrupt(): void {
    this.#isInterrupted = true;
    this.#deliver(() => this.#watcher.lost?.(new DatastoreError('the watch on etcd broke: injected')));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#giveUpReady(new DatastoreError('the watch was closed'));
    this.#closed();
  }

  #deliver(report: () => void): void {
    this.#tail = this.#tail.then(() => {
      try {
        if (!this.#isClosed) report();
      } catch {
        // A watcher that throws ends nothing; the real store writes it to the log.
      }
    });
  }
}
