import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cidrOf,
  contains,
  cover,
  covers,
  formatAddress,
  formatCidr,
  hasHostBits,
  nth,
  ordinalOf,
  overlap,
  parseAddress,
  parseCidr,
} from '../../src/ipam/cidr.js';
import type { Address, Cidr } from '../../src/ipam/cidr.js';

const address: fc.Arbitrary<Address> = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map(value => ({ family: 4 as const, value })),
  fc
    .bigInt({ min: 0n, max: 2n ** 128n - 1n })
    .filter(value => value >> 32n !== 0xffffn)
    .map(value => ({ family: 6 as const, value })),
);
const cidr: fc.Arbitrary<Cidr> = address.chain(a =>
  fc.integer({ min: 0, max: a.family === 4 ? 32 : 128 }).map(length => cidrOf(a, length)),
);

function parsed(text: string): Cidr {
  const value = parseCidr(text);
  if (!value) throw new Error(`no CIDR: ${text}`);
  return value;
}

describe('addresses and ranges', () => {
  it('formats what it parses', () => {
    fc.assert(fc.property(address, a => void expect(parseAddress(formatAddress(a))).toEqual(a)));
    fc.assert(fc.property(cidr, c => void expect(parseCidr(formatCidr(c))).toEqual(c)));
  });

  it('writes IPv6 as RFC 5952 says', () => {
    expect(formatCidr(parsed('FD80:24E2:F998:72D7:0:0:0:0/122'))).toBe('fd80:24e2:f998:72d7::/122');
  });

  it.each([
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '010.1.1.1',
    '1.2.3.4/24',
    'fe80::1%eth0',
    '::ffff:1.2.3.4',
    'x',
    '1.2.3.4 ',
  ])('refuses the address "%s"', text => expect(parseAddress(text)).toBeUndefined());

  it.each(['1.2.3.4/33', '1.2.3.4/', '1.2.3.4/-1', '1.2.3.4/x', '::/129', '/24', '1.2.3.4/1/2'])(
    'refuses the range "%s"',
    text => expect(parseCidr(text)).toBeUndefined(),
  );

  it('notices host bits', () => {
    expect(hasHostBits('192.0.2.5/24')).toBe(true);
    expect(hasHostBits('192.0.2.0/24')).toBe(false);
    expect(hasHostBits('192.0.2.5')).toBe(false);
  });

  it('contains exactly the addresses from base to end', () => {
    fc.assert(
      fc.property(cidr, fc.nat(), (c, n) => {
        const inside = nth(
          c,
          n %
            Number(
              c.length > (c.family === 4 ? 2 : 98)
                ? 2n ** BigInt((c.family === 4 ? 32 : 128) - c.length)
                : 2n ** 30n,
            ),
        );
        expect(contains(c, inside)).toBe(true);
        expect(ordinalOf(c, inside)).toBe(Number(inside.value - c.base));
        expect(contains(c, { family: c.family, value: c.base - 1n })).toBe(false);
      }),
    );
  });

  it('overlaps just where one covers the other', () => {
    expect(overlap(parsed('10.0.0.0/8'), parsed('10.1.0.0/16'))).toBe(true);
    expect(overlap(parsed('10.0.0.0/9'), parsed('10.128.0.0/9'))).toBe(false);
    expect(overlap(parsed('0.0.0.0/0'), parsed('::/0'))).toBe(false);
    fc.assert(fc.property(cidr, cidr, (a, b) => void expect(overlap(a, b)).toBe(overlap(b, a))));
  });

  it('finds the smallest range around several', () => {
    fc.assert(
      fc.property(cidr, cidr, (a, b) => {
        fc.pre(a.family === b.family);
        const around = cover([a, b]);
        expect(around && covers(around, a) && covers(around, b)).toBe(true);
        if (around && around.length < Math.min(a.length, b.length)) {
          const half = { ...around, length: around.length + 1 };
          expect(covers(half, a) && covers(half, b)).toBe(false);
        }
      }),
    );
  });
});
