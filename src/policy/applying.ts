import type { Direction, Judgement } from '../host/policy.js';
import type { Policy } from '../model/policy.js';
import type { Labels, Selector } from '../model/selector-tree.js';
import type { Tier } from '../model/tier.js';
import { judge } from './judgements.js';
import { SelectorIndex } from './selector-index.js';
import { added, removed } from './set-map.js';

/** Which policies apply to which endpoints of this host. */
export class ApplyingPolicies {
  readonly policies = new Map<string, Policy>();
  private readonly endpoints = new SelectorIndex();
  private readonly ofSelector = new Map<string, Set<string>>();

  /** `moved` is told of endpoints to which other policies apply than before, or the same in another order. */
  constructor(private readonly moved: (endpoint: string) => void) {}

  set(key: string, policy: Policy | undefined): void {
    const before = this.policies.get(key);
    if (policy) this.policies.set(key, policy);
    else this.policies.delete(key);
    if (before && policy && samePlace(before, policy)) return;
    if (before) this.dropSelector(before.selector, key);
    if (policy) this.addSelector(policy.selector, key);
  }

  /** Labels of an endpoint of this host; undefined: it is none any more. */
  setEndpoint(key: string, labels: Labels | undefined): void {
    if (this.endpoints.set(key, labels)) this.moved(key);
  }

  /** The selectors that match an endpoint: whoever has the same, and the same profiles, is judged alike. */
  selectorsOf(endpoint: string): string[] {
    return [...this.endpoints.matching(endpoint)].sort();
  }

  /** How whoever matches these selectors is judged. */
  judge(
    direction: Direction,
    selectors: readonly string[],
    profiles: readonly string[],
    tiers: ReadonlyMap<string, Tier>,
  ): Judgement {
    const applying = selectors.flatMap(text =>
      [...(this.ofSelector.get(text) ?? [])].flatMap(key => {
        const policy = this.policies.get(key);
        return policy ? [[key, policy] as const] : [];
      }),
    );
    return judge(direction, applying, profiles, tiers);
  }

  private addSelector(selector: Selector, policy: string): void {
    added(this.ofSelector, selector.text, policy);
    this.endpoints.add(selector);
    for (const key of this.endpoints.itemsOf(selector.text)) this.moved(key);
  }

  private dropSelector({ text }: Selector, policy: string): void {
    for (const key of this.endpoints.itemsOf(text)) this.moved(key);
    removed(this.ofSelector, text, policy);
    if (!this.ofSelector.has(text)) this.endpoints.delete(text);
  }
}

/** True where a change of a policy changes nothing but its rules. */
function samePlace(a: Policy, b: Policy): boolean {
  return (
    a.selector.text === b.selector.text &&
    a.tier === b.tier &&
    a.order === b.order &&
    a.name === b.name &&
    !a.ingress === !b.ingress &&
    !a.egress === !b.egress
  );
}
