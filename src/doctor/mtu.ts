import { defaultMtu } from '../host/facts.js';
import type { Link } from '../host/link-messages.js';
import { ok, problem } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** Containers send nothing that is too large for the way out. */
export const mtu: Check<Subject> = {
  name: 'MTU',
  look: async ({ config, netlink, links }) => [
    judgeMtu(await defaultMtu(netlink), config.vethMtu, await links()),
  ],
};

/** In bytes: of the interface of the default route; `CALICO_LIBNETWORK_VETH_MTU`. */
export function judgeMtu(uplink: number, configured: number | undefined, links: readonly Link[]): Verdict {
  const lost = 'large packets are lost, connections hang';
  if (configured !== undefined && configured > uplink)
    return problem(
      `CALICO_LIBNETWORK_VETH_MTU is ${configured}, but the way out takes ${uplink} bytes: ${lost}`,
      `unset it, or set it to at most ${uplink}, and restart the containers`,
    );
  const containers = links.filter(isContainer);
  const large = containers.filter(link => link.mtu > uplink);
  if (large.length > 0)
    return problem(
      `${large.length} containers' interfaces have an MTU of up to ${Math.max(...large.map(link => link.mtu))}, but the way out takes ${uplink} bytes: ${lost}`,
      'restart these containers: the MTU of the interface with the default route has become smaller since, or `-o mtu=` is too large',
    );
  return ok(`containers' interfaces fit the way out (${uplink} bytes)`);
}

/** Whether an interface of the host is the end of a container's. */
export function isContainer({ name, kind }: Link): boolean {
  return kind === 'veth' && name.startsWith('cali');
}
