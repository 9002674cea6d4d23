import type { Labels, SelectorTree } from './selector-tree.js';

/** What a datastore says about policy, in the test's own terms; resources.ts writes it as Calico's resources. */
export interface World {
  readonly endpoints: readonly Endpoint[];
  readonly profiles: readonly Profile[];
  readonly tiers: readonly Tier[];
  readonly policies: readonly Policy[];
  readonly networkSets: readonly NetworkSet[];
  /** No resource but a setting of the daemon. */
  readonly fromHost: 'allow' | 'policy' | 'deny';
}

/** A WorkloadEndpoint. */
export interface Endpoint {
  /** Of the {@link Place} where it is: a container of the host under test, or of another host. */
  readonly place: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly profiles: readonly string[];
  readonly ports: readonly EndpointPort[];
}

export interface EndpointPort {
  readonly name: string;
  readonly protocol: 'TCP' | 'UDP';
  readonly port: number;
  /** Where it is published: a port of the host. */
  readonly hostPort?: number;
}

export interface Profile {
  readonly name: string;
  readonly labelsToApply: Labels;
  readonly ingress: readonly Rule[];
  readonly egress: readonly Rule[];
}

export interface Tier {
  readonly name: string;
  readonly order?: number;
  readonly defaultAction?: 'Deny' | 'Pass';
}

export interface Policy {
  /** As the user knows it. */
  readonly name: string;
  /** How the name is stored: `default.<name>`, plain, or plain with an annotation. */
  readonly era: 'prefixed' | 'plain' | 'annotated';
  /** Absent: a GlobalNetworkPolicy. */
  readonly namespace?: string;
  /** Absent: the default one, unsaid. */
  readonly tier?: string;
  readonly order?: number;
  readonly selector?: SelectorTree;
  /** Of a GlobalNetworkPolicy. */
  readonly namespaceSelector?: 'all()' | 'global()';
  readonly types?: readonly ('Ingress' | 'Egress')[];
  readonly ingress?: readonly Rule[];
  readonly egress?: readonly Rule[];
  /** Of a GlobalNetworkPolicy: for host endpoints only, so it does nothing here. */
  readonly forHosts?: 'doNotTrack' | 'preDNAT';
}

export interface NetworkSet {
  readonly name: string;
  /** Absent: a GlobalNetworkSet. */
  readonly namespace?: string;
  readonly labels: Labels;
  readonly nets: readonly string[];
}

export interface Rule {
  readonly action: 'Allow' | 'Deny' | 'Log' | 'Pass';
  readonly ipVersion?: 4 | 6;
  readonly protocol?: string | number;
  readonly notProtocol?: string | number;
  readonly icmp?: IcmpMatch;
  readonly notICMP?: IcmpMatch;
  readonly source: Entity;
  readonly destination: Entity;
}

export interface IcmpMatch {
  readonly type?: number;
  readonly code?: number;
}

/** One side of a rule. */
export interface Entity {
  readonly nets?: readonly string[];
  readonly notNets?: readonly string[];
  readonly selector?: SelectorTree;
  readonly notSelector?: SelectorTree;
  readonly namespaceSelector?: 'all()' | 'global()';
  /** A number, a range `<first>:<last>`, or a name. */
  readonly ports?: readonly (number | string)[];
  readonly notPorts?: readonly (number | string)[];
}
