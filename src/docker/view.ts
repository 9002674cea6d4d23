import { GATEWAY4, GATEWAY6 } from '../plugin/protocol.js';
import type { DockerContainer, DockerEndpoint, DockerEngine, DockerNetwork } from './engine.js';

/** Networks that are inspected at the same time. */
const AT_ONCE = 8;

/** All that Docker has of ours at one time. What it lacks, Docker did not have. */
export interface DockerView {
  /** Networks of our driver. */
  readonly networks: readonly DockerNetwork[];
  /** The endpoints of those. */
  readonly endpoints: readonly DockerEndpoint[];
  /** Endpoints of networks that use our IPAM, whatever their driver. */
  readonly addressed: readonly DockerEndpoint[];
  /** Subnets of networks that use our IPAM, CIDR text as Docker has it. */
  readonly subnets: readonly string[];
  /** Ids of all endpoints that Docker has anywhere. */
  readonly endpointIds: ReadonlySet<string>;
  /** All addresses that an endpoint has, also on networks that only use our IPAM. */
  readonly addresses: ReadonlySet<string>;
  /** What networks that use our IPAM keep back, by address. */
  readonly reserved: ReadonlyMap<string, 'gateway' | 'aux'>;
}

/** What a view is read from; {@link DockerEngine} in the daemon. */
export type ViewedEngine = Pick<DockerEngine, 'networks' | 'endpoints' | 'containers'>;

/**
 * Reads a view. Takes no lock of a starting container, so it never waits for an answer of ours. Throws where a part of
 * it cannot be read: half a view would lack what Docker has.
 *
 * @param isKnown whether a network of this id is ours, whatever its driver is called here
 */
export async function viewDocker(
  engine: ViewedEngine,
  isKnown: (networkId: string) => boolean,
): Promise<DockerView> {
  const all = await engine.networks();
  const networks = all.filter(network => isName(network.driver, 'calico') || isKnown(network.id));
  const addressed = all.filter(
    network => networks.includes(network) || isName(network.ipamDriver, 'calico', 'calico-ipam'),
  );
  const endpoints: DockerEndpoint[] = [];
  for (let at = 0; at < addressed.length; at += AT_ONCE) {
    const some = addressed.slice(at, at + AT_ONCE);
    endpoints.push(...(await Promise.all(some.map(({ id }) => engine.endpoints(id)))).flat());
  }
  // Twice looked at: a container's own list of endpoints, too, keeps them from being taken for gone.
  const listed = (await engine.containers()).flatMap((container: DockerContainer) => container.endpoints);
  const ours = new Set(networks.map(({ id }) => id));
  return {
    networks,
    endpoints: endpoints.filter(({ networkId }) => ours.has(networkId)),
    addressed: endpoints,
    subnets: addressed.flatMap(({ ipam }) => ipam.map(({ subnet }) => subnet)),
    endpointIds: new Set([...endpoints, ...listed].map(({ endpointId }) => endpointId)),
    addresses: new Set([...endpoints, ...listed].flatMap(({ addresses }) => addresses)),
    reserved: new Map(addressed.flatMap(({ ipam }) => ipam.flatMap(reservedIn))),
  };
}

function reservedIn({ gateway, auxiliary }: DockerNetwork['ipam'][number]): [string, 'gateway' | 'aux'][] {
  // The gateway that we name in every answer is nobody's.
  const isReal = gateway !== undefined && gateway !== GATEWAY4 && gateway !== GATEWAY6;
  return [
    ...(isReal ? [[gateway, 'gateway'] as [string, 'gateway']] : []),
    ...auxiliary.map((address): [string, 'aux'] => [address, 'aux']),
  ];
}

/** A managed plugin's driver is called after its image, with a tag. */
function isName(driver: string, ...names: string[]): boolean {
  return names.some(name => driver === name || driver.startsWith(`${name}:`));
}
