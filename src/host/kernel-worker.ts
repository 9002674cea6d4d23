import { parentPort } from 'node:worker_threads';
import { reason } from '../errors.js';
import { Conntrack } from './conntrack.js';
import { RtNetlink } from './rtnetlink.js';

/** The thread behind {@link KernelThread}: does one piece of work after another, answers each. */

/** What keeps whoever asks for it in the kernel for many milliseconds. */
export type KernelWork =
  | { readonly deleteLink: string }
  /** See {@link Conntrack.forgetAddresses}; with `begunSince` {@link Conntrack.forgetBegun}. */
  | { readonly forgetFlows: readonly string[]; readonly begunSince?: number | undefined };

/** What the thread is sent, and what it answers; `id` tells which answer is to what. After `end` it ends. */
export type KernelOrder = { readonly id: number; readonly work: KernelWork } | 'end';
export interface KernelAnswer {
  readonly id: number;
  /** Why it failed, where it did. */
  readonly error: string | undefined;
}

const netlink = new RtNetlink();
const conntrack = new Conntrack();

parentPort?.on('message', (order: KernelOrder) => {
  if (order === 'end') {
    parentPort?.close();
    return;
  }
  const { id, work } = order;
  carryOut(work).then(
    () => answer({ id, error: undefined }),
    (error: unknown) => answer({ id, error: reason(error) }),
  );
});

async function carryOut(work: KernelWork): Promise<void> {
  if ('deleteLink' in work) {
    await netlink.deleteLink(work.deleteLink);
    return;
  }
  const addresses = new Set(work.forgetFlows);
  if (work.begunSince === undefined) await conntrack.forgetAddresses(addresses);
  else await conntrack.forgetBegun(addresses, work.begunSince);
}

function answer(message: KernelAnswer): void {
  parentPort?.postMessage(message);
}
