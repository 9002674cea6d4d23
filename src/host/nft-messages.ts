import { bytesOf } from './bytes.js';
import { NESTED, attribute, textAttribute, u32 } from './nft-attributes.js';
import type { ElementChange, PolicyChange } from './nft-policy-diff.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import type { Field } from './nft-policy-sets.js';
import { following, rangeOf } from './ranges.js';

/**
 * Changes of the policy table as netlink messages (linux/netfilter/nf_tables.h): elements of sets, and chains that only
 * hand on to others. `nft` takes several milliseconds and a process; this takes a fraction of one.
 */

/** A message without its netlink header: type, flags beside NLM_F_REQUEST, and what follows the header. */
export interface NftMessage {
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
}

const SUBSYSTEM = 10 << 8;
const TYPE = {
  newChain: SUBSYSTEM | 3,
  deleteChain: SUBSYSTEM | 5,
  newRule: SUBSYSTEM | 6,
  deleteRule: SUBSYSTEM | 8,
  deleteSet: SUBSYSTEM | 11,
  newElements: SUBSYSTEM | 12,
  deleteElements: SUBSYSTEM | 14,
};
const CREATE = 0x400;
const APPEND = 0x800;
/** struct nfgenmsg: family inet, version, resource. */
const HEADER = Buffer.from([1, 0, 0, 0]);
/** In every message that has one; what the second names depends on the kind. */
const NAMES = { table: 1, second: 2, chain: 3 };
const ELEMENTS = 3;
const EXPRESSIONS = 4;
const LIST_ELEMENT = 1;
/** Attributes of an element, and of what it holds. */
export const ELEMENT = { key: 1, data: 2, flags: 3 };
export const DATA = { value: 1, verdict: 2 };
export const VERDICT = { code: 1, chain: 2 };
const EXPRESSION = { name: 1, data: 2 };
const IMMEDIATE = { register: 1, data: 2 };
const INTERVAL_END = u32(1);
/** Verdicts as numbers. */
export const CODES: Readonly<Record<string, number>> = { drop: 0, accept: 1, jump: -3, goto: -4, return: -5 };
/** An attribute's length is a number of 16 bits: so many elements fit in a message however long their keys. */
const ELEMENTS_PER_MESSAGE = 400;

/**
 * The change as messages, in order; undefined where it makes sets or rules that look at packets: those are for nft.
 */
export function changeMessages(change: PolicyChange): NftMessage[] | undefined {
  if (change.addSets.size > 0) return undefined;
  const filled: NftMessage[] = [];
  for (const [name, lines] of change.fillChains) {
    if (!change.addChains.includes(name)) filled.push(message(TYPE.deleteRule, 0, inChain(name)));
    for (const line of lines) {
      const bytes = verdict(line);
      if (bytes === undefined) return undefined;
      filled.push(message(TYPE.newRule, CREATE | APPEND, [...inChain(name), rule(bytes)]));
    }
  }
  return [
    ...change.addChains.map(name =>
      message(TYPE.newChain, CREATE, [
        textAttribute(NAMES.table, POLICY_TABLE),
        textAttribute(NAMES.chain, name),
      ]),
    ),
    ...filled,
    ...elementMessages(POLICY_TABLE, change),
    ...change.removeChains.map(name => message(TYPE.deleteRule, 0, inChain(name))),
    ...change.removeChains.map(name =>
      message(TYPE.deleteChain, 0, [
        textAttribute(NAMES.table, POLICY_TABLE),
        textAttribute(NAMES.chain, name),
      ]),
    ),
    ...change.removeSets.map(name => message(TYPE.deleteSet, 0, inSet(POLICY_TABLE, name))),
  ];
}

/** A key as the kernel has it: fields one after another, each filled up to a multiple of four bytes. */
export function keyBytes(fields: readonly Field[], key: string): Buffer {
  const parts = fields.length === 1 ? [key] : key.split(' . ');
  return Buffer.concat(fields.map((field, at) => padded(fieldBytes(field, parts[at] ?? ''))));
}

/** A range is two elements for the kernel: its first address, and the first after it unless there is none. */
export function rangeBytes(key: string): { first: Buffer; end: Buffer | undefined } {
  const [from = '', to = from] = key.split('-');
  const end = following(rangeOf(to).last);
  return { first: bytesOf(from), end: end === undefined ? undefined : Buffer.from(end, 'hex') };
}

/** Elements of a table's sets that go, then those that come: a key may get another verdict. */
export function elementMessages(
  table: string,
  { removeElements, addElements }: Pick<PolicyChange, 'removeElements' | 'addElements'>,
): NftMessage[] {
  return [
    ...listMessages(table, TYPE.deleteElements, 0, removeElements),
    ...listMessages(table, TYPE.newElements, CREATE, addElements),
  ];
}

function listMessages(
  table: string,
  type: number,
  flags: number,
  changes: readonly ElementChange[],
): NftMessage[] {
  const bySet = new Map<string, Buffer[]>();
  for (const change of changes) {
    const elements = bySet.get(change.set);
    // Nobody asks what verdict a key had.
    const encoded = elementBytes(change, type === TYPE.newElements);
    if (elements) elements.push(...encoded);
    else bySet.set(change.set, encoded);
  }
  return [...bySet].flatMap(([set, elements]) => {
    const messages: NftMessage[] = [];
    for (let at = 0; at < elements.length; at += ELEMENTS_PER_MESSAGE) {
      const list = attribute(ELEMENTS | NESTED, Buffer.concat(elements.slice(at, at + ELEMENTS_PER_MESSAGE)));
      messages.push(message(type, flags, [...inSet(table, set), list]));
    }
    return messages;
  });
}

function elementBytes({ type, key, verdict: says }: ElementChange, withVerdict: boolean): Buffer[] {
  if (type.isRanges) {
    const { first, end } = rangeBytes(key);
    const flags = attribute(ELEMENT.flags, INTERVAL_END);
    return [element(first), ...(end === undefined ? [] : [element(end, flags)])];
  }
  const bytes = keyBytes(type.fields, key);
  const data = says !== undefined && withVerdict ? verdict(says) : undefined;
  return [data === undefined ? element(bytes) : element(bytes, attribute(ELEMENT.data | NESTED, data))];
}

function element(key: Buffer, ...more: Buffer[]): Buffer {
  const bytes = attribute(ELEMENT.key | NESTED, attribute(DATA.value, key));
  return attribute(LIST_ELEMENT | NESTED, Buffer.concat([bytes, ...more]));
}

/** `drop`, `accept`, `goto x`, …; undefined for a line that says more. */
function verdict(line: string): Buffer | undefined {
  const [word = '', chain, ...rest] = line.split(' ');
  const code = CODES[word];
  if (code === undefined || rest.length > 0) return undefined;
  const parts = [attribute(VERDICT.code, u32(code))];
  if (chain !== undefined) parts.push(textAttribute(VERDICT.chain, chain));
  return attribute(DATA.verdict | NESTED, Buffer.concat(parts));
}

/** A rule that says only this: the expression "immediate", into the verdict's register 0. */
function rule(verdictBytes: Buffer): Buffer {
  const data = Buffer.concat([
    attribute(IMMEDIATE.register, u32(0)),
    attribute(IMMEDIATE.data | NESTED, verdictBytes),
  ]);
  const expression = Buffer.concat([
    textAttribute(EXPRESSION.name, 'immediate'),
    attribute(EXPRESSION.data | NESTED, data),
  ]);
  return attribute(EXPRESSIONS | NESTED, attribute(LIST_ELEMENT | NESTED, expression));
}

function fieldBytes(field: Field, value: string): Buffer {
  switch (field) {
    case 'ifname': {
      const bytes = Buffer.alloc(16);
      bytes.write(value.replaceAll('"', ''), 'latin1');
      return bytes;
    }
    case 'ether_addr':
      return Buffer.from(value.replaceAll(':', ''), 'hex');
    case 'ipv4_addr':
    case 'ipv6_addr':
      return bytesOf(value);
    case 'inet_proto':
      return Buffer.from([Number(value)]);
    case 'inet_service':
      return Buffer.from([Number(value) >> 8, Number(value) & 0xff]);
  }
}

function inChain(chain: string): Buffer[] {
  return [textAttribute(NAMES.table, POLICY_TABLE), textAttribute(NAMES.second, chain)];
}

function inSet(table: string, set: string): Buffer[] {
  return [textAttribute(NAMES.table, table), textAttribute(NAMES.second, set)];
}

function message(type: number, flags: number, attributes: readonly Buffer[]): NftMessage {
  return { type, flags, body: Buffer.concat([HEADER, ...attributes]) };
}

function padded(bytes: Buffer): Buffer {
  const length = (bytes.length + 3) & ~3;
  return length === bytes.length ? bytes : Buffer.concat([bytes, Buffer.alloc(length - bytes.length)]);
}
