import type { HostEntity, HostRule, SetId } from '../host/policy.js';
import { formatCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';
import { ICMP, NAMED_PORT_PROTOCOL, PORT_PROTOCOLS } from '../model/ip-protocol.js';
import type { Rule, RuleEntity, RulePorts } from '../model/rule.js';
import type { Selector } from '../model/selector-tree.js';

/** A list of rules as the host takes it, and the sets that it names. */
export interface CompiledRules {
  readonly rules: readonly HostRule[];
  readonly addressSets: ReadonlyMap<SetId, Selector>;
  readonly portSets: ReadonlyMap<SetId, NamedPortSelection>;
}

/** Which named ports are in a set. */
export interface NamedPortSelection {
  /** Any of them. */
  readonly names: ReadonlySet<string>;
  /** IP protocol number. */
  readonly protocol: number;
  /** The endpoints whose ports they are; undefined: all. */
  readonly selector: Selector | undefined;
}

/**
 * Turns rules into those of the host, which need no thought there: families that a rule cannot match are ruled out, a rule
 * with port numbers or ICMP types names its protocol, one that can match nothing is gone.
 */
export function compileRules(rules: readonly Rule[]): CompiledRules {
  const addressSets = new Map<SetId, Selector>();
  const portSets = new Map<SetId, NamedPortSelection>();
  const compiled = rules.flatMap(rule => {
    if (rule.matchesNothing) return [];
    const source = compileEntity(rule.source, rule.protocol, addressSets, portSets);
    const destination = compileEntity(rule.destination, rule.protocol, addressSets, portSets);
    return variants(rule).map((variant): HostRule => ({
      action: rule.action,
      ...variant,
      ...(rule.notProtocol === undefined || variant.protocol !== undefined
        ? {}
        : { notProtocol: rule.notProtocol }),
      ...(rule.icmp ? { icmp: rule.icmp } : {}),
      ...(rule.notIcmp ? { notIcmp: rule.notIcmp } : {}),
      source,
      destination,
    }));
  });
  return { rules: compiled, addressSets, portSets };
}

type Variant = Pick<HostRule, 'ipVersion' | 'protocol'>;

/** The families and protocols that a rule can match, as few as can be. */
function variants(rule: Rule): Variant[] {
  const { protocol, notProtocol } = rule;
  const families = familiesOf(rule);
  const isAllowed = (number: number) =>
    (protocol === undefined || protocol === number) && notProtocol !== number;
  if (rule.icmp || rule.notIcmp)
    return (hasPortNumbers(rule) ? [] : families)
      .filter(family => isAllowed(ICMP[family]))
      .map(family => ({ ipVersion: family, protocol: ICMP[family] }));
  if (families.length === 0 || (protocol !== undefined && protocol === notProtocol)) return [];
  const [only] = families;
  const version = families.length === 1 && only !== undefined ? { ipVersion: only } : {};
  if (protocol === undefined && !hasPortNumbers(rule)) return [version];
  const protocols = hasPortNumbers(rule) ? PORT_PROTOCOLS : [protocol ?? 0];
  return protocols.filter(isAllowed).map(number => ({ ...version, protocol: number }));
}

function hasPortNumbers({ source, destination }: Rule): boolean {
  const lists = [source.ports, source.notPorts, destination.ports, destination.notPorts];
  return lists.some(list => list !== undefined && list.ranges.length > 0);
}

/** As in Felix: each list of nets that a rule has rules out the families it has none of; a `notNets` also those that it
 *  has all of. */
function familiesOf({ ipVersion, source, destination }: Rule): Family[] {
  const has = (nets: readonly Cidr[] | undefined, family: Family) =>
    !nets || nets.some(net => net.family === family);
  const hasAll = (nets: readonly Cidr[] | undefined, family: Family) =>
    nets !== undefined && nets.some(net => net.family === family && net.length === 0);
  return ([4, 6] as const).filter(
    family =>
      (ipVersion ?? family) === family &&
      [source, destination].every(
        ({ nets, notNets }) => has(nets, family) && has(notNets, family) && !hasAll(notNets, family),
      ),
  );
}

function compileEntity(
  { nets, notNets, selector, notSelector, ports, notPorts }: RuleEntity,
  protocol: number | undefined,
  addressSets: Map<SetId, Selector>,
  portSets: Map<SetId, NamedPortSelection>,
): HostEntity {
  const set = (of: Selector): SetId => {
    addressSets.set(of.text, of);
    return of.text;
  };
  // One set for the whole list: with a set for each name a rule would become as many rules as both sides have names,
  // multiplied.
  const named = (ports: RulePorts): SetId[] => {
    const names = new Set([...ports.names].sort());
    const ofProtocol = protocol ?? NAMED_PORT_PROTOCOL;
    const id = `port ${[...names].join(',')} ${ofProtocol} ${selector?.text ?? 'all()'}`;
    portSets.set(id, { names, protocol: ofProtocol, selector });
    return [id];
  };
  return {
    ...(nets ? { nets: nets.map(formatCidr) } : {}),
    ...(notNets ? { notNets: notNets.map(formatCidr) } : {}),
    ...(selector ? { sets: [set(selector)] } : {}),
    ...(notSelector ? { notSets: [set(notSelector)] } : {}),
    ...portFields(ports, named, 'ports', 'namedPorts'),
    ...portFields(notPorts, named, 'notPorts', 'notNamedPorts'),
  };
}

function portFields(
  ports: RulePorts | undefined,
  named: (ports: RulePorts) => SetId[],
  numbers: 'ports' | 'notPorts',
  names: 'namedPorts' | 'notNamedPorts',
): Partial<HostEntity> {
  return {
    ...(ports && ports.ranges.length > 0 ? { [numbers]: ports.ranges } : {}),
    ...(ports && ports.names.length > 0 ? { [names]: named(ports) } : {}),
  };
}
