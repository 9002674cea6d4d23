import { PORT } from './vxlan-messages.js';

/** Chains by name, each with its lines. */
export type Chains = ReadonlyMap<string, readonly string[]>;

/** Icmpv6 types by which neighbours, routers and groups are found: an IPv6 link does not work without. */
const NEIGHBOURS = 'icmpv6 type { 135, 136 }';
const FROM_CONTAINER = 'icmpv6 type { 130, 131, 132, 133, 135, 136, 143 }';
const FROM_HOST = 'icmpv6 type { 130, 131, 132, 134, 135, 136, 137, 143 }';
/** Replies, and errors about what was let through, need no policy. */
const REPLIES = 'ct state established,related accept';
/** The map is there for speed: one look instead of two comparisons. */
const FORWARDED = 'ct state vmap { established : accept, related : accept }';
/** What conntrack can make nothing of would not be translated back: it would show an address nobody asked. */
const UNKNOWN = 'ct state invalid drop';
/** Meant for one link, but the kernel forwards it, and conntrack leaves it out: it would pass from whatever source. */
const OF_THE_LINK = 'icmpv6 type { 133, 134, 135, 136, 137 } drop';

/**
 * The chains that are always there: those that the kernel calls, and `consented`. `accept` ends one of the kernel's chains
 * only, so a packet between two containers is judged by `forward_egress` and then by `forward_ingress`.
 */
export function baseChains(prefix: string): Chains {
  const from = `iifname "${prefix}*"`;
  const to = `oifname "${prefix}*"`;
  return new Map([
    [
      // Before conntrack: a forged packet must not even be remembered.
      'spoofed',
      [
        'type filter hook prerouting priority raw; policy accept;',
        // The addresses of containers of this host come from their interfaces only; or by a bridge, where a container is on
        // a network of Docker's as well and its default route leads there. (A rule of its own: the kind of a network card
        // is unknown to the kernel, and a rule that asks for it ends there.)
        `iifname != "${prefix}*" meta iifkind "bridge" accept`,
        `iifname != "${prefix}*" fib saddr oifname "${prefix}*" drop`,
        `iifname != "${prefix}*" accept`,
        'iifname . ether saddr . ip saddr @sources4 accept',
        'iifname . ether saddr . ip6 saddr @sources6 accept',
        // Not forwarded (see below), and what a neighbour says is believed on its own interface only. Of closed containers
        // too: they must not lose a second when they are opened.
        `${NEIGHBOURS} accept`,
        'iifname . ether saddr @macs ip6 saddr fe80::/10 accept',
        `ip6 saddr :: ${FROM_CONTAINER} accept`,
        'drop',
      ],
    ],
    [
      'forward_egress',
      [
        'type filter hook forward priority -2; policy accept;',
        `${from} ${OF_THE_LINK}`,
        FORWARDED,
        // Of containers only: what else the host forwards is no business of ours.
        `${from} ${UNKNOWN}`,
        ...noTunnels(from),
        'iifname vmap @egress',
        `${from} drop`,
      ],
    ],
    [
      'forward_ingress',
      [
        'type filter hook forward priority -1; policy accept;',
        FORWARDED,
        `${to} ${UNKNOWN}`,
        'oifname vmap @ingress',
        `${to} drop`,
      ],
    ],
    [
      'to_the_host',
      [
        'type filter hook input priority -1; policy accept;',
        `${from} ${FROM_CONTAINER} accept`,
        REPLIES,
        ...noTunnels(from),
        'iifname vmap @egress',
        `${from} drop`,
      ],
    ],
    [
      // Not in "output": that still sees the interface by which a packet would have left had its destination not been
      // translated, as that of a published port on 127.0.0.1 is. What came in by an interface is none of the host's.
      'from_the_host',
      [
        'type filter hook postrouting priority -1; policy accept;',
        'iif != 0 accept',
        `${to} ${FROM_HOST} accept`,
        REPLIES,
        'oifname vmap @from_host',
        `${to} drop`,
      ],
    ],
    [
      'consented',
      [
        'ct status dnat ip daddr . meta l4proto . th dport @consented4 accept',
        'ct status dnat ip6 daddr . meta l4proto . th dport @consented6 accept',
      ],
    ],
  ]);
}

/**
 * Whoever can send encapsulated packets to a host can send them from any address: what the host unpacks has passed
 * nobody's check of its source. Felix drops VXLAN and IP-in-IP of containers too.
 */
function noTunnels(from: string): string[] {
  return [`${from} udp dport ${PORT} drop`, `${from} meta l4proto 4 drop`];
}
