/** How hosts are cabled: all on one segment, or on two segments with a router between them. */
export type FabricKind = 'l2' | 'l3';

/** Where a host is plugged in. */
export interface Plug {
  /** The host's end of the cable at the fabric, and the host's name. */
  readonly port: string;
  /** The fabric's bridge it belongs to. */
  readonly bridge: string;
  /** The host's own, the same after a crash: neighbours remember it. */
  readonly mac: string;
  readonly address: string;
  readonly gateway: string;
  readonly address6: string;
  readonly gateway6: string;
}

/** A segment of the fabric: a bridge with the router's addresses on it. Prefixes are /24 and /64. */
export interface Segment {
  readonly bridge: string;
  /** Fixed: a bridge otherwise takes over one of its ports', and loses it when that host crashes. */
  readonly mac: string;
  readonly gateway: string;
  readonly gateway6: string;
}

const FLAT: Segment = { bridge: 'br0', mac: '02:99:00:00:01:00', gateway: '10.99.0.1', gateway6: 'fd99::1' };
const ROUTED: readonly [Segment, Segment] = [
  { bridge: 'br1', mac: '02:99:00:00:01:01', gateway: '10.99.1.1', gateway6: 'fd99:0:0:1::1' },
  { bridge: 'br2', mac: '02:99:00:00:01:02', gateway: '10.99.2.1', gateway6: 'fd99:0:0:2::1' },
];

/** The segments of a fabric. */
export function segmentsOf(kind: FabricKind): readonly Segment[] {
  return kind === 'l2' ? [FLAT] : ROUTED;
}

/** The place of host `number` (from 1). On an l3 fabric odd numbers share one segment, even ones the other. */
export function plugOf(kind: FabricKind, number: number): Plug {
  const segment = kind === 'l2' ? FLAT : number % 2 === 1 ? ROUTED[0] : ROUTED[1];
  return {
    port: `h${number}`,
    bridge: segment.bridge,
    mac: `02:99:00:00:00:${(10 + number).toString(16).padStart(2, '0')}`,
    address: segment.gateway.replace(/1$/, String(10 + number)),
    gateway: segment.gateway,
    address6: segment.gateway6.replace(/1$/, String(10 + number)),
    gateway6: segment.gateway6,
  };
}
