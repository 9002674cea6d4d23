import { HostError } from '../errors.js';
import type { PublishedPort } from './dataplane.js';
import { canonical, chain, is6, map, set } from './nft-table.js';
import type { Part } from './nft-table.js';

/** What the rules of one family are called. */
const FAMILIES = [
  { n: 4, ip: 'ip', address: 'ipv4_addr', nfproto: 'ipv4' },
  { n: 6, ip: 'ip6', address: 'ipv6_addr', nfproto: 'ipv6' },
] as const;

const LOOPBACK4 = '127.0.0.0/8';

/**
 * Whether the port is open on 127.0.0.1, or other addresses of 127.0.0.0/8: its container's interface needs
 * route_localnet.
 */
export function isOnLoopback4({ address, hostAddress }: PublishedPort): boolean {
  return !is6(address) && (hostAddress === undefined || hostAddress.startsWith('127.'));
}

/**
 * Published ports. Connections to an address of the host are translated wherever they come from: prerouting sees those
 * from outside and from containers, output those of the host's own processes. Which rule comes before Docker's of the
 * same priority does not matter: the first that translates decides, and a port is never in both (port-reservations.ts).
 *
 * Two kinds of connection need another source as well, or the container would answer past the host: a container's to
 * itself by way of the host, and the host's from 127.0.0.1. `prefix`: of the names of containers' interfaces.
 */
export function renderPublished(published: readonly PublishedPort[], prefix: string): Part {
  // No kernel translates a connection from ::1 to elsewhere; a TCP one reaches our listener (port-reservations.ts).
  const ports = published.filter(
    port => port.hostAddress === undefined || canonical(port.hostAddress) !== '::1',
  );
  const has4 = ports.some(port => !is6(port.address));
  const has6 = ports.some(port => is6(port.address));
  const families = FAMILIES.filter(({ n }) => (n === 4 ? has4 : has6));
  const postrouting = families.map(
    ({ n, ip }) => `${ip} saddr . ${ip} daddr @hairpin${n} masquerade fully-random`,
  );
  if (has4) postrouting.push(`ip saddr ${LOOPBACK4} oifname "${prefix}*" masquerade fully-random`);
  const jump = families.length === 0 ? [] : ['fib daddr type local jump published'];
  return {
    objects: [
      ...families.flatMap(family => familyObjects(family, ports)),
      ...(families.length === 0 ? [] : chain('published', families.flatMap(translations))),
    ],
    rules: {
      // A host's 127.0.0.1 is nobody else's business. The kernel sees to that by itself, except on interfaces with
      // route_localnet, which a port open on 127.0.0.1 needs to get its answers back: there this rule does, before
      // conntrack turns an answer's destination into 127.0.0.1. It is always here, so that it never comes too late.
      guard: [`iifname "${prefix}*" ip daddr ${LOOPBACK4} drop`],
      prerouting: jump,
      nat_output: jump,
      postrouting,
    },
  };
}

function familyObjects({ n, address }: (typeof FAMILIES)[number], all: readonly PublishedPort[]): string[] {
  const ports = all.filter(port => is6(port.address) === (n === 6));
  const anywhere = ports.filter(port => port.hostAddress === undefined);
  const at = ports.flatMap((port): [string, string][] => {
    if (port.hostAddress === undefined) return [];
    return [[`${canonical(port.hostAddress)} . ${key(port)}`, target(port)]];
  });
  const service = 'inet_proto . inet_service';
  const to = `${address} . inet_service`;
  const pairs = ports.flatMap(port => {
    const others = (port.containerAddresses ?? []).filter(other => is6(other) === (n === 6));
    return [port.address, ...others].map(from => `${canonical(from)} . ${canonical(port.address)}`);
  });
  return [
    ...map(
      `published${n}`,
      `${service} : ${to}`,
      anywhere.map(port => [key(port), target(port)]),
    ),
    ...map(`published_at${n}`, `${address} . ${service} : ${to}`, at),
    ...set(`hairpin${n}`, `${address} . ${address}`, pairs),
  ];
}

function translations({ n, ip, nfproto }: (typeof FAMILIES)[number]): string[] {
  return [
    ...(n === 6 ? ['ip6 daddr ::1 return'] : []),
    `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @published_at${n}`,
    `meta nfproto ${nfproto} dnat ${ip} to meta l4proto . th dport map @published${n}`,
  ];
}

function key({ protocol, hostPort }: PublishedPort): string {
  return `${protocol} . ${portNumber(hostPort)}`;
}

function target({ address, port }: PublishedPort): string {
  return `${canonical(address)} . ${portNumber(port)}`;
}

function portNumber(port: number): number {
  if (Number.isInteger(port) && port > 0 && port <= 65_535) return port;
  throw new HostError(`${port} is no port number`);
}
