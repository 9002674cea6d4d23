import { setTimeout as pause } from 'node:timers/promises';
import {
  AFFINITIES_PREFIX,
  blocksPrefix,
  endpointKey,
  HANDLES_PREFIX,
  IPAM_CONFIG_KEY,
  NETWORKS_PREFIX,
  resourcesPrefix,
} from '../datastore/keys.js';
import type { Entry, Store } from '../datastore/store.js';
import { Check } from './check.js';
import type { CheckResult } from './check.js';
import { identityOf } from './check-finding.js';
import type { Finding } from './check-finding.js';

/** Milliseconds after which what is under way should have its owner. */
export const GRACE = 60_000;
/** Other writers of Calico's data take several transactions for one change: what is found is looked at again then. */
const SETTLE = 1_000;
const LISTINGS = 8;
/** Repairs under way at once. */
const SIDE_BY_SIDE = 16;

export interface DatastoreCheckOptions {
  /** Carry out what is safe. */
  readonly fix: boolean;
  /** See {@link GRACE}. */
  readonly grace?: number;
  /** Milliseconds between a listing with findings and the next; default 1,000. */
  readonly settle?: number;
  /** Told after every page how many keys were read in this listing. */
  progress?(keys: number): void;
}

export interface DatastoreCheckResult extends CheckResult {
  /** What was repaired. */
  readonly repaired: readonly Finding[];
}

/**
 * Checks the whole datastore as it is at one revision. What two listings a moment apart both show is a finding; with
 * `fix`, what can be repaired safely then is, and looked at again. Changes nothing otherwise, and never frees an address.
 * One round trip per 1,000 keys of each listing and one for each repair. Throws DatastoreError.
 */
export async function checkDatastore(
  store: Store,
  { fix, grace = GRACE, settle = SETTLE, progress }: DatastoreCheckOptions,
): Promise<DatastoreCheckResult> {
  const repaired: Finding[] = [];
  let before: ReadonlySet<string> | undefined;
  for (let listing = 1; ; listing += 1) {
    const result = await checkOnce(store, grace, progress);
    const findings = result.findings.filter(finding => before?.has(identityOf(finding)) === true);
    if (result.findings.length === 0) return { ...result, repaired };
    if (before) {
      const done = fix && listing < LISTINGS ? await repair(store, findings) : [];
      repaired.push(...done);
      const another = fix && listing < LISTINGS && findings.some(finding => finding.fix);
      if (!another) return { ...result, findings, repaired };
    }
    before = new Set(result.findings.map(identityOf));
    await pause(settle);
  }
}

/** One listing of everything, at one revision. */
async function checkOnce(
  store: Store,
  grace: number,
  progress: ((keys: number) => void) | undefined,
): Promise<CheckResult> {
  const check = new Check({ now: new Date(), grace });
  let revision: string | undefined;
  let keys = 0;
  const read = async (prefix: string, add: (entry: Entry) => void): Promise<void> => {
    for await (const page of store.pages(prefix, revision)) {
      revision ??= page.revision;
      for (const entry of page.entries) add(entry);
      keys += page.entries.length;
      progress?.(keys);
    }
  };
  // What is compared comes first, the blocks with which it is compared last.
  await read(IPAM_CONFIG_KEY, entry => check.config(entry));
  await read(resourcesPrefix('ippools'), entry => check.pool(entry));
  await read(NETWORKS_PREFIX, entry => check.network(entry));
  await read(AFFINITIES_PREFIX, entry => check.affinity(entry));
  // The most by far. While one waits for etcd the other is looked at.
  await Promise.all([
    read(endpointKey(''), entry => check.endpoint(entry)),
    read(HANDLES_PREFIX, entry => check.handle(entry)),
  ]);
  await read(blocksPrefix(4), entry => check.block(entry));
  await read(blocksPrefix(6), entry => check.block(entry));
  return check.finish();
}

/** Carries out the repairs whose keys are still as they were read; the next listing shows the others. */
async function repair(store: Store, findings: readonly Finding[]): Promise<Finding[]> {
  const done: Finding[] = [];
  const waiting = findings.filter(finding => finding.fix);
  const worker = async (): Promise<void> => {
    for (let finding = waiting.shift(); finding; finding = waiting.shift())
      if (finding.fix && (await store.transact(finding.fix)).succeeded) done.push(finding);
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
  return done;
}
