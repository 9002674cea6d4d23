import type { Logger } from 'pino';
import { endpointKey, handleKey, resourceKey } from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import type { Compare, Store, Write } from '../datastore/store.js';
import { withDeadline, withoutDeadline } from '../deadline.js';
import { ConflictError, reason } from '../errors.js';
import { formatNewProfile } from '../model/profile.js';
import {
  endpointName,
  endpointNamePrefix,
  formatNewEndpoint,
  formatWithProfiles,
  parseEndpoint,
} from '../model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import { endpointHandle } from './handles.js';

const ATTEMPTS = 10;
/** Milliseconds between looks for the name of a network, and for how many we look. */
const NAME_POLL = 50;
const NAME_POLLS = 6_000;

/** The workload endpoints of this node, in etcd and by a mirror in memory. */
export class Endpoints {
  private readonly mirror: Mirror<WorkloadEndpoint>;
  /** Profiles that were there when last seen. */
  private readonly profiles = new Set<string>();

  constructor(
    private readonly store: Store,
    private readonly node: string,
    private readonly options: { readonly createProfiles: boolean },
    private readonly log: Logger,
  ) {
    this.mirror = new Mirror(
      store,
      endpointKey(endpointNamePrefix(node)),
      (_key, text) => parseEndpoint(text),
      log,
    );
  }

  get ready(): Promise<void> {
    return this.mirror.ready;
  }

  /** All endpoints of this node that are known now. */
  all(): WorkloadEndpoint[] {
    return [...this.mirror.values()].filter(endpoint => endpoint.node === this.node);
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
   * case. `profile` undefined: not known yet, see {@link nameLater}. Throws ConflictError, DatastoreError.
   */
  async create(endpoint: WorkloadEndpoint): Promise<void> {
    const key = this.key(endpoint.endpointId);
    const value = formatNewEndpoint(endpoint, new Date());
    const [profile] = endpoint.profiles;
    const held: Compare[] = endpoint.addresses.map(address => ({
      key: handleKey(endpointHandle(this.node, endpoint.mac, address)),
      is: 'present',
    }));
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const withProfile = this.profileWrite(profile);
      const compare: Compare[] = [{ key, is: 'absent' }, ...held, ...withProfile.compare];
      const result = await this.store.transact({
        compare,
        then: [{ put: key, value }, ...withProfile.then],
        otherwise: compare.map(item => item.key),
      });
      if (result.succeeded) {
        if (profile !== undefined) this.profiles.add(profile);
        return this.mirror.observe({ key, value, revision: result.revision });
      }
      const existing = result.found.get(key);
      const found = existing && parseEndpoint(existing.value);
      // The same CreateEndpoint again, whose answer was lost.
      if (existing && found && sameWiring(found, endpoint)) return this.mirror.observe(existing);
      if (existing)
        throw new ConflictError(
          `endpoint ${endpoint.endpointId} exists with other addresses: remove the container and try again`,
        );
      for (const { key: handle } of held)
        if (!result.found.get(handle))
          throw new ConflictError(
            `address ${endpoint.addresses.join(', ')} was released before the container could start with it: try again`,
          );
      this.noteProfile(profile, result.found.get(resourceKey('profiles', profile ?? '')) !== undefined);
    }
    throw new ConflictError('the profile of the network is being changed by too many at once: try again');
  }

  /** Removes an endpoint; missing is fine. One round trip. */
  async remove(endpointId: string): Promise<void> {
    const key = this.key(endpointId);
    const result = await this.store.transact({ compare: [{ key, is: 'present' }], then: [{ delete: key }] });
    if (result.succeeded) this.mirror.observeDeleted(key, result.revision);
  }

  /**
   * Gives an endpoint its profile as soon as the name of its network is known. Until then it has none, which lets
   * nothing in: better closed for a moment than open to whom it should not be.
   */
  nameLater(endpointId: string, nameOf: () => string | undefined): void {
    withoutDeadline(async () => {
      for (let poll = 0; poll < NAME_POLLS; poll += 1) {
        await new Promise(resolve => setTimeout(resolve, NAME_POLL).unref());
        const name = nameOf();
        if (name === undefined) continue;
        try {
          await withDeadline(10_000, () => this.setProfile(endpointId, name));
          return;
        } catch (error) {
          this.log.warn(
            { endpoint: endpointId, reason: reason(error) },
            'cannot set the profile of an endpoint; trying again',
          );
        }
      }
      this.log.warn(
        { endpoint: endpointId },
        'Docker did not tell the name of a network: its endpoint has no profile',
      );
    });
  }

  close(): void {
    this.mirror.close();
  }

  private async setProfile(endpointId: string, profile: string): Promise<void> {
    const key = this.key(endpointId);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = await this.store.get(key);
      const found = entry && parseEndpoint(entry.value);
      if (!entry || !found || found.profiles.includes(profile)) return;
      const value = formatWithProfiles(found.resource, [profile]);
      const withProfile = this.profileWrite(profile);
      const compare: Compare[] = [{ key, is: 'revision', revision: entry.revision }, ...withProfile.compare];
      const result = await this.store.transact({
        compare,
        then: [{ put: key, value }, ...withProfile.then],
        otherwise: compare.map(item => item.key),
      });
      if (result.succeeded) return this.mirror.observe({ key, value, revision: result.revision });
      this.noteProfile(profile, result.found.get(resourceKey('profiles', profile)) !== undefined);
    }
    throw new ConflictError(`endpoint ${endpointId} is being changed by too many at once`);
  }

  /** What makes sure of the profile: a compare where we saw it, its creation where not. A user's edits stay. */
  private profileWrite(profile: string | undefined): { compare: Compare[]; then: Write[] } {
    if (profile === undefined || !this.options.createProfiles) return { compare: [], then: [] };
    const key = resourceKey('profiles', profile);
    if (this.profiles.has(profile)) return { compare: [{ key, is: 'present' }], then: [] };
    return {
      compare: [{ key, is: 'absent' }],
      then: [{ put: key, value: formatNewProfile(profile, new Date()) }],
    };
  }

  private noteProfile(profile: string | undefined, exists: boolean): void {
    if (profile === undefined) return;
    if (exists) this.profiles.add(profile);
    else this.profiles.delete(profile);
  }

  private key(endpointId: string): string {
    return endpointKey(endpointName(this.node, endpointId));
  }
}

function sameWiring(a: WorkloadEndpoint, b: WorkloadEndpoint): boolean {
  return a.mac === b.mac && a.networkId === b.networkId && a.addresses.join() === b.addresses.join();
}
