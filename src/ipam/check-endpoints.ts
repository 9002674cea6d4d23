import {
  endpointKey,
  ENDPOINT_NAMESPACE,
  networkKey,
  NETWORKS_PREFIX,
  resourcesPrefix,
} from '../datastore/keys.js';
import type { Entry } from '../datastore/store.js';
import { objectOrEmpty } from '../model/json.js';
import { parseNetworkRecord } from '../model/network-record.js';
import { parseResource } from '../model/resource.js';
import { endpointName, parseEndpoint } from '../model/workload-endpoint.js';
import { endpointHandle } from './handles.js';
import { unreadable } from './check-finding.js';
import type { Finding } from './check-finding.js';
import { contains, formatAddress, parseAddress, parseCidr } from './cidr.js';
import type { Address, Cidr } from './cidr.js';

/** Most addresses are these, and need no parsing. */
const DOTTED_QUAD = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/** An address that an endpoint says it has. */
interface Claim {
  readonly node: string;
  /** Its key follows from node and id, and is three times as long. */
  readonly endpointId: string;
  readonly mac: string;
  /** Written by a driver before us, which gave its allocations no handle: then any allocation will do. */
  readonly isOld: boolean;
  isHeld: boolean;
  /** Handle of the allocation that is there instead; '' where it has none, undefined where the address is free. */
  heldBy: string | undefined;
  /** Another endpoint with the same address. */
  readonly next: Claim | undefined;
}

/** The endpoints and networks, to be compared with the allocations. Some 400 bytes for each endpoint. */
export class Endpoints {
  private readonly claims = new Map<string, Claim>();
  private readonly networks = new Set<string>();
  private readonly subnets = new Map<string, Cidr[]>();
  /** Node names by themselves, so that a hundred thousand endpoints do not hold one each. */
  private readonly nodes = new Map<string, string>();

  /** Add all networks before the first endpoint. */
  addNetwork(entry: Entry): Finding[] {
    const id = entry.key.slice(NETWORKS_PREFIX.length);
    this.networks.add(id);
    const record = parseNetworkRecord(entry.value);
    if (!record) return [unreadable(entry, 'network record')];
    const subnets = record.subnets.flatMap(({ cidr }) => parseCidr(cidr) ?? []);
    this.subnets.set(record.node, [...(this.subnets.get(record.node) ?? []), ...subnets]);
    if (networkKey(record.id) === entry.key) return [];
    return [mismatch(entry.key, `it holds the record of network ${record.id}`)];
  }

  addEndpoint(entry: Entry): Finding[] {
    const { key } = entry;
    const endpoint = parseEndpoint(entry.value);
    if (!endpoint) return isForeign(entry) ? [] : [unreadable(entry, 'endpoint')];
    if (endpointKey(endpointName(endpoint.node, endpoint.endpointId)) !== key)
      return isForeign(entry)
        ? []
        : [mismatch(key, `it holds endpoint ${endpoint.endpointId} of node ${endpoint.node}`)];
    const found: Finding[] = [];
    const { networkId, endpointId } = endpoint;
    const isOld = networkId === '';
    if (!isOld && !this.networks.has(networkId))
      found.push({
        kind: 'endpoint-network',
        keys: [key],
        text: `${shown(key)} is in network ${networkId}, which has no record: disconnect its container, or create the network again`,
      });
    const node = this.nodes.get(endpoint.node) ?? endpoint.node;
    this.nodes.set(node, node);
    for (const text of endpoint.addresses) {
      const canonical = canonicalAddress(text);
      if (canonical === undefined) {
        found.push(mismatch(key, `its address ${text} is none`));
        continue;
      }
      const next = this.claims.get(canonical);
      const mac = endpoint.mac.toLowerCase();
      this.claims.set(canonical, { node, endpointId, mac, isOld, isHeld: false, heldBy: undefined, next });
      if (next)
        found.push({
          kind: 'address-twice',
          keys: [keyOf(next), key],
          text: `address ${canonical} is that of ${shown(keyOf(next))} and of ${shown(key)}: remove one of the two containers`,
        });
    }
    return found;
  }

  /** Notes who has an address by its block; true where that is an endpoint. */
  allocated(address: string, handle: string | undefined): boolean {
    let isOwned = false;
    for (let claim = this.claims.get(address); claim; claim = claim.next) {
      const isTheirs =
        handle === endpointHandle(claim.node, claim.mac, address) || (claim.isOld && handle === undefined);
      if (isTheirs) claim.isHeld = isOwned = true;
      else claim.heldBy = handle ?? '';
    }
    return isOwned;
  }

  /** True where an endpoint says it has the address. */
  isClaimed(address: Address): boolean {
    return this.claims.has(formatAddress(address));
  }

  /** True where a network of one of the nodes has a subnet around the address. */
  hasNetwork(nodes: readonly string[], address: Address): boolean {
    return nodes.some(node => this.subnets.get(node)?.some(subnet => contains(subnet, address)) === true);
  }

  /** Addresses that are not allocated to their endpoint, once all allocations were noted. */
  unheld(isUnknown: (address: string) => boolean): Finding[] {
    const found: Finding[] = [];
    for (const [address, first] of this.claims)
      for (let claim: Claim | undefined = first; claim; claim = claim.next) {
        if (claim.isHeld || isUnknown(address)) continue;
        const { heldBy, node } = claim;
        const instead =
          heldBy === undefined ? 'free' : heldBy === '' ? 'held without a handle' : `held by ${heldBy}`;
        found.push({
          kind: 'endpoint-address',
          keys: [keyOf(claim), address],
          text: `${shown(keyOf(claim))} has address ${address}, which is ${instead}: remove and start its container on node ${node}`,
        });
      }
    return found;
  }
}

/** An address as blocks' addresses are formatted; undefined where the text is none. */
function canonicalAddress(text: string): string | undefined {
  if (DOTTED_QUAD.test(text)) return text;
  const address = parseAddress(text);
  return address && formatAddress(address);
}

function keyOf({ node, endpointId }: Claim): string {
  return endpointKey(endpointName(node, endpointId));
}

/** Endpoints of other orchestrators in our namespace are none of our business. */
function isForeign({ value }: Entry): boolean {
  const orchestrator = objectOrEmpty(parseResource(value)?.spec).orchestrator;
  return typeof orchestrator === 'string' && orchestrator !== ENDPOINT_NAMESPACE;
}

function shown(key: string): string {
  return `endpoint ${key.slice(`${resourcesPrefix('workloadendpoints')}${ENDPOINT_NAMESPACE}/`.length)}`;
}

function mismatch(key: string, text: string): Finding {
  return { kind: 'key-mismatch', keys: [key], text: `${text}: see who wrote it, and correct or delete it` };
}
