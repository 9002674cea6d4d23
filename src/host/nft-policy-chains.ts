import { hashedChain, rulesChain } from './nft-policy-names.js';
import { canPass, renderRules } from './nft-policy-rules.js';
import { isRanges } from './nft-policy-sets.js';
import { PORT } from './vxlan-messages.js';
import type { Direction, HostPolicy, HostRule, HostTier, Judgement, RulesId, SetId } from './policy.js';

/** Chains by name, each with its lines. */
export type Chains = ReadonlyMap<string, readonly string[]>;

/** Icmpv6 types by which neighbours, routers and groups are found: an IPv6 link does not work without. */
const NEIGHBOURS = 'icmpv6 type { 135, 136 }';
const FROM_CONTAINER = 'icmpv6 type { 130, 131, 132, 133, 135, 136, 143 }';
const FROM_HOST = 'icmpv6 type { 130, 131, 132, 134, 135, 136, 137, 143 }';
/** Replies, and errors about what was let through, need no policy. */
const REPLIES = 'ct state established,related accept';
/** What conntrack can make nothing of would not be translated back: it would show an address nobody asked. */
const FORWARDED = 'ct state vmap { established : accept, related : accept, invalid : drop }';

/**
 * The chains that are always there: those that the kernel calls, and `consented`. `accept` ends one of the kernel's chains
 * only, so a packet between two containers is judged by `forward_egress` and then by `forward_ingress`.
 */
export function baseChains(prefix: string): Chains {
  const from = `iifname "${prefix}*"`;
  const to = `oifname "${prefix}*"`;
  return new Map([
    [
      // Before conntrack: a forged packet must not even be remembered.
      'spoofed',
      [
        'type filter hook prerouting priority raw; policy accept;',
        `iifname != "${prefix}*" accept`,
        'iifname . ether saddr . ip saddr @sources4 accept',
        'iifname . ether saddr . ip6 saddr @sources6 accept',
        // Never forwarded, and what a neighbour says is believed on its own interface only. Of closed containers too:
        // they must not lose a second when they are opened.
        `${NEIGHBOURS} accept`,
        'iifname . ether saddr @macs ip6 saddr fe80::/10 accept',
        `ip6 saddr :: ${FROM_CONTAINER} accept`,
        'drop',
      ],
    ],
    [
      'forward_egress',
      [
        'type filter hook forward priority -2; policy accept;',
        FORWARDED,
        ...noTunnels(from),
        'iifname vmap @egress',
        `${from} drop`,
      ],
    ],
    [
      'forward_ingress',
      [
        'type filter hook forward priority -1; policy accept;',
        FORWARDED,
        'oifname vmap @ingress',
        `${to} drop`,
      ],
    ],
    [
      'to_the_host',
      [
        'type filter hook input priority -1; policy accept;',
        `${from} ${FROM_CONTAINER} accept`,
        REPLIES,
        ...noTunnels(from),
        'iifname vmap @egress',
        `${from} drop`,
      ],
    ],
    [
      // Not in "output": that still sees the interface by which a packet would have left had its destination not been
      // translated, as that of a published port on 127.0.0.1 is. What came in by an interface is none of the host's.
      'from_the_host',
      [
        'type filter hook postrouting priority -1; policy accept;',
        'iif != 0 accept',
        `${to} ${FROM_HOST} accept`,
        REPLIES,
        'oifname vmap @from_host',
        `${to} drop`,
      ],
    ],
    [
      'consented',
      [
        'ct status dnat ip daddr . meta l4proto . th dport @consented4 accept',
        'ct status dnat ip6 daddr . meta l4proto . th dport @consented6 accept',
      ],
    ],
  ]);
}

/**
 * Whoever can send encapsulated packets to a host can send them from any address: what the host unpacks has passed
 * nobody's check of its source. Felix drops VXLAN and IP-in-IP of containers too.
 */
function noTunnels(from: string): string[] {
  return [`${from} udp dport ${PORT} drop`, `${from} meta l4proto 4 drop`];
}

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
    if (!isSame) this.lines.clear();
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
