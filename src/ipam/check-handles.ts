import { handleKey, HANDLES_PREFIX } from '../datastore/keys.js';
import type { Compare, Entry } from '../datastore/store.js';
import { formatHandle, parseHandle } from '../model/block.js';
import type { Block, HandleCounts } from '../model/block.js';
import { isObject, parseJson } from '../model/json.js';
import { parseEndpointHandle } from './handles.js';
import { asRead, unreadable } from './check-finding.js';
import type { Finding } from './check-finding.js';
import { formatCidr } from './cidr.js';
import { isReservationHandle } from './reservation.js';

interface Counts {
  readonly byBlock: HandleCounts;
  readonly blocks: number;
}

interface HandleFact {
  readonly revision: string;
  /** Undefined where the value cannot be read. */
  readonly counts: Counts | undefined;
  /** How many of its blocks hold what it counts. */
  agreed: number;
}

/** What a handle should count in a block whose contents say otherwise. */
interface Correction {
  readonly count: number;
  readonly compare: Compare;
}

/** Where a block is, and whether it is there: by CIDR text. 'unreadable': nothing is known of it. */
export type BlockRevision = (block: string) => { key: string; revision: string | undefined } | 'unreadable';

/** The handles, to be compared with what blocks hold for them. Some 150 bytes for each. */
export class Handles {
  private readonly facts = new Map<string, HandleFact>();
  /** By value: thousands of handles of one address in the same block have the same text. */
  private readonly parsed = new Map<string, Counts | undefined>();
  /** Blocks that agree, of handles that count several. */
  private readonly agreedBlocks = new Map<string, Set<string>>();
  private readonly corrections = new Map<string, Map<string, Correction>>();

  add(entry: Entry): Finding[] {
    const { key, value, revision } = entry;
    let counts = this.parsed.get(value);
    if (!counts && !this.parsed.has(value)) this.parsed.set(value, (counts = readCounts(value)));
    const id = key.slice(HANDLES_PREFIX.length);
    this.facts.set(id, { revision, counts, agreed: 0 });
    return counts && !id.includes('/') ? [] : [unreadable(entry, 'handle')];
  }

  /** Compares what a block holds, by handle. Call it once for each block. */
  compare(key: string, block: Block, revision: string): void {
    const shown = formatCidr(block.cidr);
    for (const [id, count] of held(block)) {
      const fact = this.facts.get(id);
      if (fact?.counts?.byBlock[shown] === count) this.agree(id, shown, fact, fact.counts);
      else if (!fact || fact.counts) this.correct(id, shown, { count, compare: asRead(key, revision) });
    }
  }

  /** What did not agree, once all blocks were compared. */
  findings(blockOf: BlockRevision): Finding[] {
    for (const [id, { counts, agreed }] of this.facts)
      if (counts && (agreed < counts.blocks || counts.blocks === 0)) this.correctUnseen(id, counts, blockOf);
    return [...this.corrections].flatMap(([id, corrections]) => this.finding(id, corrections));
  }

  /** Adds the blocks that a handle counts and that hold nothing for it, or do not exist. */
  private correctUnseen(id: string, counts: Counts, blockOf: BlockRevision): void {
    if (counts.blocks === 0) this.corrections.set(id, new Map());
    const agreed = this.agreedBlocks.get(id);
    for (const shown of Object.keys(counts.byBlock)) {
      if (agreed?.has(shown) === true || this.corrections.get(id)?.has(shown) === true) continue;
      const block = blockOf(shown);
      if (block !== 'unreadable')
        this.correct(id, shown, { count: 0, compare: asRead(block.key, block.revision) });
    }
  }

  private agree(id: string, block: string, fact: HandleFact, counts: Counts): void {
    fact.agreed += 1;
    if (counts.blocks === 1) return;
    const agreed = this.agreedBlocks.get(id);
    if (agreed) agreed.add(block);
    else this.agreedBlocks.set(id, new Set([block]));
  }

  private correct(id: string, block: string, correction: Correction): void {
    const known = this.corrections.get(id);
    if (known) known.set(block, correction);
    else this.corrections.set(id, new Map([[block, correction]]));
  }

  private finding(id: string, corrections: ReadonlyMap<string, Correction>): Finding[] {
    const fact = this.facts.get(id);
    const counts: Record<string, number> = { ...fact?.counts?.byBlock };
    const wrong = [...corrections].map(
      ([block, { count }]) => `${counts[block] ?? 0} in block ${block}, which has ${count}`,
    );
    for (const [block, { count }] of corrections)
      if (count > 0) counts[block] = count;
      else delete counts[block];
    const isUnused = Object.keys(counts).length === 0;
    const key = handleKey(id);
    const text = !fact
      ? `handle ${id} is missing, though blocks have addresses of it: ${wrong.join('; ')}`
      : isUnused
        ? `no address is allocated to handle ${id}`
        : `handle ${id} counts ${wrong.join('; ')}`;
    const finding: Finding = { kind: isUnused ? 'handle-unused' : 'handle-count', keys: [key], text };
    if (!isOurs(id)) return [{ ...finding, text: `${text}; it is not ours to correct: see whose it is` }];
    const compare = [asRead(key, fact?.revision), ...Array.from(corrections.values(), item => item.compare)];
    const then = isUnused ? [{ delete: key }] : [{ put: key, value: formatHandle(counts) }];
    return [{ ...finding, fix: { compare, then } }];
  }
}

/** True for the ids that we make, of endpoints and of reservations. */
function isOurs(id: string): boolean {
  return parseEndpointHandle(id) !== undefined || isReservationHandle(id);
}

/** How many addresses of a block each handle holds. */
function held(block: Block): Map<string, number> {
  const counts = new Map<string, number>();
  for (const index of block.allocations) {
    const id = index === null ? undefined : block.attributes[index]?.handle_id;
    if (id !== undefined && id !== '') counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

function readCounts(text: string): Counts | undefined {
  try {
    const value = parseJson(text);
    if (!isObject(value) || (value.block != null && !isObject(value.block))) return undefined;
    const byBlock = parseHandle(text);
    return { byBlock, blocks: Object.keys(byBlock).length };
  } catch {
    return undefined;
  }
}
