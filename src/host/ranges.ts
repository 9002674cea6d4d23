import { HostError } from '../errors.js';
import { bytesOf, textOf } from './bytes.js';

/**
 * A range of addresses of one family, both ends included: network-order bytes in hexadecimal, 8 or 32 digits, so that
 * comparing text compares addresses.
 */
export interface AddressRange {
  readonly first: string;
  readonly last: string;
}

/** The range of a CIDR, or of one address without length. Throws HostError for what is neither. */
export function rangeOf(cidr: string): AddressRange {
  const slash = cidr.indexOf('/');
  const bytes = bytesOf(slash === -1 ? cidr : cidr.slice(0, slash));
  const bits = bytes.length * 8;
  const text = slash === -1 ? String(bits) : cidr.slice(slash + 1);
  const length = Number(text);
  if (!/^\d{1,3}$/.test(text) || length > bits) throw new HostError(`"${cidr}" is no CIDR`);
  const last = Buffer.from(bytes);
  for (let at = 0; at < bytes.length; at += 1) {
    const host = 0xff >> Math.min(8, Math.max(0, length - at * 8));
    bytes[at] = (bytes[at] ?? 0) & ~host;
    last[at] = (last[at] ?? 0) | host;
  }
  return { first: bytes.toString('hex'), last: last.toString('hex') };
}

/** Sorted, and as few as possible: what overlaps or touches is one. All of one family. */
export function mergeRanges(ranges: readonly AddressRange[]): AddressRange[] {
  const sorted = [...ranges].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const merged: { first: string; last: string }[] = [];
  for (const { first, last } of sorted) {
    const before = merged.at(-1);
    const next = before && following(before.last);
    if (before === undefined || (next !== undefined && next < first)) merged.push({ first, last });
    else if (last > before.last) before.last = last;
  }
  return merged;
}

/** The address after this one; undefined after the family's last. */
export function following(address: string): string | undefined {
  const bytes = Buffer.from(address, 'hex');
  for (let at = bytes.length - 1; at >= 0; at -= 1) {
    const next = ((bytes[at] ?? 0) + 1) & 0xff;
    bytes[at] = next;
    if (next !== 0) return bytes.toString('hex');
  }
  return undefined;
}

/** Whether a range is the whole family. */
export function isEverything({ first, last }: AddressRange): boolean {
  return /^0+$/.test(first) && /^f+$/.test(last);
}

/** As nft takes it: an address, or two with a dash. */
export function rangeText({ first, last }: AddressRange): string {
  const text = textOf(Buffer.from(first, 'hex'));
  return first === last ? text : `${text}-${textOf(Buffer.from(last, 'hex'))}`;
}
