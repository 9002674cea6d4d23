import { isDeepStrictEqual } from 'node:util';
import { aliveKey, blocksPrefix, resourcesPrefix } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import type { AllocationAttribute } from '../model/block.js';
import { parseIpPool } from '../model/ip-pool.js';
import type { IpPool } from '../model/ip-pool.js';
import { parseEndpoint } from '../model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import { holderOf } from './block.js';
import { releaseIn } from './block-requests.js';
import { Blocks } from './blocks.js';
import { contains, formatAddress, ordinalOf, parseAddress } from './cidr.js';
import type { Address, Cidr } from './cidr.js';
import { IpamFacts } from './facts.js';
import { parseEndpointHandle } from './handles.js';
import { readBlock } from './read-block.js';
import { reservedFor, reservingNodes } from './reservation.js';
import { whileGone } from './node-removal.js';
import type { Logger } from '../log.js';

/** All that the datastore knows of one address. */
export interface AddressUse {
  readonly address: Address;
  readonly pool: IpPool | undefined;
  /** The block that it is in, where there is one. */
  readonly block: { readonly cidr: Cidr; readonly affinity: string | null } | undefined;
  /** Undefined where it is free. */
  readonly holder: AllocationAttribute | undefined;
  /** The endpoints that say they have it. */
  readonly endpoints: readonly WorkloadEndpoint[];
}

/** Looks an address up. One round trip per 1,000 pools, blocks of its family and endpoints. */
export async function useOfAddress(store: Store, address: Address): Promise<AddressUse> {
  const { entries: pools } = await store.list(resourcesPrefix('ippools'));
  const pool = pools
    .map(({ value }) => parseIpPool(value))
    .find(found => found && contains(found.cidr, address));
  let use: Pick<AddressUse, 'block' | 'holder'> = { block: undefined, holder: undefined };
  for await (const { entries } of store.pages(blocksPrefix(address.family)))
    for (const entry of entries) {
      const block = readBlock(entry);
      if (!block || !contains(block.cidr, address)) continue;
      use = { block, holder: holderOf(block, ordinalOf(block.cidr, address)) };
    }
  const text = formatAddress(address);
  const endpoints: WorkloadEndpoint[] = [];
  for await (const { entries } of store.pages(resourcesPrefix('workloadendpoints')))
    for (const { value } of entries) {
      // Most do not have it, and need not be parsed.
      const endpoint = value.includes(text) || address.family === 6 ? parseEndpoint(value) : undefined;
      if (endpoint?.addresses.some(one => isSame(one, address))) endpoints.push(endpoint);
    }
  return { address, pool, ...use, endpoints };
}

/** Who holds an address, in words: `the gateway of a network on h1, h2`; undefined where it is free. */
export function describeHolder({ holder }: AddressUse): string | undefined {
  if (!holder) return undefined;
  if (holder.releasedAt !== undefined) return `in cooldown since ${holder.releasedAt}`;
  const kept = reservedFor(holder);
  if (kept !== undefined)
    return `kept back for a network (--${kept === 'aux' ? 'aux-address' : kept}) on ${reservingNodes(holder).join(', ')}`;
  const { node, type } = holder.secondary ?? {};
  if (type !== undefined) return `${type} of host ${node ?? 'unknown'}`;
  const own = parseEndpointHandle(holder.handle_id ?? '');
  if (own) return `for MAC ${own.mac} of host ${own.node}`;
  if (holder.handle_id !== undefined)
    return `handle ${holder.handle_id}${node === undefined ? '' : ` of host ${node}`}`;
  return node === undefined ? 'nobody says by whom' : `host ${node}`;
}

/**
 * Why an address must not be released, as far as the datastore can tell: somebody has it, or may have it. Undefined where
 * it was left behind by a host that is gone. One round trip.
 */
export async function whyInUse(store: Store, { holder, endpoints }: AddressUse): Promise<string | undefined> {
  const [endpoint] = endpoints;
  if (endpoint)
    return `endpoint ${endpoint.endpointId.slice(0, 12)} on host ${endpoint.node} has it: stop its container`;
  if (!holder || holder.releasedAt !== undefined) return undefined;
  if (reservedFor(holder) !== undefined)
    return `it is kept back for a network on ${reservingNodes(holder).join(', ')}: remove that network`;
  const { node, type } = holder.secondary ?? {};
  if (type !== undefined) return `it is the ${type} of host ${node ?? 'unknown'}`;
  const own = parseEndpointHandle(holder.handle_id ?? '');
  if (!own) return 'it was not given out by this driver, and nobody here can tell whether it is in use';
  if (await store.get(aliveKey(own.node)))
    return `host ${own.node} is alive, and frees by itself what its Docker no longer has, within two minutes`;
  return undefined;
}

/**
 * Frees an address for whoever held it when it was looked up; false where that is somebody else by now, or nobody. With
 * `force` also while its host is alive. Two round trips. Throws ConflictError where the host has come back.
 */
export async function releaseAddress(
  store: Store,
  { address, block, holder }: AddressUse,
  force: boolean,
  log: Logger,
): Promise<boolean> {
  if (!block || !holder) return false;
  const node = parseEndpointHandle(holder.handle_id ?? '')?.node ?? holder.secondary?.node;
  const guarded = force || node === undefined ? store : whileGone(store, node);
  const facts = new IpamFacts(guarded, node ?? 'none', log);
  try {
    await facts.ready();
    const isIt = (found: AllocationAttribute) => isDeepStrictEqual(found, holder);
    const request = releaseIn(facts, ordinalOf(block.cidr, address), isIt, undefined);
    return await new Blocks(guarded, facts).queue(block.cidr).submit(request);
  } finally {
    facts.close();
  }
}

function isSame(text: string, { family, value }: Address): boolean {
  const parsed = parseAddress(text);
  return parsed?.family === family && parsed.value === value;
}
