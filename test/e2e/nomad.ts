import { isObject, objectOrEmpty, parseJson } from '../../src/model/json.js';
import type { JsonObject } from '../../src/model/json.js';

/** What Nomad asks of Docker's API for one task: POST /containers/create?name=… with this body, then start. */
export interface NomadContainer {
  readonly name: string;
  readonly body: JsonObject;
}

/**
 * Reads as much of HCL as the example has: blocks, and attributes whose values fit one line. A block is found by its
 * type and its labels, as `task web`.
 */
export function readHcl(text: string): JsonObject {
  const root: JsonObject = {};
  const path: JsonObject[] = [root];
  for (const line of text.split('\n').map(each => each.trim())) {
    const here = path.at(-1) ?? root;
    const block = /^([\w-]+(?: "[^"]+")*) \{$/.exec(line)?.[1];
    const [, name, value] = /^"?([^"=\s]+)"?\s*=\s*(.+)$/.exec(line) ?? [];
    if (line === '' || line.startsWith('#')) continue;
    else if (line === '}') path.pop();
    else if (block !== undefined) {
      const inner: JsonObject = {};
      here[block.replaceAll('"', '')] = inner;
      path.push(inner);
    } else if (name !== undefined && value !== undefined) here[name] = parseJson(value);
    else throw new Error(`cannot read ${line}`);
  }
  return root;
}

/**
 * What Nomad's docker driver makes of a job of one group and one task (drivers/docker/driver.go,
 * createContainerConfig; ports.go): network_mode becomes the network, fixed addresses go to its IPAM configuration,
 * every port is published as TCP and as UDP on the address of the node's network.
 */
export function nomadContainer(job: JsonObject, node: string, allocation: string): NomadContainer {
  const group = firstBlock(firstBlock(job, 'job'), 'group');
  const [title] = Object.keys(group).filter(key => key.startsWith('task '));
  const config = objectOrEmpty(firstBlock(group, 'task')['config']);
  const network = String(config['network_mode']);
  const bindings = portBindings(objectOrEmpty(group['network']), config['ports'], node);
  return {
    name: `${String(title).slice('task '.length)}-${allocation}`,
    body: {
      Image: config['image'],
      Cmd: [config['command'], ...(Array.isArray(config['args']) ? (config['args'] as unknown[]) : [])],
      Labels: { ...objectOrEmpty(config['labels']), 'com.hashicorp.nomad.alloc_id': allocation },
      ExposedPorts: Object.fromEntries(Object.keys(bindings).map(port => [port, {}])),
      HostConfig: { NetworkMode: network, PortBindings: bindings },
      NetworkingConfig: {
        EndpointsConfig: { [network]: { IPAMConfig: { IPv4Address: config['ipv4_address'] } } },
      },
    },
  };
}

function portBindings(network: JsonObject, ports: unknown, node: string): JsonObject {
  const bindings: JsonObject = {};
  for (const label of Array.isArray(ports) ? (ports as unknown[]) : []) {
    const port = network[`port ${String(label)}`];
    if (!isObject(port)) throw new Error(`no port ${String(label)} in the network block`);
    const binding = [{ HostIp: node, HostPort: String(port['static']) }];
    for (const protocol of ['tcp', 'udp']) bindings[`${String(port['to'])}/${protocol}`] = binding;
  }
  return bindings;
}

function firstBlock(within: JsonObject, type: string): JsonObject {
  const found = Object.keys(within).find(key => key.startsWith(`${type} `));
  return objectOrEmpty(found === undefined ? undefined : within[found]);
}
