import { Worker } from 'node:worker_threads';
import type { ResourceLimits } from 'node:worker_threads';
import { HostError, reason } from '../errors.js';
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
  private isClosed = false;
  private idle: () => void = () => undefined;

  /** Resolves when it is done; throws HostError. */
  async run(work: KernelWork): Promise<void> {
    if (this.isClosed) throw new HostError('the daemon ends');
    const worker = (this.worker ??= this.start());
    const id = this.next++;
    await new Promise<void>((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      // Only work under way keeps the process alive.
      worker.ref();
      worker.postMessage({ id, work } satisfies KernelOrder);
    });
  }

  /**
   * Waits for what is under way, then for the thread to end by itself: to interrupt the netlink package while it takes a
   * message ends the whole process.
   */
  async close(): Promise<void> {
    this.isClosed = true;
    if (this.pending.size > 0) await new Promise<void>(resolve => (this.idle = resolve));
    const { worker } = this;
    this.worker = undefined;
    if (!worker) return;
    const ended = new Promise(resolve => worker.once('exit', resolve));
    worker.ref();
    worker.postMessage('end' satisfies KernelOrder);
    await ended;
  }

  /** Throws HostError where the host allows no more threads. */
  private start(): Worker {
    // A young generation of 2 MB: the thread handles short strings. No work may come near the limit: a thread
    // whose heap is full is interrupted, which ends the process (see close).
    const resourceLimits = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 };
    const worker = startedWorker(resourceLimits);
    worker.on('message', ({ id, error }: KernelAnswer) => {
      const pending = this.pending.get(id);
      this.pending.delete(id);
      if (this.pending.size === 0) {
        worker.unref();
        this.idle();
      }
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
    this.idle();
  }
}

function startedWorker(resourceLimits: ResourceLimits): Worker {
  try {
    return new Worker(new URL('./kernel-worker.js', import.meta.url), { resourceLimits });
  } catch (error) {
    throw new HostError(`cannot start a thread: ${reason(error)}`, { cause: error });
  }
}
