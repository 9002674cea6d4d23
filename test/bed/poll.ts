import { setTimeout as sleep } from 'node:timers/promises';

/** Asks `probe` until it answers something other than undefined or false; throws after `timeout` milliseconds. */
export async function poll<T>(
  what: string,
  timeout: number,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const until = Date.now() + timeout;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > until) throw new Error(`${what}: not within ${timeout} ms`);
    await sleep(10);
  }
}
