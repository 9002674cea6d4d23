import { ICMP, PORT_PROTOCOLS, protocolName, protocolNumber } from '../model/ip-protocol.js';
import type { PathEvaluation, Step } from './evaluate.js';
import type { Packet } from './packet.js';

/** Where a client's ports begin on Linux: what a packet is asked about with unless rules name others. */
const CLIENT_PORT = 40_000;
/** A ping. */
const ECHO = { 4: 8, 6: 128 } as const;

/** What of a packet `tcp/80`, `udp/53`, `icmp`, `icmp/3/1` or `89` says. Throws RangeError, in words for whoever typed it. */
export function parseTraffic(
  text: string,
  family: 4 | 6,
): Pick<Packet, 'protocol' | 'sourcePort' | 'destinationPort' | 'icmp'> {
  const [name = '', first, second, ...more] = text.split('/');
  const named = protocolNumber(name);
  if (named === undefined || more.length > 0)
    throw new RangeError(
      `"${text}" is no traffic: write tcp/80, udp/53, sctp/PORT, icmp, icmp/TYPE or a protocol number`,
    );
  // Whoever says icmp means that of the family.
  const protocol = named === ICMP[4] || named === ICMP[6] ? ICMP[family] : named;
  const number = (part: string, most: number, what: string): number => {
    if (!/^\d+$/.test(part) || Number(part) > most)
      throw new RangeError(`"${part}" in "${text}" is no ${what}`);
    return Number(part);
  };
  if (protocol === ICMP[family]) {
    const type = first === undefined ? ECHO[family] : number(first, 255, 'ICMP type');
    return { protocol, icmp: { type, code: second === undefined ? 0 : number(second, 255, 'ICMP code') } };
  }
  if (!PORT_PROTOCOLS.includes(protocol)) {
    if (first !== undefined) throw new RangeError(`"${text}": ${protocolName(protocol)} has no ports`);
    return { protocol };
  }
  if (first === undefined || second !== undefined)
    throw new RangeError(`"${text}" needs one port: ${protocolName(protocol)}/PORT`);
  return { protocol, sourcePort: CLIENT_PORT, destinationPort: number(first, 65_535, 'port') };
}

/** A packet in a few words. */
export function trafficText({ protocol, destinationPort, icmp }: Packet): string {
  const name = protocolName(protocol);
  if (icmp) return `${name} type ${icmp.type}`;
  return destinationPort === undefined ? name : `${name}/${destinationPort}`;
}

/** What was looked at and what came of it, line by line. `from`, `to`: what people call both ends. */
export function explanation(path: PathEvaluation, from: string, to: string): string[] {
  const { egress, ingress } = path;
  const lines = [
    ...(egress
      ? [`egress of ${from}:`, ...stepLines(egress.steps)]
      : [`${from} is no container of Calico: nothing judges what it sends`]),
    ...(ingress ? [`ingress of ${to}:`, ...stepLines(ingress.steps)] : []),
  ];
  if (!ingress && path.verdict === 'allow')
    lines.push(`${to} is no container of Calico: nothing judges what it gets`);
  return [...lines, path.verdict === 'allow' ? 'allowed' : 'denied'];
}

function stepLines(steps: readonly Step[]): string[] {
  const lines: string[] = [];
  let tier: string | undefined;
  for (const step of steps) {
    if (step.tier !== undefined && step.tier !== tier) lines.push(`  tier ${step.tier}`);
    tier = step.tier;
    const what = step.rule === undefined ? step.what : `${step.what}, rule ${step.rule}`;
    const outcome = typeof step.outcome === 'string' ? step.outcome : `no match: ${step.outcome.mismatch}`;
    lines.push(`  ${tier === undefined ? '' : '  '}${what}: ${outcome}`);
  }
  return lines;
}
