import type { Tunnel, TunnelPeer } from '../host/peers.js';
import type { Family } from '../ipam/cidr.js';
import type { CalicoNode } from '../model/node.js';
import type { RoutedPool } from './route-table.js';

/** This host's end of the VXLAN, and those of all others. */
export interface TunnelEnds {
  readonly own: Tunnel;
  readonly others: readonly TunnelPeer[];
}

/**
 * The VXLAN of one family that this host should have; `none`: no pool wants one; `later`: this host has no address for
 * it yet, or none any more for a moment. Pure.
 */
export function tunnelEnds(
  own: CalicoNode | undefined,
  nodes: Iterable<CalicoNode>,
  pools: readonly RoutedPool[],
  family: Family,
): TunnelEnds | 'none' | 'later' {
  const isWanted = pools.some(({ cidr, vxlanMode }) => cidr.family === family && vxlanMode !== 'Never');
  if (!isWanted) return 'none';
  const [end, address] = [own?.tunnels[family], own?.addresses[family]];
  if (!own || !end || !address) return 'later';
  const others: TunnelPeer[] = [];
  for (const { name, tunnels, addresses } of nodes) {
    const [tunnel, host] = [tunnels[family], addresses[family]];
    if (name !== own.name && tunnel && host) others.push({ ...tunnel, host: host.address });
  }
  return { own: { ...end, host: address.address }, others };
}
