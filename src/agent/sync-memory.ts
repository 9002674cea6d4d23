import { differences } from '../model/shared-network.js';
import { Backoff } from './backoff.js';
import type { HereNetwork, Removal, SharedEntry } from './network-sync.js';

/** Milliseconds after the last network went for which `docker network prune` may yet say that it was the cause. */
const PRUNE_WINDOW = 1_500;
/**
 * Milliseconds for Docker to say that it destroyed what it no longer lists. Long, as a removal by a user must not be undone
 * for a dockerd under load; what it lost without a word can wait.
 */
const EVENT_PATIENCE = 15_000;
/** Milliseconds for which a removal waits at most while others go on. */
const PRUNE_PATIENCE = 10_000;
/** Milliseconds for which a network counts as used after its last container left it: it may be restarting. */
const RESTART = 1_000;
/** Milliseconds for which what we made is known as such: until then the datastore has surely said if it was removed. */
const FRESH = 60_000;
/** Milliseconds for which a removal is remembered: by then what was written before it has arrived, or never will. */
const REMEMBERED = 600_000;
/** Milliseconds from telling the datastore of a removal to doing it again: twice as many each time, at most the latter. */
const AGAIN = { first: 1_000, longest: 60_000 };

interface Copy {
  readonly name: string;
  readonly uid: string;
  /** Docker no longer lists it, and has not said why. */
  missingSince?: number;
}

interface Gone {
  readonly name: string;
  readonly at: number;
  isPruned: boolean;
  /** The datastore was told: what was written to it may arrive late. */
  isTold: boolean;
}

/**
 * What a host remembers between looks, to tell a removal by a user from a network that was never here, and what it made
 * itself from what a user made. Nothing of it has to outlive the daemon: forgotten, a removal is put back, never the other
 * way round. Times are in milliseconds of a clock that never goes back.
 */
export class SyncMemory {
  private readonly known = new Map<string, Copy>();
  private readonly recent = new Map<string, { readonly uid: string; readonly at: number }>();
  /** By name: what Docker was asked to make and has not answered. */
  private readonly asked = new Map<string, { readonly uid: string; readonly at: number }>();
  /** What Docker said has gone, by id. Ids do not come again: a list that has one is older than the word. */
  private readonly destroyed = new Map<string, { readonly at: number; isPruned: boolean }>();
  /** Removals by uid; also those that the datastore knows. */
  private readonly gone = new Map<string, Gone>();
  /** By uid. */
  private readonly again = new Backoff(AGAIN);
  private readonly used = new Set<string>();
  private readonly leftAt = new Map<string, number>();
  private lastDestroyed = -Infinity;
  /** Uids of what was pruned here and is to be put back, as others use it. */
  readonly kept = new Set<string>();
  readonly unmakeable = new Set<string>();

  /** Docker has destroyed a network. It may yet turn out that it was a copy: what we asked for was under way. */
  networkDestroyed(id: string, now: number): void {
    this.lastDestroyed = now;
    this.destroyed.set(id, { at: now, isPruned: false });
    this.settleDestroyed();
  }

  /** `docker network prune` has ended: what went may have gone by it. */
  pruned(): void {
    for (const removal of [...this.gone.values(), ...this.destroyed.values()]) removal.isPruned = true;
  }

  /** dockerd is away: whether it was about to say `prune` will not be known. */
  dockerLost(): void {
    this.pruned();
  }

  /** dockerd is back, perhaps without its data: what it lacks now nobody has removed. */
  dockerConnected(): void {
    this.known.clear();
    this.destroyed.clear();
    this.asked.clear();
  }

  /** Docker is being asked to make a network. */
  asking(name: string, uid: string, now: number): void {
    this.asked.set(name, { uid, at: now });
  }

  /** Docker will not. */
  refused(name: string): void {
    this.asked.delete(name);
  }

  /** Docker has made it. If it had been pruned, that is settled. */
  made(name: string, id: string, uid: string, now: number): void {
    this.asked.delete(name);
    this.forget(uid);
    this.recent.set(id, { uid, at: now });
    // It may be removed before it is looked at.
    this.isCopy(id, name, uid);
  }

  /** A network of this host is now that of all, or may be any moment. */
  isCopy(id: string, name: string, uid: string): void {
    this.known.set(id, { name, uid });
  }

  /** It is not, or we remove it: that it goes is no removal by a user. */
  isNoCopy(id: string): void {
    this.known.delete(id);
  }

  /** It was pruned, but others use it: that is no removal. */
  keep(uid: string): void {
    this.forget(uid);
    this.kept.add(uid);
  }

  /** The datastore is being told of a removal: it stands, whether that seems to fail or not. */
  telling(uid: string, now: number): void {
    const removal = this.gone.get(uid);
    if (!removal) return;
    removal.isTold = true;
    this.again.failed(uid, '', now);
  }

  /**
   * Takes note of how things are, and answers with the networks that are here: those `listed`, without what has gone since.
   * `usedHere`: ids of networks that a container of this host is in.
   */
  look(
    listed: readonly HereNetwork[],
    shared: ReadonlyMap<string, SharedEntry>,
    usedHere: ReadonlySet<string>,
    now: number,
  ): readonly HereNetwork[] {
    const here = listed.filter(({ id }) => !this.destroyed.has(id));
    this.noteUse(usedHere, now);
    const ids = new Set(here.map(({ id }) => id));
    for (const [id, { at }] of this.recent) if (now - at > FRESH || !ids.has(id)) this.recent.delete(id);
    for (const [name, { at }] of this.asked) if (now - at > REMEMBERED) this.asked.delete(name);
    for (const network of here) this.noteNetwork(network, shared.get(network.name), now);
    this.settleDestroyed();
    for (const [id, { at }] of this.destroyed) if (now - at > FRESH) this.destroyed.delete(id);
    for (const [id, copy] of this.known) {
      if (ids.has(id)) {
        delete copy.missingSince;
        continue;
      }
      copy.missingSince ??= now;
      // The event says it a moment after the list; without one it was not removed while we looked.
      if (now - copy.missingSince > EVENT_PATIENCE) this.known.delete(id);
    }
    for (const [uid, { name, at, isTold }] of this.gone) {
      const entry = shared.get(name);
      const isThere = entry?.uid === uid && !entry.removed;
      const isMadeAgain = isThere && !isTold && here.some(network => isBack(network, entry));
      if (isMadeAgain || (!isThere && now - at > REMEMBERED)) this.forget(uid);
    }
    return here;
  }

  get fresh(): ReadonlyMap<string, string> {
    return new Map([...this.recent].map(([id, { uid }]) => [id, uid]));
  }

  get copies(): ReadonlyMap<string, string> {
    return new Map([...this.known].map(([id, { uid }]) => [id, uid]));
  }

  /** By uid: those that Docker said, and what vanished without a word yet. */
  removals(now: number): ReadonlyMap<string, Removal> {
    const vanished = [...this.known.values()]
      .filter(({ missingSince }) => missingSince !== undefined)
      .map(({ uid }) => [uid, 'waiting'] as const);
    const isOver = now - this.lastDestroyed >= PRUNE_WINDOW;
    const said = [...this.gone].map(([uid, { at, isPruned }]) => {
      if (this.again.left(uid, now) > 0) return [uid, 'waiting'] as const;
      const how = isPruned ? 'pruned' : isOver || now - at >= PRUNE_PATIENCE ? 'removed' : 'unsure';
      return [uid, how] as const;
    });
    return new Map<string, Removal>([...vanished, ...said]);
  }

  /** What counts as used, of what is used. */
  inUse(usedHere: ReadonlySet<string>): ReadonlySet<string> {
    return new Set([...usedHere, ...this.leftAt.keys()]);
  }

  /** Milliseconds until something of this changes by itself; infinite where nothing does. */
  dueIn(now: number): number {
    const times = [
      ...[...this.leftAt.values()].map(at => at + RESTART),
      ...[...this.known.values()].map(({ missingSince = Infinity }) => missingSince + EVENT_PATIENCE + 1),
      ...[...this.gone].flatMap(([uid, { at }]) => [
        Math.min(this.lastDestroyed + PRUNE_WINDOW, at + PRUNE_PATIENCE),
        now + this.again.left(uid, now),
      ]),
    ];
    // What is due already waits for something else.
    return Math.min(...times.filter(time => time > now)) - now;
  }

  private noteUse(usedHere: ReadonlySet<string>, now: number): void {
    for (const id of this.used) if (!usedHere.has(id)) this.leftAt.set(id, now);
    this.used.clear();
    for (const id of usedHere) this.used.add(id);
    for (const [id, at] of this.leftAt) if (this.used.has(id) || now - at >= RESTART) this.leftAt.delete(id);
  }

  private noteNetwork(
    { id, name, isOurs, definition }: HereNetwork,
    entry: SharedEntry | undefined,
    now: number,
  ) {
    const known = this.known.get(id);
    const uid = this.asked.get(name)?.uid;
    if (isOurs && !known && uid !== undefined) this.made(name, id, uid, now);
    if (!isOurs || !entry || entry.removed) return;
    // Where the datastore was told that it goes, it is another, made since.
    const isGoing = this.gone.get(entry.uid)?.isTold === true;
    if (!isGoing && differences(definition, entry.definition).length === 0) this.isCopy(id, name, entry.uid);
    else this.known.delete(id);
  }

  private forget(uid: string): void {
    this.gone.delete(uid);
    this.again.succeeded(uid);
  }

  /** A copy that Docker said has gone is a removal. */
  private settleDestroyed(): void {
    for (const [id, { at, isPruned }] of this.destroyed) {
      const copy = this.known.get(id);
      if (copy) {
        this.forget(copy.uid);
        this.gone.set(copy.uid, { name: copy.name, at, isPruned, isTold: false });
      }
      this.known.delete(id);
    }
  }
}

/** Whether a network of this host is the shared one again. One of that name with other flags takes its place instead. */
function isBack({ name, isOurs, definition }: HereNetwork, entry: SharedEntry): boolean {
  return isOurs && name === entry.name && differences(definition, entry.definition).length === 0;
}
