import type { ConsentedPort, Direction, EndpointPolicy, HostPolicy } from '../host/policy.js';
import type { NetworkSet } from '../model/network-set.js';
import type { Policy } from '../model/policy.js';
import { missingProfile } from '../model/profile.js';
import type { Profile } from '../model/profile.js';
import type { Rule } from '../model/rule.js';
import type { Tier } from '../model/tier.js';
import { ActiveRules } from './active-rules.js';
import { ApplyingPolicies } from './applying.js';
import { effectiveLabels, isClosed, profileNamed } from './facts.js';
import type { PolicyEndpoint, PolicyFacts } from './facts.js';
import { Judgements, parseRulesId, policyRulesId, profileRulesId } from './judgements.js';
import type { SharedJudgement } from './judgements.js';

const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];
/** Judgements that stay in the kernel when nobody needs them: those of as many networks, both ways. */
const SPARES = 64;

/** An endpoint of this host. */
interface Local {
  isOpen: boolean;
  /** What is enforced for it, by which interface; nothing while it is closed. */
  placed?: Placed | undefined;
}

interface Placed {
  readonly name: string;
  readonly policy: EndpointPolicy;
  readonly shared: readonly SharedJudgement[];
}

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
  private readonly local = new Map<string, Local>();
  private readonly endpointsOfProfile = new Map<string, Set<string>>();
  private readonly applying = new ApplyingPolicies(endpoint => this.stale.add(endpoint));
  private readonly active = new ActiveRules(id => this.rulesOf(id));
  private readonly judgements: Judgements;
  /**
   * By what decides it: judgements of this turn. Whoever is judged first holds it until the turn ends, so it is not gone when
   * the next asks. With a thousand endpoints that are alike, sorting their policies for each takes seconds.
   */
  private readonly judged = new Map<string, SharedJudgement>();
  /** Endpoints of this host to judge anew. */
  private readonly stale = new Set<string>();
  private portsChanged = false;
  /** Addresses of endpoints of other hosts, also of those that went; the dataplane knows who left this host. */
  private readonly elsewhere = new Set<string>();
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
    const { rules, addressSets, portSets } = this.active;
    const { elsewhere } = this;
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
    for (const key of this.local.keys()) this.stale.add(key);
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
      if (endpoint?.node !== this.node) this.elsewhere.add(address);
    for (const name of before?.profiles ?? []) this.endpointsOfProfile.get(name)?.delete(key);
    for (const name of endpoint?.profiles ?? []) added(this.endpointsOfProfile, name, key);
    if (endpoint?.node === this.node) {
      const local = this.local.get(key);
      if (local) local.isOpen = isOpen;
      else this.local.set(key, { isOpen });
    }
    if (this.local.has(key)) {
      this.stale.add(key);
      this.portsChanged ||= JSON.stringify(before?.published) !== JSON.stringify(endpoint?.published);
      // What they may send from, or who has an interface, depends on each other.
      for (const [other] of this.local)
        if ([before, endpoint].some(one => one && isAkin(one, this.endpoints.get(other))))
          this.stale.add(other);
    }
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
    const endpoints = this.resolveEndpoints();
    this.active.settle();
    const { rules, addressSets, portSets } = this.active;
    const { elsewhere, judgements } = this;
    const { fromHost } = this.current;
    const consented = this.consented(endpoints);
    const { spares } = judgements;
    const next = { endpoints, rules, addressSets, portSets, spares, consented, elsewhere, fromHost };
    if (!sameParts(next, this.current)) this.current = next;
    return this.current;
  }

  private resolveEndpoints(): ReadonlyMap<string, EndpointPolicy> {
    if (this.stale.size === 0) return this.current.endpoints;
    const next = new Map(this.current.endpoints);
    let isChanged = false;
    for (const key of this.stale) {
      const local = this.local.get(key);
      if (!local) continue;
      const before = local.placed;
      const after = this.place(key, local);
      local.placed = after;
      // After the new one has taken what it needs: what both need stays.
      for (const shared of before?.shared ?? []) this.judgements.release(shared, !after);
      if (this.endpoints.get(key)?.node !== this.node) this.local.delete(key);
      if (before && before.name !== after?.name && next.get(before.name) === before.policy)
        isChanged = next.delete(before.name);
      if (!after || next.get(after.name) === after.policy) continue;
      next.set(after.name, after.policy);
      isChanged = true;
    }
    this.stale.clear();
    this.judged.clear();
    return isChanged ? next : this.current.endpoints;
  }

  /** Judges an endpoint of this host anew; undefined where it went or is closed. */
  private place(key: string, { isOpen, placed }: Local): Placed | undefined {
    const endpoint = this.endpoints.get(key);
    if (endpoint?.node !== this.node || !isOpen || isClosed(endpoint)) return undefined;
    const selectors = this.applying.selectorsOf(key);
    const judged = (direction: Direction) => this.judgementOf(direction, selectors, endpoint.profiles);
    const [ingress, egress] = [judged('ingress'), judged('egress')];
    const policy: EndpointPolicy = {
      mac: endpoint.mac,
      sources: this.sourcesOf(endpoint),
      ingress: ingress.judgement,
      egress: egress.judgement,
    };
    const isSame = placed && sameEndpoint(placed.policy, policy);
    return {
      name: endpoint.interfaceName,
      policy: isSame ? placed.policy : policy,
      shared: [ingress, egress],
    };
  }

  /** Acquires it. `selectors`: those that match the endpoint, sorted. */
  private judgementOf(
    direction: Direction,
    selectors: readonly string[],
    profiles: readonly string[],
  ): SharedJudgement {
    const decisive = JSON.stringify([direction, selectors, profiles]);
    const known = this.judged.get(decisive);
    if (known) return this.judgements.acquireAgain(known);
    const judgement = this.applying.judge(direction, selectors, profiles, this.tiers);
    const shared = this.judgements.acquire(direction, judgement);
    this.judged.set(decisive, shared);
    return shared;
  }

  private sourcesOf(endpoint: PolicyEndpoint): string[] {
    const all = new Set(endpoint.addresses);
    if (endpoint.sandbox !== undefined)
      for (const key of this.local.keys()) {
        const other = this.endpoints.get(key);
        if (other?.sandbox === endpoint.sandbox) for (const address of other.addresses) all.add(address);
      }
    return [...all].sort();
  }

  private consented(endpoints: HostPolicy['endpoints']): readonly ConsentedPort[] {
    if (endpoints === this.current.endpoints && !this.portsChanged) return this.current.consented;
    this.portsChanged = false;
    const found = [...this.local.keys()].flatMap(key => this.endpoints.get(key)?.published ?? []);
    return JSON.stringify(found) === JSON.stringify(this.current.consented) ? this.current.consented : found;
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

function added(map: Map<string, Set<string>>, key: string, value: string): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

/** In one container, or on one interface. */
function isAkin(a: PolicyEndpoint, b: PolicyEndpoint | undefined): boolean {
  if (!b) return false;
  return a.interfaceName === b.interfaceName || (a.sandbox !== undefined && a.sandbox === b.sandbox);
}

function sameEndpoint(a: EndpointPolicy, b: EndpointPolicy): boolean {
  return (
    a.mac === b.mac &&
    a.ingress === b.ingress &&
    a.egress === b.egress &&
    a.sources.join() === b.sources.join()
  );
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
