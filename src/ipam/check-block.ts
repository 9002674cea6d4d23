import { formatBlock } from '../model/block.js';
import type { Block } from '../model/block.js';
import { bump, pruned, violations } from './block.js';
import { asRead } from './check-finding.js';
import type { Finding } from './check-finding.js';
import { formatCidr, nth } from './cidr.js';
import type { Address } from './cidr.js';

const SHOWN = 3;

/**
 * The block with everything derived from its allocations made anew: what is in use stays so, with the same holder. An
 * address that `isClaimed` is not put into the free list: somebody uses it, though the block says it is free.
 */
export function repaired(block: Block, isClaimed: (address: Address) => boolean): Block {
  const listed = new Set(block.unallocated.filter(ordinal => block.allocations[ordinal] === null));
  const missing = block.allocations.flatMap((index, ordinal) =>
    index === null && !listed.has(ordinal) && !isClaimed(nth(block.cidr, ordinal)) ? [ordinal] : [],
  );
  const inUse = [...block.sequenceNumbers].filter(([ordinal]) => block.allocations[ordinal] != null);
  return pruned({ ...block, unallocated: [...listed, ...missing], sequenceNumbers: new Map(inUse) });
}

/** What is wrong inside a block: first what can be repaired, in one write, then what cannot. */
export function contentFindings(
  key: string,
  block: Block,
  revision: string,
  isClaimed: (address: Address) => boolean,
): Finding[] {
  const wrong = violations(block);
  if (wrong.length === 0) return [];
  const better = repaired(block, isClaimed);
  const left = new Set(violations(better));
  const mended = wrong.filter(text => !left.has(text));
  const found: Finding[] = [];
  const finding = (texts: readonly string[], more: string): Finding => ({
    kind: 'block-content',
    keys: [key],
    text: `block ${formatCidr(block.cidr)}: ${shortened(texts)}${more}`,
  });
  if (mended.length > 0)
    found.push({
      ...finding(mended, ''),
      fix: {
        compare: [asRead(key, revision)],
        then: [{ put: key, value: formatBlock(bump(better)) }],
      },
    });
  if (left.size > 0)
    found.push(
      finding(
        [...left],
        '; nothing tells who holds these, so they are left as they are: restart their containers',
      ),
    );
  return found;
}

function shortened(texts: readonly string[]): string {
  const more = texts.length - SHOWN;
  return texts.slice(0, SHOWN).join(', ') + (more > 0 ? ` and ${more} more of this kind` : '');
}
