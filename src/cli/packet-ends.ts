import type { DockerContainer } from '../docker/engine.js';
import { reason, RequestError } from '../errors.js';
import { formatAddress, parseAddress } from '../ipam/cidr.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';

/** One end of a packet's way. */
export interface PacketEnd {
  /** As it was typed, with the address where that is not the same. */
  readonly name: string;
  /** Canonical, without length. */
  readonly address: string;
}

interface Candidate {
  readonly address: string;
  /** Docker's id; undefined: it is no container of ours. */
  readonly networkId?: string;
}

/** What people mean by the ends of a packet: an address, a container of this host, an endpoint of any host. */
export class PacketEnds {
  private readonly endpoints: WorkloadEndpoint[] = [];

  /** `containers`: those of this host. */
  constructor(private readonly containers: () => Promise<readonly DockerContainer[]>) {}

  add(endpoint: WorkloadEndpoint): void {
    this.endpoints.push(endpoint);
  }

  /**
   * Both ends, of one family, in one network where they share one. Throws RequestError where a name is nobody's, or several
   * are meant.
   */
  async between(from: string, to: string): Promise<{ source: PacketEnd; destination: PacketEnd }> {
    const [sources, destinations] = [await this.find(from), await this.find(to)];
    const pairs = sources.flatMap(source =>
      destinations
        .filter(({ address }) => address.includes(':') === source.address.includes(':'))
        .map(destination => ({ source, destination })),
    );
    const shared = pairs.find(
      ({ source, destination }) =>
        source.networkId !== undefined && source.networkId === destination.networkId,
    );
    const pair = shared ?? pairs[0];
    if (!pair) throw new RequestError(`${from} and ${to} have no addresses of the same family`);
    const end = (name: string, { address }: Candidate): PacketEnd => ({
      name: name === address ? address : `${name} (${address})`,
      address,
    });
    return { source: end(from, pair.source), destination: end(to, pair.destination) };
  }

  private async find(text: string): Promise<Candidate[]> {
    const address = parseAddress(text);
    if (address) {
      const canonical = formatAddress(address);
      const owner = this.endpoints.find(({ addresses }) => addresses.includes(canonical));
      return [{ address: canonical, ...(owner ? { networkId: owner.networkId } : {}) }];
    }
    const found = (await this.ofContainer(text)) ?? this.ofEndpoint(text);
    if (found.length === 0) throw new RequestError(`${text} is in no network of Calico's`);
    // IPv4 where there is a choice.
    return found
      .flatMap(({ addresses, networkId }) => addresses.map(one => ({ address: one, networkId })))
      .sort((a, b) => Number(a.address.includes(':')) - Number(b.address.includes(':')));
  }

  /** The endpoints of a container of this host, by its name or the beginning of its id; undefined where there is none. */
  private async ofContainer(text: string): Promise<WorkloadEndpoint[] | undefined> {
    let containers: readonly DockerContainer[];
    try {
      containers = await this.containers();
    } catch (error) {
      if (this.withId(text).length > 0) return undefined;
      throw new RequestError(
        `Docker cannot be asked for ${text} (${reason(error)}): name an address instead`,
      );
    }
    const named = containers.filter(({ name }) => name === text);
    const meant =
      named.length > 0 ? named : containers.filter(({ id }) => text.length >= 4 && id.startsWith(text));
    if (meant.length > 1)
      throw new RequestError(`more than one container has an id that begins with ${text}`);
    const ids = meant[0]?.endpoints.map(({ endpointId }) => endpointId);
    return ids && this.endpoints.filter(({ endpointId }) => ids.includes(endpointId));
  }

  private ofEndpoint(text: string): WorkloadEndpoint[] {
    const found = this.withId(text);
    if (found.length === 1) return found;
    throw new RequestError(
      found.length > 1
        ? `more than one endpoint has an id that begins with ${text}`
        : `${text} is no address, no running container of this host and no endpoint of any: name an address`,
    );
  }

  private withId(text: string): WorkloadEndpoint[] {
    return this.endpoints.filter(({ endpointId }) => text.length >= 4 && endpointId.startsWith(text));
  }
}
