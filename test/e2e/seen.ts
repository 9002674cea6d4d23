import { isObject, objectOrEmpty, parseJson } from '../../src/model/json.js';
import type { JsonObject } from '../../src/model/json.js';
import type { Host } from '../bed/host.js';

/** An endpoint of a running container on a network of ours, as Docker shows it. */
export interface SeenEndpoint {
  readonly container: string;
  readonly endpointId: string;
  readonly mac: string;
  readonly addresses: readonly string[];
}

/** A running container and its endpoints on our networks. */
export interface SeenContainer {
  readonly id: string;
  readonly name: string;
  /** When it was started, and which process that is: another start has others. */
  readonly started: string;
  readonly pid: number;
  readonly endpoints: readonly SeenEndpoint[];
  /** It has `-p`, and networks of ours only. */
  readonly isPublished: boolean;
}

/** The running containers, with what they have of networks of our driver. */
export async function runningContainers(host: Host): Promise<SeenContainer[]> {
  const ids = await host.docker('ps', '-q', '--no-trunc');
  if (ids === '') return [];
  const networks = new Set((await ourNetworks(host)).map(({ Id: id }) => String(id)));
  // One that has gone meanwhile is an error, and the others are printed all the same.
  const { stdout } = await host.run(['docker', 'inspect', ...ids.split('\n')], { check: false });
  return objectsIn(stdout).flatMap(container => {
    const state = objectOrEmpty(container.State);
    if (state.Running !== true || state.Restarting === true) return [];
    const name = String(container.Name).slice(1);
    const listed = Object.values(objectOrEmpty(objectOrEmpty(container.NetworkSettings).Networks));
    const endpoints = listed.filter(isObject).flatMap(endpoint => {
      if (!networks.has(String(endpoint.NetworkID)) || !endpoint.EndpointID) return [];
      const given = [endpoint.IPAddress, endpoint.GlobalIPv6Address];
      return [
        {
          container: name,
          endpointId: String(endpoint.EndpointID),
          mac: String(endpoint.MacAddress),
          addresses: given.flatMap(address => (address ? [String(address)] : [])),
        },
      ];
    });
    return [
      {
        id: String(container.Id),
        name,
        started: String(state.StartedAt),
        pid: Number(state.Pid),
        endpoints,
        isPublished:
          Object.keys(objectOrEmpty(objectOrEmpty(container.HostConfig).PortBindings)).length > 0 &&
          endpoints.length > 0 &&
          endpoints.length === listed.length,
      },
    ];
  });
}

/** What the kernel has of ours. Routes as `address dev interface`, those of endpoints only. */
export async function kernelHas(host: Host) {
  const printed = async (...argv: string[]) => (await host.run(argv, { check: false })).stdout;
  const links = await printed('ip', '-oneline', 'link');
  const routes = (
    await Promise.all(['-4', '-6'].map(family => printed('ip', family, 'route', 'show', 'proto', '81')))
  )
    .join('\n')
    .split('\n');
  const table = await printed('nft', 'list', 'table', 'inet', 'calico_libnetwork');
  return {
    links: [...links.matchAll(/^\d+: (cali[^:@]*)/gm)].map(match => match[1] ?? ''),
    routes: routes.flatMap(line => /^\S+ dev cali\S*/.exec(line)?.[0] ?? []),
    /** Where published ports lead to. */
    published: [...table.matchAll(/ : ([0-9a-f.:]+) \. \w+/g)].map(match => match[1] ?? ''),
    /** Interfaces that are named. */
    named: [...new Set(table.match(/cali[0-9a-f]{11}/g) ?? [])],
  };
}

/** What `docker network inspect` prints of the networks of our driver. */
export async function ourNetworks(host: Host): Promise<JsonObject[]> {
  const ids = await host.docker('network', 'ls', '-q', '--no-trunc', '--filter', 'driver=calico');
  if (ids === '') return [];
  return objectsIn(
    (await host.run(['docker', 'network', 'inspect', ...ids.split('\n')], { check: false })).stdout,
  );
}

function objectsIn(json: string): JsonObject[] {
  const value = parseJson(json === '' ? '[]' : json);
  return Array.isArray(value) ? value.filter(isObject) : [];
}
