import type { Compare, Entry, Write } from '../datastore/store.js';

/** What can be wrong in a datastore. */
export type FindingKind =
  /** A value, or a key, that cannot be parsed. Never touched. */
  | 'unreadable'
  /** A key names something else than its value. */
  | 'key-mismatch'
  /** Free list, attributes or sequence numbers of a block contradict its allocations. */
  | 'block-content'
  /** A block of another size than its pool's blocks. */
  | 'block-size'
  /** A block that lies in no IPPool. */
  | 'block-pool'
  /** Two blocks, or two pools, with addresses in common. */
  | 'overlap'
  /** An address that two have. */
  | 'address-twice'
  /** An affinity without its block, or of a block that is another node's. */
  | 'affinity-stale'
  /** An affinity that its block confirms, but which is missing, pending or pendingDeletion. */
  | 'affinity-unconfirmed'
  /** A handle that counts other addresses than blocks hold for it. */
  | 'handle-count'
  /** A handle no allocation refers to. */
  | 'handle-unused'
  /** An allocation of one address with the handle of another. */
  | 'handle-address'
  /** An allocation of ours without its endpoint. */
  | 'allocation-unowned'
  /** A `--gateway` or `--aux-address` without its network. */
  | 'reservation-unowned'
  /** An endpoint whose address is not allocated to it. */
  | 'endpoint-address'
  /** An endpoint whose network has no record. */
  | 'endpoint-network';

/** A contradiction in the datastore. */
export interface Finding {
  readonly kind: FindingKind;
  /** The etcd keys concerned. */
  readonly keys: readonly string[];
  /** A sentence for a person: what is wrong and, where nothing repairs it, what to do. */
  readonly text: string;
  /** A transaction that repairs it; absent where that is not safe. It frees no address. */
  readonly fix?: Fix;
}

/** Compares every key it relies on with what was read. */
export interface Fix {
  readonly compare: readonly Compare[];
  readonly then: readonly Write[];
}

/** The text of a finding that two listings have in common. */
export function identityOf({ kind, keys }: Finding): string {
  return `${kind} ${keys.join(' ')}`;
}

/** A key or value that is not what it must be. */
export function unreadable({ key }: Entry, what: string): Finding {
  return {
    kind: 'unreadable',
    keys: [key],
    text: `it holds no ${what} that can be read, and is left as it is: see who wrote it, and correct or delete it`,
  };
}

/** Compares that a key is still as it was read. */
export function asRead(key: string, revision: string | undefined): Compare {
  return revision === undefined ? { key, is: 'absent' } : { key, is: 'revision', revision };
}
