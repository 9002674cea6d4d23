import { createHash } from 'node:crypto';
import { HostError } from '../errors.js';
import type { RulesId, SetId } from './policy.js';

/** The policy table, family inet. Not the one of published ports: opening a port does not touch policy, nor reverse. */
export const POLICY_TABLE = 'calico_policy';

/** Families of addresses, and what nft calls things in each. */
export const FAMILIES = [
  { n: 4, ip: 'ip', nfproto: 'ipv4', icmp: 'icmp', icmpProtocol: 1 },
  { n: 6, ip: 'ip6', nfproto: 'ipv6', icmp: 'icmpv6', icmpProtocol: 58 },
] as const;
export type Family = (typeof FAMILIES)[number];

/** Longest part of an id in a name; the kernel takes 255 characters in all, people fewer. */
const READABLE = 60;

/** Chain of a policy's or profile's rules. */
export function rulesChain(id: RulesId): string {
  return `rules_${named(id)}`;
}

/** Chain of everything with this content. */
export function hashedChain(kind: 'tier' | 'from' | 'to', content: string): string {
  return `${kind}_${digest(content)}`;
}

/** Set of the addresses of a family that a selector stands for; `isRanges`: an interval set. */
export function addressSet(id: SetId, family: 4 | 6, isRanges: boolean): string {
  return `${isRanges ? 'nets' : 'addresses'}${family}_${named(id)}`;
}

/** Set of the addresses and ports of a family that a port's name stands for. */
export function portSet(id: SetId, family: 4 | 6): string {
  return `ports${family}_${named(id)}`;
}

/** What a log line begins with, at most 127 characters (NF_LOG_PREFIXLEN). */
export function logPrefix(id: RulesId): string {
  return `calico ${id.replace(/[^A-Za-z0-9_.:/ -]+/g, '_').slice(0, 110)}: `;
}

/** A TCP or UDP port, or a number of one byte; throws HostError for others. */
export function checkNumber(value: number, most: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw new HostError(`${value} is no number from 0 to ${most}`);
}

/** Hashing takes a few microseconds, and each change asks for thousands of names. */
const known = new Map<string, string>();
const KNOWN_LIMIT = 100_000;

/** For people to find it, and a hash for it to be only this one. */
function named(id: string): string {
  const before = known.get(id);
  if (before !== undefined) return before;
  const name = makeName(id);
  if (known.size >= KNOWN_LIMIT) known.clear();
  known.set(id, name);
  return name;
}

function makeName(id: string): string {
  const readable = id.replace(/[^A-Za-z0-9]+/g, '_').replace(/^_|_$/g, '');
  return `${readable.slice(0, READABLE)}_${digest(id)}`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
