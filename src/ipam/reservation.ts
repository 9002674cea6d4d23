import type { AllocationAttribute } from '../model/block.js';

/**
 * Addresses that networks keep back: `--gateway`, `--aux-address`. The same network on several hosts reserves the same
 * address on each, so a reservation is one allocation that names all its nodes; the last one frees it. Nothing in a
 * request tells which network it is for: a second reservation by one node must be another network's.
 */

const PREFIX = 'docker-';

/** What handles of reservations begin with; the address follows. */
export const RESERVATION_PREFIXES = ['libnetwork.gateway.', 'libnetwork.aux.'] as const;

/** What a holder keeps the address back for ("gateway", "aux"); undefined where it is no reservation. */
export function reservedFor(holder: AllocationAttribute): string | undefined {
  const type = holder.secondary?.type;
  return type?.startsWith(PREFIX) ? type.slice(PREFIX.length) : undefined;
}

/** A node's part of a reservation, and the request that made it: see `Assignment.request` in `block-requests`. */
export interface Part {
  readonly node: string;
  readonly request: string;
}

function partsOf(holder: AllocationAttribute): Part[] {
  const { nodes, node = '', request = '' } = holder.secondary ?? {};
  const requests = request.split(',');
  return (nodes ?? node)
    .split(',')
    .map((name, index) => ({ node: name, request: requests[index] ?? '' }))
    .filter(part => part.node !== '');
}

/** The handle of a reservation. */
export function reservationHandle(type: string, address: string): string {
  return `libnetwork.${type}.${address}`;
}

/** True for ids that {@link reservationHandle} makes. */
export function isReservationHandle(id: string): boolean {
  return /^libnetwork\.(gateway|aux)\.[0-9a-f:.]+$/.test(id);
}

/** The nodes of a reservation. */
export function reservingNodes(holder: AllocationAttribute): string[] {
  return partsOf(holder).map(part => part.node);
}

/** The mark of a node's part of a reservation; undefined where it has none. */
export function reservingRequest(holder: AllocationAttribute, node: string): string | undefined {
  return partsOf(holder).find(part => part.node === node)?.request;
}

/** The reservation without a node; undefined where nobody is left, or it is no reservation. */
export function withoutNode(holder: AllocationAttribute, node: string): AllocationAttribute | undefined {
  if (reservedFor(holder) === undefined) return undefined;
  const others = partsOf(holder).filter(part => part.node !== node);
  return others.length === 0 ? undefined : withParts(holder, others);
}

/** The reservation with one more part. */
export function withPart(holder: AllocationAttribute, part: Part): AllocationAttribute {
  return withParts(holder, [...partsOf(holder), part]);
}

/** The allocation of an address that only `node` keeps back. `secondary`: what every allocation says of itself. */
export function newReservation(
  type: string,
  handle: string,
  secondary: Readonly<Record<string, string>>,
  part: Part,
): AllocationAttribute {
  return withParts({ handle_id: handle, secondary: { ...secondary, type: PREFIX + type } }, [part]);
}

/** `node` is the first, as every allocation must have one; `nodes` are all, `request` is theirs in the same order. */
function withParts(holder: AllocationAttribute, parts: readonly Part[]): AllocationAttribute {
  const [first] = parts;
  const nodes = parts.map(part => part.node).join(',');
  const request = parts.map(part => part.request).join(',');
  return { ...holder, secondary: { ...holder.secondary, node: first?.node ?? '', nodes, request } };
}
