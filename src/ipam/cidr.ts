import { Address4, Address6 } from 'ip-address';

/** IP addresses and ranges as numbers. Text is canonical: dotted quads, RFC 5952 for IPv6, no host bits. */

export type Family = 4 | 6;

export interface Address {
  readonly family: Family;
  readonly value: bigint;
}

/** An aligned range of 2^(bits - length) addresses. */
export interface Cidr {
  readonly family: Family;
  readonly base: bigint;
  readonly length: number;
}

const BITS = { 4: 32, 6: 128 } as const;

/** Bits of an address: 32 or 128. */
export function bits(family: Family): number {
  return BITS[family];
}

/** How many addresses the range has. */
export function size(cidr: Cidr): bigint {
  return 1n << BigInt(BITS[cidr.family] - cidr.length);
}

/** Parses an address without prefix length or zone; undefined where it is none (or an IPv4 one mapped into IPv6,
 *  whose text Go and this library write differently). */
export function parseAddress(text: string): Address | undefined {
  if (text === '' || text.includes('/') || text.includes('%')) return undefined;
  try {
    if (!text.includes(':')) return { family: 4, value: plainIpv4(text) ?? new Address4(text).bigInt() };
    const value = new Address6(text).bigInt();
    return value >> 32n === 0xffffn ? undefined : { family: 6, value };
  } catch {
    return undefined;
  }
}

/** The usual text of an address, in a tenth of the time: a cluster has a hundred thousand blocks. */
function plainIpv4(text: string): bigint | undefined {
  const match = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/.exec(text);
  if (!match) return undefined;
  const [a, b, c, d] = [Number(match[1]), Number(match[2]), Number(match[3]), Number(match[4])];
  if (a > 255 || b > 255 || c > 255 || d > 255) return undefined;
  return BigInt(((a * 256 + b) * 256 + c) * 256 + d);
}

/** Parses `address/length`, or a bare address as a range of one. Host bits are allowed; see {@link hasHostBits}. */
export function parseCidr(text: string): Cidr | undefined {
  const address = parseCidrAddress(text);
  return address && cidrOf(address.address, address.length);
}

/** True where the text has bits set right of its prefix length, as `192.0.2.5/24` has. */
export function hasHostBits(text: string): boolean {
  const parsed = parseCidrAddress(text);
  return parsed !== undefined && cidrOf(parsed.address, parsed.length).base !== parsed.address.value;
}

/** Parses `address/length` into both parts; a bare address has the full length. */
export function parseCidrAddress(text: string): { address: Address; length: number } | undefined {
  const slash = text.indexOf('/');
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (!address) return undefined;
  if (slash < 0) return { address, length: BITS[address.family] };
  const digits = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(digits) || Number(digits) > BITS[address.family]) return undefined;
  return { address, length: Number(digits) };
}

/** The range of that prefix length around an address. */
export function cidrOf(address: Address, length: number): Cidr {
  const host = BigInt(BITS[address.family] - length);
  return { family: address.family, base: (address.value >> host) << host, length };
}

export function formatAddress({ family, value }: Address): string {
  if (family === 6) return Address6.fromBigInt(value).correctForm();
  const number = Number(value);
  return `${number >>> 24}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}`;
}

export function formatCidr(cidr: Cidr): string {
  return `${formatAddress({ family: cidr.family, value: cidr.base })}/${cidr.length}`;
}

export function contains(cidr: Cidr, address: Address): boolean {
  const host = BigInt(BITS[cidr.family] - cidr.length);
  return cidr.family === address.family && address.value >> host === cidr.base >> host;
}

/** True where all of `inner` lies in `outer`; a range covers itself. */
export function covers(outer: Cidr, inner: Cidr): boolean {
  return outer.length <= inner.length && contains(outer, { family: inner.family, value: inner.base });
}

export function overlap(a: Cidr, b: Cidr): boolean {
  return covers(a, b) || covers(b, a);
}

export function sameCidr(a: Cidr, b: Cidr): boolean {
  return a.family === b.family && a.base === b.base && a.length === b.length;
}

/** The address at a distance from the start of the range. */
export function nth(cidr: Cidr, ordinal: number): Address {
  return { family: cidr.family, value: cidr.base + BigInt(ordinal) };
}

/** Distance of an address inside the range from its start. */
export function ordinalOf(cidr: Cidr, address: Address): number {
  return Number(address.value - cidr.base);
}

/** The smallest range that covers all of them; undefined for none or for mixed families. */
export function cover(cidrs: readonly Cidr[]): Cidr | undefined {
  const [first] = cidrs;
  if (!first || cidrs.some(cidr => cidr.family !== first.family)) return undefined;
  let length = first.length;
  const around = () => cidrOf({ family: first.family, value: first.base }, length);
  while (!cidrs.every(cidr => covers(around(), cidr))) length -= 1;
  return around();
}
