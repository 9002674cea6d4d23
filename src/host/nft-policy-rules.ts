import { FAMILIES, addressSet, checkNumber, logPrefix, portSet } from './nft-policy-names.js';
import type { Family } from './nft-policy-names.js';
import { is6 } from './nft-table.js';
import type { HostEntity, HostRule, IcmpMatch, PortRange, RulesId, SetId } from './policy.js';
import { isEverything, mergeRanges, rangeOf, rangeText } from './ranges.js';

/**
 * Rules as nft takes them. A rule of nft is a conjunction, so a rule of ours becomes several where it says "or": one
 * for each family where it speaks of addresses (as Felix does, which has a table for each), one for each of its ports by
 * name beside those by number.
 */

/** How many lines a second a Log rule writes, and how many at once: the host's log is not for containers to fill. */
const LOG_LIMIT = 'limit rate 10/second burst 100 packets';

/** Protocols with ports at the same place: TCP, UDP, DCCP, SCTP, UDP-Lite. */
const PORTED = [6, 17, 33, 132, 136];
const MAX_PORT = 65_535;
const PROTOCOLS: readonly number[] = Array.from({ length: 256 }, (_, number) => number);

/** Any of the alternatives, each a conjunction of conditions: the empty text is always true. */
type Match = readonly string[];
/** No packet can match. */
const NEVER: Match = [];

const SIDES = [
  { of: 'source', address: 'saddr', port: 'sport' },
  { of: 'destination', address: 'daddr', port: 'dport' },
] as const;
type Side = (typeof SIDES)[number];

/**
 * The lines of a chain with these rules. `isRanges` says of an address set whether it is one of ranges. Pass is `return`:
 * it leaves the chain that the lines are put in. Throws HostError for what is no address, net or number.
 */
export function renderRules(
  id: RulesId,
  rules: readonly HostRule[],
  isRanges: (set: SetId) => boolean,
): string[] {
  return rules.flatMap(rule => {
    const verdict = verdictOf(rule, id);
    return matches(rule, isRanges).map(match => (match === '' ? verdict : `${match} ${verdict}`));
  });
}

/** Whether one of the rules is Pass. */
export function canPass(rules: readonly HostRule[]): boolean {
  return rules.some(({ action }) => action === 'pass');
}

function verdictOf({ action }: HostRule, id: RulesId): string {
  switch (action) {
    case 'allow':
      return 'accept';
    case 'deny':
      return 'drop';
    case 'pass':
      return 'return';
    case 'log':
      return `${LOG_LIMIT} log prefix "${logPrefix(id)}" level info`;
  }
}

function matches(rule: HostRule, isRanges: (set: SetId) => boolean): string[] {
  if (!isOfFamily(rule)) {
    return combine(
      protocolMatch(rule, undefined),
      ...SIDES.map(side => portMatch(rule[side.of], side, undefined)),
    );
  }
  return FAMILIES.filter(({ n }) => rule.ipVersion === undefined || rule.ipVersion === n).flatMap(family =>
    combine(
      [`meta nfproto ${family.nfproto}`],
      protocolMatch(rule, family),
      ...SIDES.flatMap(side => {
        const entity = rule[side.of];
        return [addressMatch(entity, side, family, isRanges), portMatch(entity, side, family)];
      }),
    ),
  );
}

/** Whether it says something that is another thing in IPv4 than in IPv6. */
function isOfFamily({ ipVersion, icmp, notIcmp, source, destination }: HostRule): boolean {
  return (
    ipVersion !== undefined ||
    icmp !== undefined ||
    notIcmp !== undefined ||
    [source, destination].some(({ nets, notNets, sets, notSets, namedPorts, notNamedPorts }) =>
      [nets, notNets, sets, notSets, namedPorts, notNamedPorts].some(list => hasSome(list)),
    )
  );
}

/** All of them: the product of their alternatives. */
function combine(...parts: readonly Match[]): string[] {
  let all = [''];
  for (const part of parts) {
    all = all.flatMap(left => part.map(right => [left, right].filter(text => text !== '').join(' ')));
  }
  return all;
}

/**
 * All that a rule says of the protocol, at once: nft refuses what contradicts itself. Every protocol that is possible is
 * counted out, and said in the shorter way. `family`: undefined where nothing is said of ICMP.
 */
function protocolMatch(rule: HostRule, family: Family | undefined): Match {
  const { protocol, notProtocol, icmp, notIcmp, source, destination } = rule;
  let possible = protocol === undefined ? PROTOCOLS : [checkNumber(protocol, 255)];
  if (notProtocol !== undefined) possible = possible.filter(one => one !== checkNumber(notProtocol, 255));
  // What has no ports is no packet that a rule with numbers of ports is about, not even with "not these". Of names it may
  // be: no packet without ports is among them.
  if ([source, destination].some(({ ports, notPorts }) => hasSome(ports) || hasSome(notPorts)))
    possible = possible.filter(one => PORTED.includes(one));
  if (family === undefined) return protocolText(possible);
  const others = possible.filter(one => one !== family.icmpProtocol);
  const own = possible.filter(one => one === family.icmpProtocol);
  const isAny = notIcmp !== undefined && icmpText(notIcmp, family, '') === '';
  return [
    // Is no ICMP: that is what "not this ICMP" may mean, and what no ICMP rule means.
    ...(icmp === undefined ? protocolText(notIcmp === undefined ? possible : others) : []),
    ...(icmp === undefined && notIcmp === undefined
      ? []
      : combine(
          isAny ? NEVER : protocolText(own),
          [icmp === undefined ? '' : icmpText(icmp, family, '')],
          [notIcmp === undefined ? '' : icmpText(notIcmp, family, '!= ')],
        )),
  ];
}

function protocolText(possible: readonly number[]): Match {
  if (possible.length === PROTOCOLS.length) return [''];
  if (possible.length === 0) return NEVER;
  const isFew = possible.length < PROTOCOLS.length / 2;
  const [not, list] = isFew ? ['', possible] : ['!= ', PROTOCOLS.filter(one => !possible.includes(one))];
  return [`meta l4proto ${not}${list.length === 1 ? list.join('') : `{ ${list.join(', ')} }`}`];
}

function icmpText({ type, code }: IcmpMatch, { icmp }: Family, not: '' | '!= '): string {
  const types = type === undefined ? undefined : checkNumber(type, 255);
  const codes = code === undefined ? undefined : checkNumber(code, 255);
  if (types !== undefined && codes !== undefined)
    return `${icmp} type . ${icmp} code ${not}{ ${types} . ${codes} }`;
  if (types !== undefined) return `${icmp} type ${not}${types}`;
  return codes === undefined ? '' : `${icmp} code ${not}${codes}`;
}

/** Nets of the other family only, or "not" such: Felix leaves the rule out of the family's table, and so does this. */
function addressMatch(
  { nets, notNets, sets, notSets }: HostEntity,
  { address }: Side,
  family: Family,
  isRanges: (set: SetId) => boolean,
): Match {
  const field = `${family.ip} ${address}`;
  const conditions: string[] = [];
  for (const [list, not] of [
    [nets, ''],
    [notNets, '!= '],
  ] as const) {
    if (!hasSome(list)) continue;
    const ranges = mergeRanges(list.filter(net => is6(net) === (family.n === 6)).map(rangeOf));
    const [first] = ranges;
    if (first === undefined) return NEVER;
    if (!isEverything(first)) conditions.push(`${field} ${not}{ ${ranges.map(rangeText).join(', ')} }`);
    else if (not !== '') return NEVER;
  }
  for (const set of sets ?? []) conditions.push(`${field} @${addressSet(set, family.n, isRanges(set))}`);
  for (const set of notSets ?? [])
    conditions.push(`${field} != @${addressSet(set, family.n, isRanges(set))}`);
  return [conditions.join(' ')];
}

/** `family`: undefined where no port is named. */
function portMatch(entity: HostEntity, { address, port }: Side, family: Family | undefined): Match {
  const { ports, namedPorts, notPorts, notNamedPorts } = entity;
  const number = `th ${port}`;
  const among = (set: SetId): string => (family === undefined ? '' : `@${portSet(set, family.n)}`);
  const key = family === undefined ? '' : `${family.ip} ${address} . meta l4proto . th ${port}`;
  const numbers = mergePorts(ports ?? []);
  const wanted = (namedPorts ?? []).map(set => `${key} ${among(set)}`);
  if (numbers.some(isAllPorts)) wanted.unshift('');
  else if (numbers.length > 0) wanted.unshift(`${number} { ${numbers.map(portText).join(', ')} }`);
  else if (wanted.length === 0) {
    if (hasSome(ports)) return NEVER;
    wanted.push('');
  }
  const unwanted = (notNamedPorts ?? []).map(set => `${key} != ${among(set)}`);
  const others = mergePorts(notPorts ?? []);
  if (others.some(isAllPorts)) return NEVER;
  if (others.length > 0) unwanted.push(`${number} != { ${others.map(portText).join(', ')} }`);
  return combine(wanted, [unwanted.join(' ')]);
}

function portText({ first, last }: PortRange): string {
  return first === last ? `${first}` : `${first}-${last}`;
}

/** Nft refuses ranges that overlap. */
function mergePorts(ports: readonly PortRange[]): PortRange[] {
  const sorted = ports
    .map(({ first, last }) => ({ first: checkNumber(first, MAX_PORT), last: checkNumber(last, MAX_PORT) }))
    .filter(({ first, last }) => first <= last)
    .sort((a, b) => a.first - b.first);
  const merged: { first: number; last: number }[] = [];
  for (const range of sorted) {
    const before = merged.at(-1);
    if (before && range.first <= before.last + 1) before.last = Math.max(before.last, range.last);
    else merged.push({ ...range });
  }
  return merged;
}

function isAllPorts({ first, last }: PortRange): boolean {
  return first === 0 && last === MAX_PORT;
}

function hasSome<T extends readonly unknown[]>(list: T | undefined): list is T {
  return list !== undefined && list.length > 0;
}
