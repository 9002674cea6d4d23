import { setTimeout as sleep } from 'node:timers/promises';
import { AFFINITIES_PREFIX, blockKey, parseAffinityKey } from '../datastore/keys.js';
import type { Entry, Store } from '../datastore/store.js';
import { ConflictError, RequestError } from '../errors.js';
import { isDisappearing, formatReturned, parseIpPool } from '../model/ip-pool.js';
import type { IpPool } from '../model/ip-pool.js';
import { formatChangedResource } from '../model/resource.js';
import { isEmpty } from './block.js';
import { covers } from './cidr.js';
import { disownBlock, releaseBlock } from './claim.js';
import { describePool } from './facts.js';
import { describeUse, usesOfPool } from './pool-use.js';

/** Milliseconds for calls under way to end, as Calico waits, and for live hosts to leave with the ends of their tunnels. */
const SETTLE = 500;
const TUNNEL_PATIENCE = 5_000;
const TUNNEL_PAUSE = 200;

/**
 * Why a pool cannot be deleted: who needs it. Undefined where nobody does. Round trips as {@link usesOfPool}.
 */
export async function whyPoolIsNeeded(store: Store, pool: IpPool): Promise<string | undefined> {
  const use = describeUse(await usesOfPool(store, pool.cidr));
  if (use === '') return undefined;
  return `${describePool(pool)} is needed by ${use}: disable the pool, move what uses it to another one (docs/pools.md), then delete it; --force deletes it all the same, and those addresses stay in use without a pool`;
}

/**
 * Deletes a pool as Calico does, for somebody who asks for it by name: disable it, so that nobody takes another address;
 * wait for calls under way and for tunnels; give back its blocks; delete it. Where somebody needs it after all it is put
 * back as it was. With `force` what is in use stays in use, in blocks without owner; nothing is ever freed.
 *
 * Some ten round trips, and three for each block. Throws RequestError where it is needed, ConflictError where others
 * change it at the same time, DatastoreError; after the last two it may be left disabled.
 */
export async function deletePool(store: Store, entry: Entry, force: boolean): Promise<void> {
  const pool = parseIpPool(entry.value);
  if (!pool) throw new ConflictError(`${entry.key} holds no IPPool that can be read`);
  const before = force ? undefined : await whyPoolIsNeeded(store, pool);
  if (before !== undefined) throw new RequestError(before);
  const disabled = pool.disabled ? entry : await replace(store, entry, disabledText(pool));
  await sleep(SETTLE);
  await leftByTunnels(store, pool);
  const after = force ? undefined : await whyPoolIsNeeded(store, pool);
  if (after !== undefined) {
    if (!pool.disabled) await replace(store, disabled, entry.value);
    throw new RequestError(after);
  }
  await giveBackBlocks(store, pool, force);
  const { succeeded } = await store.transact({
    compare: [{ key: entry.key, is: 'revision', revision: disabled.revision }],
    then: [{ delete: entry.key }],
  });
  if (!succeeded) throw changed(pool.name);
}

function disabledText(pool: IpPool): string {
  const { resource } = pool;
  // One that a daemon is removing, too, must not be put back by that daemon.
  const base = isDisappearing(pool) ? (parseIpPool(formatReturned(pool))?.resource ?? resource) : resource;
  return formatChangedResource(base, { spec: { ...base.spec, disabled: true } });
}

async function replace(store: Store, { key, revision }: Entry, value: string): Promise<Entry> {
  const result = await store.transact({
    compare: [{ key, is: 'revision', revision }],
    then: [{ put: key, value }],
    otherwise: [key],
  });
  if (result.succeeded) return { key, value, revision: result.revision };
  const found = result.found.get(key);
  // Our own first try, whose answer was lost.
  if (found?.value === value) return found;
  throw changed(key.slice(key.lastIndexOf('/') + 1));
}

/** Live hosts give up the addresses of their tunnels when a pool is disabled; those of dead ones stay. */
async function leftByTunnels(store: Store, { cidr }: IpPool): Promise<void> {
  for (const until = Date.now() + TUNNEL_PATIENCE; Date.now() < until; await sleep(TUNNEL_PAUSE))
    if ((await usesOfPool(store, cidr)).tunnels === 0) return;
}

async function giveBackBlocks(store: Store, { cidr, name }: IpPool, force: boolean): Promise<void> {
  const { entries } = await store.list(AFFINITIES_PREFIX);
  for (const { key } of entries) {
    const affinity = parseAffinityKey(key);
    if (!affinity || !covers(cidr, affinity.cidr)) continue;
    if ((await releaseBlock(store, affinity.node, affinity.cidr)) === 'released') continue;
    // Tunnels of hosts that do not answer are no reason to keep it either.
    const { addresses } = await usesOfPool(store, affinity.cidr);
    if (!force && addresses.length > 0)
      throw new ConflictError(`IPPool ${name} was taken into use again, and stays disabled: try again`);
    await disownBlock(store, affinity.node, affinity.cidr);
  }
  for (const { block, revision } of (await usesOfPool(store, cidr)).blocks) {
    if (block.affinity !== null || !isEmpty(block)) continue;
    const key = blockKey(block.cidr);
    await store.transact({ compare: [{ key, is: 'revision', revision }], then: [{ delete: key }] });
  }
}

function changed(name: string): ConflictError {
  return new ConflictError(`IPPool ${name} is being changed by others at this moment: try again`);
}
