import type { HostPolicy } from '../../src/host/policy.js';
import { createLinuxDataplane } from '../../src/host/linux.js';
import type { Logger } from '../../src/log.js';
import { Feed } from './feed.js';
import { serveLines } from './line-server.js';
import { NODE } from './places.js';

/**
 * Runs in the host under test (kernel.ts): the daemon's way from what is in the datastore to what the kernel enforces,
 * without the datastore.
 */
const say = (object: unknown, message: unknown): void => {
  process.stderr.write(`${String(message)} ${JSON.stringify(object)}\n`);
};
const log = { info: () => undefined, debug: () => undefined, warn: say, error: say } as unknown as Logger;
const dataplane = createLinuxDataplane({}, log);
let feed: Feed | undefined;

serveLines({
  /** Begins with an empty datastore. */
  begin(fromHost: HostPolicy['fromHost']): void {
    feed = new Feed(NODE, fromHost);
  },
  /** Values by key; null: the key goes. Resolves when the kernel enforces it; answers with milliseconds that took. */
  async change(changes: readonly (readonly [string, string | null])[]): Promise<number> {
    if (feed === undefined) throw new Error('it has not begun');
    const began = performance.now();
    for (const [key, text] of changes) feed.set(key, text ?? undefined);
    await dataplane.applyPolicy(feed.resolve());
    return performance.now() - began;
  },
});
