/** So many are remembered: some 10 MB. Those of the endpoints there are come again with each change of theirs. */
const CAPACITY = 100_000;

/** Addresses that endpoints of other hosts have, or had not long ago. */
export class Elsewhere {
  /** The one that was told longest ago first. */
  private readonly addresses = new Set<string>();

  constructor(private readonly capacity = CAPACITY) {}

  /** Grows and shrinks as it is told of others. */
  get all(): ReadonlySet<string> {
    return this.addresses;
  }

  /** An endpoint of another host has the address now. */
  note(address: string): void {
    this.addresses.delete(address);
    this.addresses.add(address);
    if (this.addresses.size <= this.capacity) return;
    const [oldest] = this.addresses;
    if (oldest !== undefined) this.addresses.delete(oldest);
  }
}
