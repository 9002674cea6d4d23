import type { Logger } from '../log.js';
import { reason } from '../errors.js';
import { changeFilterTable, readFilterTable } from './iptables.js';
import type { Backend, Family, FilterTable } from './iptables.js';

/** Marks our rules; whatever carries it is ours to delete. */
const COMMENT = 'calico-libnetwork';
const MARK = /--comment "?calico-libnetwork"?( |$)/;
const DOCKER_CHAINS = ['DOCKER', 'DOCKER-USER', 'DOCKER-FORWARD', 'DOCKER-ISOLATION-STAGE-1'];
const TABLES: readonly (readonly [Backend, Family])[] = [
  ['nft', 4],
  ['legacy', 4],
  ['nft', 6],
  ['legacy', 6],
];

/** The rule pair for a chain, without the leading `-A`. */
function pair(chain: string, prefix: string): string[] {
  const rule = (direction: string): string =>
    `${chain} ${direction} ${prefix}+ -m comment --comment ${COMMENT} -j ACCEPT`;
  return [rule('-i'), rule('-o')];
}

/**
 * The chain that needs our pair, or undefined. dockerd sets the policy of FORWARD to DROP, and an accept in another
 * table does not overrule that: it has to be said in the same table. DOCKER-USER is Docker's own place for it, as long
 * as FORWARD leads there. Where neither Docker nor a DROP is, nothing is in the way and nothing is added; so too for
 * IPv6, where most engines leave the policy alone.
 */
export function chainForPair(table: FilterTable): string | undefined {
  const isReached = table.rules.some(rule => /^-A FORWARD .*-j DOCKER-USER$/.test(rule));
  if (table.chains.has('DOCKER-USER') && isReached) return 'DOCKER-USER';
  const isDockers = DOCKER_CHAINS.some(chain => table.chains.has(chain));
  return isDockers || table.forwardPolicy === 'DROP' ? 'FORWARD' : undefined;
}

/**
 * The lines for iptables-restore that make a table right; empty where it is. Our rules may stand anywhere in their
 * chain before a bare RETURN, so that an administrator's rule put above them stays above them.
 */
export function planPair(table: FilterTable, chain: string | undefined, prefix: string): string[] {
  const marked = table.rules.filter(rule => MARK.test(rule));
  const remove = marked.map(rule => rule.replace(/^-A/, '-D'));
  if (chain === undefined) return remove;
  const wanted = pair(chain, prefix).map(rule => `-A ${rule}`);
  const inChain = table.rules.filter(rule => rule.startsWith(`-A ${chain} `));
  const end = inChain.indexOf(`-A ${chain} -j RETURN`);
  const effective = (end === -1 ? inChain : inChain.slice(0, end)).map(rule => rule.replaceAll('"', ''));
  const isRight = marked.length === wanted.length && wanted.every(rule => effective.includes(rule));
  if (isRight) return [];
  return [
    ...remove,
    ...pair(chain, prefix).map((rule, index) => rule.replace(chain, `-I ${chain} ${index + 1}`)),
  ];
}

/** Keeps the rule pair where it is needed, in whichever iptables Docker uses, and nowhere else. */
export class Forwarding {
  private readonly reported = new Set<string>();

  /** `prefix`: of our interfaces' names, e.g. `cali`. */
  constructor(
    private readonly prefix: string,
    private readonly log: Logger,
  ) {}

  /** Puts the pair right in every table; answers with what was changed, in words. */
  check(): Promise<string[]> {
    return this.forEachTable(table => chainForPair(table));
  }

  /** Removes the pair everywhere. */
  async remove(): Promise<void> {
    await this.forEachTable(() => undefined);
  }

  private async forEachTable(choose: (table: FilterTable) => string | undefined): Promise<string[]> {
    const changes: string[] = [];
    for (const [backend, family] of TABLES) {
      const table = await this.read(backend, family);
      if (table === undefined) continue;
      const chain = choose(table);
      const lines = planPair(table, chain, this.prefix);
      if (lines.length === 0) continue;
      await changeFilterTable(backend, family, lines);
      changes.push(
        `accept rules for ${this.prefix}+ in ${chain ?? 'no chain'} (iptables-${backend}, IPv${family})`,
      );
    }
    return changes;
  }

  /** A table that iptables cannot show (made by nft itself) is none that dockerd can use: said once, passed over. */
  private async read(backend: Backend, family: Family): Promise<FilterTable | undefined> {
    try {
      return await readFilterTable(backend, family);
    } catch (error) {
      const text = reason(error);
      if (!this.reported.has(text))
        this.log.warn({ backend, family, reason: text }, 'cannot read the filter table');
      this.reported.add(text);
      return undefined;
    }
  }
}
