import { addressOf, placeOf } from './places.js';
import type { Place } from './places.js';
import type { Packet } from './packets.js';
import { arrivalOf } from './packets.js';
import { NAMESPACE, selects } from './selector-tree.js';
import type { Labels } from './selector-tree.js';
import type { Endpoint, Entity, IcmpMatch, Policy, Rule, World } from './world.js';

/**
 * What becomes of a packet, worked out from the test's own world by Calico's rules, with nothing of the daemon's code: no
 * parser, no sets, no memory. Slow and obvious.
 */

export type Direction = 'ingress' | 'egress';

/** As the packet is where policy sees it: after a published port was translated. */
export interface Judged {
  readonly source: string;
  readonly destination: string;
  readonly family: 4 | 6;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  readonly translated: boolean;
}

/** Whether the packet gets through. */
export function passes(world: World, packet: Packet): boolean {
  const from = placeOf(packet.from);
  const { to } = arrivalOf(world, packet);
  const judged = judgedOf(world, packet);
  if (from.kind === 'local' && !lets(world, from, 'egress', judged)) return false;
  if (to.kind !== 'local') return true;
  if (from.kind === 'host') {
    if (world.endpoints.every(({ place }) => place !== to.name)) return false;
    if (world.fromHost !== 'policy') return world.fromHost === 'allow';
  }
  return lets(world, to, 'ingress', judged);
}

/** The packet where policy sees it. */
export function judgedOf(world: World, packet: Packet): Judged {
  const { to, port, translated } = arrivalOf(world, packet);
  const source = addressOf(placeOf(packet.from), packet.family);
  const destination = addressOf(to, packet.family);
  if (source === undefined || destination === undefined)
    throw new Error('a packet of a family they do not share');
  const { family, fromPort } = packet;
  const name = packet.protocol === 'icmp' && family === 6 ? 'icmpv6' : packet.protocol;
  return {
    ...{ source, destination, family, translated },
    protocol: PROTOCOLS[name] ?? 0,
    ...{ sourcePort: fromPort, destinationPort: port },
    ...(packet.protocol === 'icmp' ? { icmp: { type: family === 4 ? 8 : 128, code: 0 } } : {}),
  };
}

function lets(world: World, place: Place, direction: Direction, packet: Judged): boolean {
  const endpoint = world.endpoints.find(each => each.place === place.name);
  if (endpoint === undefined) return false;
  for (const tier of tiersInOrder(world)) {
    const policies = policiesOf(world, tier.name, endpoint, direction);
    if (policies.length === 0) continue;
    const verdict = policies
      .flatMap(policy => (policy[direction] ?? []).map(rule => ({ rule, policy })))
      .filter(({ rule, policy }) => rule.action !== 'Log' && matches(world, rule, packet, policy.namespace))
      .map(({ rule }) => rule.action)[0];
    if (verdict === 'Allow') return true;
    if (verdict === 'Deny') return false;
    if (verdict === undefined && tier.defaultAction !== 'Pass') return false;
  }
  if (direction === 'ingress' && packet.translated) return true;
  for (const name of endpoint.profiles) {
    const profile = world.profiles.find(each => each.name === name);
    // As in Felix: a profile that does not exist is one that denies.
    if (profile === undefined) return false;
    for (const rule of profile[direction]) {
      if (rule.action === 'Log' || !matches(world, rule, packet)) continue;
      return rule.action === 'Allow';
    }
  }
  return false;
}

const DEFAULT_ORDER = 1_000_000;

function tiersInOrder(world: World) {
  const unsaid = world.tiers.some(({ name }) => name === 'default') ? [] : [{ name: 'default' }];
  const all: World['tiers'] = [...world.tiers, ...unsaid];
  return [...all].sort(
    (a, b) => (a.order ?? DEFAULT_ORDER) - (b.order ?? DEFAULT_ORDER) || (a.name < b.name ? -1 : 1),
  );
}

function policiesOf(world: World, tier: string, endpoint: Endpoint, direction: Direction): Policy[] {
  const labels = labelsOf(world, endpoint);
  const place = (order: number | undefined) => order ?? Infinity;
  const applies = (policy: Policy) =>
    (policy.tier ?? 'default') === tier &&
    policy.forHosts === undefined &&
    typesOf(policy).includes(direction) &&
    (policy.selector === undefined || selects(policy.selector, labels)) &&
    inNamespace(policy.namespaceSelector, labels) &&
    (policy.namespace === undefined || policy.namespace === endpoint.namespace);
  return world.policies
    .filter(applies)
    .sort((a, b) =>
      place(a.order) === place(b.order)
        ? a.name < b.name
          ? -1
          : 1
        : place(a.order) < place(b.order)
          ? -1
          : 1,
    );
}

function typesOf({ types, ingress, egress }: Policy): Direction[] {
  if (types !== undefined && types.length > 0)
    return types.map(type => (type === 'Ingress' ? 'ingress' : 'egress'));
  if ((egress ?? []).length === 0) return ['ingress'];
  return (ingress ?? []).length === 0 ? ['egress'] : ['ingress', 'egress'];
}

function labelsOf(world: World, endpoint: Endpoint): Labels {
  const inherited = endpoint.profiles.map(
    name => world.profiles.find(profile => profile.name === name)?.labelsToApply ?? {},
  );
  // Of two profiles that give the same label, the first counts.
  return {
    ...Object.assign({}, ...inherited.reverse()),
    ...endpoint.labels,
    [NAMESPACE]: endpoint.namespace,
  };
}

function inNamespace(selector: 'all()' | 'global()' | undefined, labels: Labels): boolean {
  if (selector === undefined) return true;
  return (labels[NAMESPACE] === undefined) === (selector === 'global()');
}

/** Protocol numbers by name. */
const PROTOCOLS: Readonly<Record<string, number>> = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  icmpv6: 58,
  sctp: 132,
  udplite: 136,
};

function matches(world: World, rule: Rule, packet: Judged, namespace?: string): boolean {
  const isOf = (protocol: string | number) =>
    packet.protocol === (typeof protocol === 'number' ? protocol : PROTOCOLS[protocol.toLowerCase()]);
  const isIcmp = ({ type, code }: IcmpMatch) =>
    packet.icmp !== undefined &&
    (type === undefined || type === packet.icmp.type) &&
    (code === undefined || code === packet.icmp.code);
  if (rule.ipVersion !== undefined && rule.ipVersion !== packet.family) return false;
  if (rule.protocol !== undefined && !isOf(rule.protocol)) return false;
  if (rule.notProtocol !== undefined && isOf(rule.notProtocol)) return false;
  if (rule.icmp !== undefined && !isIcmp(rule.icmp)) return false;
  if (rule.notICMP !== undefined && isIcmp(rule.notICMP)) return false;
  const { source, destination, sourcePort, destinationPort } = packet;
  return (
    isFrom(world, rule.source, { address: source, port: sourcePort, protocol: packet.protocol }, namespace) &&
    isFrom(
      world,
      rule.destination,
      { address: destination, port: destinationPort, protocol: packet.protocol },
      namespace,
    )
  );
}

interface Side {
  readonly address: string;
  readonly port: number;
  readonly protocol: number;
}

/** Whether one side of a packet is what one side of a rule says. */
function isFrom(world: World, entity: Entity, side: Side, namespace?: string): boolean {
  const { nets, notNets, selector, notSelector, namespaceSelector, ports, notPorts } = entity;
  if (nets !== undefined && nets.length > 0 && !nets.some(net => contains(net, side.address))) return false;
  // As Felix does: a rule whose nets, wanted or unwanted, are all of the other family is none for this one.
  const isOfFamily = (net: string) => net.includes(':') === side.address.includes(':');
  if (notNets !== undefined && notNets.length > 0 && !notNets.some(isOfFamily)) return false;
  if (notNets?.some(net => contains(net, side.address))) return false;
  const isLimited = namespaceSelector !== undefined || (namespace !== undefined && notSelector !== undefined);
  const isPositive = selector !== undefined || isLimited;
  const isSelected = (labels: Labels) =>
    (selector === undefined || selects(selector, labels)) &&
    (namespaceSelector !== undefined
      ? inNamespace(namespaceSelector, labels)
      : namespace === undefined || labels[NAMESPACE] === namespace) &&
    (notSelector === undefined || !selects(notSelector, labels));
  if (isPositive) {
    // One and the same endpoint or network set is all that: an address may have several.
    if (!holders(world, side.address).some(isSelected)) return false;
  } else if (notSelector !== undefined)
    if (holders(world, side.address).some(labels => selects(notSelector, labels))) return false;
  const isOne = (port: number | string) => isPort(world, port, side, isPositive ? isSelected : () => true);
  if (ports !== undefined && ports.length > 0 && !ports.some(isOne)) return false;
  return !notPorts?.some(isOne);
}

/** The labels of whatever has an address: an endpoint, and network sets. */
function holders(world: World, address: string): Labels[] {
  return [
    ...world.endpoints
      .filter(({ place }) => placeOf(place).addresses.includes(address))
      .map(endpoint => labelsOf(world, endpoint)),
    ...world.networkSets
      .filter(({ nets }) => nets.some(net => contains(net, address)))
      .map(({ labels, namespace }) => ({
        ...labels,
        ...(namespace === undefined ? {} : { [NAMESPACE]: namespace }),
      })),
  ];
}

/** `isSelected`: whose named ports count. */
function isPort(
  world: World,
  port: number | string,
  side: Side,
  isSelected: (labels: Labels) => boolean,
): boolean {
  if (typeof port === 'number') return port === side.port;
  const [, first, last] = /^(\d+):(\d+)$/.exec(port) ?? [];
  if (first !== undefined) return Number(first) <= side.port && side.port <= Number(last);
  return world.endpoints.some(
    endpoint =>
      placeOf(endpoint.place).addresses.includes(side.address) &&
      isSelected(labelsOf(world, endpoint)) &&
      endpoint.ports.some(
        each =>
          each.name === port &&
          each.port === side.port &&
          PROTOCOLS[each.protocol.toLowerCase()] === side.protocol,
      ),
  );
}

/** Whether a CIDR, or an address, contains an address. */
export function contains(net: string, address: string): boolean {
  const [base = '', length] = net.split('/');
  if (base.includes(':') !== address.includes(':')) return false;
  const all = base.includes(':') ? 128 : 32;
  const ignored = BigInt(all - Number(length ?? all));
  return bits(base) >> ignored === bits(address) >> ignored;
}

function bits(address: string): bigint {
  if (!address.includes(':')) return address.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
  const [head = '', tail] = address.split('::');
  const groups = (text: string) => text.split(':').filter(group => group !== '');
  const [left, right] = [groups(head), groups(tail ?? '')];
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...zeros, ...right].reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}
