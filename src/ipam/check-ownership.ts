import type { AllocationAttribute } from '../model/block.js';
import { parseEndpointHandle } from './handles.js';
import type { Endpoints } from './check-endpoints.js';
import type { Finding } from './check-finding.js';
import { formatAddress } from './cidr.js';
import type { Address } from './cidr.js';
import { isReservationHandle, reservationHandle, reservedFor, reservingNodes } from './reservation.js';

/** How long, for a person, until a live daemon has freed what nobody owns. */
const SOON = 'within two minutes';

/**
 * Looks for the owner of an allocation, and notes with the endpoints that it exists. Tunnel addresses, handles of other
 * orchestrators and allocations without a handle are owned by whoever made them.
 *
 * @param isRecent its owner may still be on the way
 */
export function ownership(
  block: string,
  address: Address,
  holder: AllocationAttribute,
  endpoints: Endpoints,
  isRecent: (holder: AllocationAttribute) => boolean,
): Finding | 'owned' | 'in progress' {
  const text = formatAddress(address);
  const { handle_id: handle } = holder;
  const isEndpoints = endpoints.allocated(text, handle);
  const keys = [block, text];
  const type = reservedFor(holder) ?? reservationType(handle);
  if (type !== undefined) {
    if (handle !== reservationHandle(type, text)) return wrongHandle(keys, text, handle);
    const nodes = reservingNodes(holder);
    if (endpoints.hasNetwork(nodes, address)) return 'owned';
    if (isRecent(holder)) return 'in progress';
    return {
      kind: 'reservation-unowned',
      keys,
      text: `address ${text} is kept back (${type}) for a network that has no record, on ${nodes.join(', ') || 'no node'}: ${remedy(nodes[0])}`,
    };
  }
  const ours = handle === undefined ? undefined : parseEndpointHandle(handle);
  if (!ours) return 'owned';
  if (ours.address !== text) return wrongHandle(keys, text, handle);
  if (isEndpoints) return 'owned';
  if (isRecent(holder)) return 'in progress';
  return {
    kind: 'allocation-unowned',
    keys,
    text: `address ${text} is allocated to ${handle}, which no endpoint has: ${remedy(ours.node)}`,
  };
}

function remedy(node = 'NAME'): string {
  return `the daemon of node ${node} frees it ${SOON}; if that node is gone: calico-libnetwork node remove ${node}`;
}

function reservationType(handle: string | undefined): string | undefined {
  return handle !== undefined && isReservationHandle(handle) ? handle.split('.')[1] : undefined;
}

function wrongHandle(keys: readonly string[], address: string, handle: string | undefined): Finding {
  return {
    kind: 'handle-address',
    keys,
    text: `address ${address} is allocated to ${handle ?? 'no handle'}, which is not made for it: see which container has the address before you free it`,
  };
}
