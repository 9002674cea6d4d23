import type { IcmpMatch, PortRange } from '../host/policy.js';
import type { Cidr } from '../ipam/cidr.js';
import { isObject, objectOrEmpty, textOr } from './json.js';
import { FieldReader } from './rule-fields.js';
import type { Selector } from './selector-tree.js';

export type Action = 'allow' | 'deny' | 'log' | 'pass';

/** A rule of a policy or profile; what is given must match all, what is absent matches anything. */
export interface Rule {
  readonly action: Action;
  readonly ipVersion?: 4 | 6;
  /** IP protocol number. */
  readonly protocol?: number;
  readonly notProtocol?: number;
  readonly icmp?: IcmpMatch;
  readonly notIcmp?: IcmpMatch;
  readonly source: RuleEntity;
  readonly destination: RuleEntity;
  /** It has something that we cannot do, and so matches nothing: see {@link parseRules}. */
  readonly matchesNothing: boolean;
}

/** One side of a rule. */
export interface RuleEntity {
  /** Any of them; a packet of a family none of them is of does not match. */
  readonly nets?: readonly Cidr[];
  /** None of them. As in Felix, a packet of a family none of them is of does not match either. */
  readonly notNets?: readonly Cidr[];
  /** The side is an endpoint, or in a network set, that this selects. Namespaces and `notSelector` are in it, as far as
   *  they can be. */
  readonly selector?: Selector;
  /** The side is nothing that this selects; only where there is no `selector`. */
  readonly notSelector?: Selector;
  readonly ports?: RulePorts;
  readonly notPorts?: RulePorts;
}

/** Any of them. Numbers are of TCP, UDP, SCTP and UDPLite; names are ports that endpoints give a name to. */
export interface RulePorts {
  readonly ranges: readonly PortRange[];
  readonly names: readonly string[];
}

const RULE_FIELDS = [
  'action',
  'metadata',
  'ipVersion',
  'protocol',
  'notProtocol',
  'icmp',
  'notICMP',
  'source',
  'destination',
];
const ENTITY_FIELDS = [
  'nets',
  'notNets',
  'selector',
  'notSelector',
  'namespaceSelector',
  'ports',
  'notPorts',
];
const ACTIONS: readonly Action[] = ['allow', 'deny', 'log', 'pass'];

/**
 * Parses a list of rules. Nothing that we do not understand may let a packet pass: a rule with a field that is unknown,
 * not supported (`http`, `services`, `serviceAccounts`) or malformed matches nothing, except that a Deny rule matches as if
 * the field were not there. A rule whose action is none denies.
 *
 * @param namespace that of a NetworkPolicy, whose selectors select only in it; empty for what is global
 * @param problem is told of each such field, in words that name the place
 */
export function parseRules(
  value: unknown,
  where: string,
  namespace: string,
  problem: (text: string) => void,
): Rule[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value))
    return value.map((item, index) => parseRule(item, `${where}[${index}]`, namespace, problem));
  problem(`${where} is no list of rules: it denies all`);
  return [DENY_ALL];
}

export const DENY_ALL: Rule = { action: 'deny', source: {}, destination: {}, matchesNothing: false };
export const ALLOW_ALL: Rule = { action: 'allow', source: {}, destination: {}, matchesNothing: false };

function parseRule(value: unknown, where: string, namespace: string, problem: (text: string) => void): Rule {
  const fields = objectOrEmpty(value);
  const action = ACTIONS.find(name => name === textOr(fields.action).toLowerCase());
  let isWhole = isObject(value);
  const bad = (field: string, why: string): void => {
    isWhole = false;
    const effect =
      action === 'deny' || !action ? 'the rule denies as if it were not there' : 'the rule matches nothing';
    problem(`${where}.${field} ${why}: ${effect}`);
  };
  if (!action) problem(`${where}.action is none of Allow, Deny, Log, Pass: the rule denies`);
  const reader = new FieldReader(fields, RULE_FIELDS, bad);
  const protocol = reader.protocol('protocol');
  const notProtocol = reader.protocol('notProtocol');
  const icmp = reader.icmp('icmp', protocol);
  const notIcmp = reader.icmp('notICMP', protocol);
  const ipVersion = reader.ipVersion('ipVersion');
  const entity = (name: 'source' | 'destination') =>
    parseEntity(reader.object(name), namespace, protocol, (field, why) => bad(`${name}.${field}`, why));
  const [source, destination] = [entity('source'), entity('destination')];
  return {
    action: action ?? 'deny',
    ...(ipVersion === undefined ? {} : { ipVersion }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(notProtocol === undefined ? {} : { notProtocol }),
    ...(icmp ? { icmp } : {}),
    ...(notIcmp ? { notIcmp } : {}),
    source,
    destination,
    matchesNothing: !isWhole && action !== undefined && action !== 'deny',
  };
}

function parseEntity(
  fields: Record<string, unknown>,
  namespace: string,
  protocol: number | undefined,
  bad: (field: string, why: string) => void,
): RuleEntity {
  const reader = new FieldReader(fields, ENTITY_FIELDS, bad);
  const [nets, notNets] = [reader.nets('nets'), reader.nets('notNets')];
  const [ports, notPorts] = [reader.ports('ports', protocol), reader.ports('notPorts', protocol)];
  return {
    ...(nets ? { nets } : {}),
    ...(notNets ? { notNets } : {}),
    ...reader.selectors(namespace),
    ...(ports ? { ports } : {}),
    ...(notPorts ? { notPorts } : {}),
  };
}
