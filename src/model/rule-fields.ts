import type { IcmpMatch, PortRange } from '../host/policy.js';
import { formatCidr, parseCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import { isObject } from './json.js';
import type { JsonObject } from './json.js';
import { ICMP, PORT_PROTOCOLS, protocolNumber } from './ip-protocol.js';
import type { RuleEntity, RulePorts } from './rule.js';
import { both, inNamespace, inverse, NAMESPACE_LABEL, ofOwners } from './selector-tree.js';
import type { Selector } from './selector-tree.js';
import { parseSelector } from './selector.js';

const PORT_NAME = /^[a-zA-Z0-9_.-]{1,128}$/;
/** What Calico puts before the labels of a namespace where an endpoint carries them. */
const NAMESPACE_PREFIX = 'pcns.';

/** Reads the fields of a rule, or of one side of it; `bad` is told of what cannot be understood, which is left out. */
export class FieldReader {
  constructor(
    private readonly fields: JsonObject,
    known: readonly string[],
    private readonly bad: (field: string, why: string) => void,
  ) {
    for (const [name, value] of Object.entries(fields))
      if (!known.includes(name) && !isEmpty(value)) bad(name, 'is not supported');
  }

  object(name: string): JsonObject {
    const value = this.given(name);
    if (value === undefined) return {};
    if (isObject(value)) return value;
    this.bad(name, 'is no object');
    return {};
  }

  ipVersion(name: string): 4 | 6 | undefined {
    const value = this.given(name);
    if (value === undefined || value === 4 || value === 6) return value;
    return this.none(name, 'is neither 4 nor 6');
  }

  /** A number, or a name in any case; old writers use lower case. */
  protocol(name: string): number | undefined {
    const value = this.given(name);
    if (value === undefined) return undefined;
    const number = protocolNumber(value);
    return number ?? this.none(name, 'is no protocol');
  }

  /** As Calico validates it: a code needs a type, and the protocol, if there is one, is ICMP. */
  icmp(name: string, protocol: number | undefined): IcmpMatch | undefined {
    const value = this.given(name);
    if (value === undefined) return undefined;
    const { type, code } = isObject(value) ? value : {};
    if (protocol !== undefined && protocol !== ICMP[4] && protocol !== ICMP[6])
      return this.none(name, 'goes with the protocols ICMP and ICMPv6 only');
    const isByte = (part: unknown): part is number =>
      Number.isInteger(part) && Number(part) >= 0 && Number(part) < 256;
    if (!isByte(type)) return this.none(name, 'has no type from 0 to 255');
    if (isEmpty(code)) return { type };
    return isByte(code) ? { type, code } : this.none(name, 'has a code that is not from 0 to 255');
  }

  nets(name: string): Cidr[] | undefined {
    const list = this.list(name);
    if (!list) return undefined;
    const found = new Map<string, Cidr>();
    for (const item of list) {
      const cidr = typeof item === 'string' ? parseCidr(item) : undefined;
      if (!cidr) return this.none(name, `has an entry that is no CIDR`);
      found.set(formatCidr(cidr), cidr);
    }
    return [...found.values()];
  }

  /** Numbers, ranges `100:200`, names. */
  ports(name: string, protocol: number | undefined): RulePorts | undefined {
    const list = this.list(name);
    if (!list) return undefined;
    if (protocol !== undefined && !PORT_PROTOCOLS.includes(protocol))
      return this.none(name, 'needs the protocol TCP, UDP or SCTP');
    const ranges: PortRange[] = [];
    const names: string[] = [];
    for (const item of list) {
      const text = typeof item === 'number' || typeof item === 'string' ? String(item) : '';
      const [, first = '', last = first] = /^(\d+)(?::(\d+))?$/.exec(text) ?? [];
      const range = { first: Number(first), last: Number(last) };
      if (first === '' && PORT_NAME.test(text)) names.push(text);
      else if (first !== '' && range.first <= range.last && range.last <= 65_535) ranges.push(range);
      else return this.none(name, 'has an entry that is no port, range or name');
    }
    return { ranges, names };
  }

  /**
   * `selector`, `notSelector` and `namespaceSelector` together. As in Calico: in a namespace all are limited to it as soon as
   * any is used, unless there is a `namespaceSelector`; and where something is selected, `notSelector` is about the labels
   * of that, not about its addresses.
   */
  selectors(namespace: string): Pick<RuleEntity, 'selector' | 'notSelector'> {
    const selector = this.selector('selector');
    const notSelector = this.selector('notSelector');
    const namespaces = this.selector('namespaceSelector');
    const scope = namespaces
      ? ofOwners(namespaces, NAMESPACE_PREFIX, NAMESPACE_LABEL)
      : namespace !== '' && (selector ?? notSelector)
        ? inNamespace(namespace)
        : undefined;
    const selected = scope && selector ? both(scope, selector) : (scope ?? selector);
    if (selected) return { selector: notSelector ? both(selected, inverse(notSelector)) : selected };
    return notSelector ? { notSelector } : {};
  }

  selector(name: string): Selector | undefined {
    const value = this.given(name);
    if (value === undefined) return undefined;
    try {
      if (typeof value === 'string') return parseSelector(value);
    } catch {
      // Said below.
    }
    return this.none(name, 'is no selector');
  }

  private list(name: string): unknown[] | undefined {
    const value = this.given(name);
    return value === undefined || Array.isArray(value) ? value : this.none(name, 'is no list');
  }

  private given(name: string): unknown {
    const value = this.fields[name];
    return isEmpty(value) ? undefined : value;
  }

  private none(name: string, why: string): undefined {
    this.bad(name, why);
    return undefined;
  }
}

/** What Go writes for a field that is not set, or leaves out. */
function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return true;
  if (Array.isArray(value)) return value.length === 0;
  return isObject(value) && Object.keys(value).length === 0;
}
