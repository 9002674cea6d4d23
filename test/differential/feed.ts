import type { HostPolicy } from '../../src/host/policy.js';
import { parseNetworkSet } from '../../src/model/network-set.js';
import { parsePolicy } from '../../src/model/policy.js';
import { parseProfile } from '../../src/model/profile.js';
import { parseTier } from '../../src/model/tier.js';
import { parseEndpoint } from '../../src/model/workload-endpoint.js';
import { policyEndpoint } from '../../src/policy/facts.js';
import type { PolicyEndpoint, PolicyFacts } from '../../src/policy/facts.js';
import { PolicyResolver } from '../../src/policy/resolve.js';

/** Tells the daemon's resolver of changes in the datastore, key by key. */
export class Feed {
  private readonly resolver: PolicyResolver;

  constructor(node: string, fromHost: HostPolicy['fromHost']) {
    this.resolver = new PolicyResolver(node, fromHost);
  }

  get facts(): PolicyFacts {
    return this.resolver.facts;
  }

  /** A key's text; undefined: it is gone. */
  set(key: string, text: string | undefined): void {
    const [plural = '', first = '', second] = key.replace(/^.*projectcalico\.org\//, '').split('/');
    const [namespace, name] = second === undefined ? ['', first] : [first, second];
    const { resolver } = this;
    if (plural === 'tiers') resolver.setTier(name, text === undefined ? undefined : parseTier(text));
    else if (plural === 'profiles')
      resolver.setProfile(name, text === undefined ? undefined : parsed(parseProfile(text)));
    else if (plural.endsWith('networksets'))
      resolver.setNetworkSet(key, text === undefined ? undefined : parsed(parseNetworkSet(text, namespace)));
    else if (plural.endsWith('policies'))
      resolver.setPolicy(key, text === undefined ? undefined : parsed(parsePolicy(text, namespace)));
    else if (plural === 'workloadendpoints')
      resolver.setEndpoint(key, text === undefined ? undefined : endpointIn(text));
    else throw new Error(`${key} is nothing that policy is made of`);
  }

  resolve(): HostPolicy {
    return this.resolver.resolve();
  }
}

function endpointIn(text: string): PolicyEndpoint {
  const endpoint = parseEndpoint(text);
  if (endpoint === undefined) throw new Error(`this is no endpoint: ${text}`);
  return policyEndpoint(endpoint);
}

/** The value; what the test writes is all understood, except what is not for containers. */
function parsed<T>({ value, problems }: { value?: T; problems: readonly string[] }): T | undefined {
  const unforeseen = problems.filter(problem => !problem.includes('host endpoints only'));
  if (unforeseen.length > 0) throw new Error(unforeseen.join('; '));
  return value;
}
