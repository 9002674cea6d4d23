import { POOL_CREATION_KEY, resourceKey } from '../datastore/keys.js';
import type { Compare, Write } from '../datastore/store.js';
import { formatCidr, overlap, sameCidr } from '../ipam/cidr.js';
import { formatJson } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { blockSizeOf, ipPool, rangeOf } from './ip-pool.js';
import type { ResourceDocument } from './kind.js';
import { DEFAULT_TIER, fixedOrder, globalNetworkPolicy, networkPolicy, tier, tierOf } from './policy.js';
import type { Say } from './problem.js';
import { formatStored } from './stored-resource.js';
import type { Surroundings } from './surroundings.js';

/** What the transaction that writes a resource has to compare, and to write, besides. */
export interface Besides {
  readonly compare: readonly Compare[];
  readonly then: readonly Write[];
}

const NOTHING: Besides = { compare: [], then: [] };

/** The fields that a change takes over from the stored resource, or from its name, where it does not tell them. */
export function withKept({ kind, name, spec }: ResourceDocument, stored: JsonObject | undefined): JsonObject {
  // Its default may not be what the pool has.
  if (kind === ipPool && stored && spec.blockSize === undefined)
    return { ...spec, blockSize: blockSizeOf(stored) };
  const order = kind === tier ? fixedOrder(name) : undefined;
  if (order === undefined) return spec;
  const defaultAction = name === DEFAULT_TIER ? 'Deny' : 'Pass';
  return { order, defaultAction: stored?.defaultAction ?? defaultAction, ...spec };
}

/**
 * Checks a resource against all others, and against what is stored of it. What has to stay true until it is written comes
 * as compares. Round trips only for a new pool: one per 1,000 blocks.
 */
export async function checkFitting(
  document: ResourceDocument,
  stored: ResourceDocument | undefined,
  around: Surroundings,
  say: Say,
): Promise<Besides> {
  const { kind } = document;
  if (kind === ipPool) return checkPool(document, stored, around, say);
  if (kind === globalNetworkPolicy || kind === networkPolicy) return checkTierOf(document, around, say);
  if (kind === tier) checkOrder(document, say);
  return NOTHING;
}

async function checkPool(
  { name, spec }: ResourceDocument,
  stored: ResourceDocument | undefined,
  around: Surroundings,
  say: Say,
): Promise<Besides> {
  const range = rangeOf(spec);
  if (!range) return NOTHING;
  const wrong = (field: string, text: string) => say({ path: ['spec', field], text });
  const before = stored && rangeOf(stored.spec);
  if (stored && before) {
    const advice = 'make a new pool with another name, and move what uses this one (docs/pools.md)';
    if (!sameCidr(range, before))
      wrong('cidr', `the range of a pool cannot change from ${formatCidr(before)}: ${advice}`);
    const size = blockSizeOf(stored.spec);
    if (blockSizeOf(spec) !== size)
      wrong('blockSize', `the block size of a pool cannot change from ${size}: ${advice}`);
    return NOTHING;
  }
  for (const other of around.pools) {
    const theirs = rangeOf(other.spec);
    if (other.name !== name && theirs && overlap(range, theirs))
      wrong(
        'cidr',
        `overlaps IPPool ${other.name} (${formatCidr(theirs)}): choose a range that is in no pool`,
      );
  }
  const size = blockSizeOf(spec);
  const block = (await around.blocks(range)).find(one => overlap(one, range) && one.length !== size);
  if (block)
    wrong(
      'blockSize',
      `addresses of an earlier pool are in use in ${formatCidr(block)}, a block of another size: set blockSize: ${block.length}, or choose another range`,
    );
  const { poolCreation } = around;
  const compare: Compare = poolCreation
    ? { key: POOL_CREATION_KEY, is: 'revision', revision: poolCreation.revision }
    : { key: POOL_CREATION_KEY, is: 'absent' };
  const value = formatJson({ pool: name, node: 'command line' });
  return { compare: [compare], then: [{ put: POOL_CREATION_KEY, value }] };
}

/** A policy needs its tier; the default one is made where nobody has made it yet, as Calico's clients do. */
function checkTierOf({ spec }: ResourceDocument, around: Surroundings, say: Say): Besides {
  const name = tierOf(spec);
  const key = resourceKey('tiers', name);
  if (around.hasTier(name)) return { compare: [{ key, is: 'present' }], then: [] };
  if (name !== DEFAULT_TIER) {
    say({ path: ['spec', 'tier'], text: `there is no Tier ${name}: create it first, or in the same file` });
    return NOTHING;
  }
  const fresh = {
    kind: tier,
    name,
    metadata: { name },
    spec: { order: fixedOrder(name), defaultAction: 'Deny' },
  };
  const value = formatStored(fresh, key, new Date());
  return { compare: [{ key, is: 'absent' }], then: [{ put: key, value }] };
}

function checkOrder({ name, spec }: ResourceDocument, say: Say): void {
  const order = fixedOrder(name);
  if (order !== undefined && spec.order !== order)
    say({
      path: ['spec', 'order'],
      text: `the order of Tier ${name} is ${order} with every Calico: leave it out`,
    });
}
