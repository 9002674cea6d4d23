import { resources } from './resources.js';
import type { World } from './world.js';

/** Fields that may be left out; all others have to be there. */
const OPTIONAL = new Set([
  ...[
    'tier',
    'order',
    'selector',
    'notSelector',
    'namespaceSelector',
    'types',
    'ingress',
    'egress',
    'forHosts',
  ],
  ...[
    'nets',
    'notNets',
    'notPorts',
    'ipVersion',
    'protocol',
    'notProtocol',
    'icmp',
    'notICMP',
    'defaultAction',
  ],
]);

/** Makes worlds smaller by one thing each, big things first; what makes no sense to Calico is not among them. */
export function* smaller(world: World): Generator<World> {
  const lists = ['policies', 'endpoints', 'networkSets', 'profiles', 'tiers'] as const;
  for (const list of lists)
    for (const index of world[list].keys())
      yield { ...world, [list]: world[list].filter((_, at) => at !== index) };
  for (const list of lists)
    for (const [index, item] of world[list].entries())
      for (const less of smallerThings(item))
        yield { ...world, [list]: world[list].map((each, at) => (at === index ? less : each)) };
}

function* smallerThings(thing: unknown): Generator<unknown> {
  if (Array.isArray(thing)) {
    const items: unknown[] = thing;
    for (const index of items.keys()) yield items.filter((_, at) => at !== index);
    for (const [index, item] of items.entries())
      for (const less of smallerThings(item)) yield items.map((each, at) => (at === index ? less : each));
  } else if (isRecord(thing)) {
    if ('kind' in thing) return;
    const needsProtocol = /"(ports|notPorts|icmp|notICMP)"/.test(JSON.stringify(thing));
    for (const key of Object.keys(thing)) {
      const isOptional = OPTIONAL.has(key) || (key === 'ports' && !('place' in thing));
      if (isOptional && !(key === 'protocol' && needsProtocol)) yield without(thing, key);
    }
    for (const [key, value] of Object.entries(thing)) {
      if (key === 'labels' && isRecord(value))
        for (const label of Object.keys(value)) yield { ...thing, labels: without(value, label) };
      else for (const less of smallerThings(value)) yield { ...thing, [key]: less };
    }
  }
}

/** The smallest world, found by leaving out one thing after another, of which `isStillWrong`; not longer than `limit` ms. */
export async function shrink<T extends readonly World[]>(
  worlds: T,
  less: (worlds: T) => Iterable<T>,
  isStillWrong: (worlds: T) => Promise<boolean>,
  limit: number,
): Promise<T> {
  const end = Date.now() + limit;
  let smallest = worlds;
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false;
    for (const candidate of less(smallest)) {
      if (Date.now() > end) return smallest;
      if (!(await isStillWrong(candidate).catch(() => false))) continue;
      smallest = candidate;
      isSmaller = true;
      break;
    }
  }
  return smallest;
}

/** The resources of a world, one a line, without what every resource has. */
export function worldText(world: World): string {
  const lines = [...resources(world)].map(([key, text]) => {
    const { metadata, spec } = JSON.parse(text) as { metadata: Record<string, unknown>; spec: unknown };
    const labels = metadata['labels'] === undefined ? '' : ` labels ${JSON.stringify(metadata['labels'])}`;
    return `  ${key.replace(/^.*projectcalico.org\//, '')}${labels} ${JSON.stringify(spec)}`;
  });
  return [`  fromHost ${world.fromHost}`, ...lines].join('\n');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function without(thing: Record<string, unknown>, key: string): Record<string, unknown> {
  return Object.fromEntries(Object.entries(thing).filter(([name]) => name !== key));
}
