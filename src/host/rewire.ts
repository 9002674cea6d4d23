import type { Dataplane, EndpointWiring } from './dataplane.js';
import { run } from './run.js';
import { ROOT } from './sysctl.js';

/** What an endpoint's interface is to be inside its container, where dockerd had put it before it was lost. */
export interface ContainerSide {
  /** Path of the container's network namespace: Docker's SandboxKey. */
  readonly sandbox: string;
  readonly interfaceName: string;
  /** Destination, CIDR text, and its next hop; without one the destination is on the interface itself. */
  readonly routes: readonly { readonly destination: string; readonly nextHop?: string }[];
}

/** Makes a pair whose interface is not there, and fills the container; leaves none where that fails. Throws HostError. */
export async function rewire(
  dataplane: Pick<Dataplane, 'attach' | 'detach'>,
  wiring: EndpointWiring,
  side: ContainerSide,
): Promise<void> {
  await dataplane.attach(wiring);
  await fillContainer(wiring, side).catch(async (error: unknown) => {
    await dataplane.detach(wiring.hostInterface);
    throw error;
  });
}

/**
 * Puts the container's end of a veth into its container and makes it what dockerd would: dockerd does this once, at the
 * start, and never again. By commands, three processes: it is rare, and a process cannot enter a namespace for a while.
 * Throws HostError.
 */
async function fillContainer(wiring: EndpointWiring, side: ContainerSide): Promise<void> {
  const { sandbox, interfaceName: name, routes } = side;
  await run('ip', ['link', 'set', 'dev', wiring.containerInterface, 'netns', sandbox]);
  const inside = (argv: readonly string[], input?: string) =>
    run('nsenter', [`--net=${sandbox}`, ...argv], input);
  await inside(['ip', 'link', 'set', 'dev', wiring.containerInterface, 'name', name]);
  // dockerd turns IPv6 off in every container, and on again on an interface that has it.
  if (wiring.addresses.some(address => address.includes(':')))
    await inside(['tee', `${ROOT}/ipv6/conf/${name}/disable_ipv6`], '0');
  const lines = [
    ...wiring.addresses.map(address =>
      address.includes(':')
        ? `addr add ${address}/128 dev ${name} nodad`
        : `addr add ${address}/32 dev ${name}`,
    ),
    `link set dev ${name} up`,
    ...routes.map(({ destination, nextHop }) =>
      nextHop === undefined
        ? `route add ${destination} dev ${name}`
        : `route add ${destination} via ${nextHop} dev ${name}`,
    ),
  ];
  // A route that another interface of the container has, as the default one may be, stays there.
  await inside(['ip', '-force', '-batch', '-'], `${lines.join('\n')}\n`).catch((error: unknown) => {
    if (!/File exists/.test(String(error))) throw error;
  });
}
