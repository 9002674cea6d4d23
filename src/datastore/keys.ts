import { formatCidr, parseCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';

/** Every key of Calico's v3 data model that we read or write, built and parsed. Prefixes end in `/`, so that a list
 *  of `node-1` never shows `node-10`. */

const IPAM = '/calico/ipam/v2';
const RESOURCES = '/calico/resources/v3/projectcalico.org';
/** Our own keys; nothing of Calico v3 reads below it. */
const OWN = '/calico/libnetwork/v1';

export const IPAM_CONFIG_KEY = `${IPAM}/config`;
export const HANDLES_PREFIX = `${IPAM}/handle/`;
const AFFINITY = /\/host\/([^/]+)\/ipv[46]\/block\/([^/]+)$/;
const BLOCK = /\/ipv[46]\/block\/([^/]+)$/;
/** Prefix lengths. A larger block would become a route that swallows a network. */
const LARGEST_BLOCK = { 4: 20, 6: 116 } as const;
/** All nodes' affinities, both families. */
export const AFFINITIES_PREFIX = `${IPAM}/host/`;
export const NETWORKS_PREFIX = `${OWN}/networks/`;
/** What networks are on all hosts, by Docker's name. */
export const SHARED_NETWORKS_PREFIX = `${OWN}/shared/`;
/** Written by everyone of us who creates a pool, so that two who do at once see each other. */
export const POOL_CREATION_KEY = `${OWN}/pool-creation`;

/** Says which host a name's containers and addresses belong to, whether it lives or not. */
export function ownerKey(node: string): string {
  return `${OWN}/hosts/${node}`;
}

/** Of a live host; the key goes when its daemon does. */
export function aliveKey(node: string): string {
  return `${OWN}/alive/${node}`;
}

export function blocksPrefix(family: Family): string {
  return `${IPAM}/assignment/ipv${family}/block/`;
}

export function blockKey(cidr: Cidr): string {
  return blocksPrefix(cidr.family) + dashed(cidr);
}

/** Blocks of both families. */
export const BLOCKS_PREFIX = `${IPAM}/assignment/`;

/** Undefined where the key is not just what {@link blockKey} makes of a block that Calico could have. */
export function parseBlockKey(key: string): Cidr | undefined {
  const [, range] = BLOCK.exec(key) ?? [];
  const cidr = parseCidr(range?.replace(/-(\d+)$/, '/$1') ?? '');
  if (!cidr || cidr.length < LARGEST_BLOCK[cidr.family]) return undefined;
  return blockKey(cidr) === key ? cidr : undefined;
}

/** Affinities of one node, both families. */
export function nodeAffinitiesPrefix(node: string): string {
  return `${AFFINITIES_PREFIX}${node}/`;
}

export function affinityKey(node: string, cidr: Cidr): string {
  return `${nodeAffinitiesPrefix(node)}ipv${cidr.family}/block/${dashed(cidr)}`;
}

/** Undefined where the key is not just what {@link affinityKey} makes of a block that Calico could have. */
export function parseAffinityKey(key: string): { node: string; cidr: Cidr } | undefined {
  const [, node, range] = AFFINITY.exec(key) ?? [];
  const cidr = parseCidr(range?.replace(/-(\d+)$/, '/$1') ?? '');
  if (node === undefined || !cidr || cidr.length < LARGEST_BLOCK[cidr.family]) return undefined;
  return affinityKey(node, cidr) === key ? { node, cidr } : undefined;
}

export function handleKey(id: string): string {
  return HANDLES_PREFIX + id;
}

/** Plural names of the resources we know; also the last part of their keys. */
export type Plural =
  | 'globalnetworkpolicies'
  | 'globalnetworksets'
  | 'ipamconfigurations'
  | 'ippools'
  | 'ipreservations'
  | 'networkpolicies'
  | 'networksets'
  | 'nodes'
  | 'profiles'
  | 'tiers'
  | 'workloadendpoints';

export function resourcesPrefix(plural: Plural): string {
  return `${RESOURCES}/${plural}/`;
}

export function resourceKey(plural: Plural, name: string): string {
  return resourcesPrefix(plural) + name;
}

/** The namespace of all our workload endpoints. */
export const ENDPOINT_NAMESPACE = 'libnetwork';

export function endpointKey(name: string): string {
  return `${resourcesPrefix('workloadendpoints')}${ENDPOINT_NAMESPACE}/${name}`;
}

export function networkKey(networkId: string): string {
  return NETWORKS_PREFIX + networkId;
}

/** `name`: Docker's, which has no slash. */
export function sharedNetworkKey(name: string): string {
  return SHARED_NETWORKS_PREFIX + name;
}

function dashed(cidr: Cidr): string {
  return formatCidr(cidr).replace('/', '-');
}
