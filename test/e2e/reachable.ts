import { expect } from 'vitest';
import { addressIn } from './matrix.js';
import type { Matrix } from './matrix.js';
import { inside, reaches } from './traffic.js';

const OUTSIDE = '10.99.0.1';

/** A container, and the network in which it is looked for. */
export type Peer = readonly [container: string, network: string];

/** A network's address of a container, and those who have to reach it and to be reached: all pairs, both ways. */
export async function reachable(
  { host, bed }: Pick<Matrix, 'host' | 'bed'>,
  target: string,
  networks: readonly string[],
  others: readonly Peer[],
): Promise<void> {
  const enter = await inside(host, target);
  const own = await Promise.all(networks.map(network => addressIn(host, target, network)));
  const checks: { name: string; answered: Promise<boolean> }[] = [];
  const check = (name: string, answered: Promise<boolean>) => checks.push({ name, answered });
  for (const [other, network] of others) {
    const from = await inside(host, other);
    const address = await addressIn(host, other, network);
    check(`${target} to ${other} (${address})`, reaches(host, address, enter));
    for (const [index, each] of own.entries()) {
      check(`${other} to ${target} in ${String(networks[index])}`, reaches(host, each, from));
      check(`${target} as ${each} to ${other} (${address})`, reaches(host, address, enter, each));
    }
  }
  check(`${target} to the outside`, reaches(host, OUTSIDE, enter));
  for (const [index, each] of own.entries()) {
    check(`host to ${target} in ${String(networks[index])}`, reaches(host, each));
    await bed.fabric(['ip', 'route', 'replace', each, 'via', host.address]);
    check(`outside to ${target} in ${String(networks[index])}`, reaches(bed.outside, each));
  }
  const answered = await Promise.all(checks.map(each => each.answered));
  const failed = checks.filter((_, index) => answered[index] !== true).map(({ name }) => name);
  expect(failed).toEqual([]);
}
