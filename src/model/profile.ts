import { formatNewResource } from './resource.js';

/**
 * The text of a Docker network's profile: everything out, in only from endpoints of the same network. The label it
 * gives to its endpoints is what its own rule selects; the old plugin forgot it and nothing could talk.
 */
export function formatNewProfile(network: string, now: Date): string {
  return formatNewResource(
    'Profile',
    { name: network },
    {
      ingress: [{ action: 'Allow', source: { selector: `has(${network})` } }],
      egress: [{ action: 'Allow' }],
      labelsToApply: { [network]: '' },
    },
    now,
  );
}
