import type { ConsentedPort, Direction, EndpointPolicy, HostPolicy, Judgement } from '../host/policy.js';
import { isClosed } from './facts.js';
import type { PolicyEndpoint } from './facts.js';
import type { Judgements, SharedJudgement } from './judgements.js';

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

/** Where an endpoint's judgement comes from. */
export interface Court {
  readonly judgements: Judgements;
  /** Of the policies that apply to an endpoint: whoever has the same, and the same profiles, is judged alike. */
  selectorsOf(endpoint: string): string[];
  judge(direction: Direction, selectors: readonly string[], profiles: readonly string[]): Judgement;
}

/** The endpoints of this host, each with what is enforced for it; judged anew when something has changed for them. */
export class LocalEndpoints {
  private readonly local = new Map<string, Local>();
  private readonly stale = new Set<string>();
  private portsChanged = false;
  /**
   * By what decides it: judgements of this turn. Whoever is judged first holds it until the turn ends, so it is not gone when
   * the next asks. With a thousand endpoints that are alike, sorting their policies for each takes seconds.
   */
  private readonly judged = new Map<string, SharedJudgement>();

  /** `endpoints`: of all hosts; kept by the caller. */
  constructor(
    private readonly node: string,
    private readonly endpoints: ReadonlyMap<string, PolicyEndpoint>,
    private readonly court: Court,
  ) {}

  /** Whether it is an endpoint of this host, or was one when it was last resolved. */
  has(key: string): boolean {
    return this.local.has(key);
  }

  /** Something that decides about it has changed. */
  touch(key: string): void {
    this.stale.add(key);
  }

  touchAll(): void {
    for (const key of this.local.keys()) this.stale.add(key);
  }

  /** An endpoint was another before. `isOpen`: whether its labels are known; else nothing passes. */
  changed(key: string, before: PolicyEndpoint | undefined, isOpen: boolean): void {
    const endpoint = this.endpoints.get(key);
    if (endpoint?.node === this.node) {
      const local = this.local.get(key);
      if (local) local.isOpen = isOpen;
      else this.local.set(key, { isOpen });
    }
    if (!this.local.has(key)) return;
    this.stale.add(key);
    this.portsChanged ||= JSON.stringify(before?.published) !== JSON.stringify(endpoint?.published);
    // What they may send from, or who has an interface, depends on each other.
    for (const [other] of this.local)
      if ([before, endpoint].some(one => one && isAkin(one, this.endpoints.get(other))))
        this.stale.add(other);
  }

  /** What is enforced now, by interface; the same map where it is as `current`. */
  resolve(current: HostPolicy['endpoints']): HostPolicy['endpoints'] {
    if (this.stale.size === 0) return current;
    const next = new Map(current);
    let isChanged = false;
    for (const key of this.stale) {
      const local = this.local.get(key);
      if (!local) continue;
      const before = local.placed;
      const after = this.place(key, local);
      local.placed = after;
      // After the new one has taken what it needs: what both need stays.
      for (const shared of before?.shared ?? []) this.court.judgements.release(shared, !after);
      if (this.endpoints.get(key)?.node !== this.node) this.local.delete(key);
      if (before && before.name !== after?.name && next.get(before.name) === before.policy)
        isChanged = next.delete(before.name);
      if (!after || next.get(after.name) === after.policy) continue;
      next.set(after.name, after.policy);
      isChanged = true;
    }
    this.stale.clear();
    this.judged.clear();
    return isChanged ? next : current;
  }

  /** The ports that are published now; the same list where it is as `current`. `isSame`: the endpoints are. */
  consented(current: readonly ConsentedPort[], isSame: boolean): readonly ConsentedPort[] {
    if (isSame && !this.portsChanged) return current;
    this.portsChanged = false;
    const found = [...this.local.keys()].flatMap(key => this.endpoints.get(key)?.published ?? []);
    return JSON.stringify(found) === JSON.stringify(current) ? current : found;
  }

  /** Judges an endpoint anew; undefined where it went or is closed. */
  private place(key: string, { isOpen, placed }: Local): Placed | undefined {
    const endpoint = this.endpoints.get(key);
    if (endpoint?.node !== this.node || !isOpen || isClosed(endpoint)) return undefined;
    const selectors = this.court.selectorsOf(key);
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
    const { judgements } = this.court;
    const decisive = JSON.stringify([direction, selectors, profiles]);
    const known = this.judged.get(decisive);
    if (known) return judgements.acquireAgain(known);
    const shared = judgements.acquire(direction, this.court.judge(direction, selectors, profiles));
    this.judged.set(decisive, shared);
    return shared;
  }

  /** By any of its container's interfaces. */
  private sourcesOf(endpoint: PolicyEndpoint): string[] {
    const all = new Set(endpoint.addresses);
    if (endpoint.sandbox !== undefined)
      for (const key of this.local.keys()) {
        const other = this.endpoints.get(key);
        if (other?.sandbox === endpoint.sandbox) for (const address of other.addresses) all.add(address);
      }
    return [...all].sort();
  }
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
