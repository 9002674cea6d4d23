import type { ICompare, IKeyValue, IRequestOp, IResponseOp, ITxnRequest } from 'etcd3';
import { revisionIn, revisionToCompare } from './revision.js';
import type { Compare, Entry, Transaction, Write } from './store.js';

/**
 * The smallest linearizable read: answered only where a majority of the cluster works. Any key will do, also an absent
 * one; this one may be read by whoever may read anything of ours.
 */
export const PROBE = { key: Buffer.from('/calico/'), count_only: true };

/** The wire's view of keys and values is bytes; bytes that are no UTF-8 become U+FFFD and never an error. */
export function entryOf(kv: IKeyValue, era: number): Entry {
  return { key: kv.key.toString(), value: kv.value.toString(), revision: revisionIn(era, kv.mod_revision) };
}

/** The half-open range of all keys that begin with `prefix`; of all keys where it is empty. */
export function rangeOf(prefix: string): { key: Buffer; range_end: Buffer } {
  const key = Buffer.from(prefix);
  if (key.length === 0) return { key: Buffer.of(0), range_end: Buffer.of(0) };
  const end = Buffer.from(key);
  // The last byte of UTF-8 text is never 0xff, so the next key after all of the prefix is one addition away.
  end[end.length - 1] = (end[end.length - 1] ?? 0) + 1;
  return { key, range_end: end };
}

/**
 * A transaction as etcd takes it.
 *
 * @param doubtful asks, where a compare fails, for every key the transaction writes too: enough to recognise
 *   our own earlier try ({@link ownEarlierTry})
 * @param era etcd's present one: a compare with a revision of another fails
 */
export function requestOf(transaction: Transaction, doubtful: boolean, era: number): ITxnRequest {
  return {
    compare: transaction.compare.map(compare => compareOf(compare, era)),
    success: transaction.then.map(writeOf),
    failure: keysRead(transaction, doubtful).map(readOf),
  };
}

/** Each key once: etcd takes 128 operations, and what is written is mostly asked for anyway. */
function keysRead(transaction: Transaction, doubtful: boolean): string[] {
  const read = transaction.otherwise ?? [];
  return doubtful ? [...new Set([...read, ...transaction.then.map(keyOf)])] : [...read];
}

/**
 * The keys of `otherwise` as the answer to a failed compare shows them.
 *
 * @param responses in the order of the request: those of `otherwise`, then whatever was read besides
 */
export function foundIn(
  transaction: Transaction,
  responses: readonly IResponseOp[],
  era: number,
): Map<string, Entry | undefined> {
  const found = new Map<string, Entry | undefined>();
  transaction.otherwise?.forEach((key, index) => found.set(key, entryIn(responses[index], era)));
  return found;
}

/**
 * The revision at which an earlier try of this very transaction was applied, where the keys it writes leave no
 * other reading: every put holds exactly our value, all at one revision, and every delete is absent. A transaction
 * that only deletes leaves no mark, so it can never be recognised.
 *
 * @param responses to a request made with `doubtful`
 */
export function ownEarlierTry(
  transaction: Transaction,
  responses: readonly IResponseOp[],
  era: number,
): string | undefined {
  const keys = keysRead(transaction, true);
  let revision: string | undefined;
  for (const write of transaction.then) {
    const entry = entryIn(responses[keys.indexOf(keyOf(write))], era);
    if ('delete' in write) {
      if (entry) return undefined;
      continue;
    }
    if (entry?.value !== write.value) return undefined;
    revision ??= entry.revision;
    if (entry.revision !== revision) return undefined;
  }
  return revision;
}

function entryIn(response: IResponseOp | undefined, era: number): Entry | undefined {
  const kv = response?.response_range.kvs[0];
  return kv && entryOf(kv, era);
}

function compareOf(compare: Compare, era: number): ICompare {
  const key = Buffer.from(compare.key);
  switch (compare.is) {
    case 'absent':
      return { key, result: 'Equal', target: 'Version', version: '0' };
    case 'present':
      return { key, result: 'Greater', target: 'Version', version: '0' };
    case 'revision':
      return { key, result: 'Equal', target: 'Mod', mod_revision: revisionToCompare(era, compare.revision) };
    case 'value':
      return { key, result: 'Equal', target: 'Value', value: Buffer.from(compare.value) };
  }
}

function writeOf(write: Write): IRequestOp {
  return 'put' in write
    ? {
        request_put: {
          key: Buffer.from(write.put),
          value: Buffer.from(write.value),
          ...(write.lease === undefined ? {} : { lease: write.lease }),
        },
      }
    : { request_delete_range: { key: Buffer.from(write.delete) } };
}

function keyOf(write: Write): string {
  return 'put' in write ? write.put : write.delete;
}

function readOf(key: string): IRequestOp {
  return { request_range: { key: Buffer.from(key) } };
}
