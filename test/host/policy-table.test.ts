import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ALL, letIn } from './policy-bed.js';
import { PretendHost, prepare, until } from './pretend-host.js';
import { plain } from './plain-policy.js';
import { somePolicy } from './some-policy.js';

/** What the kernel has after changes must be what it has after the last policy alone. */
let changed: PretendHost;
let fresh: PretendHost;

beforeAll(async () => {
  const clean = await prepare();
  [changed, fresh] = [await PretendHost.boot(), await PretendHost.boot('linux', 60_000)];
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

test('until there is a policy nothing new passes, and what is established does', async () => {
  await fresh.call('removeAll');
  await fresh.call('holdUntilPolicy');
  const closed = await fresh.run('nft -n list table inet calico_policy');
  expect(closed).toContain('oifname "cali*" drop');
  expect(closed).not.toContain('hook prerouting');
});

test('what others do is seen soon also where the rules have been looked at a moment before', async () => {
  const ports = Array.from({ length: 5_000 }, (_, n) => ({ first: n + 1, last: n + 1 }));
  const rules = ports.map(port => ({ ...ALL, protocol: 6, destination: { ports: [port] } }));
  await fresh.call('enforce', plain(letIn(rules)));
  // It looks after its own change; to look at so many rules takes so long that it does not do so again at once.
  await new Promise(resolve => setTimeout(resolve, 700));
  await fresh.run('nft flush chain inet calico_policy forward_ingress');
  const chain = (): Promise<string> => fresh.run('nft list chain inet calico_policy forward_ingress');
  expect(await chain()).not.toContain('drop');
  await until(async () => (await chain()).includes('drop'), 8_000);
});
