import type { KernelThread } from './kernel-thread.js';

/** Deletes interfaces on a thread of its own, and knows which it is about to delete. */
export class LinkReaper {
  private readonly deletions = new Map<string, Promise<void>>();

  constructor(private readonly thread: KernelThread) {}

  /** Resolves when the interface is gone; rejects with HostError. Missing is fine. */
  delete(name: string): Promise<void> {
    const running = this.deletions.get(name);
    if (running !== undefined) return running;
    const done = this.thread.run({ deleteLink: name }).finally(() => this.deletions.delete(name));
    this.deletions.set(name, done);
    return done;
  }

  /** Resolves when no deletion of that name is under way, whether it worked or not. */
  async settled(name: string): Promise<void> {
    await this.deletions.get(name)?.catch(() => undefined);
  }

  /** Whether a deletion of that name is under way. */
  isDeleting(name: string): boolean {
    return this.deletions.has(name);
  }

  /** Waits for the deletions under way. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.deletions.values()]);
  }
}
