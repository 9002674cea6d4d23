import { Worker } from 'node:worker_threads';
import { HostError } from '../errors.js';
import type { Reaped } from './reaper-thread.js';

interface Deletion {
  readonly done: Promise<void>;
  settle(error: string | undefined): void;
}

/**
 * Deletes interfaces on a thread of its own. The kernel lets nothing run on a thread that deletes an interface until
 * every CPU has forgotten it (synchronize_net): measured 18 ms median, 45 ms at worst, for which the event loop
 * would answer nobody. On a thread the loop stays free and other requests do not wait (bench/netlink.ts); it costs
 * some 10 MB, once, from the first deletion on. A process per deletion would cost 20 ms of CPU each.
 */
export class LinkReaper {
  private worker: Worker | undefined;
  private readonly deletions = new Map<string, Deletion>();

  /** Resolves when the interface is gone; rejects with HostError. Missing is fine. */
  delete(name: string): Promise<void> {
    const running = this.deletions.get(name);
    if (running !== undefined) return running.done;
    let settle: Deletion['settle'] = () => undefined;
    const done = new Promise<void>((resolve, reject) => {
      settle = error => {
        this.deletions.delete(name);
        // Only deletions under way keep the process alive.
        if (this.deletions.size === 0) this.worker?.unref();
        if (error === undefined) resolve();
        else reject(new HostError(error));
      };
    });
    this.deletions.set(name, { done, settle });
    this.worker ??= this.start();
    this.worker.ref();
    this.worker.postMessage(name);
    return done;
  }

  /** Resolves when no deletion of that name is under way, whether it worked or not. */
  async settled(name: string): Promise<void> {
    await this.deletions.get(name)?.done.catch(() => undefined);
  }

  /** Whether a deletion of that name is under way. */
  isDeleting(name: string): boolean {
    return this.deletions.has(name);
  }

  /** Waits for the deletions under way and ends the thread. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.deletions.values()].map(deletion => deletion.done));
    await this.worker?.terminate();
    this.worker = undefined;
  }

  private start(): Worker {
    // A young generation of 2 MB: the thread handles short strings.
    const resourceLimits = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 };
    const worker = new Worker(new URL('./reaper-thread.js', import.meta.url), { resourceLimits });
    worker.on('message', ({ name, error }: Reaped) => this.deletions.get(name)?.settle(error));
    worker.on('error', error => this.fail(worker, error.message));
    worker.on('exit', () => this.fail(worker, 'the thread that deletes interfaces has ended'));
    return worker;
  }

  private fail(worker: Worker, why: string): void {
    if (this.worker !== worker) return;
    this.worker = undefined;
    for (const deletion of [...this.deletions.values()]) deletion.settle(why);
  }
}
