import { RequestError } from '../errors.js';
import type { Cidr, Family } from '../ipam/cidr.js';

/** Requests for a pool without a subnet that may be open at once, and for how long they count (milliseconds). */
const LIMIT = 100;
const WINDOW = 10_000;

/**
 * Ends a loop of dockerd's: where it thinks that a pool it did not name collides with a route or nameserver of the
 * host, it asks for another, and, always given the same, for ever (moby, ipams/remote and requestPoolHelper). Requests
 * that neither a network nor a release follows are counted; too many are refused.
 */
export class RequestLoop {
  private readonly open: Record<Family, number[]> = { 4: [], 6: [] };

  constructor(private readonly now: () => number = Date.now) {}

  /** Throws RequestError where dockerd is looping. */
  requested({ family, subnet }: { family: Family; subnet?: Cidr }): void {
    if (subnet) return;
    const recent = this.open[family].filter(time => this.now() - time < WINDOW);
    this.open[family] = recent;
    if (recent.length >= LIMIT)
      throw new RequestError(
        `Docker finds that the default IPv${family} pool collides with a route or nameserver of this host and asks for it again and again: give the network a --subnet`,
      );
    recent.push(this.now());
  }

  released(family: Family): void {
    this.open[family].pop();
  }

  /** A network was created: what was asked for it is not part of a loop. */
  settled(): void {
    this.open[4].pop();
    this.open[6].pop();
  }
}
