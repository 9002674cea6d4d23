import { expect } from 'vitest';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';

let number = 0;

/**
 * Pings an address from the host, or from where `enter` leads to, ten times a second, all through `work`: not one answer
 * may be missing.
 */
export async function withoutGap(
  host: Host,
  address: string,
  work: () => Promise<void>,
  enter: readonly string[] = [],
): Promise<void> {
  const pinging = await host.spawn([...enter, 'busybox', 'ping', '-i', '0.1', '-W2', address], {
    log: `ping-${address}-${(number += 1)}`,
  });
  await poll(`first answer of ${address}`, 5_000, () => pinging.output().includes('seq=2'));
  try {
    await work();
  } finally {
    await pinging.stop('SIGINT');
  }
  const answered = [...pinging.output().matchAll(/ seq=(\d+) /g)].map(match => Number(match[1]));
  expect(answered, `answers of ${address}`).toEqual(answered.map((_, index) => index));
  const [, asked] = /(\d+) packets transmitted/.exec(pinging.output()) ?? [];
  // The last question may be without answer: ping is interrupted at any moment.
  expect(Number(asked) - answered.length).toBeLessThanOrEqual(1);
}
