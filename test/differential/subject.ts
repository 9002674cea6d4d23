import type { Packet } from './packets.js';
import type { World } from './world.js';

/** What is compared with the oracle: it takes a world as resources, and says which packets pass. */
export interface Subject {
  /** Begins anew, with nothing remembered of earlier worlds. */
  restart(): Promise<void>;
  /** Makes it so, by whatever is different from the world before. */
  become(world: World): Promise<void>;
  /** What becomes of packets, in order; `expected`: by the oracle. Anything but `passed` and `dropped` is a disagreement. */
  judge(packets: readonly Packet[], expected: readonly boolean[]): Promise<readonly string[]>;
  /** More to know about a packet that was judged last, for a report. */
  explain?(packet: Packet): Promise<string>;
}
