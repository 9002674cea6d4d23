import type { AddressSet, EndpointPolicy, HostPolicy, HostRule } from '../../src/host/policy.js';

/** A HostPolicy as JSON can say it. */
export interface PlainPolicy {
  readonly endpoints: readonly (readonly [string, EndpointPolicy])[];
  readonly rules: readonly (readonly [string, readonly HostRule[]])[];
  readonly addressSets: readonly (readonly [string, readonly string[], readonly string[]])[];
  readonly portSets: readonly (readonly [string, readonly string[]])[];
  readonly consented: HostPolicy['consented'];
  readonly elsewhere?: readonly string[];
  readonly fromHost: HostPolicy['fromHost'];
}

export function plain(policy: HostPolicy): PlainPolicy {
  const { elsewhere = [], ...rest } = policy;
  return {
    ...rest,
    elsewhere: [...elsewhere],
    endpoints: [...policy.endpoints],
    rules: [...policy.rules],
    addressSets: [...policy.addressSets].map(([id, { addresses, nets }]) => [id, [...addresses], nets]),
    portSets: [...policy.portSets].map(([id, members]) => [id, [...members]]),
  };
}

/** Parts that are as in `before` are the same objects, as in the daemon. */
export function revived(policy: PlainPolicy, before: HostPolicy | undefined): HostPolicy {
  return {
    ...policy,
    elsewhere: new Set(policy.elsewhere),
    endpoints: kept(new Map(policy.endpoints), before?.endpoints),
    rules: kept(new Map(policy.rules), before?.rules),
    addressSets: kept(
      new Map(
        policy.addressSets.map(([id, addresses, nets]): [string, AddressSet] => [
          id,
          { addresses: new Set(addresses), nets },
        ]),
      ),
      before?.addressSets,
    ),
    portSets: kept(new Map(policy.portSets.map(([id, members]) => [id, new Set(members)])), before?.portSets),
  };
}

function kept<T>(now: Map<string, T>, before: ReadonlyMap<string, T> | undefined): Map<string, T> {
  for (const [key, value] of now) {
    const old = before?.get(key);
    if (old !== undefined && text(old) === text(value)) now.set(key, old);
  }
  return now;
}

function text(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (part instanceof Set ? [...part] : part));
}
