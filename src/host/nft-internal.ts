import type { InternalNetwork } from './dataplane.js';
import { canonical, chain, is6, map, set } from './nft-table.js';
import type { Part } from './nft-table.js';
import { checkInterfaceName } from './sysctl.js';

/** Without these no IPv6 neighbour is found; IPv4's ARP is not IP, and does not pass here. */
const NEIGHBOURS = 'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }';
/** Errors about packets that were let through: a router, or this host, says how long they may be. */
const ERRORS = 'ct state related meta l4proto { icmp, ipv6-icmp }';

/**
 * Internal networks: what one of its interfaces sends passes to members only, what is sent to one of its interfaces
 * passes from members only. Without looking at connections, so there is nothing an answer could slip through. The host
 * is no member: it neither hears them nor talks to them, and its published ports are not for them.
 */
export function renderInternal(internal: readonly InternalNetwork[]): Part {
  const networks = internal.filter(network => network.interfaces.length > 0);
  if (networks.length === 0) return { objects: [], rules: {} };
  const interfaces = networks.flatMap((network, index) =>
    network.interfaces.map(name => ({ name: `"${checkInterfaceName(name)}"`, index })),
  );
  const jumps = (way: string): (readonly [string, string])[] =>
    interfaces.map(({ name, index }) => [name, `jump internal${index}_${way}`]);
  return {
    objects: [
      ...networks.flatMap(networkObjects),
      ...map('internal_from', 'ifname : verdict', jumps('from')),
      ...map('internal_to', 'ifname : verdict', jumps('to')),
      ...set(
        'internal_interfaces',
        'ifname',
        interfaces.map(({ name }) => name),
      ),
    ],
    rules: {
      // Before the translations of published ports, which would lead from the host's address to a member.
      prerouting: ['iifname @internal_interfaces accept'],
      input: [`iifname @internal_interfaces ${NEIGHBOURS} accept`, 'iifname @internal_interfaces drop'],
      forward: ['iifname vmap @internal_from', 'oifname vmap @internal_to'],
      output: [
        `oifname @internal_interfaces ${NEIGHBOURS} accept`,
        `oifname @internal_interfaces ${ERRORS} accept`,
        'oifname @internal_interfaces drop',
      ],
    },
  };
}

function networkObjects({ members }: InternalNetwork, index: number): string[] {
  const name = `internal${index}`;
  const addresses = members.map(canonical);
  const pass = (way: string): string[] => [
    `ip ${way} @${name}_members4 return`,
    `ip6 ${way} @${name}_members6 return`,
  ];
  return [
    ...set(
      `${name}_members4`,
      'ipv4_addr',
      addresses.filter(address => !is6(address)),
    ),
    ...set(`${name}_members6`, 'ipv6_addr', addresses.filter(is6)),
    ...chain(`${name}_from`, [...pass('daddr'), 'drop']),
    ...chain(`${name}_to`, [...pass('saddr'), `${ERRORS} return`, 'drop']),
  ];
}
