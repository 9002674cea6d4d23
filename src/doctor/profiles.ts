import { endpointKey, resourceKey } from '../datastore/keys.js';
import { DEFAULT_ALLOW } from '../model/profile.js';
import { endpointNamePrefix, parseEndpoint } from '../model/workload-endpoint.js';
import { ok, problem } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** The profiles of this host's endpoints are there: one that is not denies all. One round trip, and one for each profile. */
export const profiles: Check<Pick<Subject, 'config' | 'store'>> = {
  name: 'profiles',
  async look({ config, store }) {
    const { entries } = await store().list(endpointKey(endpointNamePrefix(config.nodeName)));
    const users = new Map<string, number>();
    for (const { value } of entries)
      for (const profile of parseEndpoint(value)?.profiles ?? [])
        users.set(profile, (users.get(profile) ?? 0) + 1);
    users.delete(DEFAULT_ALLOW.name);
    const missing = await Promise.all(
      [...users].map(async ([profile, count]) => {
        const entry = await store().get(resourceKey('profiles', profile));
        return entry ? [] : [{ profile, count }];
      }),
    );
    return judgeProfiles(users.size, missing.flat(), config.createProfiles);
  },
};

/** `count`: endpoints that name the profile. `creates`: the daemon makes profiles that are missing. */
export function judgeProfiles(
  all: number,
  missing: readonly { readonly profile: string; readonly count: number }[],
  creates: boolean,
): Verdict[] {
  if (missing.length === 0) return [ok(`${all} of them, as this host's endpoints name them`)];
  const create = 'calico-libnetwork create -f, with the Profile';
  return missing.map(({ profile, count }) =>
    problem(
      `there is no profile ${profile}, which ${count} of this host's endpoints name: what no policy decides about them is dropped`,
      creates ? `restart one of these containers, which makes it anew; or ${create}` : create,
    ),
  );
}
