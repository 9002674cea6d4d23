import { NETWORKS_PREFIX } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import type { AllocationAttribute } from '../model/block.js';
import { parseNetworkRecord } from '../model/network-record.js';
import { holderOf } from './block.js';
import { listBlocks } from './blocks.js';
import type { ReadBlock } from './blocks.js';
import { covers, formatAddress, nth, overlap, parseCidr } from './cidr.js';
import type { Cidr } from './cidr.js';

/** Who needs a pool. */
export interface PoolUse {
  /** All blocks that lie in its range. */
  readonly blocks: readonly ReadBlock[];
  /** Addresses in use, those of hosts' ends of tunnels left out. */
  readonly addresses: readonly string[];
  /** How many ends of tunnels have an address of it. */
  readonly tunnels: number;
  /** Names of Docker's networks, and the hosts they are on, that have a subnet in it: `my_net on h1`. */
  readonly networks: readonly string[];
}

/** Looks who needs the pool of a range. Two round trips, and one more for each 1,000 blocks. */
export async function usesOfPool(store: Store, range: Cidr): Promise<PoolUse> {
  const blocks = (await listBlocks(store, range)).filter(({ block }) => overlap(range, block.cidr));
  const addresses: string[] = [];
  let tunnels = 0;
  for (const { block } of blocks)
    block.allocations.forEach((_, ordinal) => {
      const holder = holderOf(block, ordinal);
      if (!holder) return;
      if (isTunnels(holder)) tunnels += 1;
      else addresses.push(formatAddress(nth(block.cidr, ordinal)));
    });
  const { entries } = await store.list(NETWORKS_PREFIX);
  const networks = entries.flatMap(({ value }) => {
    const record = parseNetworkRecord(value);
    const subnets = record?.subnets.flatMap(({ cidr }) => parseCidr(cidr) ?? []) ?? [];
    if (!record || !subnets.some(subnet => covers(range, subnet))) return [];
    return [`${record.name ?? record.id.slice(0, 12)} on ${record.node}`];
  });
  return { blocks, addresses, tunnels, networks };
}

/** A pool's use in a few words: `3 addresses (192.0.2.1, …) and the network my_net on h1`; empty where there is none. */
export function describeUse({ addresses, networks }: PoolUse): string {
  return [
    ...(addresses.length > 0
      ? [`${counted(addresses.length, 'address', 'addresses')} (${few(addresses)})`]
      : []),
    ...(networks.length > 0 ? [`the ${networks.length > 1 ? 'networks' : 'network'} ${few(networks)}`] : []),
  ].join(' and ');
}

/** An address of a host itself, inside Calico's VXLAN, IP-in-IP or Wireguard. */
function isTunnels({ secondary }: AllocationAttribute): boolean {
  return /^(vxlan(V6)?|ipip|wireguard(V6)?)TunnelAddress$/.test(secondary?.type ?? '');
}

function few(all: readonly string[]): string {
  return all.length > 3 ? `${all.slice(0, 3).join(', ')}, …` : all.join(', ');
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
