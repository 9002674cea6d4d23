import { AddressInUseError, RequestError } from '../errors.js';
import type { NoAssignment } from './block-requests.js';
import { formatAddress } from './cidr.js';
import type { Address } from './cidr.js';
import { reservedFor, reservingNodes } from './reservation.js';

/** Why an address could not be had, for the person who asked for it. `node`: this one. */
export function assignmentError(
  address: Address,
  result: Exclude<NoAssignment, 'gone'>,
  node: string,
): Error {
  const text = formatAddress(address);
  if (typeof result === 'object') {
    const { releasedAt, secondary } = result.heldBy;
    if (releasedAt !== undefined)
      return new AddressInUseError(
        `address ${text} was released a moment ago and is kept back for a while (ipCooldownSeconds): try again later`,
      );
    if (reservedFor(result.heldBy))
      return new AddressInUseError(
        `address ${text} is reserved as ${reservedFor(result.heldBy)} by a network${reservingNodes(result.heldBy).includes(node) ? ' of this host' : ''}: choose another`,
      );
    const on = secondary?.node === undefined ? '' : ` on node ${secondary.node}`;
    return new AddressInUseError(
      `address ${text} is already assigned${on}: choose another, or remove the container that has it`,
    );
  }
  if (result === 'foreign')
    return new RequestError(
      `address ${text} belongs to a block of another node and strict affinity is on: choose another`,
    );
  return new RequestError(`address ${text} cannot be used: its IPPool was removed or disabled`);
}
