import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assignAt,
  bump,
  collectCooled,
  createBlock,
  holderOf,
  isEmpty,
  nextFree,
  release,
  violations,
} from '../../src/ipam/block.js';
import { parseCidr } from '../../src/ipam/cidr.js';
import { formatBlock, parseBlock } from '../../src/model/block.js';
import type { Block } from '../../src/model/block.js';

const NOW = new Date('2026-08-22T10:00:00Z');

function block(cidr = '192.0.2.64/28'): Block {
  const parsed = parseCidr(cidr);
  if (!parsed) throw new Error(cidr);
  return createBlock(parsed, 'node-1', NOW);
}

function read(text: string): Block {
  const parsed = parseBlock(text);
  if (!parsed) throw new Error('not a block');
  return parsed;
}

describe('a block', () => {
  it('is written as Calico writes it', () => {
    const fresh = { ...block('192.168.84.128/30'), sequenceNumber: 1787392800000000000n };
    const assigned = bump(
      assignAt(fresh, 0, {
        handle_id: 'libnetwork.9f2c1a77d0b3e4f5',
        secondary: { node: 'node-1', timestamp: '2026-08-22 10:00:00 +0000 UTC' },
      }),
    );
    expect(formatBlock(assigned)).toBe(
      '{"cidr":"192.168.84.128/30","affinity":"host:node-1","affinity_claim_time":"2026-08-22T10:00:00Z",' +
        '"allocations":[0,null,null,null],"unallocated":[1,2,3],' +
        '"attributes":[{"handle_id":"libnetwork.9f2c1a77d0b3e4f5","secondary":{"node":"node-1","timestamp":"2026-08-22 10:00:00 +0000 UTC"}}],' +
        '"sequenceNumber":1787392800000000001,"sequenceNumberForAllocation":{"0":1787392800000000000},"deleted":false}',
    );
  });

  it('holds its invariants under any sequence of assignments and releases, and survives storage', () => {
    const step = fc.record({ release: fc.boolean(), pick: fc.nat(), holder: fc.nat({ max: 3 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), steps => {
        let now = block();
        const held = new Map<number, number>();
        for (const { release: free, pick, holder } of steps) {
          if (free) {
            const ordinal = [...held.keys()][pick % Math.max(1, held.size)];
            if (ordinal === undefined) continue;
            now = release(now, ordinal, NOW, 0);
            held.delete(ordinal);
          } else {
            const ordinal = nextFree(now, () => true);
            if (ordinal === undefined) continue;
            now = assignAt(now, ordinal, { handle_id: `h${holder}` });
            held.set(ordinal, holder);
          }
          now = read(formatBlock(bump(now)));
          expect(violations(now)).toEqual([]);
        }
        for (const [ordinal, holder] of held) expect(holderOf(now, ordinal)?.handle_id).toBe(`h${holder}`);
        expect(isEmpty(now)).toBe(held.size === 0);
      }),
    );
  });

  it('gives back last what was released last', () => {
    let now = assignAt(block(), 0, {});
    now = release(now, 0, NOW, 0);
    const order: number[] = [];
    for (
      let ordinal = nextFree(now, () => true);
      ordinal !== undefined;
      ordinal = nextFree(now, () => true)
    ) {
      order.push(ordinal);
      now = assignAt(now, ordinal, {});
    }
    expect(order).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0]);
  });

  it('never changes its argument', () => {
    const before = block();
    const text = formatBlock(before);
    release(assignAt(before, 3, { handle_id: 'x' }), 3, NOW, 0);
    expect(formatBlock(before)).toBe(text);
  });

  it('refuses to assign an ordinal twice', () => {
    expect(() => assignAt(assignAt(block(), 5, {}), 5, {})).toThrow('in use');
  });

  it('keeps a released address back for the cooldown, then frees it', () => {
    const cooling = release(assignAt(block(), 2, { handle_id: 'x' }), 2, NOW, 60);
    expect(holderOf(cooling, 2)).toEqual({ releasedAt: '2026-08-22T10:00:00Z' });
    expect(violations(cooling)).toEqual([]);
    expect(nextFree(cooling, a => a.value === cooling.cidr.base + 2n)).toBeUndefined();
    expect(collectCooled(cooling, new Date(NOW.getTime() + 59_000), 60)).toBe(cooling);
    const cooled = collectCooled(cooling, new Date(NOW.getTime() + 61_000), 60);
    expect(isEmpty(cooled)).toBe(true);
    expect(violations(cooled)).toEqual([]);
  });

  it('reads what Calico of 2018 wrote: nulls, no sequence numbers, and keeps fields it does not know', () => {
    const old = read(
      '{"cidr":"10.0.0.0/30","affinity":"host:a","strictAffinity":false,"allocations":[0,null,null,null],' +
        '"unallocated":[1,2,3],"attributes":[{"handle_id":"h\\rgarbage","secondary":null}],"future":{"x":[1]}}',
    );
    expect(old.attributes).toEqual([{ handle_id: 'h' }]);
    expect(old.sequenceNumber).toBe(0n);
    expect(JSON.parse(formatBlock(old))).toMatchObject({ strictAffinity: false, future: { x: [1] } });
  });

  it.each([
    '',
    'null',
    '[]',
    '{}',
    '{"cidr":"x"}',
    '{"cidr":"10.0.0.0/30","allocations":[null],"unallocated":[0]}',
    '{"cidr":"10.0.0.0/8"}',
  ])('does not take %s for a block', text => expect(parseBlock(text)).toBeUndefined());

  it('takes an index without attribute for an address in use', () => {
    const odd = read('{"cidr":"10.0.0.0/31","allocations":[7,null],"unallocated":[1],"attributes":null}');
    expect(holderOf(odd, 0)).toEqual({});
  });
});
