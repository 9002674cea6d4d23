import { DockerEngine } from '../docker/engine.js';
import { reason } from '../errors.js';
import type { Output } from './command.js';

/**
 * Names of this host's running containers, by the ids of their endpoints. Where Docker does not answer there are none, and
 * a note says so: the rest of a list is of use without.
 */
export async function containersHere(dockerHost: string, out: Output): Promise<ReadonlyMap<string, string>> {
  try {
    const containers = await new DockerEngine(dockerHost).containers();
    return new Map(
      containers.flatMap(({ id, name, endpoints }) =>
        endpoints.map(({ endpointId }) => [endpointId, name ?? id.slice(0, 12)] as const),
      ),
    );
  } catch (error) {
    out.error(`note: Docker of this host does not tell the names of containers (${reason(error)})`);
    return new Map();
  }
}
