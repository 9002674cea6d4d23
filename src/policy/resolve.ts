import { DIRECTIONS } from '../host/policy.js';
import type { Direction, HostPolicy } from '../host/policy.js';
import type { NetworkSet } from '../model/network-set.js';
import type { Policy } from '../model/policy.js';
import { missingProfile } from '../model/profile.js';
import type { Profile } from '../model/profile.js';
import type { Rule } from '../model/rule.js';
import type { Tier } from '../model/tier.js';
import { ActiveRules } from './active-rules.js';
import { ApplyingPolicies } from './applying.js';
import { Elsewhere } from './elsewhere.js';
import { effectiveLabels, profileNamed } from './facts.js';
import type { PolicyEndpoint, PolicyFacts } from './facts.js';
import { Judgements, parseRulesId, policyRulesId, profileRulesId } from './judgements.js';
import { LocalEndpoints } from './local-endpoints.js';
import { added, removed } from './set-map.js';

/** Judgements that stay in the kernel when nobody needs them: each is of one direction. */
const SPARES = 64;

/**
 * Turns facts into what this host enforces. It is told of each change, and {@link PolicyResolver.resolve} does what follows
 * from the changes since the last time: what did not change keeps its identity, the whole as well.
 */
export class PolicyResolver {
  private readonly tiers = new Map<string, Tier>();
  private readonly profiles = new Map<string, Profile>();
  private readonly askingProfiles = new Set<string>();
  private readonly networkSets = new Map<string, NetworkSet>();
  private readonly endpoints = new Map<string, PolicyEndpoint>();
  private readonly local: LocalEndpoints;
  private readonly endpointsOfProfile = new Map<string, Set<string>>();
  private readonly applying = new ApplyingPolicies(endpoint => this.local.touch(endpoint));
  private readonly active = new ActiveRules(id => this.rulesOf(id));
  private readonly judgements: Judgements;
  /** The dataplane knows who left this host. */
  private readonly elsewhere = new Elsewhere();
  private current: HostPolicy;

  constructor(
    private readonly node: string,
    fromHost: HostPolicy['fromHost'] = 'allow',
    spares = SPARES,
  ) {
    this.judgements = new Judgements(
      {
        needed: id => this.active.acquire(id),
        dropped: id => this.active.release(id),
        isThere: id => this.listOf(id) !== undefined,
      },
      spares,
    );
    const { judgements, applying, tiers } = this;
    this.local = new LocalEndpoints(node, this.endpoints, {
      judgements,
      selectorsOf: endpoint => applying.selectorsOf(endpoint),
      judge: (direction, selectors, profiles) => applying.judge(direction, selectors, profiles, tiers),
    });
    const { rules, addressSets, portSets } = this.active;
    const elsewhere = this.elsewhere.all;
    const kept = { rules, addressSets, portSets, spares: this.judgements.spares, elsewhere };
    this.current = { endpoints: new Map(), ...kept, consented: [], fromHost };
  }

  /** All that it was told. */
  get facts(): PolicyFacts {
    const { tiers, applying, profiles, networkSets, endpoints } = this;
    return { tiers, policies: applying.policies, profiles, networkSets, endpoints };
  }

  setTier(name: string, tier: Tier | undefined): void {
    put(this.tiers, name, tier);
    this.local.touchAll();
  }

  setPolicy(key: string, policy: Policy | undefined): void {
    this.applying.set(key, policy);
    this.refresh(direction => policyRulesId(key, direction), policy !== undefined);
  }

  setProfile(name: string, profile: Profile | undefined): void {
    const before = this.profiles.get(name);
    put(this.profiles, name, profile);
    if (profile && asksForLabels(profile)) this.askingProfiles.add(name);
    else this.askingProfiles.delete(name);
    this.refresh(direction => profileRulesId(name, direction), profile !== undefined);
    if (JSON.stringify(before?.labels) === JSON.stringify(profile?.labels)) return;
    for (const key of this.endpointsOfProfile.get(name) ?? []) this.label(key);
  }

  setNetworkSet(key: string, set: NetworkSet | undefined): void {
    put(this.networkSets, key, set);
    this.active.setMember(key, set, set?.labels ?? {});
  }

  /** `isOpen`: for one of this host, whether its labels are known; else nothing passes. */
  setEndpoint(key: string, endpoint: PolicyEndpoint | undefined, isOpen = true): void {
    const before = this.endpoints.get(key);
    put(this.endpoints, key, endpoint);
    for (const address of endpoint?.addresses ?? [])
      if (endpoint?.node !== this.node) this.elsewhere.note(address);
    for (const name of before?.profiles ?? []) removed(this.endpointsOfProfile, name, key);
    for (const name of endpoint?.profiles ?? []) added(this.endpointsOfProfile, name, key);
    this.local.changed(key, before, isOpen);
    this.label(key);
  }

  /**
   * Whether labels that a container brings could decide anything. Where there are no policies, and profiles select only by
   * labels that they give themselves, they could not.
   */
  get asksForLabels(): boolean {
    return this.applying.policies.size > 0 || this.askingProfiles.size > 0;
  }

  /** What the host is to enforce now. */
  resolve(): HostPolicy {
    const endpoints = this.local.resolve(this.current.endpoints);
    this.active.settle();
    const { rules, addressSets, portSets } = this.active;
    const elsewhere = this.elsewhere.all;
    const { fromHost } = this.current;
    const isSame = endpoints === this.current.endpoints;
    const consented = this.local.consented(this.current.consented, isSame);
    const { spares } = this.judgements;
    const next = { endpoints, rules, addressSets, portSets, spares, consented, elsewhere, fromHost };
    if (!sameParts(next, this.current)) this.current = next;
    return this.current;
  }

  /** Tells both indexes of the labels of an endpoint. */
  private label(key: string): void {
    const endpoint = this.endpoints.get(key);
    const labels = endpoint ? effectiveLabels(endpoint, name => this.profileOf(name)) : {};
    this.active.setMember(key, endpoint, labels);
    if (!this.local.has(key)) return;
    this.applying.setEndpoint(key, endpoint?.node === this.node ? labels : undefined);
  }

  /** The list's rules may be others now. */
  private refresh(id: (direction: Direction) => string, exists: boolean): void {
    for (const direction of DIRECTIONS) {
      if (!exists) this.judgements.forgetSpares(id(direction));
      this.active.refresh(id(direction));
    }
  }

  private profileOf(name: string): Profile | undefined {
    return profileNamed({ profiles: this.profiles }, name);
  }

  private rulesOf(id: string): readonly Rule[] {
    const { kind, direction, key } = parseRulesId(id);
    const list = this.listOf(id) ?? (kind === 'profile' ? missingProfile(key) : undefined);
    return list?.[direction] ?? [];
  }

  /** The policy or profile, if there is one. */
  private listOf(id: string): Policy | Profile | undefined {
    const { kind, key } = parseRulesId(id);
    return kind === 'policy' ? this.applying.policies.get(key) : this.profileOf(key);
  }
}

function asksForLabels({ labels, ingress, egress }: Profile): boolean {
  const own = new Set(Object.keys(labels).map(label => `has(${label})`));
  return [...ingress, ...egress]
    .flatMap(({ source, destination }) => [source, destination])
    .some(({ selector, notSelector }) => notSelector || (selector && !own.has(selector.text)));
}

function put<T>(map: Map<string, T>, key: string, value: T | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

function sameParts(a: HostPolicy, b: HostPolicy): boolean {
  return (
    a.endpoints === b.endpoints &&
    a.rules === b.rules &&
    a.addressSets === b.addressSets &&
    a.portSets === b.portSets &&
    a.spares === b.spares &&
    a.consented === b.consented
  );
}
