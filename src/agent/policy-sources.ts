import { resourcesPrefix } from '../datastore/keys.js';
import type { Plural } from '../datastore/keys.js';
import { Mirror } from '../datastore/mirror.js';
import type { Store } from '../datastore/store.js';
import type { Logger } from '../log.js';
import { parseNetworkSet } from '../model/network-set.js';
import { parsePolicy } from '../model/policy.js';
import type { Parsed } from '../model/policy.js';
import { parseProfile } from '../model/profile.js';
import { parseTier } from '../model/tier.js';
import type { PolicyResolver } from '../policy/resolve.js';

/** A part of the datastore that policy is made of. */
export interface PolicySource {
  /** Resolves when all of it has been read once. */
  readonly ready: Promise<void>;
  keys(): Iterable<string>;
  onEntries(listener: (keys: ReadonlySet<string>) => void): () => void;
  /** Tells what stands at a key now. */
  tell(resolver: PolicyResolver, key: string): void;
  close(): void;
}

/**
 * Mirrors of tiers, policies, profiles and network sets. What others wrote and we cannot do is in the log, once for each of
 * its revisions.
 */
export function policySources(store: Store, log: Logger): PolicySource[] {
  const source = <T>(
    plural: Plural,
    parse: (text: string, namespace: string) => Parsed<T>,
    tell: (resolver: PolicyResolver, key: string, name: string, value: T | undefined) => void,
  ): PolicySource => {
    const prefix = resourcesPrefix(plural);
    const parsed = (key: string, text: string): Parsed<T> => {
      const path = key.slice(prefix.length).split('/');
      const result = parse(text, path.length > 1 ? (path[0] ?? '') : '');
      if (result.problems.length > 0)
        log[result.value ? 'warn' : 'error'](
          { path: key, problems: result.problems },
          'a resource that policy is made of cannot be applied as it stands',
        );
      return result;
    };
    const mirror = new Mirror<Parsed<T>>(store, prefix, parsed, log);
    return {
      ready: mirror.ready,
      keys: function* () {
        for (const [key] of mirror.entries()) yield key;
      },
      onEntries: listener => mirror.onEntries(listener),
      tell: (resolver, key) => tell(resolver, key, key.slice(prefix.length), mirror.get(key)?.value),
      close: () => mirror.close(),
    };
  };
  const policies = (plural: Plural) =>
    source(plural, parsePolicy, (resolver, _key, name, policy) =>
      // What a log line of a rule begins with is short: it has no room for all of the key.
      resolver.setPolicy(`${plural}/${name}`, policy),
    );
  const networkSets = (plural: Plural) =>
    source(plural, parseNetworkSet, (resolver, key, _name, set) => resolver.setNetworkSet(key, set));
  return [
    source('tiers', parseTierOnce, (resolver, _key, name, tier) => resolver.setTier(name, tier)),
    source('profiles', parseProfile, (resolver, _key, name, profile) => resolver.setProfile(name, profile)),
    policies('networkpolicies'),
    policies('globalnetworkpolicies'),
    networkSets('networksets'),
    networkSets('globalnetworksets'),
  ];
}

function parseTierOnce(text: string): Parsed<ReturnType<typeof parseTier> & object> {
  const value = parseTier(text);
  return value ? { value, problems: [] } : { problems: ['it is no resource'] };
}
