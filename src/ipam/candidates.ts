import { size } from './cidr.js';
import type { Cidr } from './cidr.js';

/**
 * The blocks of a pool in the order in which a node tries them: from a place that depends on the node's name, then
 * on, around the end. So nodes seldom want the same block. Only compare-and-swap protects correctness; the place is
 * ours (FNV-1 modulo the number of blocks), not Go's, whose random generator would need its table of 607 words.
 * Blocks that are wholly reserved are left out, a reservation at a time: an IPv6 one can have 2^58 of them.
 */
export function* blockCidrs(
  pool: Cidr,
  blockSize: number,
  node: string,
  reservationAround: (block: Cidr) => Cidr | undefined = () => undefined,
): Generator<Cidr> {
  const count = 1n << BigInt(blockSize - pool.length);
  const step = size({ ...pool, length: blockSize });
  const start = BigInt(fnv1(node)) % count;
  let index = 0n;
  while (index < count) {
    const place = (start + index) % count;
    const block = { family: pool.family, base: pool.base + place * step, length: blockSize };
    const reserved = reservationAround(block);
    if (!reserved) yield block;
    // Never past the end of the pool, where the walk begins again at its start.
    const end = reserved ? (reserved.base + size(reserved) - pool.base) / step : place + 1n;
    index += (end < count ? end : count) - place;
  }
}

/** FNV-1, 32 bits, of the text's UTF-8 bytes. */
export function fnv1(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = (Math.imul(hash, 0x01000193) ^ byte) >>> 0;
  return hash;
}
