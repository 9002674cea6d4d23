import type { HostEntity, HostPolicy, HostRule, Judgement } from '../../src/host/policy.js';
import { contains, parseAddress, parseCidr } from '../../src/ipam/cidr.js';
import type { Packet } from '../../src/policy/packet.js';

/** What a host that enforces a HostPolicy to the letter does to a packet, on the interface's way in or out. */
export function interpret(
  policy: HostPolicy,
  interfaceName: string,
  direction: 'ingress' | 'egress',
  packet: Packet,
): 'allow' | 'deny' {
  const endpoint = policy.endpoints.get(interfaceName);
  if (!endpoint) return 'deny';
  return judge(policy, endpoint[direction], direction, packet);
}

function judge(
  policy: HostPolicy,
  { tiers, profiles }: Judgement,
  direction: 'ingress' | 'egress',
  packet: Packet,
): 'allow' | 'deny' {
  tiers: for (const { policies, otherwise } of tiers) {
    for (const id of policies) {
      const action = firstMatch(policy, id, packet);
      if (action === 'allow' || action === 'deny') return action;
      if (action === 'pass') continue tiers;
    }
    if (otherwise === 'deny') return 'deny';
  }
  const isConsented = policy.consented.some(
    ({ address, protocol, port }) =>
      address === packet.destination && protocol === packet.protocol && port === packet.destinationPort,
  );
  if (direction === 'ingress' && packet.isTranslated && isConsented) return 'allow';
  for (const id of profiles) {
    const action = firstMatch(policy, id, packet);
    if (action === 'allow' || action === 'deny') return action;
  }
  return 'deny';
}

function firstMatch(policy: HostPolicy, id: string, packet: Packet): HostRule['action'] | undefined {
  const rules = policy.rules.get(id);
  if (!rules) throw new Error(`the policy names rules that it has not: ${id}`);
  return rules.find(rule => rule.action !== 'log' && matches(policy, rule, packet))?.action;
}

function matches(policy: HostPolicy, rule: HostRule, packet: Packet): boolean {
  const isIcmp = (match: HostRule['icmp']) =>
    packet.protocol === (packet.family === 4 ? 1 : 58) &&
    (match?.type ?? packet.icmp?.type) === packet.icmp?.type &&
    (match?.code ?? packet.icmp?.code) === packet.icmp?.code;
  return (
    (rule.ipVersion ?? packet.family) === packet.family &&
    (rule.protocol ?? packet.protocol) === packet.protocol &&
    rule.notProtocol !== packet.protocol &&
    (!rule.icmp || isIcmp(rule.icmp)) &&
    (!rule.notIcmp || !isIcmp(rule.notIcmp)) &&
    sideMatches(policy, rule.source, packet, packet.source, packet.sourcePort) &&
    sideMatches(policy, rule.destination, packet, packet.destination, packet.destinationPort)
  );
}

function sideMatches(
  policy: HostPolicy,
  entity: HostEntity,
  { protocol }: Packet,
  address: string,
  port: number | undefined,
): boolean {
  const { nets, notNets, sets = [], notSets = [], ports, namedPorts, notPorts, notNamedPorts } = entity;
  const inSet = (id: string): boolean => {
    const set = policy.addressSets.get(id);
    if (!set) throw new Error(`a rule names a set that there is not: ${id}`);
    return set.addresses.has(address) || isIn(set.nets, address);
  };
  const inPorts = (ranges: HostEntity['ports'], names: HostEntity['namedPorts']): boolean =>
    port !== undefined &&
    ((ranges ?? []).some(({ first, last }) => first <= port && port <= last) ||
      (names ?? []).some(id => {
        const set = policy.portSets.get(id);
        if (!set) throw new Error(`a rule names a set that there is not: ${id}`);
        return set.has(`${address} ${protocol} ${port}`);
      }));
  return (
    (!nets || isIn(nets, address)) &&
    (!notNets || !isIn(notNets, address)) &&
    sets.every(inSet) &&
    !notSets.some(inSet) &&
    ((!ports && !namedPorts) || inPorts(ports, namedPorts)) &&
    ((!notPorts && !notNamedPorts) || !inPorts(notPorts, notNamedPorts))
  );
}

function isIn(nets: readonly string[], text: string): boolean {
  const address = parseAddress(text);
  return nets.some(net => {
    const cidr = parseCidr(net);
    return cidr && address && contains(cidr, address);
  });
}
