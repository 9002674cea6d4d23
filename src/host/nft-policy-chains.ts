import type { Chains } from './nft-policy-base.js';
import { hashedChain, rulesChain } from './nft-policy-names.js';
import { canPass, renderRules } from './nft-policy-rules.js';
import { isRanges } from './nft-policy-sets.js';
import { DIRECTIONS } from './policy.js';
import type { Direction, HostPolicy, HostRule, HostTier, Judgement, RulesId, SetId } from './policy.js';

/** A judgement as chains: its own, those of its tiers, and the profiles it ends with. */
interface Judging {
  readonly name: string;
  readonly lines: readonly string[];
  readonly tiers: ReadonlyMap<string, HostTier>;
  readonly profiles: readonly RulesId[];
}

/**
 * Makes chains of policies, and remembers those of what keeps its identity. Names follow from what a chain has to say, so
 * endpoints that are judged alike share theirs. A chain of its own for each list of rules, so that a change of a policy is
 * a change of one chain; but a policy that can Pass is part of its tiers' chains, since `return` leaves one chain only.
 */
export class PolicyChains {
  private readonly judgements = {
    ingress: new WeakMap<Judgement, Judging>(),
    egress: new WeakMap<Judgement, Judging>(),
  };
  private readonly lines = new Map<RulesId, { rules: readonly HostRule[]; lines: readonly string[] }>();
  private readonly tierLines = new Map<string, readonly string[]>();
  /** Address sets that are of ranges: it is part of their names, which the rules say. */
  private ranges: ReadonlySet<SetId> = new Set();

  private last:
    | { readonly wanted: ReadonlySet<Judging>; readonly rules: HostPolicy['rules']; readonly chains: Chains }
    | undefined;

  /** Name of the chain that judges so. */
  chainOf(judgement: Judgement, direction: Direction): string {
    return this.judging(judgement, direction).name;
  }

  /** All chains of the policy but the base chains; one that is as in the last policy is the same array. Throws HostError. */
  all(policy: HostPolicy): Chains {
    const wanted = new Set<Judging>();
    for (const { ingress, egress } of policy.endpoints.values())
      wanted.add(this.judging(ingress, 'ingress')).add(this.judging(egress, 'egress'));
    for (const direction of DIRECTIONS)
      for (const spare of policy.spares?.[direction] ?? []) wanted.add(this.judging(spare, direction));
    const isSameRanges = this.lookAtSets(policy);
    const { last } = this;
    // One more container of a kind that there is.
    if (last && isSameRanges && isSameSet(wanted, last.wanted) && isSameMap(policy.rules, last.rules)) {
      this.last = { ...last, rules: policy.rules };
      return last.chains;
    }
    const chains = new Map<string, readonly string[]>();
    for (const judging of wanted) this.add(chains, policy, judging);
    for (const id of this.lines.keys()) if (!policy.rules.has(id)) this.lines.delete(id);
    for (const name of this.tierLines.keys()) if (!chains.has(name)) this.tierLines.delete(name);
    this.last = { wanted, rules: policy.rules, chains };
    return chains;
  }

  /** Whether the same sets as before are of ranges. */
  private lookAtSets({ addressSets }: HostPolicy): boolean {
    const ranges = new Set<SetId>();
    for (const [id, set] of addressSets) if (isRanges(set)) ranges.add(id);
    const isSame = isSameSet(ranges, this.ranges);
    this.ranges = ranges;
    if (!isSame) {
      this.lines.clear();
      // What comes next may fail, and the last policy's lines name sets of the former kind.
      this.last = undefined;
    }
    return isSame;
  }

  private add(chains: Map<string, readonly string[]>, policy: HostPolicy, judging: Judging): void {
    if (chains.has(judging.name)) return;
    chains.set(judging.name, judging.lines);
    for (const [name, tier] of judging.tiers) {
      if (chains.has(name)) continue;
      chains.set(name, this.tier(name, tier, policy));
      for (const id of tier.policies) {
        if (!canPass(policy.rules.get(id) ?? [])) chains.set(rulesChain(id), this.rules(id, policy));
      }
    }
    for (const id of judging.profiles) chains.set(rulesChain(id), this.rules(id, policy));
  }

  private judging(judgement: Judgement, direction: Direction): Judging {
    const known = this.judgements[direction].get(judgement);
    if (known) return known;
    const tiers = new Map(
      judgement.tiers.map(tier => [
        hashedChain('tier', JSON.stringify([tier.policies, tier.otherwise])),
        tier,
      ]),
    );
    const lines = [
      ...[...tiers.keys()].map(name => `jump ${name}`),
      ...(direction === 'ingress' ? ['jump consented'] : []),
      ...judgement.profiles.map(id => `jump ${rulesChain(id)}`),
      'drop',
    ];
    const name = hashedChain(direction === 'ingress' ? 'to' : 'from', lines.join('\n'));
    const made = { name, lines, tiers, profiles: judgement.profiles };
    this.judgements[direction].set(judgement, made);
    return made;
  }

  private tier(name: string, { policies, otherwise }: HostTier, policy: HostPolicy): readonly string[] {
    const lines = policies.flatMap(id =>
      canPass(policy.rules.get(id) ?? []) ? this.rules(id, policy) : [`jump ${rulesChain(id)}`],
    );
    if (otherwise === 'deny') lines.push('drop');
    const before = this.tierLines.get(name);
    if (before !== undefined && sameLines(before, lines)) return before;
    this.tierLines.set(name, lines);
    return lines;
  }

  private rules(id: RulesId, policy: HostPolicy): readonly string[] {
    const rules = policy.rules.get(id);
    // It is always there. Were it not: closed.
    if (rules === undefined) return CLOSED;
    const before = this.lines.get(id);
    if (before?.rules === rules) return before.lines;
    const lines = renderRules(id, rules, set => this.ranges.has(set));
    this.lines.set(id, { rules, lines });
    return lines;
  }
}

const CLOSED = ['drop'];

function isSameSet<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): boolean {
  if (a.size !== b.size) return false;
  for (const one of a) if (!b.has(one)) return false;
  return true;
}

function isSameMap<T>(a: ReadonlyMap<string, T>, b: ReadonlyMap<string, T>): boolean {
  if (a === b) return true;
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}

/** Whether two chains say the same. */
export function sameLines(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((line, index) => line === b[index]));
}
