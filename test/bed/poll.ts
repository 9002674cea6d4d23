import { setTimeout as sleep } from 'node:timers/promises';

/** Milliseconds between two looks: a tenth of what has passed, within these. Most looks are processes on a busy machine. */
const OFTEN = 10;
const SELDOM = 150;

/** Asks `probe` until it answers something other than undefined or false; throws after `timeout` milliseconds. */
export async function poll<T>(
  what: string,
  timeout: number,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const began = Date.now();
  for (;;) {
    const answer = await probe();
    if (answer !== undefined && answer !== false) return answer;
    const passed = Date.now() - began;
    if (passed > timeout) throw new Error(`${what}: not within ${timeout} ms`);
    await sleep(Math.min(Math.max(passed / 10, OFTEN), SELDOM));
  }
}
