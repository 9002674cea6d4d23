import { RequestError } from '../errors.js';
import { formatCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';

/** Requests for a pool without a subnet that may be open at once, and for how long they count (milliseconds). */
const LIMIT = 100;
const WINDOW = 10_000;

/**
 * What must be known of RequestPool when CreateNetwork follows: dockerd makes both in one `docker network create`, to
 * the same daemon, or fails it.
 */
export class PoolRequests {
  /** Requests without subnet that nothing followed yet: times in milliseconds. */
  private readonly open: Record<Family, number[]> = { 4: [], 6: [] };
  /** `--ip-range` by `--subnet`; CreateNetwork tells only the subnet. */
  private readonly ranges = new Map<string, Cidr | undefined>();
  /** Ranges that we showed dockerd where no subnet was named. */
  private readonly shown = new Set<string>();

  constructor(private readonly now: () => number = Date.now) {}

  /**
   * Notes a request. Throws RequestError where dockerd is looping: if it thinks that a pool it did not name collides
   * with a route or nameserver of the host, it asks for another, and, always given the same, for ever (moby,
   * ipams/remote and requestPoolHelper).
   */
  requested({ family, subnet, range }: { family: Family; subnet?: Cidr; range?: Cidr }): void {
    if (subnet) {
      this.ranges.set(formatCidr(subnet), range);
      return;
    }
    const recent = this.open[family].filter(time => this.now() - time < WINDOW);
    this.open[family] = recent;
    if (recent.length >= LIMIT)
      throw new RequestError(
        `Docker finds that the default IPv${family} pool collides with a route or nameserver of this host and asks for it again and again: give the network a --subnet`,
      );
    recent.push(this.now());
  }

  /** dockerd was shown this range although the user named none. */
  answered(shown: Cidr): void {
    this.shown.add(formatCidr(shown));
  }

  released(family: Family): void {
    this.open[family].pop();
  }

  /** A network was created: what was asked for it without a subnet is not part of a loop. */
  settled(families: readonly Family[]): void {
    for (const family of families) this.open[family].pop();
  }

  /** True where the user named the range as `--subnet`. */
  isNamed(cidr: Cidr): boolean {
    const text = formatCidr(cidr);
    return this.ranges.has(text) || !this.shown.has(text);
  }

  /** The `--ip-range` last asked for with a subnet. */
  rangeOf(subnet: Cidr): Cidr | undefined {
    return this.ranges.get(formatCidr(subnet));
  }
}
