import type {
  EndpointPolicy,
  HostEntity,
  HostPolicy,
  HostRule,
  IcmpMatch,
  Judgement,
  PortRange,
} from '../../src/host/policy.js';
import { contains } from './oracle.js';
import type { Direction, Judged } from './oracle.js';

/**
 * What a host does that enforces a {@link HostPolicy} to the letter: the words of `src/host/policy.ts` as code, without
 * nftables. Where it disagrees with the oracle the policy was resolved wrongly; where the kernel disagrees with it, it was
 * enforced wrongly.
 */

/** `from` and `to`: host interfaces; undefined where the packet comes from, or goes to, elsewhere. `isOwn`: the host sends it. */
export function lets(
  policy: HostPolicy,
  from: string | undefined,
  to: string | undefined,
  packet: Judged,
  isOwn: boolean,
): boolean {
  if (from !== undefined) {
    const endpoint = policy.endpoints.get(from);
    if (!endpoint?.sources.includes(packet.source)) return false;
    if (!judged(policy, endpoint, 'egress', packet)) return false;
  }
  if (to === undefined) return true;
  const endpoint = policy.endpoints.get(to);
  if (endpoint === undefined) return false;
  if (isOwn && policy.fromHost !== 'policy') return policy.fromHost === 'allow';
  return judged(policy, endpoint, 'ingress', packet);
}

function judged(policy: HostPolicy, endpoint: EndpointPolicy, direction: Direction, packet: Judged): boolean {
  const judgement: Judgement = endpoint[direction];
  for (const { policies, otherwise } of judgement.tiers) {
    const action = policies.map(id => decision(policy, id, packet)).find(found => found !== undefined);
    if ((action ?? otherwise) === 'allow') return true;
    if ((action ?? otherwise) === 'deny') return false;
  }
  const isConsented = policy.consented.some(
    ({ address, protocol, port }) =>
      address === packet.destination && protocol === packet.protocol && port === packet.destinationPort,
  );
  if (direction === 'ingress' && packet.translated && isConsented) return true;
  return (
    judgement.profiles.map(id => decision(policy, id, packet)).find(found => found !== undefined) === 'allow'
  );
}

/** Of a list of rules: the first that decides. */
function decision(policy: HostPolicy, id: string, packet: Judged): HostRule['action'] | undefined {
  const rules = policy.rules.get(id);
  if (rules === undefined) throw new Error(`no rules ${id}`);
  return rules.find(rule => rule.action !== 'log' && matches(policy, rule, packet))?.action;
}

function matches(policy: HostPolicy, rule: HostRule, packet: Judged): boolean {
  const isIcmp = ({ type, code }: IcmpMatch): boolean =>
    packet.icmp !== undefined &&
    (type ?? packet.icmp.type) === packet.icmp.type &&
    (code ?? packet.icmp.code) === packet.icmp.code;
  const { source, destination, sourcePort, destinationPort } = packet;
  return (
    (rule.ipVersion ?? packet.family) === packet.family &&
    (rule.protocol ?? packet.protocol) === packet.protocol &&
    rule.notProtocol !== packet.protocol &&
    (rule.icmp === undefined || isIcmp(rule.icmp)) &&
    (rule.notIcmp === undefined || !isIcmp(rule.notIcmp)) &&
    isSide(policy, rule.source, source, packet.protocol, sourcePort) &&
    isSide(policy, rule.destination, destination, packet.protocol, destinationPort)
  );
}

function isSide(
  policy: HostPolicy,
  entity: HostEntity,
  address: string,
  protocol: number,
  port: number,
): boolean {
  const inSet = (id: string): boolean => {
    const set = policy.addressSets.get(id);
    if (set === undefined) throw new Error(`no set ${id}`);
    return set.addresses.has(address) || set.nets.some(net => contains(net, address));
  };
  const inPorts = (ranges: readonly PortRange[] = [], named: readonly string[] = []): boolean =>
    ranges.some(({ first, last }) => first <= port && port <= last) ||
    named.some(id => {
      const set = policy.portSets.get(id);
      if (set === undefined) throw new Error(`no set of ports ${id}`);
      return set.has(`${address} ${protocol} ${port}`);
    });
  const { nets, notNets, sets, notSets, ports, namedPorts, notPorts, notNamedPorts } = entity;
  return (
    (nets === undefined || nets.some(net => contains(net, address))) &&
    !notNets?.some(net => contains(net, address)) &&
    (sets ?? []).every(inSet) &&
    !notSets?.some(inSet) &&
    ((ports === undefined && namedPorts === undefined) || inPorts(ports, namedPorts)) &&
    !inPorts(notPorts, notNamedPorts)
  );
}
