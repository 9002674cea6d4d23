import type { AllocationAttribute, Block } from '../model/block.js';
import { parseEndpointHandle } from './handles.js';
import { holderOf, ownedBy } from './block.js';
import { formatAddress, nth } from './cidr.js';
import { reservedFor, reservingNodes } from './reservation.js';

/** What of a block is a node's. Pure. */

/** The handles of a node's tunnel addresses, as Calico names them. */
export function tunnelHandles(node: string): string[] {
  return ['ipip', 'vxlan', 'vxlan-v6', 'wireguard', 'wireguard-v6'].map(
    kind => `${kind}-tunnel-addr-${node}`,
  );
}

/** True for the handle of an endpoint's address or a tunnel address of the node; not for a reservation's. */
export function isHandleOf(node: string, id: string): boolean {
  return parseEndpointHandle(id)?.node === node || tunnelHandles(node).includes(id);
}

/**
 * True where the node holds the address, alone or, where it is a reservation, with others. Who says of itself that
 * it is another node's is believed, as is, by its handle, who says nothing.
 */
export function isHeldByNode(holder: AllocationAttribute, node: string): boolean {
  if (holder.releasedAt !== undefined) return false;
  if (reservedFor(holder) !== undefined) return reservingNodes(holder).includes(node);
  const named = holder.secondary?.node;
  return named === undefined ? isHandleOf(node, holder.handle_id ?? '') : named === node;
}

/** An address that a node holds. */
export interface Holding {
  readonly ordinal: number;
  readonly address: string;
  /** As it is for a person: `192.0.2.7 (libnetwork.node-1.…)`. */
  readonly text: string;
}

/** The addresses of a block that a node holds, in the order of the block. */
export function holdingsIn(block: Block, node: string): Holding[] {
  return block.allocations.flatMap((_, ordinal) => {
    const holder = holderOf(block, ordinal);
    if (!holder || !isHeldByNode(holder, node)) return [];
    const address = formatAddress(nth(block.cidr, ordinal));
    const shared = reservedFor(holder) !== undefined && reservingNodes(holder).length > 1;
    const whose = shared ? `${reservedFor(holder)} that it shares` : (holder.handle_id ?? 'no handle');
    return [{ ordinal, address, text: `${address} (${whose})` }];
  });
}

/** How many addresses of the node's own block nobody says whose they are. They may be live, elsewhere. */
export function nobodys(block: Block, node: string): number {
  if (block.affinity !== ownedBy(node)) return 0;
  return block.allocations.filter((_, ordinal) => {
    const holder = holderOf(block, ordinal);
    if (!holder || holder.releasedAt !== undefined || isHeldByNode(holder, node)) return false;
    return reservedFor(holder) === undefined && holder.secondary?.node === undefined;
  }).length;
}
