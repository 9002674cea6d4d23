import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { Packet } from '../policy/packet.js';

/** Hints that are given. */
const MOST = 3;

/**
 * What somebody may have meant who asks `policy explain` for a port, in words: policy judges the container's port, what is
 * typed elsewhere is the host's.
 *
 * @param traffic as it was typed, `tcp/8080`
 */
export function publishedHints(
  endpoints: readonly WorkloadEndpoint[],
  { destination, destinationPort, isTranslated }: Packet,
  from: string,
  traffic: string,
): string[] {
  const [protocol = ''] = traffic.split('/');
  const target = endpoints.find(({ addresses }) => addresses.includes(destination));
  if (target) {
    const isPublished = target.ports.some(
      each => each.protocol === protocol && each.port === destinationPort,
    );
    return isTranslated && !isPublished
      ? [`this container publishes no ${traffic} of its own: what is asked for is its port, not the host's`]
      : [];
  }
  const hints = endpoints.flatMap(({ ports }) =>
    ports
      .filter(each => each.protocol === protocol && each.hostPort === destinationPort)
      .filter(({ hostAddress = destination }) => hostAddress === destination)
      .map(
        ({ address, port }) =>
          `a host that publishes ${traffic} sends it on to a container: ask for policy explain ${from} ${address} ${protocol}/${port} --published`,
      ),
  );
  // Each host may publish it.
  return hints.slice(0, MOST);
}
