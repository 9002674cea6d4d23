import { expect, it, vi } from 'vitest';
import { HostError } from '../../src/errors.js';
import { KernelThread } from '../../src/host/kernel-thread.js';

/** The thread itself is tested with a kernel (test/host/kernel-thread.test.ts). */
vi.mock('node:worker_threads', () => ({
  Worker: class {
    constructor() {
      throw new Error('ERR_WORKER_INIT_FAILED');
    }
  },
}));

it('says so where the host allows no more threads, and is not kept from ending by that', async () => {
  const thread = new KernelThread();
  const work = (): Promise<void> => thread.run({ deleteLink: 'cali1' });
  await expect(Promise.all([work(), work()])).rejects.toThrow(HostError);
  await expect(work()).rejects.toThrow('cannot start a thread: ERR_WORKER_INIT_FAILED');
  await thread.close();
  await expect(work()).rejects.toThrow('the daemon ends');
});
