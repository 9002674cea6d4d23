import { formatNewResource, parseResource } from './resource.js';

/** Policies that are looked at together, before those of later tiers. */
export interface Tier {
  readonly name: string;
  /** Infinity where it has none. */
  readonly order: number;
  /** What happens to a packet that no policy of the tier decides, where one applies. */
  readonly otherwise: 'deny' | 'pass';
}

/** The tiers that Calico's clients make when they first see a datastore. */
export const STANDARD_TIERS: readonly Tier[] = [
  { name: 'kube-admin', order: 1_000, otherwise: 'pass' },
  { name: 'default', order: 1_000_000, otherwise: 'deny' },
  { name: 'kube-baseline', order: 10_000_000, otherwise: 'pass' },
];

/** The order of a policy or tier; undefined where it has none. Calico's is a float, so long integers are rounded. */
export function orderOf(value: unknown): number | undefined {
  return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : undefined;
}

/** Parses a tier; undefined where the text is none. As in Calico, any default action but Pass is Deny. */
export function parseTier(text: string): Tier | undefined {
  const resource = parseResource(text);
  if (!resource) return undefined;
  const { order, defaultAction } = resource.spec;
  return {
    name: resource.name,
    order: orderOf(order) ?? Infinity,
    otherwise: defaultAction === 'Pass' ? 'pass' : 'deny',
  };
}

/** The text of a new tier. */
export function formatNewTier({ name, order, otherwise }: Tier, now: Date): string {
  return formatNewResource(
    'Tier',
    { name },
    { order, defaultAction: otherwise === 'pass' ? 'Pass' : 'Deny' },
    now,
    { status: {} },
  );
}
