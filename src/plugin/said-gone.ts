/** Milliseconds for which it is remembered; by then views of Docker have told the same. */
const MEMORY = 600_000;

/**
 * Endpoints, addresses, networks and their subnets that Docker said are gone when it could not be done, for want of the
 * datastore. It never says so again: the reconciler does it as soon as it can, without a grace time. Lost with the process,
 * which only means that it takes that time.
 */
export class SaidGone {
  private readonly since = new Map<string, number>();

  constructor(private readonly now: () => number = Date.now) {}

  /** What Docker said is gone: an endpoint's or network's id, an address, or a subnet as CIDR text. */
  add(what: string): void {
    this.since.set(what, this.now());
  }

  /** Docker has it again. */
  delete(what: string): void {
    this.since.delete(what);
  }

  /** Runs the work that makes it gone, and remembers it where that fails. Throws what `work` throws. */
  async during<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.add(what);
      throw error;
    }
  }

  get all(): ReadonlySet<string> {
    for (const [what, time] of this.since) if (this.now() - time > MEMORY) this.since.delete(what);
    return new Set(this.since.keys());
  }
}
