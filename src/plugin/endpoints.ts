import type { Logger } from 'pino';
import { endpointKey, handleKey } from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import type { Compare, Entry, Store, Write } from '../datastore/store.js';
import { inTime, withDeadline, withoutDeadline } from '../deadline.js';
import { ConflictError, DatastoreError, reason } from '../errors.js';
import {
  endpointName,
  formatChangedEndpoint,
  formatNewEndpoint,
  parseEndpoint,
} from '../model/workload-endpoint.js';
import type { EndpointChange, WorkloadEndpoint } from '../model/workload-endpoint.js';
import { endpointHandle } from '../ipam/handles.js';
import { ProfileWrites } from './profile-writes.js';

const ATTEMPTS = 10;
/** Milliseconds between DeleteEndpoint and the ReleaseAddress that follows it, at most. */
const DEPARTED = 30_000;

/** An endpoint's text, what it relies on, and handles that are written with it. */
interface EndpointWrite {
  readonly key: string;
  readonly value: string;
  readonly profile: string | undefined;
  readonly compare: readonly Compare[];
  readonly handles: readonly Write[];
}

type Found = ReadonlyMap<string, Entry | undefined>;

/** The workload endpoints: all are mirrored in memory, those of this node are ours to write. */
export class Endpoints {
  private readonly mirror: Mirror<WorkloadEndpoint>;
  /** Addresses of endpoints that were removed, or were to be, and whose ReleaseAddress is to come. */
  private readonly departed = new Map<string, { readonly endpointId: string; readonly at: number }>();
  private readonly profiles: ProfileWrites;

  constructor(
    private readonly store: Store,
    private readonly node: string,
    private readonly options: {
      readonly createProfiles: boolean;
      /** The text of the handle of an address, as the allocator writes it. */
      newHandle(address: string): string;
    },
    private readonly log: Logger,
  ) {
    this.profiles = new ProfileWrites(options.createProfiles);
    this.mirror = new Mirror(store, endpointKey(''), (_key, text) => parseEndpoint(text), log);
  }

  get ready(): Promise<void> {
    return this.mirror.ready;
  }

  /** False while the datastore is out of sight: what is known may be old. */
  get isCurrent(): boolean {
    return this.mirror.isCurrent;
  }

  /** Runs `changed` after any endpoint changed. */
  onChange(changed: () => void): void {
    this.mirror.onChange(changed);
  }

  /** Calls back with the keys of endpoints that appeared, changed or went; see {@link Mirror.onEntries}. */
  onEntries(listener: (keys: ReadonlySet<string>) => void): () => void {
    return this.mirror.onEntries(listener);
  }

  /** Pairs of key and endpoint, of all nodes. */
  entries(): Iterable<[string, WorkloadEndpoint]> {
    return this.mirror.entries();
  }

  /** The endpoint of a key, of any node. */
  at(key: string): WorkloadEndpoint | undefined {
    return this.mirror.get(key);
  }

  /** The endpoints of all nodes that are known now. */
  all(): WorkloadEndpoint[] {
    return [...this.mirror.values()];
  }

  /** Those of this node. */
  own(): WorkloadEndpoint[] {
    return this.all().filter(endpoint => endpoint.node === this.node);
  }

  /** No round trip where the mirror has it, else one. */
  async get(endpointId: string): Promise<WorkloadEndpoint | undefined> {
    const key = this.key(endpointId);
    const known = this.mirror.get(key);
    if (known) return known;
    const entry = await this.store.get(key);
    if (entry) this.mirror.observe(entry);
    return entry && parseEndpoint(entry.value);
  }

  /**
   * Writes an endpoint, and the profile of its network if that is missing, in one transaction; it compares the handle
   * of each address, so that an address freed meanwhile is refused and never shared. One round trip in the common
   * case. No profile: not known yet, see {@link setMissingProfiles}. Throws ConflictError, DatastoreError.
   */
  async create(endpoint: WorkloadEndpoint): Promise<void> {
    const key = this.key(endpoint.endpointId);
    const value = formatNewEndpoint(endpoint, new Date());
    const [profile] = endpoint.profiles;
    const held = new Map(
      endpoint.addresses.map(address => [
        handleKey(endpointHandle(this.node, endpoint.mac, address)),
        this.options.newHandle(address),
      ]),
    );
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const compare: Compare[] = [
        { key, is: 'absent' },
        ...[...held].map(([handle, is]): Compare => ({ key: handle, is: 'value', value: is })),
      ];
      // Handles are written again as they are: who would free what he saw unused sees another revision.
      const handles = [...held].map(([put, is]) => ({ put, value: is }));
      const refused = await this.write({ key, value, profile, compare, handles });
      if (!refused) return;
      const existing = refused.get(key);
      const found = existing && parseEndpoint(existing.value);
      // The same CreateEndpoint again, whose answer was lost.
      if (existing && found && sameWiring(found, endpoint)) return this.mirror.observe(existing);
      if (existing)
        throw new ConflictError(
          `endpoint ${endpoint.endpointId} exists with other addresses: remove the container and try again`,
        );
      for (const handle of held.keys()) {
        const is = refused.get(handle)?.value;
        if (is === undefined)
          throw new ConflictError(
            `address ${endpoint.addresses.join(', ')} was released before the container could start with it: try again`,
          );
        held.set(handle, is);
      }
    }
    throw new ConflictError('the profile of the network is being changed by too many at once: try again');
  }

  /** Removes an endpoint; missing is fine. One round trip. */
  async remove(endpointId: string): Promise<void> {
    const key = this.key(endpointId);
    for (const address of this.mirror.get(key)?.addresses ?? [])
      this.departed.set(address, { endpointId, at: Date.now() });
    const result = await this.store.transact({ compare: [{ key, is: 'present' }], then: [{ delete: key }] });
    if (result.succeeded) this.mirror.observeDeleted(key, result.revision);
  }

  /**
   * Takes an address out of the endpoint of this node that has it, and the endpoint away with its last one; answers with
   * the endpoint that went. dockerd says ReleaseAddress alone where it lost DeleteEndpoint in a crash of its own, and
   * where a container turned out to have no IPv6 (moby ≥ 29). No round trip where no endpoint has the address.
   *
   * `another's`: it is that of an endpoint which went a moment ago, and another has it meanwhile, as an etcd that was put
   * back may give it twice. That one keeps it.
   */
  async dropAddress(address: string): Promise<WorkloadEndpoint | "another's" | undefined> {
    // After a power cut these releases are the first calls there are.
    await inTime(this.ready, 8_000, () => new DatastoreError('the datastore is unreachable: check etcd'));
    const endpoint = this.own().find(({ addresses }) => addresses.includes(address));
    const went = this.departed.get(address);
    for (const [other, { at }] of this.departed)
      if (other === address || Date.now() - at > DEPARTED) this.departed.delete(other);
    if (!endpoint) return undefined;
    // The same, where it could not be removed.
    if (went && went.endpointId !== endpoint.endpointId && Date.now() - went.at <= DEPARTED)
      return "another's";
    const addresses = endpoint.addresses.filter(other => other !== address);
    if (addresses.length > 0) {
      await this.change(endpoint.endpointId, { addresses });
      return undefined;
    }
    await this.remove(endpoint.endpointId);
    return endpoint;
  }

  /**
   * Gives their profile to endpoints of this node that have none, as `profileOf` knows it by now: called whenever a
   * network's name was learned. Until then such an endpoint lets nothing in: better closed for a moment than open to
   * whom it should not be. Works in the background.
   */
  setMissingProfiles(profileOf: (networkId: string) => string | undefined): void {
    for (const { endpointId, networkId, profiles } of this.own()) {
      const profile = profiles.length === 0 ? profileOf(networkId) : undefined;
      if (profile === undefined) continue;
      withoutDeadline(() => {
        withDeadline(30_000, () => this.change(endpointId, { profiles: [profile] })).catch((error: unknown) =>
          this.log.error(
            { endpoint: endpointId, reason: reason(error) },
            'cannot set the profile of an endpoint',
          ),
        );
      });
    }
  }

  close(): void {
    this.mirror.close();
  }

  /**
   * Changes an endpoint of this node; one that is gone stays gone. Two round trips. Throws ConflictError,
   * DatastoreError.
   */
  async change(endpointId: string, change: EndpointChange): Promise<void> {
    const key = this.key(endpointId);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = await this.store.get(key);
      const value = entry && formatChangedEndpoint(entry.value, change);
      if (!entry || value === undefined) return;
      const [profile] = change.profiles ?? [];
      const compare: Compare[] = [{ key, is: 'revision', revision: entry.revision }];
      if (!(await this.write({ key, value, profile, compare, handles: [] }))) return;
    }
    throw new ConflictError(`endpoint ${endpointId} is being changed by too many at once`);
  }

  /** Writes an endpoint with its profile in one transaction; answers with what was found where a compare failed. */
  private async write({ key, value, profile, ...more }: EndpointWrite): Promise<Found | undefined> {
    const withProfile = this.profiles.write(profile);
    const compare = [...more.compare, ...withProfile.compare];
    const result = await this.store.transact({
      compare,
      then: [{ put: key, value }, ...more.handles, ...withProfile.then],
      otherwise: compare.map(item => item.key),
    });
    this.profiles.note(profile, result);
    if (!result.succeeded) return result.found;
    this.mirror.observe({ key, value, revision: result.revision });
    return undefined;
  }

  /** The key of an endpoint of this node. */
  key(endpointId: string): string {
    return endpointKey(endpointName(this.node, endpointId));
  }
}

function sameWiring(a: WorkloadEndpoint, b: WorkloadEndpoint): boolean {
  return a.mac === b.mac && a.networkId === b.networkId && a.addresses.join() === b.addresses.join();
}
