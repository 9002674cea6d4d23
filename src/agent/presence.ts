import { aliveKey, ownerKey } from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import { EtcdRefusal } from '../datastore/etcd-link.js';
import { eraOf } from '../datastore/revision.js';
import type { Lease, Store } from '../datastore/store.js';
import { withTransact } from '../datastore/with-transact.js';
import { inTime, withDeadline, withoutDeadline } from '../deadline.js';
import { ConflictError, DatastoreError, reason } from '../errors.js';
import type { Logger } from '../log.js';
import { formatPresence, parsePresence } from '../model/presence.js';
import type { HostPresence } from '../model/presence.js';
import { NameOwner } from './name-owner.js';
import { BODILESS } from '../plugin/protocol.js';
import type { Methods } from '../plugin/protocol.js';

/** Milliseconds between the signs of life: a third of the lease, so that two may be missed. */
const BEAT = 10_000;
const TTL_SECONDS = 30;
/** Milliseconds after which a failed try is repeated. */
const RETRY = 2_000;
/** Milliseconds one try may take, and a write may wait for the first look at the key. */
const PATIENCE = 8_000;
/** A key that somebody else writes at the same time. */
const ATTEMPTS = 5;

/**
 * Tells all hosts that this one lives, by a key with a lease, and that its name is its own. The key is kept while the
 * daemon runs: it is written again after its lease or etcd's memory was lost, and goes within 30 s of the daemon's
 * death. It costs a keep-alive every 10 s, which etcd does not write to its disk.
 *
 * Where another live host has the name, nothing is written and every call fails until that host's key goes.
 */
export class Presence {
  /** Resolves when this host first has its name, or etcd refuses to say so of anybody. Never rejects. */
  readonly ours: Promise<void>;
  readonly #store: Store;
  readonly #node: string;
  readonly #key: string;
  readonly #self: HostPresence;
  readonly #log: Logger;
  readonly #mirror: Mirror<HostPresence>;
  readonly #owner: NameOwner;
  /** Whether the name's things are this host's; undefined: not known yet. */
  #isOwner: boolean | undefined;
  /** Of what says so, if it does. */
  #ownedSince: string | undefined;
  /** Resolves when that is known, or cannot be. */
  readonly #decided: Promise<void>;
  #lease: Lease | undefined;
  /** Our last write of the key. */
  #written: { lease: string; revision: string } | undefined;
  /** Who has our name; said once in the log. */
  #other: HostPresence | undefined;
  #becomeOurs: () => void = () => undefined;
  #decide: () => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isDue = false;
  #isFailing = false;
  #isClosed = false;

  /** Begins at once, in the background. `id`: see `host-id.ts`. */
  constructor(store: Store, self: { node: string; id: string; version: string }, log: Logger) {
    this.#store = store;
    this.#node = self.node;
    this.#key = aliveKey(self.node);
    this.#self = { id: self.id, since: new Date().toISOString(), version: self.version };
    this.#log = log;
    this.#owner = new NameOwner(store, self.node, self.id);
    this.ours = new Promise(resolve => (this.#becomeOurs = resolve));
    this.#decided = new Promise(resolve => (this.#decide = resolve));
    this.#mirror = new Mirror(
      store,
      this.#key,
      (key, value) => (key === this.#key ? parsePresence(value) : undefined),
      log,
    );
    this.#mirror.onChange(() => this.#look());
    this.#mirror.ready.then(
      () => this.#look(),
      () => undefined,
    );
  }

  /** The driver methods, which fail while another live host has our name. From memory: a call waits for nothing. */
  gate(methods: Methods): Methods {
    const gated = Object.entries(methods).map(([name, method]): [string, typeof method] => {
      // What dockerd asks of a plugin before it has anything to do with the datastore.
      if (BODILESS.has(name)) return [name, method];
      return [
        name,
        body => {
          this.check();
          return method(body);
        },
      ];
    });
    return Object.fromEntries(gated);
  }

  /** The store, which writes nothing before the key was looked at, nor while another live host has our name. */
  guard(store: Store): Store {
    return withTransact(store, async transaction => {
      await inTime(
        Promise.all([this.#mirror.ready, this.#decided]),
        PATIENCE,
        () =>
          new DatastoreError(
            this.#mirror.trouble ??
              'the datastore is unreachable: check that etcd runs and that ETCD_ENDPOINTS names it',
          ),
      );
      this.check();
      return store.transact(transaction);
    });
  }

  /** Throws ConflictError while another live host is known to have our name. */
  check(): void {
    const other = this.#seenOther();
    if (other)
      throw new ConflictError(
        `another live host calls itself ${this.#node} (since ${other.since}): give this host another name with NODENAME`,
      );
    if (this.#isOwner === false) throw new ConflictError(othersName(this.#node));
  }

  /** Takes the key away; at most four seconds where etcd does not answer. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await inTime(this.#running ?? Promise.resolve(), 2_000, () => new DatastoreError('busy')).catch(
      () => undefined,
    );
    this.#mirror.close();
    const lease = this.#lease;
    if (lease)
      await withDeadline(2_000, () => lease.revoke()).catch((error: unknown) =>
        this.#log.info(
          { reason: reason(error) },
          'could not say goodbye to etcd; the key goes with its lease',
        ),
      );
  }

  #seenOther(): HostPresence | undefined {
    const seen = this.#mirror.get(this.#key);
    if (!seen) return undefined;
    if (seen.id !== this.#self.id) return seen;
    // Our own id, written over what we wrote, is a copy of this host. Never answered with a write: it would answer too.
    const [written, revision] = [this.#written?.revision, this.#mirror.revisionOf(this.#key)];
    const isLater = written !== undefined && revision !== undefined && eraOf(written) === eraOf(revision);
    return isLater && seen.since !== this.#self.since ? seen : undefined;
  }

  /** Looks after the key, now and every {@link BEAT} ms; never twice at a time. */
  #look(): void {
    if (this.#isClosed) return;
    this.#isDue = true;
    this.#running ??= withoutDeadline(() => this.#run()).finally(() => {
      this.#running = undefined;
      if (this.#isDue) this.#look();
    });
  }

  async #run(): Promise<void> {
    while (this.#isDue && !this.#isClosed) {
      this.#isDue = false;
      clearTimeout(this.#timer);
      let next = BEAT;
      try {
        await withDeadline(PATIENCE, () => this.#keep());
        this.#isFailing = false;
      } catch (error) {
        if (!this.#isFailing)
          this.#log.warn(
            { reason: reason(error) },
            'cannot tell the other hosts that this one lives; trying again',
          );
        this.#isFailing = true;
        // etcd may refuse these keys alone; that shall not keep the host from working. A slow answer is no refusal.
        const isAllowed = this.#isOwner ?? error instanceof EtcdRefusal;
        if (this.#mirror.isCurrent && !this.#seenOther() && isAllowed) {
          this.#decide();
          this.#becomeOurs();
        }
        next = RETRY;
      }
      this.#timer = setTimeout(() => this.#look(), next).unref();
    }
  }

  async #keep(): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS && !this.#isClosed; attempt += 1) {
      const other = this.#seenOther();
      this.#tell(other);
      if (other) {
        this.#decide();
        return this.#standBack();
      }
      if (this.#isOwner !== true && !(await this.#takeName()))
        throw new ConflictError(othersName(this.#node));
      if (this.#lease && !(await this.#lease.keepAlive())) this.#lease = undefined;
      const lease = (this.#lease ??= await this.#store.lease(TTL_SECONDS));
      const revision = this.#mirror.revisionOf(this.#key);
      const isThere = revision !== undefined && revision === this.#written?.revision;
      if ((isThere && lease.id === this.#written?.lease) || (await this.#write(lease, revision))) {
        this.#becomeOurs();
        return;
      }
    }
    throw new ConflictError(`${this.#key} in etcd is being written by others`);
  }

  async #takeName(): Promise<boolean> {
    const revision = await this.#owner.take();
    this.#ownedSince = revision;
    this.#isOwner = revision !== undefined;
    this.#decide();
    return this.#isOwner;
  }

  /**
   * Two round trips at the start (the lease, the key), none later. False where the key is not as we thought, or the name
   * is no longer this host's: another one was as quick, or somebody has removed this host while it was cut off.
   */
  async #write(lease: Lease, revision: string | undefined): Promise<boolean> {
    const key = this.#key;
    const value = formatPresence(this.#self);
    if (this.#seenOther() || this.#isClosed) return false;
    const owner = ownerKey(this.#node);
    const owned = this.#ownedSince;
    const result = await this.#store.transact({
      compare: [
        revision === undefined ? { key, is: 'absent' } : { key, is: 'revision', revision },
        ...(owned === undefined ? [] : [{ key: owner, is: 'revision', revision: owned } as const]),
      ],
      then: [{ put: key, value, lease: lease.id }],
      otherwise: [key, owner],
    });
    if (result.succeeded) {
      this.#written = { lease: lease.id, revision: result.revision };
      this.#mirror.observe({ key, value, revision: result.revision });
      return true;
    }
    const found = result.found.get(key);
    if (found) this.#mirror.observe(found);
    else this.#mirror.observeDeleted(key, result.revision);
    if (result.found.get(owner)?.revision !== owned) this.#isOwner = undefined;
    return false;
  }

  /** Somebody else has the name: our lease is of no more use. */
  async #standBack(): Promise<void> {
    const lease = this.#lease;
    this.#lease = undefined;
    this.#written = undefined;
    await lease?.revoke();
  }

  #tell(other: HostPresence | undefined): void {
    if (other?.id === this.#other?.id) return;
    this.#other = other;
    const node = this.#node;
    if (other)
      this.#log.error(
        { node, since: other.since },
        'another live host has the name of this one: nothing is done until it goes; set NODENAME to another name',
      );
    else this.#log.info({ node }, 'the name of this host is free again');
  }
}

function othersName(node: string): string {
  return (
    `the datastore has containers of another host called ${node}: give this host another name with NODENAME, ` +
    `or, if that host is gone for good: calico-libnetwork node remove ${node}`
  );
}
