import { globalNetworkSet, networkSet, node, profile, workloadEndpoint } from './endpoint.js';
import { ipPool } from './ip-pool.js';
import { ipamConfiguration, ipReservation } from './ipam.js';
import type { Kind } from './kind.js';
import { globalNetworkPolicy, networkPolicy, tier } from './policy.js';

/** Every kind that the command line looks after. */
export const KINDS: readonly Kind[] = [
  ipPool,
  ipReservation,
  ipamConfiguration,
  node,
  profile,
  globalNetworkPolicy,
  networkPolicy,
  tier,
  globalNetworkSet,
  networkSet,
  workloadEndpoint,
];

/** The kind of a word on the command line: its name, plural or an alias, in whatever case. */
export function kindOfWord(word: string): Kind | undefined {
  const wanted = word.toLowerCase();
  return KINDS.find(
    ({ kind, plural, aliases }) =>
      kind.toLowerCase() === wanted || plural === wanted || aliases.includes(wanted),
  );
}

/** The kind of `kind:` in a file, in just its spelling. */
export function kindOfFile(name: string): Kind | undefined {
  return KINDS.find(({ kind }) => kind === name);
}

/** All kinds, for a message. */
export function kindNames(): string {
  return KINDS.map(({ kind }) => kind).join(', ');
}
