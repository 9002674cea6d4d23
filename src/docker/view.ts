import type { DockerContainer, DockerEndpoint, DockerEngine, DockerNetwork } from './engine.js';

/** All that Docker has of ours at one time. What it lacks, Docker did not have. */
export interface DockerView {
  /** Networks of our driver. */
  readonly networks: readonly DockerNetwork[];
  /** The endpoints of those. */
  readonly endpoints: readonly DockerEndpoint[];
  /** Ids of all endpoints that Docker has anywhere. */
  readonly endpointIds: ReadonlySet<string>;
  /** All addresses that an endpoint has, also on networks that only use our IPAM. */
  readonly addresses: ReadonlySet<string>;
  /** Gateways and auxiliary addresses of networks that use our IPAM. */
  readonly reserved: ReadonlySet<string>;
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
  const endpoints = (await Promise.all(addressed.map(({ id }) => engine.endpoints(id)))).flat();
  // Twice looked at: a container's own list of endpoints, too, keeps them from being taken for gone.
  const listed = (await engine.containers()).flatMap((container: DockerContainer) => container.endpoints);
  const ours = new Set(networks.map(({ id }) => id));
  return {
    networks,
    endpoints: endpoints.filter(({ networkId }) => ours.has(networkId)),
    endpointIds: new Set([...endpoints, ...listed].map(({ endpointId }) => endpointId)),
    addresses: new Set([...endpoints, ...listed].flatMap(({ addresses }) => addresses)),
    reserved: new Set(addressed.flatMap(({ ipam }) => ipam.flatMap(({ reserved }) => reserved))),
  };
}

/** A managed plugin's driver is called after its image, with a tag. */
function isName(driver: string, ...names: string[]): boolean {
  return names.some(name => driver === name || driver.startsWith(`${name}:`));
}
