import type { Logger } from 'pino';
import { withoutDeadline } from '../deadline.js';
import { reason } from '../errors.js';

/** Milliseconds between tries after a failure: from, to. */
const RETRY = { first: 1_000, longest: 30_000 };

/** See {@link keepApplied}. */
export interface KeptApplied {
  /** What is applied may be old: applies soon. */
  changed(): void;
  /** Applies what is true now and waits for it. Throws what `apply` throws. */
  applyNow(): Promise<void>;
  stop(): void;
}

/**
 * Keeps something applied that is derived from something that changes: every call makes `apply` run once more, never
 * twice at a time; those that come meanwhile share the next run. A failure is logged and tried again.
 */
export function keepApplied(what: string, apply: () => Promise<void>, log: Logger): KeptApplied {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  let stopped = false;
  let delay = RETRY.first;
  let timer: NodeJS.Timeout | undefined;

  const run = async (): Promise<void> => {
    next = undefined;
    if (stopped) return;
    try {
      await apply();
      delay = RETRY.first;
    } catch (error) {
      log.error({ what, reason: reason(error) }, 'cannot bring the host up to date; trying again');
      clearTimeout(timer);
      timer = setTimeout(changed, delay).unref();
      delay = Math.min(delay * 2, RETRY.longest);
      throw error;
    }
  };
  const applyNow = (): Promise<void> => {
    next ??= withoutDeadline(async () => {
      await running?.catch(() => undefined);
      running = run();
      return running;
    });
    return next;
  };
  const changed = (): void => {
    applyNow().catch(() => undefined);
  };
  return {
    changed,
    applyNow,
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
