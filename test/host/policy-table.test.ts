import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PretendHost, prepare } from './pretend-host.js';
import { plain } from './plain-policy.js';
import { somePolicy } from './some-policy.js';

/** What the kernel has after changes must be what it has after the last policy alone. */
let changed: PretendHost;
let fresh: PretendHost;

beforeAll(async () => {
  const clean = await prepare();
  [changed, fresh] = [await PretendHost.boot(), await PretendHost.boot()];
  return clean;
});
afterAll(() => {
  changed.shutDown();
  fresh.shutDown();
});

/** The table as text, in an order that does not depend on how it came to be. */
async function listing(host: PretendHost): Promise<string> {
  const { nftables } = JSON.parse(await host.run('nft -n -j list table inet calico_policy')) as {
    nftables: Record<string, Record<string, unknown>>[];
  };
  const texts = nftables.flatMap(object =>
    Object.entries(object).flatMap(([kind, value]) => {
      if (kind === 'metainfo' || kind === 'rule') return [];
      const { handle: _, elem, ...rest } = value;
      const elements = Array.isArray(elem) ? elem.map(one => JSON.stringify(one)).sort() : [];
      return [JSON.stringify([kind, rest, elements])];
    }),
  );
  const rules = new Map<string, string[]>();
  for (const { rule } of nftables) {
    if (!rule) continue;
    const chain = String(rule['chain']);
    rules.set(chain, [...(rules.get(chain) ?? []), JSON.stringify(rule['expr'])]);
  }
  return [...texts, ...[...rules].map(([name, list]) => [name, ...list].join('\n  '))].sort().join('\n');
}

test('a change makes of one policy the other', async () => {
  let count = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(somePolicy, { minLength: 1, maxLength: 3 }), async policies => {
      for (const policy of policies) await changed.call('enforce', plain(policy));
      const last = policies.at(-1);
      if (!last) return;
      await fresh.call('removeAll');
      await fresh.call('enforce', plain(last));
      expect(await listing(changed)).toBe(await listing(fresh));
      count += policies.length;
    }),
    { numRuns: Number(process.env['CALICO_FUZZ_RUNS'] ?? 40), timeout: 20_000 },
  );
  expect(count).toBeGreaterThan(0);
  // It would be no test of changes if the table was replaced.
  expect(JSON.stringify(await changed.call('logged'))).not.toContain('replacing');
});
