/** Numbers that look random and follow from a seed (mulberry32): the same seed, the same numbers. */
export class Random {
  private state: number;

  /** `seed`: any integer; its lowest 32 bits count. */
  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** At least 0, less than 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from 0, less than `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  /** True so often. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(all: readonly [T, ...T[]]): T {
    return all[this.below(all.length)] ?? all[0];
  }

  /** One of several, each as often as its weight says. */
  weighted<T>(all: readonly [readonly [number, T], ...(readonly [number, T])[]]): T {
    let left = this.next() * all.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of all) {
      left -= weight;
      if (left < 0) return value;
    }
    return all[0][1];
  }

  /** Another sequence, which does not depend on how far anybody reads this or that. */
  fork(): Random {
    return new Random(Math.floor(this.next() * 2 ** 32));
  }
}
