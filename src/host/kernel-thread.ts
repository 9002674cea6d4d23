import { Worker } from 'node:worker_threads';
import { HostError } from '../errors.js';
import type { KernelAnswer, KernelOrder, KernelWork } from './kernel-worker.js';

interface Pending {
  resolve(): void;
  reject(error: HostError): void;
}

/**
 * A thread for what keeps its thread in the kernel. Whoever deletes an interface goes on only when every CPU has forgotten it
 * (synchronize_net): measured 18 ms median, 45 ms at worst, for which the event loop would answer nobody. Whoever lists
 * connections walks through the whole hash table, 9 ms where it is of the usual size, even when it is empty. On a thread the
 * loop stays free and other requests do not wait (bench/netlink.ts); it costs some 10 MB, once, from the first work on. A
 * process for each would cost 20 ms of CPU.
 */
export class KernelThread {
  private worker: Worker | undefined;
  private readonly pending = new Map<number, Pending>();
  private next = 0;

  /** Resolves when it is done; throws HostError. */
  run(work: KernelWork): Promise<void> {
    const id = this.next++;
    const done = new Promise<void>((resolve, reject) => this.pending.set(id, { resolve, reject }));
    this.worker ??= this.start();
    // Only work under way keeps the process alive.
    this.worker.ref();
    this.worker.postMessage({ id, work } satisfies KernelOrder);
    return done;
  }

  /** Ends the thread; what is under way may be lost. */
  async close(): Promise<void> {
    const { worker } = this;
    this.worker = undefined;
    await worker?.terminate();
    this.fail('the daemon ends');
  }

  private start(): Worker {
    // A young generation of 2 MB: the thread handles short strings.
    const resourceLimits = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 };
    const worker = new Worker(new URL('./kernel-worker.js', import.meta.url), { resourceLimits });
    worker.on('message', ({ id, error }: KernelAnswer) => {
      const pending = this.pending.get(id);
      this.pending.delete(id);
      if (this.pending.size === 0) worker.unref();
      if (error === undefined) pending?.resolve();
      else pending?.reject(new HostError(error));
    });
    const ended = (why: string): void => {
      if (this.worker !== worker) return;
      this.worker = undefined;
      this.fail(why);
    };
    worker.on('error', error => ended(error.message));
    worker.on('exit', () => ended("the daemon's thread for work in the kernel has ended"));
    return worker;
  }

  private fail(why: string): void {
    const all = [...this.pending.values()];
    this.pending.clear();
    for (const { reject } of all) reject(new HostError(why));
  }
}
