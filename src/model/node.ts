import { createHash } from 'node:crypto';
import { cidrOf, contains, formatAddress, parseCidr, parseCidrAddress } from '../ipam/cidr.js';
import type { Address, Cidr, Family } from '../ipam/cidr.js';
import { isObject, objectOrEmpty, textOr } from './json.js';
import type { JsonObject } from './json.js';
import { formatChangedResource, formatNewResource, parseResource } from './resource.js';

/** An address of a host and the subnet it says it is in. */
export interface NodeAddress {
  /** Without prefix length. */
  readonly address: string;
  /** Of the full length where the Node does not tell. */
  readonly subnet: Cidr;
  /** `address/length` as `spec.bgp` has it; undefined where it has none, and this is from `spec.addresses`. */
  readonly text?: string;
}

/** One end of Calico's VXLAN. */
export interface TunnelEnd {
  readonly address: string;
  /** Lower-case colon form. */
  readonly mac: string;
}

/** Calico's Node, as far as other hosts need it. */
export interface CalicoNode {
  readonly name: string;
  /** Where other hosts reach it, by family. */
  readonly addresses: Readonly<Partial<Record<Family, NodeAddress>>>;
  readonly tunnels: Readonly<Partial<Record<Family, TunnelEnd>>>;
  /** What we detected ourselves, as `address/length`, by family: ours to change when the host's address does. */
  readonly detected: Readonly<Partial<Record<Family, string>>>;
}

/** What of a Node changes; null takes a field away, an absent one stays. */
export interface NodeChange {
  /** `address/length` of the host. */
  readonly addresses?: Readonly<Partial<Record<Family, string>>>;
  /** Which of them nobody set, but we detected; false: somebody did. */
  readonly detected?: Readonly<Partial<Record<Family, boolean>>>;
  readonly tunnels?: Readonly<Partial<Record<Family, TunnelEnd | null>>>;
}

const FIELDS = {
  4: { bgp: 'ipv4Address', tunnel: 'ipv4VXLANTunnelAddr', mac: 'vxlanTunnelMACAddr' },
  6: { bgp: 'ipv6Address', tunnel: 'ipv6VXLANTunnelAddr', mac: 'vxlanTunnelMACAddrV6' },
} as const;
const FAMILIES = [4, 6] as const;
const DETECTED = 'org.projectcalico.libnetwork/detected-ipv';
/** Of one card: the kernel takes no other for the far end of a VXLAN. */
const MAC = /^(?!00(:00){5})[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/;
/** What no host can have for others: nobody's, the host's own, of many. */
const NO_HOST = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '224.0.0.0/4',
  '255.255.255.255/32',
  '::/127',
  'ff00::/8',
].flatMap(text => parseCidr(text) ?? []);
/** In this order, as Felix takes them where `spec.bgp` has none. */
const ADDRESS_TYPES = ['InternalIP', 'ExternalIP'];

/** The MAC of a node's VXLAN device where its Node says none, as Felix makes it: 66, then SHA-1 of the name. */
export function tunnelMac(node: string, family: Family): string {
  const digest = createHash('sha1').update(family === 4 ? node : `${node}-v6`);
  return `66:${(digest.digest('hex').slice(0, 10).match(/../g) ?? []).join(':')}`;
}

/** Parses a Node; undefined where the text is none. Fields that are no host's addresses are as if they were absent. */
export function parseNode(text: string): CalicoNode | undefined {
  const resource = parseResource(text);
  if (!resource) return undefined;
  const { name, spec, annotations } = resource;
  const bgp = objectOrEmpty(spec.bgp);
  const addresses: Partial<Record<Family, NodeAddress>> = {};
  const tunnels: Partial<Record<Family, TunnelEnd>> = {};
  const detected: Partial<Record<Family, string>> = {};
  for (const family of FAMILIES) {
    const fields = FIELDS[family];
    const stated = nodeAddress(bgp[fields.bgp], family);
    const own = stated ? { ...stated, text: textOr(bgp[fields.bgp]) } : otherAddress(spec.addresses, family);
    if (own) addresses[family] = own;
    const tunnel = parseCidrAddress(textOr(spec[fields.tunnel]));
    const mac = textOr(spec[fields.mac]).toLowerCase();
    if (tunnel?.address.family === family && isOfHost(tunnel.address))
      tunnels[family] = {
        address: formatAddress(tunnel.address),
        mac: MAC.test(mac) ? mac : tunnelMac(name, family),
      };
    const mark = annotations[DETECTED + family];
    if (mark !== undefined) detected[family] = mark;
  }
  return { name, addresses, tunnels, detected };
}

/** The text of a new Node. */
export function formatNewNode(name: string, change: NodeChange, now: Date): string {
  const annotations = changedAnnotations({}, change);
  const metadata = { name, ...(Object.keys(annotations).length > 0 ? { annotations } : {}) };
  // Calico's Go type writes an empty status always.
  return formatNewResource('Node', metadata, changedSpec({}, change), now, { status: {} });
}

/** The text of a changed Node, or undefined where the text is none; what the change does not name stays. */
export function formatChangedNode(text: string, change: NodeChange): string | undefined {
  const resource = parseResource(text);
  if (!resource) return undefined;
  const annotations = changedAnnotations(resource.annotations, change);
  return formatChangedResource(resource, {
    metadata:
      Object.keys(annotations).length > 0 || 'annotations' in resource.metadata ? { annotations } : {},
    spec: changedSpec(resource.spec, change),
  });
}

function changedSpec(spec: JsonObject, { addresses = {}, tunnels = {} }: NodeChange): JsonObject {
  const changed: JsonObject = { ...spec };
  for (const family of FAMILIES) {
    const fields = FIELDS[family];
    const address = addresses[family];
    if (address !== undefined) {
      changed.bgp = { ...objectOrEmpty(changed.bgp), [fields.bgp]: address };
      changed.addresses = withNodeIp(changed.addresses, address);
    }
    const tunnel = tunnels[family];
    if (tunnel === undefined) continue;
    delete changed[fields.tunnel];
    delete changed[fields.mac];
    if (tunnel !== null) {
      changed[fields.tunnel] = tunnel.address;
      changed[fields.mac] = tunnel.mac;
    }
  }
  return changed;
}

/** Calico keeps the node's addresses in this list, too, marked as its own; entries of other kinds are others'. */
function withNodeIp(list: unknown, address: string): unknown[] {
  const isOwn = (entry: unknown) =>
    isObject(entry) &&
    entry.type === 'CalicoNodeIP' &&
    textOr(entry.address).includes(':') === address.includes(':');
  const others = Array.isArray(list) ? list.filter(entry => !isOwn(entry)) : [];
  return [...others, { address, type: 'CalicoNodeIP' }];
}

function changedAnnotations(
  annotations: Readonly<Record<string, string>>,
  { addresses = {}, detected = {} }: NodeChange,
): Record<string, string> {
  const changed = { ...annotations };
  for (const family of FAMILIES) {
    const address = addresses[family];
    if (detected[family] === true && address !== undefined) changed[DETECTED + family] = address;
    else if (detected[family] === false) delete changed[DETECTED + family];
  }
  return changed;
}

function isOfHost(address: Address): boolean {
  return !NO_HOST.some(range => contains(range, address));
}

function nodeAddress(value: unknown, family: Family): NodeAddress | undefined {
  const parsed = parseCidrAddress(textOr(value));
  if (parsed?.address.family !== family || !isOfHost(parsed.address)) return undefined;
  return { address: formatAddress(parsed.address), subnet: cidrOf(parsed.address, parsed.length) };
}

function otherAddress(list: unknown, family: Family): NodeAddress | undefined {
  const entries = Array.isArray(list) ? list.filter(isObject) : [];
  for (const type of ADDRESS_TYPES)
    for (const entry of entries) {
      const found = entry.type === type ? nodeAddress(entry.address, family) : undefined;
      if (found) return found;
    }
  return undefined;
}
