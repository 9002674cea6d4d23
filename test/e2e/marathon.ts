import { isObject, objectOrEmpty, textMap } from '../../src/model/json.js';
import type { JsonObject } from '../../src/model/json.js';

/** What a Mesos agent and Marathon add to an app. */
export interface Launch {
  /** The agent's host name. */
  readonly agent: string;
  /** Of the container; Mesos makes a new UUID for each. */
  readonly containerId: string;
  /** The task's folder on the agent. */
  readonly sandbox: string;
  /** Host ports of the offer, for mappings that leave the choice to Marathon. */
  readonly offeredPorts: readonly number[];
}

/** A port mapping, with the host port that Marathon settled on; none where the app asks for none. */
interface Mapping {
  readonly containerPort: number;
  readonly hostPort?: number;
  readonly protocols: readonly string[];
  readonly name?: string;
}

/** Mesos: src/slave/containerizer/mesos/isolators/cgroups/constants.hpp. */
const CPU_SHARES = { perCpu: 1024, min: 2 };
const MEGABYTE = 1024 * 1024;
const MIN_MEMORY = 32;
/** Mesos: agent flags --docker_socket and --sandbox_directory. */
const DOCKER_SOCKET = 'unix:///var/run/docker.sock';
const SANDBOX_IN_CONTAINER = '/mnt/mesos/sandbox';

/**
 * The command by which Mesos' Docker containerizer runs a Marathon app of either style. Marathon makes a TaskInfo of
 * the app (TaskBuilder.scala, EnvironmentHelper.scala); the agent makes a command line of that (src/docker/docker.cpp,
 * RunOptions::create and Docker::run), in this order and without any other flag for the network.
 */
export function dockerCommand(app: JsonObject, launch: Launch): string[] {
  const container = objectOrEmpty(app['container']);
  const docker = objectOrEmpty(container['docker']);
  if (container['type'] !== 'DOCKER') throw new Error('not an app for the Docker containerizer');
  // Since 1.5 the mappings belong to the container, before to its docker part.
  const mappings = settlePorts(container['portMappings'] ?? docker['portMappings'], launch.offeredPorts);
  const name = `mesos-${launch.containerId}`;
  const environment = {
    ...marathonEnvironment(app, mappings, launch),
    ...textMap(app['env']),
    MESOS_SANDBOX: SANDBOX_IN_CONTAINER,
    MESOS_CONTAINER_NAME: name,
  };
  const { network, options } = parameters(docker, networkOf(app, docker));
  return [
    ...['docker', '-H', DOCKER_SOCKET, 'run'],
    ...[
      '--cpu-shares',
      String(Math.max(Math.floor(CPU_SHARES.perCpu * Number(app['cpus'])), CPU_SHARES.min)),
    ],
    ...['--memory', String(Math.max(Number(app['mem']), MIN_MEMORY) * MEGABYTE)],
    ...Object.entries(environment).flatMap(([key, value]) => ['-e', `${key}=${value}`]),
    ...['-v', `${launch.sandbox}:${SANDBOX_IN_CONTAINER}`],
    ...['--net', network],
    ...mappings.flatMap(published),
    // `cmd` is for a shell, which then replaces the image's own entry point; `args` go to that.
    ...(typeof app['cmd'] === 'string' ? ['--entrypoint', '/bin/sh'] : []),
    ...['--name', name],
    ...options,
    String(docker['image']),
    ...(typeof app['cmd'] === 'string' ? ['-c', app['cmd']] : list(app['args']).map(String)),
  ];
}

/**
 * The Docker network. The agent takes only the name of the one NetworkInfo; its labels are for the Mesos
 * containerizer and never reach Docker.
 */
function networkOf(app: JsonObject, docker: JsonObject): string {
  const networks = list(app['networks']).filter(isObject);
  if (networks.length > 1) throw new Error('the Docker containerizer takes a single network');
  const { mode, name } = networks[0] ?? {};
  if (mode === 'container' && typeof name === 'string') return name;
  if (mode === 'container/bridge') return 'bridge';
  if (docker['network'] === 'USER') {
    const { networkName } = objectOrEmpty(app['ipAddress']);
    if (typeof networkName !== 'string') throw new Error('network USER needs ipAddress.networkName');
    return networkName;
  }
  return typeof docker['network'] === 'string' ? docker['network'].toLowerCase() : 'host';
}

/** `parameters` become long options as they are, but for the first `net`, which takes the network's place. */
function parameters(docker: JsonObject, network: string): { network: string; options: string[] } {
  const given = list(docker['parameters']).filter(isObject);
  const other = given.find(({ key }) => key === 'net' || key === 'network');
  return {
    network: other ? String(other['value']) : network,
    options: given.filter(one => one !== other).map(({ key, value }) => `--${String(key)}=${String(value)}`),
  };
}

/** Host port 0 is one of the offer's; a mapping without a host port takes none (in a network of the user's). */
function settlePorts(given: unknown, offered: readonly number[]): Mapping[] {
  const free = [...offered];
  return list(given)
    .filter(isObject)
    .map(({ containerPort, hostPort, protocol, name }) => {
      const port = hostPort === 0 ? free.shift() : hostPort;
      if (hostPort === 0 && port === undefined) throw new Error('the offer has too few ports');
      return {
        containerPort: Number(containerPort),
        ...(typeof port === 'number' ? { hostPort: port } : {}),
        protocols: (typeof protocol === 'string' ? protocol : 'tcp').split(','),
        ...(typeof name === 'string' ? { name } : {}),
      };
    });
}

/** `udp,tcp` is two mappings for Mesos. One without a host port is not on the command line. */
function published({ containerPort, hostPort, protocols }: Mapping): string[] {
  if (hostPort === undefined) return [];
  return protocols.flatMap(protocol => ['-p', `${hostPort}:${containerPort}/${protocol}`]);
}

function marathonEnvironment(
  app: JsonObject,
  mappings: readonly Mapping[],
  launch: Launch,
): Record<string, string> {
  const ports = mappings.map(({ hostPort, containerPort }) => String(hostPort ?? containerPort));
  const taken = mappings.flatMap(({ hostPort }) => hostPort ?? []);
  const entries = [
    ...mappings.map((_, index) => [`PORT${index}`, ports[index] ?? ''] as const),
    ...mappings.map(({ containerPort }, index) => [`PORT_${containerPort}`, ports[index] ?? ''] as const),
    ...mappings.flatMap(({ name }, index) =>
      name === undefined ? [] : [[`PORT_${name.toUpperCase()}`, ports[index] ?? ''] as const],
    ),
    ...(taken[0] === undefined ? [] : [['PORT', String(taken[0])] as const]),
    ['PORTS', taken.join(',')] as const,
  ];
  return {
    HOST: launch.agent,
    MARATHON_APP_ID: String(app['id']),
    MESOS_TASK_ID: `${String(app['id']).replace(/^\//, '').replaceAll('/', '_')}.${launch.containerId}`,
    ...labelEnvironment(textMap(app['labels'])),
    ...Object.fromEntries(entries),
  };
}

/** All that becomes of an app's labels. */
function labelEnvironment(labels: Readonly<Record<string, string>>): Record<string, string> {
  const names = Object.keys(labels).map(label => label.replace(/\W+/g, '_').toUpperCase());
  const values = Object.values(labels).map((value, index) => [`MARATHON_APP_LABEL_${names[index]}`, value]);
  return { MARATHON_APP_LABELS: names.join(' '), ...Object.fromEntries(values) };
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}
