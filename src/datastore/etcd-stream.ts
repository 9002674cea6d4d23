import type { IWatchResponse } from 'etcd3';
import type { EtcdConnection, WatchStream } from './etcd-connection.js';
import type { EtcdHistory } from './etcd-history.js';
import { entryOf, rangeOf } from './etcd-wire.js';
import { eraOf, etcdRevisionOf, revisionIn } from './revision.js';
import type { Watcher } from './store.js';

/** How often the server is asked for a sign of life on the stream itself. */
const ASK_MILLISECONDS = 4_000;
/**
 * Silence that means the stream is dead although its connection may live: three questions without an answer.
 * Together with the interval this bounds the time to notice to 15 s.
 */
const SILENCE_MILLISECONDS = 11_000;
/** A question that is not answered by then makes the network suspect; see `etcd-way.ts`. */
const ANSWER_MILLISECONDS = 1_500;

/**
 * Streams the changes of a prefix after a revision (of the present era) to `watcher`, in the order of revisions.
 * Resolves when `signal` aborts or the server ends the stream; rejects with what broke it. Afterwards nothing is
 * reported any more.
 */
export async function streamFrom(
  connection: EtcdConnection,
  prefix: string,
  after: string,
  watcher: Watcher,
  history: EtcdHistory,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return;
  const era = eraOf(after);
  const revision = (BigInt(etcdRevisionOf(after)) + 1n).toString();
  const stream = await connection.watch();
  const { key, range_end } = rangeOf(prefix);
  // `fragment`: a revision larger than one message comes in pieces instead of breaking the stream.
  const request = { key, range_end, start_revision: revision, fragment: true };
  try {
    const heard = (response: IWatchResponse): void => {
      history.watched(era, response.header);
      report(response, watcher, era, signal);
    };
    await until(signal, connection, stream, heard, () => stream.write({ create_request: request }));
  } finally {
    stream.on('error', () => undefined); // cancelling is reported as an error, which nobody waits for any more
    stream.cancel();
  }
}

function until(
  signal: AbortSignal,
  connection: EtcdConnection,
  stream: WatchStream,
  report: (response: IWatchResponse) => void,
  start: () => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let heard = Date.now();
    const settle = (error?: Error): void => {
      clearInterval(timer);
      clearTimeout(first);
      clearTimeout(patience);
      unfollow();
      signal.removeEventListener('abort', aborted);
      isOver = true;
      if (error) reject(error);
      else resolve();
    };
    const aborted = (): void => settle();
    let isOver = false;
    let timer: NodeJS.Timeout | undefined;
    let patience: NodeJS.Timeout | undefined;
    const unfollow = connection.onBroken(() => settle(new Error('the way to etcd was broken')));
    const ask = (): void => {
      if (Date.now() - heard >= SILENCE_MILLISECONDS) return settle(new Error('etcd has fallen silent'));
      const asked = Date.now();
      stream.write({ progress_request: {} });
      clearTimeout(patience);
      patience = setTimeout(() => heard < asked && connection.suspect(), ANSWER_MILLISECONDS);
    };
    // The streams of a connection begin together. Asking one after another, they notice the sooner that it is dead.
    const first = setTimeout(() => {
      timer = setInterval(ask, ASK_MILLISECONDS);
      ask();
    }, Math.random() * ASK_MILLISECONDS);
    signal.addEventListener('abort', aborted);
    stream.on('error', settle);
    stream.on('end', () => settle());
    stream.on('data', response => {
      if (isOver) return;
      heard = Date.now();
      if (response.canceled) settle(cancellation(response));
      else report(response);
    });
    if (signal.aborted) settle();
    else start();
  });
}

function report(response: IWatchResponse, watcher: Watcher, era: number, signal: AbortSignal): void {
  for (const event of response.events) {
    if (signal.aborted) return; // a callback may close the watch
    if (event.type === 'Put') watcher.put(entryOf(event.kv, era));
    else watcher.deleted(event.kv.key.toString(), revisionIn(era, event.kv.mod_revision));
  }
}

function cancellation(response: IWatchResponse): Error {
  // etcd names the compaction only by number, and often gives no reason at all.
  const compacted = response.compact_revision !== '0' && response.compact_revision !== '';
  if (compacted) return new Error('required revision has been compacted');
  return new Error(`etcd cancelled the watch: ${response.cancel_reason || 'no reason given'}`);
}
