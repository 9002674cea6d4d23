import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluate } from '../../src/policy/evaluate.js';
import type { HostPolicy, Judgement } from '../../src/host/policy.js';
import { profileNamed } from '../../src/policy/facts.js';
import { parseRulesId } from '../../src/policy/judgements.js';
import { PolicyResolver } from '../../src/policy/resolve.js';
import { runs } from '../fuzz/garbage.js';
import { needed } from '../host/some-policy.js';
import { interpret } from '../policy/interpreter.js';
import { endpoint, networkSet, NODE, packet, policy, profile, tier } from '../policy/random-facts.js';

/** One change of the facts, and whether the key goes. */
const change = fc.tuple(
  fc.oneof(
    endpoint.map(([key, value]) => ({ of: 'endpoint', key, value }) as const),
    policy.map(([key, value]) => ({ of: 'policy', key, value }) as const),
    profile.map(([key, value]) => ({ of: 'profile', key, value }) as const),
    tier.map(([key, value]) => ({ of: 'tier', key, value }) as const),
    networkSet.map(([key, value]) => ({ of: 'networkSet', key, value }) as const),
  ),
  fc.integer({ min: 0, max: 4 }).map(number => number === 0),
);
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function carryOut(resolver: PolicyResolver, [{ of, key, value }, goes]: Change): void {
  if (of === 'endpoint') resolver.setEndpoint(key, goes ? undefined : value);
  else if (of === 'policy') resolver.setPolicy(key, goes ? undefined : value);
  else if (of === 'profile') resolver.setProfile(key, goes ? undefined : value);
  else if (of === 'tier') resolver.setTier(key, goes ? undefined : value);
  else resolver.setNetworkSet(key, goes ? undefined : value);
}

describe('what a host is told to enforce', () => {
  it('is what the rules say, packet by packet, after whatever changes in whatever order', () =>
    fc.assert(
      fc.property(
        fc.array(fc.array(change, { maxLength: 12 }), { minLength: 1, maxLength: 4 }),
        fc.array(packet, { minLength: 20, maxLength: 20 }),
        (bursts, packets) => {
          const resolver = new PolicyResolver(NODE);
          for (const burst of bursts) {
            for (const each of burst) carryOut(resolver, each);
            const { facts } = resolver;
            const enforced = resolver.resolve();
            const local = [...facts.endpoints.values()].filter(({ node }) => node === NODE);
            expect([...enforced.endpoints.keys()].sort()).toEqual(local.map(one => one.interfaceName).sort());
            for (const one of local)
              for (const each of packets)
                for (const direction of ['ingress', 'egress'] as const) {
                  const says = evaluate(facts, one, direction, each);
                  // Nobody is another's: consent is looked up by address.
                  const isTranslated = each.isTranslated === true && one.addresses.includes(each.destination);
                  const seen = { ...each, isTranslated };
                  expect([
                    interpret(enforced, one.interfaceName, direction, seen),
                    direction,
                    each,
                    says.steps,
                  ]).toEqual([says.verdict, direction, each, says.steps]);
                }
          }
        },
      ),
      { numRuns: runs(400) },
    ));

  it('is the same object where nothing changed, and the same parts where they did not', () =>
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), change, (changes, last) => {
        const resolver = new PolicyResolver(NODE, 'allow', 0);
        for (const each of changes) carryOut(resolver, each);
        const before = resolver.resolve();
        expect(resolver.resolve()).toBe(before);
        carryOut(resolver, last);
        const after = resolver.resolve();
        const fresh = new PolicyResolver(NODE);
        const { facts } = resolver;
        for (const [key, value] of facts.endpoints) fresh.setEndpoint(key, value);
        for (const [key, value] of facts.networkSets) fresh.setNetworkSet(key, value);
        for (const [key, value] of facts.profiles) fresh.setProfile(key, value);
        for (const [key, value] of facts.policies) fresh.setPolicy(key, value);
        for (const [key, value] of facts.tiers) fresh.setTier(key, value);
        // By whatever way it was come by, with nothing left over.
        expect(sorted(after)).toEqual(sorted(fresh.resolve()));
        for (const [name, policyOf] of after.endpoints) {
          const was = before.endpoints.get(name);
          if (JSON.stringify(was) === JSON.stringify(policyOf)) expect(policyOf).toBe(was);
        }
      }),
      { numRuns: runs(400) },
    ));
});

describe('judgements that nobody needs any more', () => {
  it('are kept with all that they name, a few at most, and none that names what is gone', () =>
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 60 }),
        fc.integer({ min: 0, max: 5 }),
        (changes, capacity) => {
          const [some, none] = [
            new PolicyResolver(NODE, 'allow', capacity),
            new PolicyResolver(NODE, 'allow', 0),
          ];
          for (const [index, each] of changes.entries()) {
            carryOut(some, each);
            carryOut(none, each);
            if (index % 3 > 0) continue;
            const [kept, exact] = [some.resolve(), none.resolve()];
            const spares = [...(kept.spares?.ingress ?? []), ...(kept.spares?.egress ?? [])];
            expect(spares.length).toBeLessThanOrEqual(capacity);
            expect(sorted(withoutSpares(kept))).toEqual(sorted(withoutSpares(exact)));
            const judgements = [...kept.endpoints.values()].flatMap(({ ingress, egress }) => [
              ingress,
              egress,
            ]);
            for (const spare of spares) expect(judgements).not.toContain(spare);
            const named = new Set([...spares, ...judgements].flatMap(listsOf));
            expect([...kept.rules.keys()].sort()).toEqual([...named].sort());
            const { facts } = some;
            for (const id of spares.flatMap(listsOf)) {
              const { kind, key } = parseRulesId(id);
              const found = kind === 'policy' ? facts.policies.get(key) : profileNamed(facts, key);
              expect([id, found !== undefined]).toEqual([id, true]);
            }
          }
        },
      ),
      { numRuns: runs(200) },
    ));
});

function listsOf({ tiers, profiles }: Judgement): string[] {
  return [...tiers.flatMap(({ policies }) => policies), ...profiles];
}

function withoutSpares(policyOf: HostPolicy): HostPolicy {
  const { endpoints, rules, addressSets, portSets, ...rest } = policyOf;
  return { ...rest, ...needed(endpoints, rules, addressSets, portSets) };
}

function sorted(policyOf: ReturnType<PolicyResolver['resolve']>) {
  const byKey = <T>(map: ReadonlyMap<string, T>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    endpoints: byKey(policyOf.endpoints),
    rules: byKey(policyOf.rules),
    addressSets: byKey(policyOf.addressSets).map(([id, set]) => [id, [...set.addresses].sort(), set.nets]),
    portSets: byKey(policyOf.portSets).map(([id, set]) => [id, [...set].sort()]),
    consented: policyOf.consented.map(port => JSON.stringify(port)).sort(),
  };
}
