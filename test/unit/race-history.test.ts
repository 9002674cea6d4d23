import { describe, expect, it } from 'vitest';
import { ENDPOINT, formatEvent, judge, parseLog } from '../race/history.js';
import type { HistoryEvent, What } from '../race/history.js';

/** The race is only worth something if its judge sees what is wrong. */

type Short = readonly [
  time: number,
  node: string,
  what: What,
  address?: string,
  detail?: string,
  operation?: number,
];

function judged(...events: Short[]) {
  const [, ...logs] = events.reduce<HistoryEvent[][]>(
    (all, [time, node, what, address = '', detail = '', operation = time]) => [
      ...all,
      [{ time: BigInt(time), node, incarnation: 1, operation, what, address, detail }],
    ],
    [[]],
  );
  return judge(logs);
}

describe('the judge of the race', () => {
  it('finds one address held by two, whatever the order of the logs', () => {
    const verdict = judged([5, 'b', 'got', '10.0.0.1', ENDPOINT], [3, 'a', 'got', '10.0.0.1', ENDPOINT]);
    expect(verdict.duplicates).toEqual([expect.stringContaining('b/1 got 10.0.0.1 endpoint: a has it')]);
  });

  it('and one held twice by the same node', () =>
    expect(
      judged([3, 'a', 'got', '10.0.0.1', ENDPOINT], [5, 'a', 'got', '10.0.0.1', ENDPOINT]).duplicates,
    ).toHaveLength(1));

  it('takes an address for free from the moment its release began', () =>
    expect(
      judged(
        [1, 'a', 'got', '10.0.0.1', ENDPOINT],
        [2, 'a', 'releasing', '10.0.0.1', '', 7],
        [3, 'b', 'got', '10.0.0.1', ENDPOINT],
        [4, 'a', 'released', '10.0.0.1', 'true', 7],
      ),
    ).toMatchObject({ duplicates: [], lost: [], operations: 3 }));

  it('lets nodes share a reservation, and nobody else have it', () => {
    const shared: Short[] = [
      [1, 'a', 'got', '10.0.0.1', 'gateway'],
      [2, 'b', 'got', '10.0.0.1', 'gateway'],
    ];
    expect(judged(...shared).duplicates).toEqual([]);
    expect(judged(...shared, [3, 'c', 'got', '10.0.0.1', 'aux']).duplicates).toHaveLength(2);
    expect(judged(...shared, [3, 'c', 'got', '10.0.0.1', ENDPOINT]).duplicates).toHaveLength(2);
  });

  it('finds what was freed under its holder: by a release that finds nothing, or by a successor', () => {
    const got: Short = [1, 'a', 'got', '10.0.0.1', ENDPOINT];
    expect(
      judged(got, [2, 'a', 'releasing', '10.0.0.1', '', 7], [3, 'a', 'released', '10.0.0.1', 'false', 7])
        .lost,
    ).toHaveLength(1);
    expect(judged(got, [2, 'a', 'up'], [3, 'a', 'listed']).lost).toHaveLength(1);
    expect(judged(got, [2, 'a', 'up'], [3, 'a', 'found', '10.0.0.1'], [4, 'a', 'listed']).lost).toEqual([]);
  });

  it('counts ends, what was cut off, and the longest', () => {
    const verdict = judged(
      [1_000_000, 'a', 'asking', '', ENDPOINT, 1],
      [4_000_000, 'a', 'refused', '', 'NoAddressError', 1],
      [5_000_000, 'a', 'asking', '', ENDPOINT, 2],
    );
    expect(verdict).toMatchObject({ operations: 1, cutOff: 1, ends: { NoAddressError: 1 }, longest: 3 });
  });

  it('reads a log whose last line was cut short', () => {
    const line = formatEvent({ time: 1n, operation: 1, what: 'got', address: '10.0.0.1', detail: ENDPOINT });
    expect(parseLog('a', 2, line + line.slice(0, 9))).toEqual([
      {
        time: 1n,
        node: 'a',
        incarnation: 2,
        operation: 1,
        what: 'got',
        address: '10.0.0.1',
        detail: ENDPOINT,
      },
    ]);
  });
});
