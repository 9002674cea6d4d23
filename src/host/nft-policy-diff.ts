import { PolicyChains, sameLines } from './nft-policy-chains.js';
import type { Chains } from './nft-policy-base.js';
import {
  FIXED_SETS,
  addressSets,
  consentedElements,
  endpointElements,
  family,
  isRanges,
  portSets,
} from './nft-policy-sets.js';
import type { FilledSet, SetType } from './nft-policy-sets.js';
import { addressSet } from './nft-policy-names.js';
import type { AddressSet, EndpointPolicy, HostPolicy, SetId } from './policy.js';

/** A key that comes into a set or goes; `verdict`: of a map's. */
export interface ElementChange {
  readonly set: string;
  readonly type: SetType;
  readonly key: string;
  readonly verdict: string | undefined;
}

/** What has to be done to the kernel's table; parts in the order in which they can be done. */
export interface PolicyChange {
  readonly addSets: ReadonlyMap<string, SetType>;
  /** New chains; empty at first, since they name each other. */
  readonly addChains: readonly string[];
  /** Chains whose rules are replaced, the new ones too. */
  readonly fillChains: Chains;
  /** Before `addElements`: a key may get another verdict. */
  readonly removeElements: readonly ElementChange[];
  readonly addElements: readonly ElementChange[];
  readonly removeChains: readonly string[];
  readonly removeSets: readonly string[];
}

/** A policy with what it is in the kernel. */
export interface Rendered {
  readonly policy: HostPolicy;
  readonly chains: Chains;
}

/** Whether there is nothing to do. */
export function isEmpty(change: PolicyChange): boolean {
  const { addSets, fillChains, addElements, removeElements, removeChains, removeSets, addChains } = change;
  const lists = [addChains, addElements, removeElements, removeChains, removeSets];
  return addSets.size + fillChains.size === 0 && lists.every(list => list.length === 0);
}

/** Closed: what an empty table enforces. */
export const NOTHING: Rendered = {
  policy: {
    endpoints: new Map(),
    rules: new Map(),
    addressSets: new Map(),
    portSets: new Map(),
    consented: [],
    fromHost: 'allow',
  },
  chains: new Map(),
};

/** Makes changes; what keeps its identity from one policy to the next is not looked at. */
export class PolicyDiff {
  private readonly chains = new PolicyChains();

  /** Throws HostError for nonsense in the policy. */
  render(policy: HostPolicy): Rendered {
    return { policy, chains: this.chains.all(policy) };
  }

  /** What makes a table that is as `before` as `after`. */
  change(before: Rendered, after: Rendered): PolicyChange {
    const sets = new SetChanges();
    this.endpoints(before.policy, after.policy, sets);
    if (before.policy.consented !== after.policy.consented) {
      sets.replace(consentedElements(before.policy.consented), consentedElements(after.policy.consented));
    }
    eachChange(before.policy.addressSets, after.policy.addressSets, (id, old, now) => {
      if (old !== undefined && now !== undefined && !isRanges(old) && !isRanges(now))
        sets.addresses(id, old, now);
      else sets.sets(old && addressSets(id, old), now && addressSets(id, now));
    });
    eachChange(before.policy.portSets, after.policy.portSets, (id, old, now) =>
      sets.sets(old && portSets(id, old), now && portSets(id, now)),
    );
    return { ...chainChanges(before.chains, after.chains), ...sets.result() };
  }

  private endpoints(before: HostPolicy, after: HostPolicy, sets: SetChanges): void {
    const isSameHost = before.fromHost === after.fromHost;
    const elements = (
      name: string,
      endpoint: EndpointPolicy | undefined,
      { fromHost }: HostPolicy,
    ): Listed =>
      endpoint === undefined
        ? []
        : endpointElements(
            name,
            endpoint,
            {
              ingress: this.chains.chainOf(endpoint.ingress, 'ingress'),
              egress: this.chains.chainOf(endpoint.egress, 'egress'),
            },
            fromHost,
          );
    const changed = (name: string, old: EndpointPolicy | undefined, now: EndpointPolicy | undefined): void =>
      sets.replace(elements(name, old, before), elements(name, now, after));
    if (isSameHost) eachChange(before.endpoints, after.endpoints, changed);
    else {
      for (const [name, old] of before.endpoints) changed(name, old, after.endpoints.get(name));
      for (const [name, now] of after.endpoints)
        if (!before.endpoints.has(name)) changed(name, undefined, now);
    }
  }
}

type Listed = readonly (readonly [set: string, key: string, verdict: string | undefined])[];

/** Calls back for each key whose value is not the same object before and after. */
function eachChange<T>(
  before: ReadonlyMap<string, T>,
  after: ReadonlyMap<string, T>,
  changed: (key: string, old: T | undefined, now: T | undefined) => void,
): void {
  if (before === after) return;
  for (const [key, old] of before) {
    const now = after.get(key);
    if (now !== old) changed(key, old, now);
  }
  for (const [key, now] of after) if (!before.has(key)) changed(key, undefined, now);
}

function chainChanges(
  before: Chains,
  after: Chains,
): Pick<PolicyChange, 'addChains' | 'fillChains' | 'removeChains'> {
  const addChains: string[] = [];
  const fillChains = new Map<string, readonly string[]>();
  if (before === after) return { addChains, fillChains, removeChains: [] };
  for (const [name, lines] of after) {
    const old = before.get(name);
    if (old === undefined) addChains.push(name);
    if (old === undefined || !sameLines(old, lines)) fillChains.set(name, lines);
  }
  return { addChains, fillChains, removeChains: [...before.keys()].filter(name => !after.has(name)) };
}

/** Gathers what changes in sets. */
class SetChanges {
  private readonly addSets = new Map<string, SetType>();
  private readonly removeSets: string[] = [];
  private readonly add: ElementChange[] = [];
  private readonly remove: ElementChange[] = [];

  result(): Pick<PolicyChange, 'addSets' | 'removeSets' | 'addElements' | 'removeElements'> {
    const { addSets, removeSets, add: addElements, remove: removeElements } = this;
    return { addSets, removeSets, addElements, removeElements };
  }

  /** Elements of fixed sets. */
  replace(before: Listed, after: Listed): void {
    const text = ([set, key, verdict]: Listed[number]): string => `${set} ${key} : ${verdict ?? ''}`;
    const [old, now] = [before, after].map(list => new Map(list.map(element => [text(element), element])));
    for (const [id, element] of old ?? []) if (now?.has(id) !== true) this.fixed(this.remove, element);
    for (const [id, element] of now ?? []) if (old?.has(id) !== true) this.fixed(this.add, element);
  }

  /** A selector's set of single addresses that was such before. */
  addresses(id: SetId, before: AddressSet, after: AddressSet): void {
    for (const address of after.addresses)
      if (!before.addresses.has(address)) this.add.push(addressChange(id, address));
    for (const address of before.addresses)
      if (!after.addresses.has(address)) this.remove.push(addressChange(id, address));
  }

  /** Sets of one kind of content; undefined: not there. */
  sets(before: readonly FilledSet[] = [], after: readonly FilledSet[] = []): void {
    const old = new Map(before.map(set => [set.name, set]));
    const now = new Map(after.map(set => [set.name, set]));
    for (const [name, { type, elements }] of now) {
      if (!old.has(name)) this.addSets.set(name, type);
      for (const [key, verdict] of elements)
        if (old.get(name)?.elements.has(key) !== true) this.add.push({ set: name, type, key, verdict });
    }
    for (const [name, { type, elements }] of old) {
      const kept = now.get(name);
      if (kept === undefined) this.removeSets.push(name);
      else
        for (const [key, verdict] of elements)
          if (!kept.elements.has(key)) this.remove.push({ set: name, type, key, verdict });
    }
  }

  private fixed(to: ElementChange[], [set, key, verdict]: Listed[number]): void {
    const type = FIXED_SETS[set];
    if (type) to.push({ set, type, key, verdict });
  }
}

const ADDRESS_TYPES: Readonly<Record<4 | 6, SetType>> = {
  4: { fields: ['ipv4_addr'], isMap: false, isRanges: false },
  6: { fields: ['ipv6_addr'], isMap: false, isRanges: false },
};

function addressChange(id: SetId, address: string): ElementChange {
  const n = family(address);
  return { set: addressSet(id, n, false), type: ADDRESS_TYPES[n], key: address, verdict: undefined };
}
