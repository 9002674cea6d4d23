import type { Family } from '../ipam/cidr.js';

/** The first packet of a connection, as a rule sees it. */
export interface Packet {
  readonly family: Family;
  /** Canonical, without length. */
  readonly source: string;
  readonly destination: string;
  /** IP protocol number. */
  readonly protocol: number;
  /** Where the protocol has them. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Of ICMP and ICMPv6. */
  readonly icmp?: { readonly type: number; readonly code: number };
  /** It came to a published port and was translated. */
  readonly isTranslated?: boolean;
}
