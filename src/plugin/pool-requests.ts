import { RequestError } from '../errors.js';
import { formatCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';

/** What matters of a RequestPool. */
interface Requested {
  readonly family: Family;
  readonly subnet?: Cidr;
  readonly range?: Cidr;
  readonly options?: { readonly otherBlockSize?: number };
}

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
  /** `--ipam-opt blockSize` by `--subnet`, where only the other family can have it. */
  private readonly otherBlockSizes = new Map<string, number | undefined>();
  /** Ranges that we showed dockerd where no subnet was named. */
  private readonly shown = new Set<string>();

  constructor(private readonly now: () => number = Date.now) {}

  /**
   * Notes a request. Throws RequestError where dockerd is looping: if it thinks that a pool it did not name collides
   * with a route or nameserver of the host, it asks for another, and, always given the same, for ever (moby,
   * ipams/remote and requestPoolHelper).
   */
  requested({ family, subnet, range, options }: Requested): void {
    if (subnet) {
      this.ranges.set(formatCidr(subnet), range);
      this.otherBlockSizes.set(formatCidr(subnet), options?.otherBlockSize);
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

  /** Throws RequestError for a block size that none of a network's subnets can have: dockerd sends it with each. */
  checkBlockSizes(subnets: readonly Cidr[]): void {
    for (const subnet of subnets) {
      const size = this.otherBlockSizes.get(formatCidr(subnet));
      if (size !== undefined && !subnets.some(({ family }) => family !== subnet.family))
        throw new RequestError(
          `--ipam-opt blockSize=${size}: must be ${subnet.family === 4 ? '20 to 32 for IPv4' : '116 to 128 for IPv6'}`,
        );
    }
  }

  /** The `--ip-range` last asked for with a subnet. */
  rangeOf(subnet: Cidr): Cidr | undefined {
    return this.ranges.get(formatCidr(subnet));
  }
}
