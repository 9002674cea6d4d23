import { resourceKey } from '../datastore/keys.js';
import type { Compare, TransactionResult, Write } from '../datastore/store.js';
import { formatNewProfile } from '../model/profile.js';

/** What makes sure of an endpoint's profile in the transaction that writes the endpoint. A user's edits stay. */
export class ProfileWrites {
  /** Profiles that were there when last seen. */
  private readonly seen = new Set<string>();

  /** `creates`: what is missing is created; else nothing is written or compared. */
  constructor(private readonly creates: boolean) {}

  /** A compare where the profile was seen, its creation where not. The keys compared have to be read `otherwise`. */
  write(profile: string | undefined): { compare: Compare[]; then: Write[] } {
    if (profile === undefined || !this.creates) return { compare: [], then: [] };
    const key = resourceKey('profiles', profile);
    if (this.seen.has(profile)) return { compare: [{ key, is: 'present' }], then: [] };
    return {
      compare: [{ key, is: 'absent' }],
      then: [{ put: key, value: formatNewProfile(profile, new Date()) }],
    };
  }

  /** Learns from how that transaction ended. */
  note(profile: string | undefined, result: TransactionResult): void {
    if (profile === undefined) return;
    if (result.succeeded || result.found.get(resourceKey('profiles', profile)) !== undefined)
      this.seen.add(profile);
    else this.seen.delete(profile);
  }
}
