import type { Logger } from 'pino';
import { reason } from '../errors.js';

/** Milliseconds between tries after a failure: from, to. */
const RETRY = { first: 1_000, longest: 30_000 };

/**
 * Keeps something applied that is derived from something that changes: every call of the returned function makes
 * `apply` run once more, soon, never twice at a time; a failure is logged and tried again.
 */
export function keepApplied(
  what: string,
  apply: () => Promise<void>,
  log: Logger,
): { changed(): void; stop(): void } {
  let due = false;
  let running = false;
  let stopped = false;
  let delay = RETRY.first;
  let timer: NodeJS.Timeout | undefined;

  const run = async (): Promise<void> => {
    running = true;
    while (due && !stopped) {
      due = false;
      try {
        await apply();
        delay = RETRY.first;
      } catch (error) {
        log.error({ what, reason: reason(error) }, 'cannot bring the host up to date; trying again');
        timer = setTimeout(changed, delay).unref();
        delay = Math.min(delay * 2, RETRY.longest);
      }
    }
    running = false;
  };
  const changed = (): void => {
    due = true;
    if (!running && !stopped) void run();
  };
  return {
    changed,
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
