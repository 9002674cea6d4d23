import fc from 'fast-check';
import {
  AFFINITIES_PREFIX,
  blockKey,
  blocksPrefix,
  endpointKey,
  handleKey,
} from '../../src/datastore/keys.js';
import { networkKey, parseAffinityKey, resourceKey } from '../../src/datastore/keys.js';
import { formatBlock, parseBlock } from '../../src/model/block.js';
import { cidr } from '../unit/ipam-node.js';
import { anyText, mutated } from './garbage.js';
import { damaged, sampleBlock, sampleOf, texts } from './samples.js';

/** Keys that are ours by their prefix and nobody's by what follows, or another node's. */
const strayKey = fc.oneof(
  fc
    .tuple(
      fc.constantFrom(
        blocksPrefix(4),
        blocksPrefix(6),
        handleKey(''),
        `${AFFINITIES_PREFIX}a/`,
        `${AFFINITIES_PREFIX}a/ipv4/block/`,
        `${AFFINITIES_PREFIX}b/ipv4/block/`,
        resourceKey('ippools', ''),
        resourceKey('ipreservations', ''),
        endpointKey(''),
        networkKey(''),
        '/calico/libnetwork/',
      ),
      fc.oneof(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
        fc.constantFrom(
          '10.0.0.0-24',
          '10.0.0.8-30',
          '10.0.0.0-0',
          'fd80::-122',
          '10.0.0.16-28',
          '10.0.0.5-29',
          '..',
          '10.9.0.0-29',
        ),
      ),
    )
    .map(([prefix, rest]) => prefix + rest),
  // Whole blocks of the pool.
  fc.nat(3).map(index => blockKey(cidr(`10.0.0.${index * 8}/29`))),
);
/** A key and its value: for the pool 10.0.0.0/27 of blocks of eight, and the node `a`. */
export const stray = fc.tuple(
  strayKey,
  fc.oneof(
    anyText,
    damaged('block'),
    mutated(sampleOf(formatBlock(sampleBlock('a', '10.9.0.0/29')))),
    damaged('affinity'),
    damaged('record'),
    damaged('endpointInUse'),
    damaged('pool'),
    fc.constant(texts.block),
    fc.constant(texts.affinity),
    fc.constant(formatBlock(sampleBlock('a', '10.0.0.0/30'))),
    fc.constant(formatBlock({ ...sampleBlock('b', '10.0.0.8/29'), affinity: null })),
  ),
);

/**
 * True for what the node `a` may use or change after all: a block of the pool, whatever else is odd about it, and an
 * affinity of the node itself.
 */
export function isOurs(key: string, value: string): boolean {
  const block = key.startsWith(blocksPrefix(4)) ? parseBlock(value) : undefined;
  if (block && block.cidr.length === 29 && blockKey(block.cidr) === key) return true;
  const affinity = parseAffinityKey(key);
  return affinity?.node === 'a' && affinity.cidr.length === 29;
}
