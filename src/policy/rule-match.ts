import type { IcmpMatch } from '../host/policy.js';
import { contains, parseAddress } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import { ICMP, NAMED_PORT_PROTOCOL, PORT_PROTOCOLS } from '../model/ip-protocol.js';
import type { Rule, RuleEntity, RulePorts } from '../model/rule.js';
import type { Selector } from '../model/selector-tree.js';
import { effectiveLabels, profileNamed } from './facts.js';
import type { PolicyEndpoint, PolicyFacts } from './facts.js';
import type { Packet } from './packet.js';

/**
 * Why a rule does not match a packet, in words; undefined where it does. Slow and obvious: this is what the rules mean,
 * and what the enforcement is tested against.
 */
export function mismatch(facts: PolicyFacts, rule: Rule, packet: Packet): string | undefined {
  const { family, protocol } = packet;
  if (rule.matchesNothing) return 'it has a field that is not supported, see the log of the daemon';
  if (rule.ipVersion !== undefined && rule.ipVersion !== family) return `it is for IPv${rule.ipVersion}`;
  if (rule.protocol !== undefined && rule.protocol !== protocol) return 'the protocol is another';
  if (rule.notProtocol === protocol) return 'the protocol is excluded';
  if ((rule.icmp || rule.notIcmp) && protocol !== ICMP[family]) return 'it is about ICMP';
  if (rule.icmp && !isIcmp(packet, rule.icmp)) return 'the ICMP type is another';
  if (rule.notIcmp && isIcmp(packet, rule.notIcmp)) return 'the ICMP type is excluded';
  const lists = [rule.source, rule.destination].flatMap(({ ports, notPorts }) => [ports, notPorts]);
  if (lists.some(list => list && list.ranges.length > 0) && !PORT_PROTOCOLS.includes(protocol))
    return 'it is about ports, and the protocol has none';
  return (
    sideMismatch(facts, rule, rule.source, 'source', packet.source, packet.sourcePort, protocol) ??
    sideMismatch(
      facts,
      rule,
      rule.destination,
      'destination',
      packet.destination,
      packet.destinationPort,
      protocol,
    )
  );
}

function sideMismatch(
  facts: PolicyFacts,
  rule: Rule,
  entity: RuleEntity,
  side: string,
  address: string,
  port: number | undefined,
  protocol: number,
): string | undefined {
  const { nets, notNets, selector, notSelector, ports, notPorts } = entity;
  if (nets && !isIn(nets, address)) return `${side} ${address} is in none of its nets`;
  if (notNets && !notNets.some(net => net.family === parseAddress(address)?.family))
    return `its notNets of the ${side} are of the other family`;
  if (notNets && isIn(notNets, address)) return `${side} ${address} is in its notNets`;
  if (selector && !isSelected(facts, selector, address))
    return `${side} ${address} is not selected by ${selector.text}`;
  if (notSelector && isSelected(facts, notSelector, address))
    return `${side} ${address} is selected by ${notSelector.text}, which it excludes`;
  const isOneOf = ({ ranges, names }: RulePorts): boolean =>
    port !== undefined &&
    (ranges.some(({ first, last }) => first <= port && port <= last) ||
      names.some(name =>
        isNamed(facts, selector, address, name, rule.protocol ?? NAMED_PORT_PROTOCOL, protocol, port),
      ));
  if (ports && !isOneOf(ports)) return `the ${side} port is another`;
  if (notPorts && isOneOf(notPorts)) return `the ${side} port is excluded`;
  return undefined;
}

function isIcmp({ icmp }: Packet, match: IcmpMatch): boolean {
  if (!icmp) return false;
  return (match.type ?? icmp.type) === icmp.type && (match.code ?? icmp.code) === icmp.code;
}

function isIn(nets: readonly Cidr[], text: string): boolean {
  const address = parseAddress(text);
  return address !== undefined && nets.some(net => contains(net, address));
}

/** An endpoint that has the address, or a network set that covers it, is selected. */
function isSelected(facts: PolicyFacts, selector: Selector, address: string): boolean {
  return (
    [...facts.endpoints.values()].some(
      endpoint => endpoint.addresses.includes(address) && selects(facts, selector, endpoint),
    ) || [...facts.networkSets.values()].some(set => isIn(set.nets, address) && selector.matches(set.labels))
  );
}

function selects(facts: PolicyFacts, selector: Selector, endpoint: PolicyEndpoint): boolean {
  return selector.matches(effectiveLabels(endpoint, name => profileNamed(facts, name)));
}

/** An endpoint that has the address, and is selected, calls the port so. */
function isNamed(
  facts: PolicyFacts,
  selector: Selector | undefined,
  address: string,
  name: string,
  wanted: number,
  protocol: number,
  port: number,
): boolean {
  return [...facts.endpoints.values()].some(
    endpoint =>
      endpoint.addresses.includes(address) &&
      (!selector || selects(facts, selector, endpoint)) &&
      endpoint.namedPorts.some(
        named =>
          named.name === name &&
          named.protocol === wanted &&
          named.protocol === protocol &&
          named.port === port,
      ),
  );
}
