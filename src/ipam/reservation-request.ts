import { assignAt, holderOf, reassign } from './block.js';
import type { BlockRequest } from './block-queue.js';
import { isHeldBy, newRequest } from './block-requests.js';
import type { Assignment, NoAssignment } from './block-requests.js';
import { formatAddress, nth } from './cidr.js';
import type { IpamFacts } from './facts.js';
import { newReservation, reservationHandle, reservedFor, reservingNodes, withPart } from './reservation.js';

/** A request to keep an address back for a network: see `reservation`. `secondary`: what every allocation says of itself. */
export function reserveAt(
  facts: IpamFacts,
  ordinal: number,
  type: string,
  secondary: Readonly<Record<string, string>>,
  inDoubt: (assignment: Assignment) => void,
): BlockRequest<Assignment | NoAssignment> {
  const { node } = facts;
  const request = newRequest();
  return {
    gone: 'gone',
    reliesOnFacts: true,
    plan(block) {
      const pool = facts.poolAround(block.cidr);
      if (!pool || pool.disabled) return { nothing: 'no pool' };
      const address = nth(block.cidr, ordinal);
      const handle = reservationHandle(type, formatAddress(address));
      const heldBy = holderOf(block, ordinal);
      if (heldBy) {
        const shareable = heldBy.handle_id === handle && reservedFor(heldBy) === type;
        if (!shareable || reservingNodes(heldBy).includes(node)) return { nothing: { heldBy } };
        const shared = reassign(block, ordinal, withPart(heldBy, { node, request }));
        return { block: shared, result: { address, handle, request } };
      }
      const holder = newReservation(type, handle, secondary, { node, request });
      const assigned = assignAt(block, ordinal, holder);
      return { block: assigned, handle: { id: handle, by: 1 }, result: { address, handle, request } };
    },
    wasApplied(block, { result }) {
      return typeof result === 'object' && 'handle' in result && isHeldBy(block, ordinal, result);
    },
    inDoubt({ result }) {
      if (typeof result === 'object' && 'handle' in result) inDoubt(result);
    },
  };
}
