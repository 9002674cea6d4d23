import {
  AFFINITIES_PREFIX,
  HANDLES_PREFIX,
  affinityKey,
  parseAffinityKey,
} from '../../src/datastore/keys.js';
import type { Entry } from '../../src/datastore/store.js';
import { ownedBy, violations } from '../../src/ipam/block.js';
import { formatAddress, formatCidr, nth } from '../../src/ipam/cidr.js';
import { parseAffinityState, parseBlock, parseHandle } from '../../src/model/block.js';
import type { AllocationAttribute, Block } from '../../src/model/block.js';

/** The IPAM data in etcd at one revision, in parts. */
export interface IpamData {
  readonly blocks: readonly Block[];
  /** Count by handle and block. */
  readonly handles: ReadonlyMap<string, number>;
  /** `<node> <block>`, by key. */
  readonly affinities: ReadonlyMap<string, string>;
}

const BLOCKS = '/assignment/';

/** Parses the listing of `/calico/ipam/v2/`. Throws where a block cannot be read. */
export function ipamData(entries: readonly Entry[]): IpamData {
  const handles = new Map<string, number>();
  const affinities = new Map<string, string>();
  const blocks: Block[] = [];
  for (const { key, value } of entries)
    if (key.startsWith(HANDLES_PREFIX))
      for (const [block, count] of Object.entries(parseHandle(value)))
        handles.set(`${key.slice(HANDLES_PREFIX.length)} ${block}`, count);
    else if (key.startsWith(AFFINITIES_PREFIX)) {
      if (parseAffinityState(value) === 'confirmed')
        affinities.set(key, ownedBy(parseAffinityKey(key)?.node ?? ''));
    } else if (key.includes(BLOCKS)) {
      const block = parseBlock(value);
      if (!block) throw new Error(`${key} is no block: ${value}`);
      blocks.push(block);
    }
  return { blocks, handles, affinities };
}

/** An address in use, and by whom. */
export interface Allocation {
  readonly address: string;
  readonly block: Block;
  readonly holder: AllocationAttribute;
}

export function allocations({ blocks }: IpamData): Allocation[] {
  return blocks.flatMap(block =>
    block.allocations.flatMap((index, ordinal) =>
      index === null
        ? []
        : [
            {
              address: formatAddress(nth(block.cidr, ordinal)),
              block,
              holder: block.attributes[index] ?? {},
            },
          ],
    ),
  );
}

/**
 * Where blocks, handles and affinities disagree, in words. All of ours are written in one transaction with the block,
 * so at any one revision there is nothing.
 */
export function disagreements(data: IpamData): string[] {
  const found: string[] = [];
  const counts = new Map<string, number>();
  const owners = new Map<string, string>();
  for (const block of data.blocks) {
    found.push(...violations(block).map(violation => `${formatCidr(block.cidr)}: ${violation}`));
    const node = /^host:(.*)$/.exec(block.affinity ?? '')?.[1];
    if (node !== undefined) owners.set(affinityKey(node, block.cidr), ownedBy(node));
  }
  for (const { holder, block } of allocations(data)) {
    const handle = `${holder.handle_id ?? ''} ${formatCidr(block.cidr)}`;
    counts.set(handle, (counts.get(handle) ?? 0) + 1);
  }
  const differ = (
    name: string,
    one: ReadonlyMap<string, unknown>,
    other: ReadonlyMap<string, unknown>,
  ): void => {
    for (const key of new Set([...one.keys(), ...other.keys()]))
      if (one.get(key) !== other.get(key))
        found.push(`${name} ${key}: ${String(one.get(key))}, but in blocks ${String(other.get(key))}`);
  };
  differ('handle', data.handles, counts);
  differ('affinity', data.affinities, owners);
  return found;
}
