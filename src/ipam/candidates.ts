import { size } from './cidr.js';
import type { Cidr } from './cidr.js';

/**
 * The blocks of a pool in the order in which a node tries them: from a place that depends on the node's name, then
 * on, around the end. So nodes seldom want the same block. Only compare-and-swap protects correctness; the place is
 * ours (FNV-1 modulo the number of blocks), not Go's, whose random generator would need its table of 607 words.
 */
export function* blockCidrs(pool: Cidr, blockSize: number, node: string): Generator<Cidr> {
  const count = 1n << BigInt(blockSize - pool.length);
  const step = size({ ...pool, length: blockSize });
  const start = BigInt(fnv1(node)) % count;
  for (let index = 0n; index < count; index += 1n)
    yield { family: pool.family, base: pool.base + ((start + index) % count) * step, length: blockSize };
}

/** FNV-1, 32 bits, of the text's UTF-8 bytes. */
export function fnv1(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = (Math.imul(hash, 0x01000193) ^ byte) >>> 0;
  return hash;
}
