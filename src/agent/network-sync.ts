import type { DefinedNetwork } from '../docker/defined-network.js';
import { differences } from '../model/shared-network.js';
import type { SharedNetwork } from '../model/shared-network.js';

/** A network of this host, and whether it is of our driver and may be shared. */
export interface HereNetwork extends DefinedNetwork {
  readonly isOurs: boolean;
}

/** A shared network as it was read. */
export interface SharedEntry extends SharedNetwork {
  /** Of the key; what builds on it compares this. */
  readonly revision: string;
}

/**
 * A removal on this host. `waiting`: Docker does not list it, and has not said why; or the datastore was told a moment ago.
 * `unsure`: it may yet turn out to be a part of `docker network prune`.
 */
export type Removal = 'waiting' | 'unsure' | 'removed' | 'pruned';

/** What one host sees and remembers, as far as its networks are concerned. */
export interface SyncView {
  readonly node: string;
  readonly here: readonly HereNetwork[];
  readonly shared: ReadonlyMap<string, SharedEntry>;
  /** Names of networks by id, those of all hosts; undefined where it is not known yet. */
  readonly recorded: ReadonlyMap<string, string | undefined>;
  /** Names of those of this host, for the log. */
  readonly hadHere: ReadonlySet<string>;
  /** Ids of networks of this host that a container is in, or was a moment ago. */
  readonly inUse: ReadonlySet<string>;
  /** True where a container of another host is in the network of this name. */
  isUsedElsewhere(name: string, shared: SharedNetwork): boolean;
  /** By id: what this host made a moment ago, and for which uid. */
  readonly made: ReadonlyMap<string, string>;
  /** By id: networks of this host, and of which uid they were a copy when last looked at. */
  readonly copies: ReadonlyMap<string, string>;
  /** By uid. */
  readonly removals: ReadonlyMap<string, Removal>;
  /** Uids of what Docker here made otherwise than it was told. */
  readonly unmakeable: ReadonlySet<string>;
}

/** What to do now. All but `report` and `wait` change something, after which the host is looked at again. */
export type SyncAction =
  /** The network of this host becomes that of all; in place of `replaces`, where that was removed. */
  | { readonly kind: 'share'; readonly network: HereNetwork; readonly replaces?: SharedEntry }
  | { readonly kind: 'create'; readonly shared: SharedEntry }
  | { readonly kind: 'remove'; readonly network: HereNetwork; readonly why: string }
  /** Docker here made something else of `shared`: it goes, and is not made again. */
  | { readonly kind: 'give up'; readonly network: HereNetwork; readonly shared: SharedEntry }
  /** It was pruned here, which does not count, as others use it. */
  | { readonly kind: 'keep'; readonly shared: SharedEntry }
  /** It was removed here, so it is to go everywhere. */
  | { readonly kind: 'bury'; readonly shared: SharedEntry }
  /** It has gone everywhere. */
  | { readonly kind: 'forget'; readonly shared: SharedEntry }
  /** Something a person has to know, once for each `key`. */
  | { readonly kind: 'report'; readonly key: string; readonly name: string; readonly text: string }
  /** It goes when its last container has left it. */
  | { readonly kind: 'wait'; readonly network: HereNetwork };

/** Milliseconds after which any host may forget what was removed: the one that removed it may be gone for good. */
const ORPHANED = 600_000;

/**
 * What a host has to do so that its networks, and what the datastore says of them, become one. Pure, and level-triggered:
 * where all is well it answers with nothing, whatever happened before.
 */
export function decide(view: SyncView): SyncAction[] {
  const names = new Set([
    ...view.here.filter(({ isOurs }) => isOurs).map(({ name }) => name),
    ...view.shared.keys(),
  ]);
  return [...names].sort().flatMap(name => {
    const ours = view.here.filter(network => network.isOurs && network.name === name);
    // 20.10 can have two of one name. What the user made stays.
    const copy = ours.find(({ id }) => !view.made.has(id)) ?? ours[0];
    const doubles = ours.filter(network => network !== copy && view.made.has(network.id));
    return [
      ...doubles.flatMap(network => leave(view, network, 'there are two of this name')),
      ...decideOne(view, name, copy),
    ];
  });
}

function decideOne(view: SyncView, name: string, copy: HereNetwork | undefined): SyncAction[] {
  const shared = view.shared.get(name);
  if (!shared) {
    if (!copy) return [];
    // It was removed everywhere while it was being made here.
    if (view.made.has(copy.id)) return leave(view, copy, 'it was removed on another host');
    return [{ kind: 'share', network: copy }];
  }
  if (shared.removed) return copy ? buried(view, shared, copy) : forgettable(view, shared);
  return copy ? alive(view, shared, copy) : missing(view, shared);
}

/** Removed, and this host has a network of that name. */
function buried(view: SyncView, shared: SharedEntry, copy: HereNetwork): SyncAction[] {
  const isSame = differences(copy.definition, shared.definition).length === 0;
  const isOld =
    copy.id === shared.uid ||
    (shared.old.includes(copy.id) && isSame) ||
    view.made.has(copy.id) ||
    view.copies.get(copy.id) === shared.uid;
  if (isOld) return leave(view, copy, `it was removed on ${shared.removed?.by ?? 'another host'}`);
  // Made since by a user, or different all along: it has the name to itself now.
  return [{ kind: 'share', network: copy, replaces: shared }];
}

function alive(view: SyncView, shared: SharedEntry, copy: HereNetwork): SyncAction[] {
  const conflict = nameDiffers(shared, copy);
  const removed = removal(view, shared);
  // The datastore was told that the old one goes, and a user has made the same again.
  if (!conflict) return removed ?? [];
  if (shared.old.includes(copy.id))
    return leave(view, copy, `it was removed, and made anew on ${shared.createdBy}`);
  if (view.made.get(copy.id) === shared.uid)
    return view.inUse.has(copy.id) ? [] : [{ kind: 'give up', network: copy, shared }];
  // Removed here, and made with other flags before that was settled: it takes the place of the old one.
  if (removed) return removed;
  return reported(shared, copy, conflict);
}

/** Shared, and this host has none. */
function missing(view: SyncView, shared: SharedEntry): SyncAction[] {
  const { name, uid } = shared;
  const removed = removal(view, shared);
  if (removed) return removed;
  const other = view.here.find(network => network.name === name);
  if (other) return reported(shared, other, nameTaken(shared, other));
  return view.unmakeable.has(uid) ? [] : [{ kind: 'create', shared }];
}

function reported(shared: SharedEntry, other: HereNetwork, { text, remedy }: NameConflict): SyncAction[] {
  const key = `${shared.uid} ${other.id}`;
  return [{ kind: 'report', key, name: shared.name, text: `${text}; ${remedy}` }];
}

/** What is wrong with a network of a host that has the name of one of the cluster, and what to do. */
export interface NameConflict {
  readonly text: string;
  readonly remedy: string;
}

const REMEDY = 'remove one of the two, or give it another name';

/** The network that has the name is none of ours. */
export function nameTaken({ name, createdBy }: SharedNetwork, other: DefinedNetwork): NameConflict {
  return {
    text: `network ${name} of the cluster, made on ${createdBy}, cannot be made here: there is one of driver ${other.driver} with that name`,
    remedy: REMEDY,
  };
}

/** Ours, made otherwise; undefined where the two are the same. */
export function nameDiffers(
  { name, createdBy, definition }: SharedNetwork,
  other: DefinedNetwork,
): NameConflict | undefined {
  const differing = differences(other.definition, definition);
  if (differing.length === 0) return undefined;
  return {
    text: `network ${name} of this host is not that of the cluster, made on ${createdBy}: they differ in ${differing.join(', ')}. It stays as it is`,
    remedy: REMEDY,
  };
}

/** What follows from a removal on this host; undefined where there is none. */
function removal(view: SyncView, shared: SharedEntry): SyncAction[] | undefined {
  const how = view.removals.get(shared.uid);
  if (how === undefined) return undefined;
  if (how === 'waiting') return [];
  if (!view.isUsedElsewhere(shared.name, shared) || how === 'removed') return [{ kind: 'bury', shared }];
  // Pruned: what others use is not unused.
  return how === 'unsure' ? [] : [{ kind: 'keep', shared }];
}

/** Removed and gone here. One host is enough to forget it: first the one that removed it. */
function forgettable(view: SyncView, shared: SharedEntry): SyncAction[] {
  const { removed, old, name } = shared;
  const isLeft = old.some(id => {
    const recorded = view.recorded.get(id);
    return view.recorded.has(id) && (recorded === undefined || recorded === name);
  });
  if (isLeft || !removed) return [];
  const age = Date.now() - Date.parse(removed.at);
  return removed.by === view.node || !(age < ORPHANED) ? [{ kind: 'forget', shared }] : [];
}

function leave({ inUse }: SyncView, network: HereNetwork, why: string): SyncAction[] {
  return [inUse.has(network.id) ? { kind: 'wait', network } : { kind: 'remove', network, why }];
}
