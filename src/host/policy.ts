/**
 * What policy the host's kernel should enforce: desired state, derived from the datastore by `policy/` and applied by the
 * dataplane. Everything is immutable; what did not change keeps its identity (`===`) from one state to the next, so the
 * dataplane compares only what is new.
 */

/** Which way a packet goes, seen from the endpoint that is judged. */
export type Direction = 'ingress' | 'egress';
export const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];

/** Names a list of rules: of one policy or profile in one direction. */
export type RulesId = string;
/** Names a set of addresses, or of named ports: what a selector of a rule stands for. */
export type SetId = string;

/** Everything the host enforces. */
export interface HostPolicy {
  /** By host interface. An interface of ours that is not here lets nothing pass, either way. */
  readonly endpoints: ReadonlyMap<string, EndpointPolicy>;
  /** Judgements of endpoints that went: kept in the kernel, so that the next such endpoint is a few elements. */
  readonly spares?: SpareJudgements;
  /** Every list that a {@link Judgement} of an endpoint, or a spare one, names. */
  readonly rules: ReadonlyMap<RulesId, readonly HostRule[]>;
  /** Every set that a rule names. */
  readonly addressSets: ReadonlyMap<SetId, AddressSet>;
  readonly portSets: ReadonlyMap<SetId, PortSet>;
  /** Ports of containers of this host that are published: what was translated to one of them is let in after the
   *  policies, before the profiles. */
  readonly consented: readonly ConsentedPort[];
  /** Canonical addresses that endpoints of other hosts have or had: one who gets such an address here is somebody else. Not
   *  immutable; read when an address comes. */
  readonly elsewhere?: ReadonlySet<string>;
  /** What the host itself sends to its containers: passes, is judged like anybody's, or is dropped. */
  readonly fromHost: 'allow' | 'policy' | 'deny';
}

/** Whether a text is a MAC address as {@link EndpointPolicy} has it. */
export function isMac(text: string): boolean {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(text);
}

export interface EndpointPolicy {
  /** Lower-case colon form: no other source is let out of the container. */
  readonly mac: string;
  /** Addresses, without length, that the container may send from by this interface: its own ones, also those of its other
   *  interfaces. */
  readonly sources: readonly string[];
  readonly ingress: Judgement;
  readonly egress: Judgement;
}

/** How packets in one direction of an endpoint are judged: tier after tier, then profiles, then the packet is dropped. */
export interface Judgement {
  readonly tiers: readonly HostTier[];
  /** In order. */
  readonly profiles: readonly RulesId[];
}

/** Judgements that no endpoint has. */
export type SpareJudgements = Readonly<Record<Direction, readonly Judgement[]>>;

/** A tier with at least one policy that applies. */
export interface HostTier {
  /** In order. */
  readonly policies: readonly RulesId[];
  /** What happens to a packet that none of them decides. */
  readonly otherwise: 'deny' | 'pass';
}

/** A rule; what is given must match all, what is absent matches anything. */
export interface HostRule {
  readonly action: 'allow' | 'deny' | 'log' | 'pass';
  readonly ipVersion?: 4 | 6;
  /** IP protocol number. */
  readonly protocol?: number;
  readonly notProtocol?: number;
  readonly icmp?: IcmpMatch;
  readonly notIcmp?: IcmpMatch;
  readonly source: HostEntity;
  readonly destination: HostEntity;
}

/** Of ICMP for IPv4 packets, ICMPv6 for IPv6 packets. */
export interface IcmpMatch {
  readonly type?: number;
  readonly code?: number;
}

/** One side of a rule. */
export interface HostEntity {
  /** Canonical CIDRs, any of them; a packet of a family none of them is of does not match. */
  readonly nets?: readonly string[];
  /** Canonical CIDRs, none of them. */
  readonly notNets?: readonly string[];
  /** All of these sets. */
  readonly sets?: readonly SetId[];
  /** None of these sets. */
  readonly notSets?: readonly SetId[];
  /** Any of these or of `namedPorts`. */
  readonly ports?: readonly PortRange[];
  readonly namedPorts?: readonly SetId[];
  readonly notPorts?: readonly PortRange[];
  readonly notNamedPorts?: readonly SetId[];
}

/** Both ends included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** What a selector selects. */
export interface AddressSet {
  /** Of endpoints; canonical, without length, both families. */
  readonly addresses: ReadonlySet<string>;
  /** Of network sets; canonical CIDRs, both families; may overlap each other and hold `addresses`. */
  readonly nets: readonly string[];
}

/** Members as `<address> <protocol number> <port>`. */
export type PortSet = ReadonlySet<string>;

export interface ConsentedPort {
  readonly address: string;
  /** IP protocol number. */
  readonly protocol: number;
  /** The container's. */
  readonly port: number;
}
