import { is6, set } from './nft-table.js';
import type { Part } from './nft-table.js';
import { GATEWAYS4 } from './routes.js';

/** Masquerading of what leaves the pools, and the end of what is sent to a gateway nobody has. */
export function renderMasquerade(masqueradeFrom: readonly string[], pools: readonly string[]): Part {
  const is4 = (cidr: string): boolean => !is6(cidr);
  return {
    objects: [
      ...cidrs('masquerade_from4', 'ipv4_addr', masqueradeFrom.filter(is4)),
      ...cidrs('masquerade_from6', 'ipv6_addr', masqueradeFrom.filter(is6)),
      ...cidrs('pools4', 'ipv4_addr', pools.filter(is4)),
      ...cidrs('pools6', 'ipv6_addr', pools.filter(is6)),
    ],
    rules: {
      // Random ports: two connections opened at once must not be given the same one (a lost SYN, a second's delay).
      postrouting: [
        'ip saddr @masquerade_from4 ip daddr != @pools4 masquerade fully-random',
        'ip6 saddr @masquerade_from6 ip6 daddr != @pools6 masquerade fully-random',
      ],
      // Nobody has the gateways' addresses; their route to lo exists for the ARP proxy only (routes.ts) and would send
      // a packet round until its TTL ends.
      forward: [`ip daddr ${GATEWAYS4} drop`],
    },
  };
}

function cidrs(name: string, type: string, elements: readonly string[]): string[] {
  return set(name, `${type}; flags interval; auto-merge`, elements);
}
