import type { AddressSet, HostRule, PortSet, RulesId, SetId } from '../host/policy.js';
import type { Labels } from '../model/selector-tree.js';
import { formatCidr } from '../ipam/cidr.js';
import type { NetworkSet } from '../model/network-set.js';
import type { Rule } from '../model/rule.js';
import { compileRules } from './compile.js';
import type { CompiledRules, NamedPortSelection } from './compile.js';
import type { PolicyEndpoint } from './facts.js';
import { SelectorIndex } from './selector-index.js';

interface List {
  uses: number;
  source: readonly Rule[];
  compiled: CompiledRules;
}

interface PortSelection {
  uses: number;
  readonly selection: NamedPortSelection;
}

/**
 * The lists of rules that some endpoint of this host needs, and the sets that those name with all that is in them, on
 * whichever host. What did not change keeps its identity.
 */
export class ActiveRules {
  private readonly lists = new Map<RulesId, List>();
  /** How many lists name each set. */
  private readonly addressUses = new Map<SetId, number>();
  private readonly portSelections = new Map<SetId, PortSelection>();
  private readonly members = new Map<string, PolicyEndpoint | NetworkSet>();
  private readonly index = new SelectorIndex(selector => this.staleSets.add(selector));
  private readonly staleLists = new Set<RulesId>();
  private readonly staleSets = new Set<SetId>();
  private readonly stalePorts = new Set<SetId>();

  rules: ReadonlyMap<RulesId, readonly HostRule[]> = new Map();
  addressSets: ReadonlyMap<SetId, AddressSet> = new Map();
  portSets: ReadonlyMap<SetId, PortSet> = new Map();

  /** `rulesOf`: what a list is, by its id. */
  constructor(private readonly rulesOf: (id: RulesId) => readonly Rule[]) {}

  /** An endpoint or network set that selectors may select, with the labels they see; undefined: it went. */
  setMember(key: string, member: PolicyEndpoint | NetworkSet | undefined, labels: Labels): void {
    const before = this.members.get(key);
    if (member) this.members.set(key, member);
    else this.members.delete(key);
    const isSameInside = before && member && sameContent(before, member);
    const moved = this.index.set(key, member && labels);
    if (!isSameInside) for (const selector of this.index.matching(key)) this.staleSets.add(selector);
    if (isSameInside && !moved) return;
    const changed = [...new Set([before, member].flatMap(each => namedPorts(each).map(({ name }) => name)))];
    if (changed.length === 0) return;
    for (const [id, { selection }] of this.portSelections)
      if (changed.some(name => selection.names.has(name))) this.stalePorts.add(id);
  }

  /** One more needs the list. */
  acquire(id: RulesId): void {
    const list = this.lists.get(id);
    if (list) {
      list.uses += 1;
      return;
    }
    const source = this.rulesOf(id);
    const compiled = compileRules(source);
    this.lists.set(id, { uses: 1, source, compiled });
    this.acquireSets(compiled);
    this.staleLists.add(id);
  }

  /** One less needs it. */
  release(id: RulesId): void {
    const list = this.lists.get(id);
    if (!list) return;
    list.uses -= 1;
    if (list.uses > 0) return;
    this.lists.delete(id);
    this.releaseSets(list.compiled);
    this.staleLists.add(id);
  }

  /** The rules of the list may be others now. */
  refresh(id: RulesId): void {
    const list = this.lists.get(id);
    const source = list && this.rulesOf(id);
    if (!list || !source || source === list.source) return;
    const before = list.compiled;
    list.source = source;
    list.compiled = compileRules(source);
    this.acquireSets(list.compiled);
    this.releaseSets(before);
    this.staleLists.add(id);
  }

  /** Brings `rules` and the sets up to date. */
  settle(): void {
    this.rules = settled(this.rules, this.staleLists, id => this.lists.get(id)?.compiled.rules);
    this.addressSets = settled(this.addressSets, this.staleSets, id =>
      this.addressUses.has(id) ? this.addressSet(id) : undefined,
    );
    this.portSets = settled(this.portSets, this.stalePorts, id => {
      const selection = this.portSelections.get(id)?.selection;
      return selection && this.portSet(selection);
    });
  }

  private acquireSets({ addressSets, portSets }: CompiledRules): void {
    for (const [id, selector] of addressSets) {
      const uses = this.addressUses.get(id) ?? 0;
      this.addressUses.set(id, uses + 1);
      if (uses > 0) continue;
      this.index.add(selector);
      this.staleSets.add(id);
    }
    for (const [id, selection] of portSets) {
      const known = this.portSelections.get(id);
      if (known) known.uses += 1;
      else this.portSelections.set(id, { uses: 1, selection });
      if (!known) this.stalePorts.add(id);
    }
  }

  private releaseSets({ addressSets, portSets }: CompiledRules): void {
    for (const id of addressSets.keys()) {
      const uses = (this.addressUses.get(id) ?? 0) - 1;
      if (uses > 0) this.addressUses.set(id, uses);
      else {
        this.addressUses.delete(id);
        this.index.delete(id);
        this.staleSets.add(id);
      }
    }
    for (const id of portSets.keys()) {
      const known = this.portSelections.get(id);
      if (!known) continue;
      known.uses -= 1;
      if (known.uses > 0) continue;
      this.portSelections.delete(id);
      this.stalePorts.add(id);
    }
  }

  private addressSet(id: SetId): AddressSet {
    const addresses = new Set<string>();
    const nets = new Set<string>();
    for (const key of this.index.itemsOf(id)) {
      const member = this.members.get(key);
      if (!member) continue;
      if ('nets' in member) for (const net of member.nets) nets.add(formatCidr(net));
      else for (const address of member.addresses) addresses.add(address);
    }
    return { addresses, nets: [...nets].sort() };
  }

  private portSet({ names, protocol, selector }: NamedPortSelection): PortSet {
    const found = new Set<string>();
    for (const [key, member] of this.members)
      for (const port of namedPorts(member)) {
        if (!names.has(port.name) || protocol !== port.protocol || 'nets' in member) continue;
        // Whoever is selected here is in the address set of the same selector.
        if (selector && !this.index.matches(selector.text, key)) continue;
        for (const address of member.addresses) found.add(`${address} ${port.protocol} ${port.port}`);
      }
    return found;
  }
}

function namedPorts(member: PolicyEndpoint | NetworkSet | undefined): PolicyEndpoint['namedPorts'] {
  return member && 'namedPorts' in member ? member.namedPorts : [];
}

function sameContent(a: PolicyEndpoint | NetworkSet, b: PolicyEndpoint | NetworkSet): boolean {
  if ('nets' in a || 'nets' in b) return a === b;
  return (
    a.addresses.join() === b.addresses.join() && JSON.stringify(a.namedPorts) === JSON.stringify(b.namedPorts)
  );
}

/** A map with what is stale put right: the same map where nothing was. Empties `stale`. */
function settled<T>(
  map: ReadonlyMap<string, T>,
  stale: Set<string>,
  valueOf: (id: string) => T | undefined,
): ReadonlyMap<string, T> {
  if (stale.size === 0) return map;
  const next = new Map(map);
  for (const id of stale) {
    const value = valueOf(id);
    if (value === undefined) next.delete(id);
    else next.set(id, value);
  }
  stale.clear();
  return next;
}
