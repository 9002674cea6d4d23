import { parentPort } from 'node:worker_threads';
import { reason } from '../errors.js';
import { RtNetlink } from './rtnetlink.js';

/** The thread behind {@link LinkReaper}: takes interface names, deletes them one after another, answers each. */

/** What the thread answers. */
export interface Reaped {
  readonly name: string;
  /** Why it failed, where it did. */
  readonly error: string | undefined;
}

const netlink = new RtNetlink();

parentPort?.on('message', (name: string) => {
  netlink.deleteLink(name).then(
    () => answer({ name, error: undefined }),
    (error: unknown) => answer({ name, error: reason(error) }),
  );
});

function answer(reaped: Reaped): void {
  parentPort?.postMessage(reaped);
}
