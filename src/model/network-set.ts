import { parseCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import { formatJson } from './json.js';
import type { Parsed } from './policy.js';
import { parseResource } from './resource.js';
import { NAMESPACE_LABEL } from './selector-tree.js';
import type { Labels } from './selector-tree.js';

/** A NetworkSet or GlobalNetworkSet: ranges that rules select by labels. */
export interface NetworkSet {
  readonly name: string;
  /** Empty for a GlobalNetworkSet. */
  readonly namespace: string;
  /** With that of its namespace. */
  readonly labels: Labels;
  readonly nets: readonly Cidr[];
}

/** Parses a network set; entries that are no CIDR are left out, as in Calico. `namespace`: empty for a global one. */
export function parseNetworkSet(text: string, namespace: string): Parsed<NetworkSet> {
  const resource = parseResource(text);
  if (!resource) return { problems: ['it is no resource'] };
  const listed: unknown[] = Array.isArray(resource.spec.nets) ? resource.spec.nets : [];
  const problems: string[] = [];
  const nets = listed.flatMap(net => {
    const cidr = typeof net === 'string' ? parseCidr(net) : undefined;
    if (!cidr) problems.push(`spec.nets has an entry that is no CIDR, left out: ${formatJson(net)}`);
    return cidr ?? [];
  });
  return {
    value: {
      name: resource.name,
      namespace,
      labels: namespace === '' ? resource.labels : { ...resource.labels, [NAMESPACE_LABEL]: namespace },
      nets,
    },
    problems,
  };
}
