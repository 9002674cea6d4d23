import { Random } from '../chaos/random.js';
import { someChange, someWorld } from './generate.js';
import { passes } from './oracle.js';
import { Packets, packetText } from './packets.js';
import type { Packet } from './packets.js';
import { shrink, smaller, worldText } from './shrink.js';
import type { Subject } from './subject.js';
import type { World } from './world.js';

export interface DifferentialOptions {
  readonly seed: number;
  /** Packets to compare. */
  readonly cases: number;
  /** Of each state of the world. */
  readonly packets: number;
  /** Small changes of a world before the next, altogether different one. */
  readonly changes: number;
  /** Worlds until the subject begins anew. */
  readonly worlds: number;
  /** Milliseconds to look for a small example. */
  readonly shrinkFor: number;
}

export const DEFAULTS: Omit<DifferentialOptions, 'seed' | 'cases'> = {
  packets: 100,
  changes: 6,
  worlds: 8,
  shrinkFor: 120_000,
};

export interface Report {
  readonly cases: number;
  /** Of the cases, packets that passed. */
  readonly passed: number;
  readonly states: number;
  readonly milliseconds: number;
  /** Readable; absent where all agreed. */
  readonly disagreement?: string;
}

/** Compares packets in random worlds, and in what becomes of them by small changes, until the first disagreement. */
export async function differential(subject: Subject, options: DifferentialOptions): Promise<Report> {
  const random = new Random(options.seed);
  const packets = new Packets(random.fork());
  const began = performance.now();
  let [cases, passed, states] = [0, 0, 0];
  const report = (disagreement?: string): Report => ({
    ...{ cases, passed, states, milliseconds: performance.now() - began },
    ...(disagreement === undefined ? {} : { disagreement }),
  });
  for (let worlds = 0; cases < options.cases; worlds += 1) {
    if (worlds % options.worlds === 0) await subject.restart();
    let before: World | undefined;
    let now: { world: World; what: string } = { world: someWorld(random), what: 'another world' };
    for (let change = 0; change <= options.changes && cases < options.cases; change += 1) {
      if (change > 0) {
        before = now.world;
        now = someChange(random, before);
      }
      const { world, what } = now;
      await subject.become(world);
      const some = packets.some(world, options.packets);
      const expected = some.map(packet => passes(world, packet));
      const outcomes = await subject.judge(some, expected);
      states += 1;
      cases += some.length;
      passed += expected.filter(Boolean).length;
      const at = outcomes.findIndex((outcome, index) => outcome !== wanted(expected[index]));
      const packet = some[at];
      if (packet === undefined) continue;
      const found = `${packetText(packet)} should be ${wanted(expected[at])} and is ${String(outcomes[at])}`;
      const head = `seed ${options.seed}, state ${states} (${what}), case ${cases}: ${found}`;
      return report(`${head}\n${await example(subject, packet, before, world, packets, options.shrinkFor)}`);
    }
  }
  return report();
}

/** A small world in which the packet is judged wrongly, or two, where it needs a change. */
async function example(
  subject: Subject,
  packet: Packet,
  before: World | undefined,
  world: World,
  packets: Packets,
  limit: number,
): Promise<string> {
  const explained = await subject.explain?.(packet).catch(String);
  const isWrongAfter = async (worlds: readonly World[]): Promise<boolean> => {
    await subject.restart();
    for (const each of worlds) await subject.become(each);
    const last = worlds.at(-1) ?? world;
    const again = packets.anew(packet);
    const should = passes(last, again);
    return (await subject.judge([again], [should]))[0] !== wanted(should);
  };
  const story = async (worlds: readonly World[]): Promise<string> => {
    const smallest = await shrink(worlds, smallerBy, isWrongAfter, limit);
    const isWrong = await isWrongAfter(smallest);
    const more = isWrong ? await subject.explain?.(packet).catch(String) : 'not again';
    const should = wanted(passes(smallest.at(-1) ?? world, packet));
    const states = smallest.map(each => worldText(each)).join('\nthen, changed while it runs:\n');
    return `The smallest example found, where it should be ${should}:\n${states}\n${more ?? ''}`;
  };
  if (await isWrongAfter([world])) return story([world]);
  if (before !== undefined && (await isWrongAfter([before, world])))
    return `Only after the change.\n${await story([before, world])}`;
  return `Not seen again from a fresh start: it needs what was before, or chance.\n${worldText(world)}\n${explained ?? ''}`;
}

/** One thing less in all of them. */
function* smallerBy(worlds: readonly World[]): Generator<readonly World[]> {
  const [first, second] = worlds;
  if (first === undefined) return;
  for (const less of smaller(first)) {
    if (second === undefined) yield [less];
    else {
      const gone = JSON.stringify(first).length - JSON.stringify(less).length;
      for (const other of smaller(second))
        if (JSON.stringify(second).length - JSON.stringify(other).length === gone) yield [less, other];
    }
  }
}

function wanted(passesIt: boolean | undefined): string {
  return passesIt === true ? 'passed' : 'dropped';
}
