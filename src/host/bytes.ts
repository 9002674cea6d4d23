import { isIP } from 'node:net';
import { HostError } from '../errors.js';

/** Network-order bytes of an address in text: 4 or 16. Throws HostError where it is none. */
export function bytesOf(address: string): Buffer {
  const family = isIP(address);
  if (family === 4) return Buffer.from(address.split('.').map(Number));
  if (family === 6 && !address.includes('%')) return bytesOf6(address);
  throw new HostError(`"${address}" is no IP address`);
}

/** The shortest usual text of 4 or 16 bytes (RFC 5952). */
export function textOf(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/**
 * Calls `visit` with type, start and end of each attribute (struct nlattr) from `offset` on. Attributes are not cut
 * out as buffers of their own, as the package's parser does: an interface has sixty, of which we want six, and a host
 * may have two thousand interfaces.
 */
export function eachAttribute(
  data: Buffer,
  offset: number,
  visit: (type: number, start: number, end: number) => void,
): void {
  for (let at = offset; at + 4 <= data.length;) {
    const length = data.readUInt16LE(at);
    if (length < 4 || at + length > data.length) return;
    // The two highest bits are flags.
    visit(data.readUInt16LE(at + 2) & 0x3fff, at + 4, at + length);
    at += (length + 3) & ~3;
  }
}

/** A name in a netlink attribute: with or without the terminating zero, depending on the kernel. */
export function nameOf(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
}

/** `10.0.0.1` -> `10.0.0.1/32`, `fd00::1` -> `fd00::1/128`, both canonical. */
export function hostCidr(address: string): string {
  const bytes = bytesOf(address);
  return `${textOf(bytes)}/${bytes.length * 8}`;
}

function bytesOf6(address: string): Buffer {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  const tail = dotted?.[2] === undefined ? '' : bytesOf(dotted[2]).toString('hex');
  const text = dotted?.[1] === undefined ? address : `${dotted[1]}${tail.slice(0, 4)}:${tail.slice(4)}`;
  const [left = '', right] = text.split('::');
  const words = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const head = words(left);
  const end = words(right ?? '');
  const zeros = Array.from({ length: 8 - head.length - end.length }, () => '0');
  const all = right === undefined ? head : [...head, ...zeros, ...end];
  const bytes = Buffer.alloc(16);
  all.forEach((word, index) => bytes.writeUInt16BE(Number.parseInt(word, 16), index * 2));
  return bytes;
}
