/** Milliseconds until what failed is tried again: from, to. */
export interface Delays {
  readonly first: number;
  readonly longest: number;
}

const RETRY: Delays = { first: 250, longest: 60_000 };

/** When to try again what failed: each time twice as late. Times are of a clock that never goes back. */
export class Backoff {
  private readonly failures = new Map<string, { delay: number; until: number; reason: string }>();

  constructor(private readonly delays = RETRY) {}

  /** Milliseconds for which it is not to be tried. */
  left(key: string, now: number): number {
    return Math.max(0, (this.failures.get(key)?.until ?? 0) - now);
  }

  /** True where it has not failed with that reason the last time: worth a line in the log. */
  failed(key: string, reason: string, now: number): boolean {
    const before = this.failures.get(key);
    const delay = Math.min(before ? before.delay * 2 : this.delays.first, this.delays.longest);
    this.failures.set(key, { delay, until: now + delay, reason });
    return before?.reason !== reason;
  }

  succeeded(key: string): void {
    this.failures.delete(key);
  }

  clear(): void {
    this.failures.clear();
  }
}
