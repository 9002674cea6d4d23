import { isObject, parseJson, textList, textOr } from './json.js';
import type { Resource } from './resource.js';
import { parseResource } from './resource.js';
import { parseRules } from './rule.js';
import type { Rule } from './rule.js';
import { both, inNamespace, NAMESPACE_LABEL, ofOwners } from './selector-tree.js';
import type { Selector } from './selector-tree.js';
import { parseSelector } from './selector.js';
import { orderOf } from './tier.js';

/** A NetworkPolicy or GlobalNetworkPolicy. */
export interface Policy {
  /** As its user calls it. */
  readonly name: string;
  /** Empty for a GlobalNetworkPolicy. */
  readonly namespace: string;
  readonly tier: string;
  /** Infinity where it has none. */
  readonly order: number;
  /** The endpoints it applies to. */
  readonly selector: Selector;
  /** The rules of each direction that it applies to; undefined where it does not. */
  readonly ingress: readonly Rule[] | undefined;
  readonly egress: readonly Rule[] | undefined;
}

/** What came of parsing something that others may have written: the value, and what of it could not be done. */
export interface Parsed<T> {
  readonly value?: T;
  /** In words; for the log. */
  readonly problems: readonly string[];
}

/** Calico ≥ 3.30 keeps the metadata that the user gave here. */
const METADATA_ANNOTATION = 'projectcalico.org/metadata';
const DEFAULT_TIER = 'default';
const ACCOUNT_PREFIX = 'pcsa.';
const ACCOUNT_LABEL = 'projectcalico.org/serviceaccount';
const NAMESPACE_PREFIX = 'pcns.';

/**
 * Parses a policy. No value where the text is none, and for what is not applied to containers: `doNotTrack`, `preDNAT`
 * (host endpoints only), a selector that cannot be parsed.
 *
 * @param namespace of a NetworkPolicy; empty for a GlobalNetworkPolicy
 */
export function parsePolicy(text: string, namespace: string): Parsed<Policy> {
  const resource = parseResource(text);
  if (!resource) return { problems: ['it is no resource: not applied'] };
  const { spec } = resource;
  for (const field of ['doNotTrack', 'preDNAT'])
    if (spec[field] === true)
      return { problems: [`spec.${field} is for host endpoints only: the policy is not applied`] };
  const problems: string[] = [];
  const selector = policySelector(spec, namespace);
  if (typeof selector === 'string') return { problems: [`${selector}: the policy is not applied`] };
  const tier = textOr(spec.tier) || DEFAULT_TIER;
  const order = orderOf(spec.order);
  if (order === undefined && spec.order !== undefined && spec.order !== null)
    problems.push('spec.order is no number: the policy comes last');
  const types = policyTypes(spec.types, resource, problems);
  const rules = (field: 'ingress' | 'egress') =>
    types.includes(field)
      ? parseRules(spec[field], `spec.${field}`, namespace, problem => problems.push(problem))
      : undefined;
  return {
    value: {
      name: policyName(resource, tier),
      namespace,
      tier,
      order: order ?? Infinity,
      selector,
      ingress: rules('ingress'),
      egress: rules('egress'),
    },
    problems,
  };
}

/**
 * The name that the user gave: in an annotation since 3.30. Until 3.28 names in the default tier were stored as
 * `default.<name>`.
 */
export function policyName(
  { name, annotations }: Pick<Resource, 'name' | 'annotations'>,
  tier: string,
): string {
  const annotated = nameIn(annotations[METADATA_ANNOTATION]);
  if (annotated !== undefined) return annotated;
  return tier === DEFAULT_TIER && name.startsWith('default.') ? name.slice('default.'.length) : name;
}

function nameIn(annotation: string | undefined): string | undefined {
  try {
    const metadata = parseJson(annotation ?? '');
    return isObject(metadata) ? textOr(metadata.name) || undefined : undefined;
  } catch {
    return undefined;
  }
}

/** Given types are what counts; else the directions that have rules, else ingress: as Calico's clients fill it in. */
function policyTypes(
  value: unknown,
  { spec }: Resource,
  problems: string[],
): readonly ('ingress' | 'egress')[] {
  const given = textList(value).map(type => type.toLowerCase());
  const types = (['ingress', 'egress'] as const).filter(type => given.includes(type));
  if (types.length > 0) return types;
  if (given.length > 0) problems.push('spec.types has neither Ingress nor Egress: as if there were none');
  const has = (rules: unknown) => Array.isArray(rules) && rules.length > 0;
  if (!has(spec.egress)) return ['ingress'];
  return has(spec.ingress) ? ['ingress', 'egress'] : ['egress'];
}

/** What is wrong with it, in words, where it cannot be parsed. */
function policySelector(spec: Resource['spec'], namespace: string): Selector | string {
  const parts: Selector[] = [];
  for (const [field, prefix, label] of [
    ['selector'],
    ['namespaceSelector', NAMESPACE_PREFIX, NAMESPACE_LABEL],
    ['serviceAccountSelector', ACCOUNT_PREFIX, ACCOUNT_LABEL],
  ] as const) {
    const text = spec[field];
    if (text === undefined || text === null || text === '') continue;
    try {
      if (typeof text !== 'string') return `spec.${field} is no selector`;
      const parsed = parseSelector(text);
      parts.push(prefix === undefined ? parsed : ofOwners(parsed, prefix, label));
    } catch (error) {
      return `spec.${field} is no selector (${error instanceof Error ? error.message : 'it cannot be parsed'})`;
    }
  }
  if (namespace !== '') parts.push(inNamespace(namespace));
  const [first, ...more] = parts;
  return first ? more.reduce(both, first) : parseSelector('');
}
