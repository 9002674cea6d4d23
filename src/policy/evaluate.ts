import type { Direction } from '../host/policy.js';
import type { Policy } from '../model/policy.js';
import { missingProfile } from '../model/profile.js';
import type { Rule } from '../model/rule.js';
import { effectiveLabels, profileNamed } from './facts.js';
import type { PolicyEndpoint, PolicyFacts } from './facts.js';
import type { Packet } from './packet.js';
import { mismatch } from './rule-match.js';

export type Verdict = 'allow' | 'deny';

/** One thing that was looked at on the way to a verdict. */
export interface Step {
  /** Of a policy. */
  readonly tier?: string;
  /** `policy allow-web`, `profile net1`, `end of tier default`, … */
  readonly what: string;
  /** From 1, of a rule. */
  readonly rule?: number;
  /** What it did, or why it did nothing. */
  readonly outcome: 'allow' | 'deny' | 'pass' | 'log' | { readonly mismatch: string };
}

export interface Evaluation {
  readonly verdict: Verdict;
  /** In order; the last one decided. */
  readonly steps: readonly Step[];
}

/**
 * What happens to a connection's first packet in one direction of one endpoint: tier after tier, then its consent to a
 * published port, then its profiles; what nothing allows is denied. Written straight from Calico's rules, from parsed
 * facts, with nothing of what is enforced: tests compare the two.
 */
export function evaluate(
  facts: PolicyFacts,
  endpoint: PolicyEndpoint,
  direction: Direction,
  packet: Packet,
): Evaluation {
  const steps: Step[] = [];
  const decided = (verdict: Verdict): Evaluation => ({ verdict, steps });
  for (const { name, otherwise, policies } of applicableTiers(facts, endpoint, direction)) {
    let outcome: 'allow' | 'deny' | 'pass' | undefined;
    for (const policy of policies) {
      const what =
        policy.namespace === '' ? `policy ${policy.name}` : `policy ${policy.namespace}/${policy.name}`;
      outcome = judge(facts, policy[direction] ?? [], packet, step =>
        steps.push({ tier: name, what, ...step }),
      );
      if (outcome) break;
    }
    if (!outcome) {
      outcome = otherwise;
      steps.push({ tier: name, what: `end of tier ${name}`, outcome });
    }
    if (outcome !== 'pass') return decided(outcome);
  }
  if (direction === 'ingress' && packet.isTranslated && isPublished(endpoint, packet)) {
    steps.push({ what: 'published port', outcome: 'allow' });
    return decided('allow');
  }
  for (const name of endpoint.profiles) {
    const profile = profileNamed(facts, name);
    const what = profile ? `profile ${name}` : `profile ${name}, which does not exist`;
    const rules = (profile ?? missingProfile(name))[direction];
    const outcome = judge(facts, rules, packet, step => steps.push({ what, ...step }));
    // There is no tier to pass on from: Pass ends the profile.
    if (outcome && outcome !== 'pass') return decided(outcome);
  }
  const what = endpoint.profiles.length === 0 ? 'the endpoint has no profile' : 'end of profiles';
  steps.push({ what, outcome: 'deny' });
  return decided('deny');
}

/** Tiers with a policy that applies, in order, with those policies, in order. */
function applicableTiers(facts: PolicyFacts, endpoint: PolicyEndpoint, direction: Direction) {
  const labels = effectiveLabels(endpoint, name => profileNamed(facts, name));
  // By key, which decides between those that are equal in all else.
  const sorted = [...facts.policies].sort(([a], [b]) => compare(a, b)).map(([, policy]) => policy);
  const applicable = sorted.filter(policy => policy[direction] && policy.selector.matches(labels));
  const names = new Set(applicable.map(({ tier }) => tier));
  const tiers = [...names].map(name => {
    const tier = facts.tiers.get(name);
    const policies = applicable.filter(policy => policy.tier === name).sort(byOrder);
    // As in Felix, policies of a tier that does not exist come after all others, and it denies at its end.
    return {
      name,
      policies,
      exists: tier !== undefined,
      order: tier?.order ?? Infinity,
      otherwise: tier?.otherwise ?? 'deny',
    };
  });
  return tiers.sort(
    (a, b) => Number(b.exists) - Number(a.exists) || compare(a.order, b.order) || compare(a.name, b.name),
  );
}

/** Ties are broken by what the user sees: name, namespace, kind. */
function byOrder(a: Policy, b: Policy): number {
  const text = ({ name, namespace }: Policy) =>
    `${name}/${namespace}/${namespace === '' ? 'GlobalNetworkPolicy' : 'NetworkPolicy'}`;
  return compare(a.order, b.order) || compare(text(a), text(b));
}

function compare<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** What a list of rules does; undefined where no rule decides. */
function judge(
  facts: PolicyFacts,
  rules: readonly Rule[],
  packet: Packet,
  note: (step: Pick<Step, 'rule' | 'outcome'>) => void,
): 'allow' | 'deny' | 'pass' | undefined {
  for (const [index, rule] of rules.entries()) {
    const why = mismatch(facts, rule, packet);
    note({ rule: index + 1, outcome: why === undefined ? rule.action : { mismatch: why } });
    if (why === undefined && rule.action !== 'log') return rule.action;
  }
  return undefined;
}

function isPublished({ published }: PolicyEndpoint, packet: Packet): boolean {
  return published.some(
    ({ address, protocol, port }) =>
      address === packet.destination && protocol === packet.protocol && port === packet.destinationPort,
  );
}

/** What happens to a packet on its whole way: what of it is ours to judge, in order. */
export interface PathEvaluation {
  readonly verdict: Verdict;
  readonly egress?: Evaluation & { readonly endpoint: PolicyEndpoint };
  /** Absent where the packet does not get that far. */
  readonly ingress?: Evaluation & { readonly endpoint: PolicyEndpoint };
}

/**
 * The sender's egress, where the source is an endpoint, then the receiver's ingress, where the destination is one. What the
 * host itself sends is another question: see `fromHost` in HostPolicy.
 */
export function evaluatePath(facts: PolicyFacts, packet: Packet): PathEvaluation {
  const sender = endpointAt(facts, packet.source);
  const receiver = endpointAt(facts, packet.destination);
  const egress = sender && { ...evaluate(facts, sender, 'egress', packet), endpoint: sender };
  if (egress?.verdict === 'deny') return { verdict: 'deny', egress };
  const ingress = receiver && { ...evaluate(facts, receiver, 'ingress', packet), endpoint: receiver };
  return {
    verdict: ingress?.verdict ?? 'allow',
    ...(egress ? { egress } : {}),
    ...(ingress ? { ingress } : {}),
  };
}

/** The endpoint that has an address. */
export function endpointAt(facts: PolicyFacts, address: string): PolicyEndpoint | undefined {
  return [...facts.endpoints.values()].find(({ addresses }) => addresses.includes(address));
}
