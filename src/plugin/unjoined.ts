import type { Address } from '../ipam/cidr.js';

/** Milliseconds between RequestAddress and CreateEndpoint of one container, at most. */
const LONGEST = 10_000;

/** Addresses that interfaces were given a moment ago, by MAC: what dockerd asks next for the same one belongs to it. */
export class UnjoinedAddresses {
  private readonly recent = new Map<string, { addresses: Address[]; at: number }>();

  constructor(private readonly now: () => number = Date.now) {}

  given(mac: string, address: Address): void {
    for (const [other, { at }] of this.recent) {
      if (this.now() - at < LONGEST) break;
      this.recent.delete(other);
    }
    const addresses = [...this.of(mac), address];
    // Deleted first, so that the map stays in order of time.
    this.recent.delete(mac);
    this.recent.set(mac, { addresses, at: this.now() });
  }

  /** What it was given is used. */
  forget(mac: string): void {
    this.recent.delete(mac);
  }

  of(mac: string): Address[] {
    const known = this.recent.get(mac);
    return known && this.now() - known.at < LONGEST ? known.addresses : [];
  }
}
