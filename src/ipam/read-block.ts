import { blockKey } from '../datastore/keys.js';
import type { Entry } from '../datastore/store.js';
import { ConflictError } from '../errors.js';
import { parseBlock } from '../model/block.js';
import type { Block } from '../model/block.js';

/** The block at a key; undefined where the value is none, or that of another key, which would hold addresses twice. */
export function readBlock({ key, value }: Entry): Block | undefined {
  const block = parseBlock(value);
  return block && blockKey(block.cidr) === key ? block : undefined;
}

/** What stands at a block's key cannot be read: nothing is taken from it, and nothing of it is written. */
export class UnreadableBlockError extends ConflictError {
  constructor(key: string) {
    super(`${key} in etcd holds no block that can be read: run ipam check`);
  }
}
