import { withoutDeadline } from '../deadline.js';
import { DatastoreError, reason } from '../errors.js';
import type { Logger } from '../log.js';
import { failureOf } from './etcd-failure.js';
import { EtcdRefusal } from './etcd-link.js';
import type { EtcdLink } from './etcd-link.js';
import { listPrefix } from './etcd-list.js';
import { streamFrom } from './etcd-stream.js';
import { eraOf } from './revision.js';
import type { Listing, Watch, Watcher } from './store.js';

const FIRST_PAUSE_MILLISECONDS = 50;
/** Short: a host that was cut off shall be up to date within two seconds of etcd's return. */
const LONGEST_PAUSE_MILLISECONDS = 1_000;
/** A stream that held this long was no flicker: the next gap starts again with the shortest pause. */
const STEADY_MILLISECONDS = 5_000;

/**
 * Follows a prefix until closed: list, stream, and again after any gap.
 *
 * @param closed called once, when the watch is closed
 */
export function watchPrefix(
  link: EtcdLink,
  prefix: string,
  watcher: Watcher,
  log: Logger,
  closed: () => void,
): Watch {
  return new PrefixWatch(link, prefix, guarded(watcher, prefix, log), log, closed);
}

type GuardedWatcher = Watcher & Required<Omit<Watcher, 'digest'>>;

class PrefixWatch implements Watch {
  readonly ready: Promise<void>;
  readonly #link: EtcdLink;
  readonly #prefix: string;
  readonly #watcher: GuardedWatcher;
  readonly #log: Logger;
  readonly #closed: () => void;
  /** Aborted by `close`; nothing is reported afterwards. */
  readonly #end = new AbortController();
  #becomeReady: () => void = () => undefined;
  #giveUpReady: (error: Error) => void = () => undefined;

  constructor(link: EtcdLink, prefix: string, watcher: GuardedWatcher, log: Logger, closed: () => void) {
    this.#link = link;
    this.#prefix = prefix;
    this.#watcher = watcher;
    this.#log = log;
    this.#closed = closed;
    this.ready = new Promise((resolve, reject) => {
      this.#becomeReady = resolve;
      this.#giveUpReady = reject;
    });
    this.ready.catch(() => undefined); // nobody need wait for it
    // Whoever starts a watch may be answering a request; the watch goes on after that.
    void withoutDeadline(() => this.#follow());
  }

  close(): void {
    if (this.#end.signal.aborted) return;
    this.#end.abort();
    this.#giveUpReady(new DatastoreError('the watch was closed'));
    this.#closed();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#end;
    let pause = FIRST_PAUSE_MILLISECONDS;
    let isLost = false;
    let isRefused = false;
    while (!signal.aborted) {
      let since = Infinity;
      const error = await this.#listAndStream(() => {
        since = Date.now();
        isLost = false;
        isRefused = false;
      });
      if (signal.aborted) return;
      // That etcd is there and says no is news, and somebody has to act on it.
      const isNews: boolean = error instanceof EtcdRefusal && !isRefused;
      if (!isLost || isNews) {
        isLost = true;
        isRefused ||= isNews;
        this.#log.warn({ prefix: this.#prefix, reason: error.message }, 'lost sight of etcd, listing again');
        this.#watcher.lost(error);
      }
      if (Date.now() - since >= STEADY_MILLISECONDS) pause = FIRST_PAUSE_MILLISECONDS;
      await sleep(pause * (0.5 + Math.random() / 2), signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MILLISECONDS);
    }
  }

  /** One life of the watch. Returns why it ended; never throws. */
  async #listAndStream(listed: () => void): Promise<Error> {
    const { signal } = this.#end;
    try {
      const listing = await listPrefix(this.#link, this.#prefix, this.#watcher.digest);
      if (signal.aborted) return new DatastoreError('the watch was closed');
      listed();
      this.#watcher.snapshot(listing);
      this.#becomeReady();
      return await this.#stream(listing);
    } catch (error) {
      if (error instanceof DatastoreError) return error;
      return new DatastoreError(`the watch on etcd broke: ${failureOf(error).reason}`, { cause: error });
    }
  }

  /** Streams what came after the listing. Returns why it ended, or throws it. */
  async #stream(listing: Listing): Promise<Error> {
    const { history } = this.#link;
    // Where etcd went back, its stream would be silent until it has come as far again, and then lie.
    const life = new AbortController();
    const end = (): void => life.abort();
    const unfollow = history.onRewind(end);
    this.#end.signal.addEventListener('abort', end);
    try {
      const connection = this.#link.connection();
      if (this.#end.signal.aborted) return new DatastoreError('the watch was closed');
      // On a new connection nothing has told yet whether the listing's revision still means what it did.
      if (eraOf(listing.revision) !== history.era || !connection.isGreeted)
        return new DatastoreError('the connection to etcd was replaced');
      try {
        await streamFrom(connection, this.#prefix, listing.revision, this.#watcher, history, life.signal);
      } catch (error) {
        // A compacted watch leaves the connection as good as it was; anything else may be its fault or its token's.
        if (!life.signal.aborted && failureOf(error).kind !== 'compacted') this.#link.drop(connection);
        throw error;
      }
      return new DatastoreError(
        life.signal.aborted ? 'etcd went back to an earlier state' : 'the watch ended',
      );
    } finally {
      unfollow();
      this.#end.signal.removeEventListener('abort', end);
    }
  }
}

/**
 * The same watcher, whose callbacks do not throw: a fault in one consumer is no reason to end the watch. They run
 * outside any deadline: the connection's events belong to whatever call happened to open it, long answered by now.
 */
function guarded(watcher: Watcher, prefix: string, log: Logger): GuardedWatcher {
  const guard =
    <A extends unknown[]>(callback: (...values: A) => void) =>
    (...values: A): void => {
      try {
        withoutDeadline(() => callback(...values));
      } catch (error) {
        log.error({ prefix, reason: reason(error), err: error }, 'a watcher failed; its watch goes on');
      }
    };
  const { digest } = watcher;
  return {
    ...(digest ? { digest: (key: string, value: string) => digest(key, value) } : {}),
    snapshot: guard(listing => watcher.snapshot(listing)),
    put: guard(entry => watcher.put(entry)),
    deleted: guard((key, revision) => watcher.deleted(key, revision)),
    lost: guard(error => watcher.lost?.(error)),
  };
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done);
  });
}
