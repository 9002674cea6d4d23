import { createHash } from 'node:crypto';
import { textMap } from './json.js';
import type { Parsed } from './policy.js';
import { formatNewResource, parseResource } from './resource.js';
import { ALLOW_ALL, DENY_ALL, parseRules } from './rule.js';
import type { Rule } from './rule.js';
import type { Labels } from './selector-tree.js';
import { isLabelName } from './selector.js';

/** Rules and labels of all endpoints that name it; the rules count after all policies. */
export interface Profile {
  readonly name: string;
  readonly labels: Labels;
  readonly ingress: readonly Rule[];
  readonly egress: readonly Rule[];
}

/** Calico's clients have this one built in; it is never in etcd. */
export const DEFAULT_ALLOW: Profile = {
  name: 'projectcalico-default-allow',
  labels: {},
  ingress: [ALLOW_ALL],
  egress: [ALLOW_ALL],
};

/** What a profile is to an endpoint that names it where there is none: as in Felix, it denies. */
export function missingProfile(name: string): Profile {
  return { name, labels: {}, ingress: [DENY_ALL], egress: [DENY_ALL] };
}

/** Parses a profile; no value where the text is none. */
export function parseProfile(text: string): Parsed<Profile> {
  const resource = parseResource(text);
  if (!resource) return { problems: ['it is no resource'] };
  const { spec, name } = resource;
  const problems: string[] = [];
  const rules = (field: 'ingress' | 'egress') =>
    parseRules(spec[field], `spec.${field}`, '', problem => problems.push(problem));
  return {
    value: { name, labels: textMap(spec.labelsToApply), ingress: rules('ingress'), egress: rules('egress') },
    problems,
  };
}

/**
 * The text of a Docker network's profile: everything out, in only from endpoints of the same network. The label it
 * gives to its endpoints is what its own rule selects; the old plugin forgot it and nothing could talk.
 */
export function formatNewProfile(network: string, now: Date): string {
  const label = networkLabel(network);
  return formatNewResource(
    'Profile',
    { name: network },
    {
      ingress: [{ action: 'Allow', source: { selector: `has(${label})` } }],
      egress: [{ action: 'Allow' }],
      labelsToApply: { [label]: '' },
    },
    now,
  );
}

/** A network's name, or where Docker let it have characters that no selector can say, a name made of its hash. */
function networkLabel(network: string): string {
  return isLabelName(network)
    ? network
    : `network-${createHash('sha256').update(network).digest('hex').slice(0, 16)}`;
}
