import type { Random } from '../chaos/random.js';
import { NETS, PORT_NAMES, someLabels, someRules, someSelector } from './generate-rules.js';
import { SERVED } from './packets.js';
import { LOCAL, REMOTE, placeOf } from './places.js';
import type { Endpoint, EndpointPort, NetworkSet, Policy, Profile, Rule, Tier, World } from './world.js';

/** Random worlds, and random small changes of one. */

const PROFILES = ['net1', 'net2', 'open', 'quiet'] as const;
const TIERS = ['security', 'platform', 'baseline'] as const;

export function someWorld(random: Random): World {
  const places = [...LOCAL, ...REMOTE].filter(() => random.chance(0.92));
  const isInitialised = random.chance(0.8);
  const tiers = TIERS.filter(() => random.chance(0.4)).map(name => someTier(random, name, isInitialised));
  const all: Tier[] = [...tiers, ...(isInitialised ? [someDefaultTier(random)] : [])];
  const count = random.pick([0, 1, 2, 3, 4, 6, 10]);
  return {
    endpoints: places.map(({ name }) => someEndpoint(random, name)),
    profiles: PROFILES.map(name => someProfile(random, name)),
    tiers: all,
    policies: Array.from({ length: count }, (_, index) => somePolicy(random, index, tiers)),
    networkSets: Array.from({ length: random.pick([0, 1, 2, 3]) }, (_, index) =>
      someNetworkSet(random, index),
    ),
    fromHost: random.weighted([
      [2, 'allow'],
      [2, 'policy'],
      [1, 'deny'],
    ] as const),
  };
}

/** One thing is another, new or gone. Names what, for the report of a disagreement. */
export function someChange(random: Random, world: World): { readonly world: World; readonly what: string } {
  const { endpoints, profiles, policies, networkSets, tiers } = world;
  const changed = <T>(all: readonly T[], make: (one: T) => T): T[] => {
    const at = random.below(all.length);
    return all.map((one, index) => (index === at ? make(one) : one));
  };
  const without = <T>(all: readonly T[]): T[] => {
    const at = random.below(all.length);
    return all.filter((_, index) => index !== at);
  };
  const custom = tiers.filter(({ name }) => name !== 'default');
  const free = Array.from({ length: 100 }, (_, index) => index).find(index =>
    policies.every(({ name }) => name !== policyName(index)),
  );
  const absent = [...LOCAL, ...REMOTE].find(({ name }) => endpoints.every(({ place }) => place !== name));
  const [what, change] = random.weighted<readonly [string, () => Partial<World>]>([
    [
      4,
      [
        'labels of an endpoint',
        () => ({ endpoints: changed(endpoints, one => ({ ...one, labels: someLabels(random) })) }),
      ],
    ],
    [
      1,
      [
        'profiles of an endpoint',
        () => ({ endpoints: changed(endpoints, one => ({ ...one, profiles: someProfiles(random) })) }),
      ],
    ],
    [
      1,
      [
        'ports of an endpoint',
        () => ({ endpoints: changed(endpoints, one => ({ ...one, ports: somePorts(random, one.place) })) }),
      ],
    ],
    [1, ['an endpoint goes', () => ({ endpoints: without(endpoints) })]],
    [
      absent === undefined ? 0 : 2,
      [
        'an endpoint comes',
        () => ({ endpoints: [...endpoints, ...(absent ? [someEndpoint(random, absent.name)] : [])] }),
      ],
    ],
    [2, ['a profile', () => ({ profiles: changed(profiles, ({ name }) => someProfile(random, name)) })]],
    [
      free === undefined ? 0 : 2,
      ['a policy comes', () => ({ policies: [...policies, somePolicy(random, free ?? 0, custom)] })],
    ],
    [policies.length === 0 ? 0 : 1, ['a policy goes', () => ({ policies: without(policies) })]],
    [
      policies.length === 0 ? 0 : 3,
      ['a policy', () => ({ policies: changed(policies, one => anotherPolicy(random, one)) })],
    ],
    [networkSets.length === 0 ? 0 : 1, ['a network set goes', () => ({ networkSets: without(networkSets) })]],
    [
      networkSets.length === 0 ? 0 : 2,
      [
        'a network set',
        () => ({ networkSets: changed(networkSets, one => ({ ...one, nets: someNets(random) })) }),
      ],
    ],
    [
      custom.length === 0 ? 0 : 1,
      [
        'a tier',
        () => ({
          tiers: changed(tiers, ({ name }) =>
            name === 'default'
              ? someDefaultTier(random)
              : someTier(
                  random,
                  name,
                  tiers.some(each => each.name === 'default'),
                ),
          ),
        }),
      ],
    ],
  ]);
  return { what, world: { ...world, ...change() } };
}

/** `canBeLast`: the default tier says its order, so another can come after it. */
function someTier(random: Random, name: string, canBeLast: boolean): Tier {
  return {
    name,
    // Two equal ones go by name.
    order: random.pick([100, 200, 200, 0.5, canBeLast ? 2_000_000 : 1000]),
    ...(random.chance(0.5) ? { defaultAction: random.pick(['Deny', 'Pass', 'Pass']) } : {}),
  };
}

function someDefaultTier(random: Random): Tier {
  const made = { name: 'default', order: 1_000_000 };
  return random.pick<Tier>([made, { ...made, defaultAction: 'Deny' }]);
}

function someEndpoint(random: Random, place: string): Endpoint {
  const isLocal = placeOf(place).kind === 'local';
  return {
    place,
    namespace: isLocal || random.chance(0.6) ? 'libnetwork' : 'prod',
    labels: someLabels(random),
    profiles: someProfiles(random),
    ports: somePorts(random, place),
  };
}

function someProfiles(random: Random): string[] {
  return PROFILES.filter(() => random.chance(0.4)).sort(() => random.next() - 0.5);
}

function somePorts(random: Random, place: string): EndpointPort[] {
  const named = PORT_NAMES.filter(() => random.chance(0.3)).map(name => ({
    name,
    protocol: random.pick(['TCP', 'UDP'] as const),
    port: random.pick([80, ...SERVED]),
  }));
  const { wiring } = placeOf(place);
  if (wiring === undefined || !random.chance(0.3)) return named;
  const hostPort = 9000 + Number(wiring.hostInterface.replace('cali', ''));
  const published = { name: '', protocol: random.pick(['TCP', 'UDP'] as const), hostPort };
  return [...named, { ...published, port: random.pick([80, ...SERVED]) }];
}

function someProfile(random: Random, name: string): Profile {
  const allow: Rule = { action: 'Allow', source: {}, destination: {} };
  const own = { ...allow, source: { selector: { kind: 'has', key: name } } } as const;
  const labelsToApply = {
    [name]: '',
    ...(random.chance(0.3) ? { role: random.pick(['cache', 'db', 'web']) } : {}),
  };
  const made = { name, labelsToApply };
  return random.weighted<() => Profile>([
    [3, () => ({ ...made, ingress: [own], egress: [allow] })],
    [2, () => ({ ...made, ingress: [allow], egress: [allow] })],
    [2, () => ({ ...made, ingress: someRules(random, false), egress: [allow] })],
    [1, () => ({ ...made, ingress: someRules(random, false), egress: someRules(random, false) })],
    [0.5, () => ({ ...made, ingress: [], egress: [] })],
  ])();
}

const policyName = (index: number): string => `p${String(index).padStart(2, '0')}`;

function somePolicy(random: Random, index: number, tiers: readonly Tier[]): Policy {
  const namespace = random.chance(0.3) ? random.pick(['libnetwork', 'libnetwork', 'prod']) : undefined;
  const tier = random.pick([undefined, undefined, 'default', ...tiers.map(({ name }) => name)]);
  const kinds = { ingress: someRules(random, true), egress: someRules(random, true) };
  const sides = random.weighted<readonly ('ingress' | 'egress')[]>([
    [4, ['ingress']],
    [2, ['egress']],
    [3, ['ingress', 'egress']],
    [0.5, []],
  ]);
  const types = random.weighted<Policy['types'] | undefined>([
    [4, undefined],
    [2, ['Ingress', 'Egress']],
    [1, ['Ingress']],
    [1, ['Egress']],
  ]);
  return {
    name: policyName(index),
    era: random.pick(['prefixed', 'plain', 'annotated']),
    ...(namespace === undefined ? {} : { namespace }),
    ...(tier === undefined ? {} : { tier }),
    // Of two kinds with one order either may be first: not so here.
    ...(random.chance(0.75)
      ? {
          order:
            random.pick([2, 10, 10, 1000, -4]) +
            (namespace === undefined ? 0 : namespace === 'prod' ? 0.25 : 0.5),
        }
      : namespace === undefined
        ? {}
        : { order: 5000 + index }),
    ...(random.chance(0.8) ? { selector: someSelector(random) } : {}),
    ...(namespace === undefined && random.chance(0.1)
      ? { namespaceSelector: random.pick(['all()', 'global()'] as const) }
      : {}),
    ...(types === undefined ? {} : { types }),
    ...(sides.includes('ingress') ? { ingress: kinds.ingress } : {}),
    ...(sides.includes('egress') ? { egress: kinds.egress } : {}),
    ...(namespace === undefined && random.chance(0.05)
      ? { forHosts: random.pick(['doNotTrack', 'preDNAT'] as const) }
      : {}),
  };
}

function anotherPolicy(random: Random, policy: Policy): Policy {
  return random.weighted<() => Policy>([
    [2, () => ({ ...policy, selector: someSelector(random) })],
    [
      1,
      () => ({
        ...policy,
        order: Math.floor(random.next() * 100) + (policy.namespace === undefined ? 0 : 0.5),
      }),
    ],
    [3, () => (policy.ingress === undefined ? policy : { ...policy, ingress: someRules(random, true) })],
    [2, () => (policy.egress === undefined ? policy : { ...policy, egress: someRules(random, true) })],
    [1, () => ({ ...policy, types: ['Ingress', 'Egress'] })],
  ])();
}

function someNetworkSet(random: Random, index: number): NetworkSet {
  const namespace = random.chance(0.3) ? random.pick(['libnetwork', 'prod']) : undefined;
  return {
    name: `set${index}`,
    ...(namespace === undefined ? {} : { namespace }),
    labels: someLabels(random),
    nets: someNets(random),
  };
}

function someNets(random: Random): string[] {
  return Array.from({ length: random.pick([0, 1, 2, 4]) }, () => random.pick(NETS));
}
