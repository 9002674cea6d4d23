import { withoutDeadline } from '../deadline.js';
import { reason } from '../errors.js';
import type { Logger } from '../log.js';

/** What every answer of etcd says of itself. */
export interface Header {
  readonly cluster_id: string;
  readonly revision: string;
}

/** Where etcd was known to be when something was sent. */
export interface Mark {
  readonly era: number;
  readonly revision: bigint;
}

/**
 * How far etcd has come, as its answers tell: so that one that went back (restored from a snapshot, put up anew, robbed
 * of its last writes by a power cut) is noticed. All our reads and transactions are linearizable, so an answer to what
 * was sent after a revision was seen shows that revision or a later one, whichever member gives it. A lower one, or
 * another cluster's id, means that the history we have seen is gone: a new era begins (see `revision.ts`).
 *
 * Not noticed is an etcd that went back and then beyond what we had seen before it answered us again, with the cluster
 * id it had. A host that is connected learns of it within seconds.
 */
export class EtcdHistory {
  readonly #log: Logger;
  readonly #listeners = new Set<() => void>();
  #era = 0;
  #revision = 0n;
  #cluster: string | undefined;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Grows by one each time etcd goes back. */
  get era(): number {
    return this.#era;
  }

  /** True once etcd has said anything: there is something to compare with. */
  get isKnown(): boolean {
    return this.#cluster !== undefined;
  }

  /** Calls back whenever etcd went back, before the answer that shows it is used. Returns what ends it. */
  onRewind(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** To be taken when a call is sent, and given with its answer. */
  mark(): Mark {
    return { era: this.#era, revision: this.#revision };
  }

  /** Takes note of an answer to a read or a transaction; the era it belongs to. */
  answered(sent: Mark, header: Header): number {
    // It was on its way when the new era was found: whichever it shows, nobody may build on it.
    if (sent.era !== this.#era) return sent.era;
    if (this.#isOther(header) || BigInt(header.revision) < sent.revision) this.#begin(header);
    else this.#advance(header);
    return this.#era;
  }

  /** Takes note of what a watch says. Its member may lag behind: a low revision means nothing. */
  watched(era: number, header: Header): void {
    if (era === this.#era && !this.#isOther(header)) this.#advance(header);
  }

  #isOther(header: Header): boolean {
    return this.#cluster !== undefined && header.cluster_id !== this.#cluster;
  }

  #advance(header: Header): void {
    this.#cluster = header.cluster_id;
    const revision = BigInt(header.revision);
    if (revision > this.#revision) this.#revision = revision;
  }

  #begin(header: Header): void {
    this.#log.warn(
      { seen: `${this.#revision}`, revision: header.revision, newCluster: this.#isOther(header) },
      'etcd has gone back to an earlier state (was it restored from a snapshot?): reading everything again',
    );
    this.#era += 1;
    this.#revision = 0n;
    this.#advance(header);
    for (const listener of [...this.#listeners]) {
      try {
        // Whose call found it is chance; what follows is no part of that call.
        withoutDeadline(listener);
      } catch (error) {
        this.#log.error({ reason: reason(error), err: error }, 'a listener to rewinds of etcd failed');
      }
    }
  }
}
