import { isMac } from '../host/policy.js';
import type { ConsentedPort } from '../host/policy.js';
import { formatAddress, parseAddress } from '../ipam/cidr.js';
import type { NetworkSet } from '../model/network-set.js';
import type { Policy } from '../model/policy.js';
import { DEFAULT_ALLOW } from '../model/profile.js';
import type { Profile } from '../model/profile.js';
import type { Labels } from '../model/selector-tree.js';
import type { Tier } from '../model/tier.js';
import type { NamedPort, WorkloadEndpoint } from '../model/workload-endpoint.js';

/** All that decides what may pass, as it is in the datastore. Keys are those of the datastore, of policies
 *  from the kind on; names are those of tiers and profiles. */
export interface PolicyFacts {
  readonly tiers: ReadonlyMap<string, Tier>;
  readonly policies: ReadonlyMap<string, Policy>;
  readonly profiles: ReadonlyMap<string, Profile>;
  readonly networkSets: ReadonlyMap<string, NetworkSet>;
  /** Of all hosts. */
  readonly endpoints: ReadonlyMap<string, PolicyEndpoint>;
}

/** What of an endpoint counts for policy. */
export interface PolicyEndpoint {
  readonly node: string;
  readonly interfaceName: string;
  /** Lower-case colon form. */
  readonly mac: string;
  /** Canonical, without length. */
  readonly addresses: readonly string[];
  /** In order. */
  readonly profiles: readonly string[];
  /** Its own, without what its profiles give. */
  readonly labels: Labels;
  readonly namedPorts: readonly NamedPort[];
  /** Ports that are open on its host. */
  readonly published: readonly ConsentedPort[];
  /** The container it is in, where that is known: its other endpoints have the same. */
  readonly sandbox?: string;
}

/** What its container sends from cannot be compared with a MAC address: nothing passes, either way. */
export function isClosed({ mac }: PolicyEndpoint): boolean {
  return !isMac(mac);
}

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const;

/** What of an endpoint counts for policy. `sandbox`: its container, where that is better known than the endpoint says. */
export function policyEndpoint(
  endpoint: WorkloadEndpoint,
  sandbox: string | undefined = endpoint.sandbox?.key,
): PolicyEndpoint {
  const { node, interfaceName, profiles, labels, namedPorts = [] } = endpoint;
  const canonical = (text: string): string[] => {
    const address = parseAddress(text);
    return address ? [formatAddress(address)] : [];
  };
  return {
    node,
    interfaceName,
    mac: endpoint.mac.toLowerCase(),
    addresses: endpoint.addresses.flatMap(canonical),
    profiles,
    labels,
    namedPorts,
    published: endpoint.ports.flatMap(({ address, protocol, port }) =>
      canonical(address).map(text => ({ address: text, protocol: PROTOCOL_NUMBERS[protocol], port })),
    ),
    ...(sandbox === undefined ? {} : { sandbox }),
  };
}

/** Labels of namespaces and service accounts, which an endpoint must not claim for itself. */
const FOREIGN = /^pc(ns|sa)\./;

/** The labels that selectors see: the endpoint's own, then what its profiles give, the first one first. */
export function effectiveLabels(
  { labels, profiles }: Pick<PolicyEndpoint, 'labels' | 'profiles'>,
  profileOf: (name: string) => Profile | undefined,
): Labels {
  const given = profiles.map(name => profileOf(name)?.labels ?? {}).reverse();
  const own = Object.entries(labels).filter(([name]) => !FOREIGN.test(name));
  return Object.fromEntries([...given.flatMap(each => Object.entries(each)), ...own]);
}

/** A profile by name; the one that Calico has built in is always there. */
export function profileNamed(facts: Pick<PolicyFacts, 'profiles'>, name: string): Profile | undefined {
  return name === DEFAULT_ALLOW.name ? DEFAULT_ALLOW : facts.profiles.get(name);
}
