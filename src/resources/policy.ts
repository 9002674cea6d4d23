import { ENDPOINT_NAMESPACE } from '../datastore/keys.js';
import { textOr } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { NAME, specColumn } from './kind.js';
import type { Column, Kind } from './kind.js';
import type { Path, Say } from './problem.js';
import { egressRules, ingressRules } from './rule.js';
import { anyNumber, bool, group, list, oneOf } from './shape.js';
import type { Field, Shape } from './shape.js';
import {
  anyLabels,
  labels,
  namespaceSelector,
  selector,
  tierName,
  wrongName,
  wrongTierName,
} from './values.js';

export const DEFAULT_TIER = 'default';
/** Policies that Kubernetes' own are translated into are stored as they are called, in whatever tier. */
const AS_CALLED =
  /^(knp\.default|kcnp\.kube-(admin|baseline)|kanp\.adminnetworkpolicy|kbanp\.baselineadminnetworkpolicy|ossg\.default)\./;
const PREFIX = `${DEFAULT_TIER}.`;

const ofHostEndpoints: Shape = {
  check(value, path, say) {
    if (value !== true) return bool.check(value, path, say);
    say({
      path,
      text: 'is for host endpoints, which this driver does not have: take it out, or apply the policy with calicoctl for hosts with a Felix',
    });
    return value;
  },
};

const SHARED: Readonly<Record<string, Field>> = {
  tier: tierName,
  order: anyNumber,
  selector,
  types: list(oneOf('Ingress', 'Egress')),
  ingress: ingressRules,
  egress: egressRules,
  serviceAccountSelector: selector,
  performanceHints: list(oneOf('AssumeNeededOnEveryNode')),
};

const TIER: Column = { title: 'TIER', of: ({ spec }) => tierOf(spec) };
const COLUMNS: readonly Column[] = [
  NAME,
  TIER,
  specColumn('ORDER', 'order'),
  specColumn('SELECTOR', 'selector'),
  specColumn('TYPES', 'types', '', true),
];

function complete(spec: JsonObject): JsonObject {
  const types = Array.isArray(spec.types) && spec.types.length > 0 ? spec.types : typesOf(spec);
  return { ...spec, types };
}

/** The directions of a policy that does not tell them. */
function typesOf({ ingress, egress }: JsonObject): string[] {
  const has = (rules: unknown) => Array.isArray(rules) && rules.length > 0;
  if (!has(egress)) return ['Ingress'];
  return has(ingress) ? ['Ingress', 'Egress'] : ['Egress'];
}

/** Calico's own clients find a tier's policies by this label. */
function ownLabels(spec: JsonObject): Readonly<Record<string, string>> {
  const tier = tierOf(spec);
  return tier === DEFAULT_TIER ? {} : { 'projectcalico.org/tier': tier };
}

/** A policy of all namespaces. */
export const globalNetworkPolicy: Kind = {
  kind: 'GlobalNetworkPolicy',
  plural: 'globalnetworkpolicies',
  aliases: ['globalnetworkpolicy', 'gnp', 'gnps'],
  isNamespaced: false,
  wrongName,
  shownName: shownPolicyName,
  labels: anyLabels,
  spec: group(
    {
      ...SHARED,
      namespaceSelector,
      doNotTrack: ofHostEndpoints,
      preDNAT: ofHostEndpoints,
      applyOnForward: bool,
    },
    checkPolicy,
  ),
  complete,
  ownLabels,
  columns: COLUMNS,
};

/** A policy of one namespace; containers' is `libnetwork`. */
export const networkPolicy: Kind = {
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  aliases: ['networkpolicy', 'policy', 'np', 'nps', 'policies', 'pol', 'pols'],
  isNamespaced: true,
  namespaceNote: namespace =>
    namespace === ENDPOINT_NAMESPACE
      ? undefined
      : `a policy of namespace ${namespace} selects no container of Docker's: these are in ${ENDPOINT_NAMESPACE}`,
  wrongName,
  shownName: shownPolicyName,
  labels: anyLabels,
  spec: group(SHARED, checkPolicy),
  complete,
  ownLabels,
  columns: COLUMNS,
};

function checkPolicy(spec: JsonObject, at: Path, say: Say): void {
  const types = Array.isArray(spec.types) ? (spec.types as unknown[]) : [];
  types.forEach((type, index) => {
    if (types.indexOf(type) < index)
      say({ path: [...at, 'types', index], text: `${String(type)} is there twice` });
  });
  if (textOr(spec.serviceAccountSelector) !== '')
    say({
      path: [...at, 'serviceAccountSelector'],
      text: "service accounts are of Kubernetes: no container of Docker's has one",
      isNote: true,
    });
}

/** Tiers with an order of their own, as Calico's clients make them. */
const FIXED_ORDERS = new Map([
  [DEFAULT_TIER, 1_000_000],
  ['kube-admin', 1_000],
  ['kube-baseline', 10_000_000],
  ['adminnetworkpolicy', 1_000],
  ['baselineadminnetworkpolicy', 10_000_000],
]);

/** The order that a tier of this name must have; undefined where it may have any. */
export function fixedOrder(tier: string): number | undefined {
  return FIXED_ORDERS.get(tier);
}

/** Policies come in tiers, one after the other. */
export const tier: Kind = {
  kind: 'Tier',
  plural: 'tiers',
  aliases: ['tier'],
  isNamespaced: false,
  wrongName: wrongTierName,
  labels,
  spec: group({ order: anyNumber, defaultAction: oneOf('Deny', 'Pass') }),
  hasStatus: true,
  complete: spec => ({ ...spec, defaultAction: spec.defaultAction ?? 'Deny' }),
  columns: [NAME, specColumn('ORDER', 'order'), specColumn('DEFAULTACTION', 'defaultAction', 'Deny')],
};

/** The tier of a policy's spec. */
export function tierOf(spec: JsonObject): string {
  return textOr(spec.tier) || DEFAULT_TIER;
}

/**
 * The names a policy may be stored under, the one for a new policy first. Older Calicos (3.28 and before, 3.29 too) look for
 * a policy of the default tier under `default.<name>`, and for nothing else; newer ones store it as it is called, but list,
 * get and apply one called `default.<name>` as well. So that is what every Calico reads, and what we write.
 */
export function storedPolicyNames(name: string, tierOfNew = DEFAULT_TIER): readonly string[] {
  if (AS_CALLED.test(name)) return [name];
  const called = shownPolicyName(name);
  const names = [PREFIX + called, called];
  return tierOfNew === DEFAULT_TIER ? names : names.reverse();
}

/** What a policy is called, by its stored name. */
export function shownPolicyName(stored: string): string {
  return stored.startsWith(PREFIX) ? stored.slice(PREFIX.length) : stored;
}
