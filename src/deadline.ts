import { AsyncLocalStorage } from 'node:async_hooks';

const current = new AsyncLocalStorage<number>();

/**
 * Runs `work` with a deadline `milliseconds` from now (never later than one already in force). All it calls,
 * however deep, can ask {@link remaining}: no retry loop goes on after the caller has been answered.
 */
export function withDeadline<T>(milliseconds: number, work: () => Promise<T>): Promise<T> {
  const until = Math.min(Date.now() + milliseconds, current.getStore() ?? Infinity);
  return current.run(until, work);
}

/** Runs `work` outside any deadline: for what must go on after the present call has been answered. */
export function withoutDeadline<T>(work: () => T): T {
  return current.run(Infinity, work);
}

/** Milliseconds left, at most `atMost`; zero or less when the time is up. */
export function remaining(atMost: number): number {
  return Math.min(atMost, (current.getStore() ?? Infinity) - Date.now());
}

/** The result of `work`, or the error of `late` when the deadline in force (at most `atMost` ms) passes first. */
export async function inTime<T>(work: Promise<T>, atMost: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), Math.max(0, remaining(atMost)));
  });
  try {
    return await Promise.race([work, expiry]);
  } finally {
    clearTimeout(timer);
  }
}
