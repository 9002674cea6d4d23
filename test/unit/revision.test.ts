import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EtcdHistory } from '../../src/datastore/etcd-history.js';
import {
  eraOf,
  etcdRevisionOf,
  isNewer,
  revisionIn,
  revisionToCompare,
} from '../../src/datastore/revision.js';
import { createLogger } from '../../src/log.js';

const number = fc.bigInt({ min: 0n, max: 2n ** 63n - 2n });
const era = fc.nat(1_000);

test('a revision keeps its era and its number, and later ones are larger', () => {
  fc.assert(
    fc.property(era, number, era, number, (e, n, f, m) => {
      const [one, other] = [revisionIn(e, String(n)), revisionIn(f, String(m))];
      expect([eraOf(one), etcdRevisionOf(one)]).toEqual([e, String(n)]);
      expect(isNewer(one, other)).toBe(e > f || (e === f && n > m));
      expect(BigInt(one) > BigInt(other)).toBe(isNewer(one, other));
    }),
  );
});

test('a compare with a revision of another era is one that no key has', () => {
  expect(revisionToCompare(0, '450')).toBe('450');
  expect(revisionToCompare(2, revisionIn(2, '450'))).toBe('450');
  for (const [now, remembered] of [
    [1, '450'],
    [2, revisionIn(1, '450')],
    [0, revisionIn(1, '450')],
  ] as const)
    // prettier-ignore
    expect(revisionToCompare(now, remembered)).toBe('9223372036854775807');
});

/** A history and how often it said that etcd went back. */
function history() {
  const one = new EtcdHistory(createLogger('silent'));
  const seen = { rewinds: 0 };
  one.onRewind(() => (seen.rewinds += 1));
  const header = (revision: number, cluster = 'c') => ({ cluster_id: cluster, revision: String(revision) });
  return { one, seen, header };
}

test('answers of one history, in whatever order they come, begin no era', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(3), fc.nat(5)), { maxLength: 60 }), steps => {
      const { one, seen, header } = history();
      const open: { mark: ReturnType<EtcdHistory['mark']>; at: number }[] = [];
      let revision = 7;
      for (const [grows, answers] of steps) {
        open.push({ mark: one.mark(), at: (revision += grows) });
        one.watched(0, header(Math.max(0, revision - 5))); // a member that lags
        for (const { mark, at } of open.splice(0, answers).reverse()) one.answered(mark, header(at));
      }
      expect([seen.rewinds, one.era]).toEqual([0, 0]);
    }),
  );
});

test('a lower answer, a lower one than a watch showed, and another cluster each begin one era', () => {
  const { one, seen, header } = history();
  expect(one.answered(one.mark(), header(100))).toBe(0);
  const early = one.mark();
  expect(one.answered(one.mark(), header(99))).toBe(1);
  // Sent before, answered after: by whom, nobody knows.
  expect(one.answered(early, header(100))).toBe(0);
  expect(one.answered(one.mark(), header(99))).toBe(1);
  one.watched(1, header(120));
  one.watched(0, header(500));
  expect(one.answered(one.mark(), header(119))).toBe(2);
  expect(one.answered(one.mark(), header(119))).toBe(2);
  expect(one.answered(one.mark(), header(900, 'd'))).toBe(3);
  expect([seen.rewinds, one.era]).toEqual([3, 3]);
});
