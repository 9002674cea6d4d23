import type { AttrStream } from 'netlink';
import { bytesOf, eachAttribute, textOf } from './bytes.js';
import { SCOPE, withHeader } from './rtnetlink-messages.js';

/** The rtnetlink messages about addresses of the host (linux/if_addr.h). */

/** An address of the host. */
export interface HostAddress {
  readonly address: string;
  /** Of the subnet it is in. */
  readonly prefixLength: number;
  readonly device: number;
  /** rt_scope: 0 = global. */
  readonly scope: number;
  /** IPv6: temporary, deprecated, or not known to be unique (yet): not to be told others. */
  readonly isPassing: boolean;
}

const IFA = { address: 1, local: 2 };
/** Temporary, duplicate, deprecated, tentative. */
const IFA_F_PASSING = 0x01 | 0x08 | 0x20 | 0x40;

/** Reads an address from an RTM_NEWADDR payload; undefined for other families. */
export function decodeAddress(data: Buffer): HostAddress | undefined {
  if (data[0] !== 2 && data[0] !== 10) return undefined;
  let [address, local] = ['', ''];
  eachAttribute(data, 8, (type, start, end) => {
    if (type === IFA.address) address = textOf(data.subarray(start, end));
    // On a point-to-point interface IFA_ADDRESS is the other side's.
    else if (type === IFA.local) local = textOf(data.subarray(start, end));
  });
  return {
    address: local === '' ? address : local,
    prefixLength: data[1] ?? 0,
    device: data.readUInt32LE(4),
    scope: data[3] ?? 0,
    isPassing: data[0] === 10 && ((data[2] ?? 0) & IFA_F_PASSING) !== 0,
  };
}

/**
 * Body of a request to give an interface an address of its own and no route: an IPv6 link-local one, at once
 * (IFA_F_NODAD), or an IPv4 one that is never a source.
 */
export function addressBody(index: number, address: string): AttrStream {
  const bytes = bytesOf(address);
  const [family, flags, scope] = bytes.length === 16 ? [10, 2, SCOPE.link] : [2, 0, SCOPE.host];
  // struct ifaddrmsg: family, prefix length, flags, scope, index.
  const header = Buffer.from([family, bytes.length * 8, flags, scope, 0, 0, 0, 0]);
  header.writeUInt32LE(index, 4);
  const body = withHeader(header);
  body.push(IFA.local, bytes);
  return body;
}
