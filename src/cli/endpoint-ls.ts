import { loadConfig } from '../config.js';
import { endpointKey, NETWORKS_PREFIX } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import type { PublishedPort } from '../host/dataplane.js';
import { parseNetworkRecord } from '../model/network-record.js';
import { parseEndpoint } from '../model/workload-endpoint.js';
import { chosen, noMoreWords, parseArguments } from './arguments.js';
import type { Run } from './command.js';
import { containersHere } from './containers.js';
import { withDatastore } from './datastore.js';
import { FORMATS, printList } from './format.js';
import type { ListColumn } from './format.js';
import { Waiting } from './waiting.js';

/** An endpoint of any host. */
interface ListedEndpoint {
  /** Name; known for the running containers of this host only. */
  readonly container?: string;
  readonly network: string;
  readonly addresses: readonly string[];
  /** `8080->80/tcp`, or `127.0.0.1:8080->80/tcp`. */
  readonly ports: readonly string[];
  readonly node: string;
  readonly endpoint: string;
  readonly interface: string;
  readonly mac: string;
  readonly labels: Readonly<Record<string, string>>;
}

const COLUMNS: readonly ListColumn<ListedEndpoint>[] = [
  {
    title: 'CONTAINER',
    of: ({ container, endpoint }) => container ?? { text: endpoint.slice(0, 12), color: 'dim' },
  },
  { title: 'NETWORK', of: ({ network }) => network },
  { title: 'ADDRESSES', of: ({ addresses }) => addresses.join(',') },
  { title: 'PORTS', of: ({ ports }) => ports.join(',') },
  { title: 'NODE', of: ({ node }) => node },
  { title: 'ENDPOINT', isWide: true, of: ({ endpoint }) => endpoint.slice(0, 12) },
  { title: 'INTERFACE', isWide: true, of: one => one.interface },
  { title: 'MAC', isWide: true, of: ({ mac }) => mac },
  {
    title: 'LABELS',
    isWide: true,
    of: ({ labels }) =>
      Object.entries(labels)
        .filter(([name]) => !name.startsWith('projectcalico.org/'))
        .map(([name, value]) => `${name}=${value}`)
        .join(','),
  },
];

/** `endpoint ls`: the endpoints of all hosts, or of one (`--node`), those of this host with their container. Exit status 0. */
export const run: Run = async (args, env, out) => {
  const { values, words } = parseArguments(args, {
    node: { type: 'string' },
    output: { type: 'string', short: 'o' },
  });
  noMoreWords(words);
  const format = chosen('-o', values.output, FORMATS, 'table');
  const config = loadConfig(env);
  const waiting = new Waiting(out);
  const endpoints = await withDatastore(config, store =>
    endpointsOf(store, values.node, read => waiting.show(`${read} endpoints read`)),
  ).finally(() => waiting.end());
  const isHere = endpoints.some(({ node }) => node === config.nodeName);
  const names = isHere ? await containersHere(config.dockerHost, out) : new Map<string, string>();
  const named = endpoints.map(endpoint => {
    const container = names.get(endpoint.endpoint);
    return container === undefined ? endpoint : { container, ...endpoint };
  });
  printList(out, format, COLUMNS, named);
  return 0;
};

async function endpointsOf(
  store: Store,
  node: string | undefined,
  progress: (read: number) => void,
): Promise<ListedEndpoint[]> {
  const networks = new Map<string, string>();
  for (const { value } of (await store.list(NETWORKS_PREFIX)).entries) {
    const record = parseNetworkRecord(value);
    if (record?.name !== undefined) networks.set(record.id, record.name);
  }
  const found: ListedEndpoint[] = [];
  let read = 0;
  for await (const { entries } of store.pages(endpointKey(''))) {
    for (const { value } of entries) {
      const endpoint = parseEndpoint(value);
      if (!endpoint || (node !== undefined && endpoint.node !== node)) continue;
      const { networkId, addresses, ports, labels, mac } = endpoint;
      found.push({
        network: networks.get(networkId) ?? endpoint.profiles.join(','),
        ...{ addresses, ports: [...new Set(ports.map(portText))], node: endpoint.node },
        ...{ endpoint: endpoint.endpointId, interface: endpoint.interfaceName, mac, labels },
      });
    }
    progress((read += entries.length));
  }
  return found.sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

function order({ node, network, endpoint }: ListedEndpoint): string {
  return `${node} ${network} ${endpoint}`;
}

function portText({ protocol, hostAddress, hostPort, port }: PublishedPort): string {
  const host = hostAddress?.includes(':') ? `[${hostAddress}]` : hostAddress;
  return `${host === undefined ? '' : `${host}:`}${hostPort}->${port}/${protocol}`;
}
