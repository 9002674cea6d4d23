import { baseChains } from './nft-policy-base.js';
import type { Rendered } from './nft-policy-diff.js';

/** A table of more parts takes so long that all is closed before it is put back. */
const LARGE = 2_000;

/** Whether the table takes so long to put in that all should be closed first where it is missing. */
export function isLarge({ policy, chains }: Rendered): boolean {
  let size = chains.size + policy.endpoints.size;
  for (const lines of chains.values()) size += lines.length;
  for (const { addresses, nets } of policy.addressSets.values()) size += addresses.size + nets.length;
  return size > LARGE;
}

/** Rules of each chain that has some. */
export function ruleCounts({ chains }: Rendered, prefix: string): Map<string, number> {
  const counts = new Map<string, number>();
  // The first line of a base chain is no rule.
  for (const [name, lines] of baseChains(prefix)) {
    const rules = lines[0]?.startsWith('type ') === true ? lines.length - 1 : lines.length;
    counts.set(name, rules);
  }
  for (const [name, lines] of chains) if (lines.length > 0) counts.set(name, lines.length);
  return counts;
}
