import { resourceKey } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import { formatNewTier, STANDARD_TIERS } from '../model/tier.js';
import type { Tier } from '../model/tier.js';

/**
 * Makes the tiers that Calico's clients make when they first see a datastore, where they are missing: policies need one. What
 * is there stays as it is. One round trip where none is there, else four. Throws DatastoreError.
 */
export async function makeStandardTiers(store: Pick<Store, 'transact'>): Promise<void> {
  const make = (tiers: readonly Tier[]) =>
    store.transact({
      compare: tiers.map(({ name }) => ({ key: resourceKey('tiers', name), is: 'absent' })),
      then: tiers.map(tier => ({
        put: resourceKey('tiers', tier.name),
        value: formatNewTier(tier, new Date()),
      })),
    });
  if ((await make(STANDARD_TIERS)).succeeded) return;
  for (const tier of STANDARD_TIERS) await make([tier]);
}
