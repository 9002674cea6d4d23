import { describe, expect, it } from 'vitest';
import { blockCidrs, fnv1 } from '../../src/ipam/candidates.js';
import { formatCidr, parseCidr } from '../../src/ipam/cidr.js';
import type { Cidr } from '../../src/ipam/cidr.js';

function pool(text: string): Cidr {
  const cidr = parseCidr(text);
  if (!cidr) throw new Error(text);
  return cidr;
}

describe('the blocks of a pool in the order of a node', () => {
  it('begins at a place that the name gives, and visits each once', () => {
    const order = [...blockCidrs(pool('192.0.2.0/24'), 26, 'node-1')].map(formatCidr);
    expect(new Set(order)).toEqual(
      new Set(['192.0.2.0/26', '192.0.2.64/26', '192.0.2.128/26', '192.0.2.192/26']),
    );
    expect(order).toEqual([...blockCidrs(pool('192.0.2.0/24'), 26, 'node-1')].map(formatCidr));
  });

  it('knows the hash that Calico uses', () => expect(fnv1('node-1')).toBe(568266919));

  it('spreads nodes', () => {
    const first = new Set(
      Array.from({ length: 50 }, (_, i) =>
        formatCidr([...take(blockCidrs(pool('10.0.0.0/8'), 26, `node-${i}`), 1)][0] ?? pool('::/0')),
      ),
    );
    expect(first.size).toBeGreaterThan(45);
  });

  it('does not count to the end of a huge pool before it starts', () => {
    expect([...take(blockCidrs(pool('fd80::/48'), 122, 'n'), 3)]).toHaveLength(3);
  });
});

function* take<T>(items: Iterable<T>, count: number): Generator<T> {
  let taken = 0;
  for (const item of items) {
    if (taken++ >= count) return;
    yield item;
  }
}
