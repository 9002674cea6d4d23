import { parseBlockKey } from '../datastore/keys.js';
import { reservedFor } from '../ipam/reservation.js';
import { bits, covers, formatAddress, formatCidr, nth, parseCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';
import { isObject, textOr } from '../model/json.js';

/** What routing needs of a block: little, as there may be a hundred thousand. */
export interface RoutedBlock {
  /** CIDR text. */
  readonly cidr: string;
  readonly family: Family;
  /** The node it belongs to, if it belongs to one. */
  readonly owner: string | undefined;
  /** Addresses that other nodes use. */
  readonly borrowed: readonly BorrowedAddress[];
}

/** One address, as a range of one. */
export interface BorrowedAddress {
  readonly destination: string;
  readonly node: string;
}

/** A hundred thousand blocks share their owners' names, and most have nothing borrowed. */
const names = new Map<string, string>();
const NOTHING: readonly BorrowedAddress[] = [];

/** What a digest begins with; no JSON does. */
const DIGEST = '=';

/** The part of a block's text that routing needs, for {@link parseRoutedBlock}; a text that is no block stays. */
export function digestBlock(key: string, text: string): string {
  try {
    const block = parseRoutedBlock(key, text);
    if (!block) return text;
    return [
      `${DIGEST}${block.owner ?? ''}`,
      ...block.borrowed.flatMap(one => [one.destination, one.node]),
    ].join(' ');
  } catch {
    return text;
  }
}

/**
 * Reads what routing needs of a block, or of its digest; undefined where it is none, or not the one its key says. Not by
 * `parseBlock`: that one keeps what only a writer needs, exactly, and takes ten times as long.
 */
export function parseRoutedBlock(key: string, text: string): RoutedBlock | undefined {
  const cidr = parseBlockKey(key);
  if (!cidr) return undefined;
  if (text.startsWith(DIGEST)) return parseDigest(cidr, text);
  const value: unknown = JSON.parse(text);
  if (!isObject(value) || value.cidr !== formatCidr(cidr)) return undefined;
  const affinity = textOr(value.affinity);
  const owner = /^host:\S+$/.test(affinity) ? shared(affinity.slice(5)) : undefined;
  return { cidr: formatCidr(cidr), family: cidr.family, owner, borrowed: borrowedOf(value, cidr, owner) };
}

/** The destinations a block can have routes for, and the node each is to lead to. The last of equal ones counts. */
export function destinationsOf(block: RoutedBlock): [destination: string, node: string][] {
  const own: [string, string][] = block.owner === undefined ? [] : [[block.cidr, block.owner]];
  if (block.borrowed.length === 0) return own;
  return [...own, ...block.borrowed.map(({ destination, node }): [string, string] => [destination, node])];
}

/** Undefined where it is none of ours: somebody may have written such a text to etcd. */
function parseDigest(cidr: Cidr, text: string): RoutedBlock | undefined {
  const [owner = '', ...pairs] = text.slice(1).split(' ');
  const borrowed: BorrowedAddress[] = [];
  for (let at = 0; at + 1 < pairs.length; at += 2) {
    const destination = pairs[at] ?? '';
    const one = parseCidr(destination);
    if (!one || one.length !== bits(one.family) || !covers(cidr, one) || formatCidr(one) !== destination)
      return undefined;
    borrowed.push({ destination, node: shared(pairs[at + 1] ?? '') });
  }
  return {
    cidr: formatCidr(cidr),
    family: cidr.family,
    owner: owner === '' ? undefined : shared(owner),
    borrowed: borrowed.length === 0 ? NOTHING : borrowed,
  };
}

function borrowedOf(
  { attributes, allocations }: { readonly attributes?: unknown; readonly allocations?: unknown },
  cidr: Cidr,
  owner: string | undefined,
): readonly BorrowedAddress[] {
  if (!Array.isArray(attributes) || !Array.isArray(allocations)) return NOTHING;
  const users = attributes.map(attribute => userOf(attribute));
  if (!users.some(user => user !== undefined && user !== owner)) return NOTHING;
  const count = 1 << (cidr.family === 4 ? 32 - cidr.length : 128 - cidr.length);
  const found: BorrowedAddress[] = [];
  for (let ordinal = 0; ordinal < Math.min(count, allocations.length); ordinal += 1) {
    const index: unknown = allocations[ordinal];
    const node = typeof index === 'number' ? users[index] : undefined;
    if (node === undefined || node === owner) continue;
    const length = cidr.family === 4 ? 32 : 128;
    found.push({ destination: `${formatAddress(nth(cidr, ordinal))}/${length}`, node: shared(node) });
  }
  return found;
}

/** The node that uses an allocation. An address kept back for a network is used by none. */
function userOf(attribute: unknown): string | undefined {
  if (!isObject(attribute) || !isObject(attribute.secondary)) return undefined;
  const node = textOr(attribute.secondary.node);
  const type = textOr(attribute.secondary.type);
  return !/^\S+$/.test(node) || reservedFor({ secondary: { type } }) !== undefined ? undefined : node;
}

function shared(name: string): string {
  const known = names.get(name);
  if (known !== undefined) return known;
  names.set(name, name);
  return name;
}
