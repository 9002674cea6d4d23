import { affinityKey, blockKey } from '../datastore/keys.js';
import type { Compare, Entry, Store, Write } from '../datastore/store.js';
import { ConflictError } from '../errors.js';
import { formatAffinity, formatBlock, parseAffinityState } from '../model/block.js';
import type { Block } from '../model/block.js';
import { bump, createBlock, isEmpty, ownedBy } from './block.js';
import { formatCidr } from './cidr.js';
import type { Cidr } from './cidr.js';
import type { IpamFacts } from './facts.js';
import { readBlock } from './read-block.js';

/**
 * How a block comes to a node and leaves it. Real Calico goes pending → block → confirmed in three writes; ours are
 * one transaction each, which no other writer can tell from the three made at once. States that others (or a crashed
 * predecessor) left half-way are brought to an end.
 */

export type Claim =
  | { readonly block: Block; readonly revision: string; readonly affinity: Entry }
  /** The block is another's, or what is there cannot be read. */
  | 'taken';

const ATTEMPTS = 100;

/**
 * Makes `cidr` a block of this node: one round trip where nobody has it. The pool is compared, so that a block does not
 * come to a pool that goes. Throws ConflictError where the pool has gone.
 */
export async function claimBlock(store: Store, facts: IpamFacts, cidr: Cidr): Promise<Claim> {
  const { node } = facts;
  const keys = { affinity: affinityKey(node, cidr), block: blockKey(cidr) };
  let affinity: Entry | undefined;
  let found: Entry | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const existing = found && readBlock(found);
    if (found && !existing) return 'taken';
    if (!facts.poolAround(cidr))
      throw new ConflictError(`the IPPool of ${formatCidr(cidr)} was removed: try again`);
    if (found && existing?.affinity !== ownedBy(node)) {
      await dropStaleAffinity(store, affinity);
      return 'taken';
    }
    if (found && existing && affinity && parseAffinityState(affinity.value) === 'confirmed')
      return { block: existing, revision: found.revision, affinity };
    // Writing an existing block anew makes every compare of others on it fail: they must see the affinity first.
    const block = existing ? bump(existing) : createBlock(cidr, node, new Date());
    const confirmed = formatAffinity('confirmed');
    const guards = facts.guards(cidr);
    const result = await store.transact({
      compare: [asRead(keys.affinity, affinity), asRead(keys.block, found), ...guards],
      then: [
        { put: keys.affinity, value: confirmed },
        { put: keys.block, value: formatBlock(block) },
      ],
      otherwise: [keys.affinity, keys.block, ...guards.map(({ key }) => key)],
    });
    if (result.succeeded) {
      const { revision } = result;
      return { block, revision, affinity: { key: keys.affinity, value: confirmed, revision } };
    }
    facts.observe(result.found, result.revision);
    affinity = result.found.get(keys.affinity);
    found = result.found.get(keys.block);
  }
  throw new ConflictError(`block ${formatCidr(cidr)} is being claimed by too many at once`);
}

/**
 * Gives a block back. Refuses ('not empty') while an address of it is in use, so that nothing live is cut off; an
 * allocation that comes in between makes the compare fail. Three round trips.
 */
export async function releaseBlock(
  store: Store,
  node: string,
  cidr: Cidr,
): Promise<'released' | 'not empty'> {
  const keys = { affinity: affinityKey(node, cidr), block: blockKey(cidr) };
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const found = await store.get(keys.block);
    const affinity = await store.get(keys.affinity);
    const block = found && readBlock(found);
    if (found && !block) return 'not empty';
    const ours = found && block?.affinity === ownedBy(node);
    if (!ours) {
      await dropStaleAffinity(store, affinity);
      return 'released';
    }
    if (block && !isEmpty(block)) return 'not empty';
    // Block and affinity go in one transaction, so there is no state between to be marked pendingDeletion.
    const result = await store.transact({
      compare: [asRead(keys.affinity, affinity), asRead(keys.block, found)],
      then: [{ delete: keys.block }, ...(affinity ? [{ delete: keys.affinity }] : [])],
    });
    if (result.succeeded) return 'released';
  }
  throw new ConflictError(`block ${formatCidr(cidr)} is being changed by too many at once`);
}

/**
 * Takes a block from a node that is gone for good: an empty one is deleted, another stays, without owner, for those who
 * have addresses of it. A block that is not the node's only loses the node's stale affinity. Three round trips.
 */
export async function disownBlock(
  store: Store,
  node: string,
  cidr: Cidr,
): Promise<'deleted' | 'without owner' | 'not its own' | 'not readable'> {
  const keys = { affinity: affinityKey(node, cidr), block: blockKey(cidr) };
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const found = await store.get(keys.block);
    const affinity = await store.get(keys.affinity);
    const block = found && readBlock(found);
    if (found && !block) return 'not readable';
    const isOwn = block?.affinity === ownedBy(node);
    if (!isOwn && !affinity) return 'not its own';
    const then: Write[] = affinity ? [{ delete: keys.affinity }] : [];
    if (block && isOwn) {
      const { affinityClaimTime: _, ...rest } = block;
      const left = formatBlock(bump({ ...rest, affinity: null }));
      then.push(isEmpty(block) ? { delete: keys.block } : { put: keys.block, value: left });
    }
    const result = await store.transact({
      compare: [asRead(keys.affinity, affinity), asRead(keys.block, found)],
      then,
    });
    if (result.succeeded) return !isOwn ? 'not its own' : isEmpty(block) ? 'deleted' : 'without owner';
  }
  throw new ConflictError(`block ${formatCidr(cidr)} is being changed by too many at once`);
}

async function dropStaleAffinity(store: Store, affinity: Entry | undefined): Promise<void> {
  if (affinity)
    await store.transact({ compare: [asRead(affinity.key, affinity)], then: [{ delete: affinity.key }] });
}

function asRead(key: string, entry: Entry | undefined): Compare {
  return entry ? { key, is: 'revision', revision: entry.revision } : { key, is: 'absent' };
}
