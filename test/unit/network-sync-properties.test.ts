import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { calls, OTHER, SUBNET, SyncCluster } from './sync-cluster.js';

const host = fc.integer({ min: 1, max: 3 });
const name = fc.constantFrom('a', 'b');
const subnet = fc.constantFrom(SUBNET, SUBNET, OTHER);
interface Step {
  readonly text: string;
  readonly run: (all: SyncCluster) => unknown;
}

/** What users do to have less. */
const removal: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ h: host, n: name }).map(({ h, n }) => ({
    text: `h${h} rm ${n}`,
    run: (all: SyncCluster) => all.host(h).remove(n),
  })),
  fc.record({ h: host, n: name }).map(({ h, n }) => ({
    text: `h${h} rm ${n} while it is listed`,
    run: (all: SyncCluster) => all.host(h).look(undefined, () => all.host(h).remove(n)),
  })),
  host.map(h => ({ text: `h${h} prune`, run: (all: SyncCluster) => all.host(h).prune() })),
);
/** What else users, dockerds, daemons and cables do. */
const other: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ h: host, n: name, s: subnet }).map(({ h, n, s }) => ({
    text: `h${h} create ${n} ${s}`,
    run: (all: SyncCluster) => all.host(h).create(n, s),
  })),
  fc.record({ h: host, n: name }).map(({ h, n }) => ({
    text: `h${h} run ${n}`,
    run: (all: SyncCluster) => all.host(h).run(n),
  })),
  fc.record({ h: host, n: name }).map(({ h, n }) => ({
    text: `h${h} stop ${n}`,
    run: (all: SyncCluster) => all.host(h).stop(n),
  })),
  host.map(h => ({
    text: `h${h} cut or heal`,
    run: (all: SyncCluster) => {
      all.host(h).isCut = !all.host(h).isCut;
    },
  })),
  host.map(h => ({ text: `h${h} daemon restarts`, run: (all: SyncCluster) => all.host(h).restartDaemon() })),
  fc.record({ h: host, n: name }).map(({ h, n }) => ({
    text: `h${h} rm ${n} without daemon`,
    run: (all: SyncCluster) => all.host(h).restartDaemon(() => all.host(h).remove(n)),
  })),
  host.map(h => ({ text: `h${h} dockerd loses its data`, run: (all: SyncCluster) => all.host(h).wipe() })),
  host.map(h => ({ text: `h${h} looks`, run: (all: SyncCluster) => all.host(h).look() })),
  host.map(h => ({ text: `h${h} looks`, run: (all: SyncCluster) => all.host(h).look() })),
  fc.record({ h: host, o: host }).map(({ h, o }) => ({
    text: `h${h} looks, then h${o}, then h${h} acts`,
    run: (all: SyncCluster) => all.host(h).look(async () => (o === h ? undefined : all.host(o).look())),
  })),
  fc.integer({ min: 100, max: 3_000 }).map(time => ({
    text: `${time} ms`,
    run: (all: SyncCluster) => {
      all.now += time;
    },
  })),
);

/** The state that all of it must come to. */
async function expectOne(all: SyncCluster): Promise<void> {
  const shared = await all.shared();
  for (const each of all.hosts) {
    const has = each.has();
    for (const [network, subnets] of Object.entries(shared)) {
      const isUsed = each.used.has(each.find(network)?.id ?? '');
      if (subnets === '-') expect(isUsed || has[network] === undefined, `${each.name} ${network}`).toBe(true);
      else expect(has[network], `${each.name} ${network}`).toBeDefined();
      const isOdd = has[network] !== undefined && has[network] !== subnets;
      if (isOdd && !isUsed) expect(each.reports.join(), `${each.name} ${network}`).toContain('differ');
    }
    for (const network of Object.keys(has)) expect(Object.keys(shared)).toContain(network);
  }
}

describe('whatever three hosts go through', () => {
  it('they come to one state, stay there, and ask Docker for no more than it takes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(other, other, other, removal), { minLength: 1, maxLength: 40 }),
        async steps => {
          const all = new SyncCluster(3);
          for (const { run } of steps) await run(all);
          for (const each of all.hosts) each.isCut = false;
          await all.settle();
          await expectOne(all);
          for (const each of all.hosts) each.used.clear();
          await all.settle();
          await expectOne(all);
          expect(Object.values(await all.shared())).not.toContain('-');
          // Each thing done makes each host create or remove one network, or both.
          const most = 2 * (steps.length + 2);
          for (const count of calls(all)) expect(count).toBeLessThanOrEqual(most);
          const before = calls(all);
          await all.settle(2);
          expect(calls(all)).toEqual(before);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('they lose no network that nobody removed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(other, { minLength: 1, maxLength: 40 }), async steps => {
        const all = new SyncCluster(3);
        const shared = new Set<string>();
        for (const { run } of steps) {
          await run(all);
          for (const each of Object.keys(await all.shared())) shared.add(each);
        }
        for (const each of all.hosts) each.isCut = false;
        await all.settle();
        for (const each of all.hosts)
          expect(Object.keys(each.has())).toEqual(expect.arrayContaining([...shared]));
        expect(Object.values(await all.shared())).not.toContain('-');
      }),
      { numRuns: 300 },
    );
  });
});
