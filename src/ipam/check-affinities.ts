import { affinityKey, parseAffinityKey } from '../datastore/keys.js';
import type { Entry } from '../datastore/store.js';
import { formatAffinity, formatBlock, parseAffinityState } from '../model/block.js';
import type { AffinityState, Block } from '../model/block.js';
import { isObject, parseJson } from '../model/json.js';
import { bump, ownedBy } from './block.js';
import { asRead, unreadable } from './check-finding.js';
import type { Finding } from './check-finding.js';
import { formatCidr } from './cidr.js';
import type { Cidr } from './cidr.js';

interface AffinityFact {
  readonly key: string;
  readonly node: string;
  readonly state: AffinityState;
  readonly revision: string;
}

/**
 * The affinities of all nodes, to be compared with the blocks. Affinity keys of virtual owners (Calico's load balancer)
 * are not among them: such blocks are not nodes' business.
 */
export class Affinities {
  /** By block, CIDR text; those of blocks that were looked at are taken out. */
  private readonly facts = new Map<string, AffinityFact[]>();

  add(entry: Entry): Finding[] {
    const parsed = parseAffinityKey(entry.key);
    if (!parsed || affinityKey(parsed.node, parsed.cidr) !== entry.key || !isAffinity(entry.value))
      return [unreadable(entry, 'affinity')];
    const block = formatCidr(parsed.cidr);
    const fact = {
      key: entry.key,
      node: parsed.node,
      state: parseAffinityState(entry.value),
      revision: entry.revision,
    };
    this.facts.set(block, [...(this.facts.get(block) ?? []), fact]);
    return [];
  }

  /** Nothing is known of that block's owner. */
  skip(block: Cidr): void {
    this.facts.delete(formatCidr(block));
  }

  /** Where a block and its affinities do not agree. Call it once for each block. */
  compare(key: string, block: Block, revision: string): Finding[] {
    const shown = formatCidr(block.cidr);
    const facts = this.facts.get(shown) ?? [];
    this.facts.delete(shown);
    const owner = block.affinity?.startsWith(ownedBy('')) ? block.affinity.slice(ownedBy('').length) : '';
    const own = facts.find(fact => fact.node === owner);
    const found = facts.filter(fact => fact !== own).map(fact => stale(fact, shown, block, key, revision));
    if (owner === '' || own?.state === 'confirmed') return found;
    const affinity = own?.key ?? affinityKey(owner, block.cidr);
    found.push({
      kind: 'affinity-unconfirmed',
      keys: [affinity, key],
      text: `block ${shown} is node ${owner}'s, but its affinity ${own ? `is ${own.state}` : 'is missing'}`,
      fix: {
        compare: [asRead(affinity, own?.revision), asRead(key, revision)],
        // The block is written too: whoever is about to take it away must notice.
        then: [
          { put: affinity, value: formatAffinity('confirmed') },
          { put: key, value: formatBlock(bump(block)) },
        ],
      },
    });
    return found;
  }

  /** Affinities whose block was never seen. `blockKey`: where it would be. */
  withoutBlock(blockKey: (cidr: Cidr) => string): Finding[] {
    return [...this.facts].flatMap(([shown, facts]) =>
      facts.flatMap((fact): Finding[] => {
        const cidr = parseAffinityKey(fact.key)?.cidr;
        if (!cidr) return [];
        const block = blockKey(cidr);
        return [
          {
            kind: 'affinity-stale',
            keys: [fact.key],
            text: `node ${fact.node} has an affinity (${fact.state}) to block ${shown}, which does not exist`,
            fix: {
              compare: [asRead(fact.key, fact.revision), asRead(block, undefined)],
              then: [{ delete: fact.key }],
            },
          },
        ];
      }),
    );
  }
}

function stale(fact: AffinityFact, shown: string, block: Block, key: string, revision: string): Finding {
  return {
    kind: 'affinity-stale',
    keys: [fact.key, key],
    text: `node ${fact.node} has an affinity (${fact.state}) to block ${shown}, which is ${block.affinity === null ? "nobody's" : `of ${block.affinity}`}`,
    fix: {
      compare: [asRead(fact.key, fact.revision), asRead(key, revision)],
      then: [{ delete: fact.key }],
    },
  };
}

/** An empty value is data from before 2018-03. */
function isAffinity(text: string): boolean {
  if (text === '') return true;
  try {
    return isObject(parseJson(text));
  } catch {
    return false;
  }
}
