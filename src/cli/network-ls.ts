import { loadConfig } from '../config.js';
import { endpointKey, NETWORKS_PREFIX, SHARED_NETWORKS_PREFIX } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import { parseNetworkRecord } from '../model/network-record.js';
import { canonical, parseSharedNetwork } from '../model/shared-network.js';
import { parseEndpoint } from '../model/workload-endpoint.js';
import { chosen, noMoreWords, parseArguments } from './arguments.js';
import type { Run } from './command.js';
import { withDatastore } from './datastore.js';
import { FORMATS, printList } from './format.js';
import type { ListColumn } from './format.js';

/** A network of Docker's, on all hosts that have it. */
interface ListedNetwork {
  readonly name: string;
  readonly subnets: readonly string[];
  readonly internal: boolean;
  readonly options: Readonly<Record<string, string>>;
  /** Nodes. */
  readonly hosts: readonly string[];
  readonly endpoints: number;
  /** Made on all hosts; on its way out; or of one host alone. */
  readonly sharing: 'shared' | 'removed' | 'local';
}

const COLUMNS: readonly ListColumn<ListedNetwork>[] = [
  { title: 'NAME', of: ({ name }) => name },
  { title: 'SUBNETS', of: ({ subnets }) => subnets.join(',') || 'default pools' },
  { title: 'INTERNAL', of: ({ internal }) => (internal ? 'yes' : 'no') },
  { title: 'ENDPOINTS', of: ({ endpoints }) => String(endpoints) },
  {
    title: 'SHARING',
    of: ({ sharing }) => (sharing === 'removed' ? { text: sharing, color: 'yellow' } : sharing),
  },
  { title: 'HOSTS', of: ({ hosts }) => hosts.join(',') },
  {
    title: 'OPTIONS',
    isWide: true,
    of: ({ options }) =>
      Object.entries(options)
        .map(([name, value]) => `${name}=${value}`)
        .join(','),
  },
];

/** `network ls`: the calico networks of all hosts, one line for each name and its subnets. Exit status 0. */
export const run: Run = async (args, env, out) => {
  const { values, words } = parseArguments(args, { output: { type: 'string', short: 'o' } });
  noMoreWords(words);
  const format = chosen('-o', values.output, FORMATS, 'table');
  printList(out, format, COLUMNS, await withDatastore(loadConfig(env), networksOf));
  return 0;
};

type Row = { -readonly [K in keyof ListedNetwork]: ListedNetwork[K] };

/** Three round trips, and one more per 1,000 of each. */
async function networksOf(store: Store): Promise<ListedNetwork[]> {
  const rows = new Map<string, Row>();
  const byId = new Map<string, Row>();
  // A host may have another network of that name, which is not the cluster's.
  const rowOf = (of: Pick<ListedNetwork, 'name' | 'subnets' | 'internal' | 'options'>): Row => {
    const key = [of.name, ...of.subnets].join(' ');
    const row = rows.get(key) ?? { ...of, hosts: [], endpoints: 0, sharing: 'local' };
    rows.set(key, row);
    return row;
  };
  for (const { value } of (await store.list(NETWORKS_PREFIX)).entries) {
    const record = parseNetworkRecord(value);
    if (!record) continue;
    // Without a name until Docker's event about it has come.
    const name = record.name ?? record.id.slice(0, 12);
    const { subnets, internal, options } = record;
    const row = rowOf({ name, subnets: subnets.map(({ cidr }) => cidr), internal, options });
    row.hosts = [...row.hosts, record.node].sort();
    byId.set(record.id, row);
  }
  for (const { value } of (await store.list(SHARED_NETWORKS_PREFIX)).entries) {
    const shared = parseSharedNetwork(value);
    if (!shared) continue;
    const { name, definition, removed } = shared;
    const subnets = definition.subnets.map(({ subnet }) => canonical(subnet));
    const { internal, options } = definition;
    rowOf({ name, subnets, internal, options }).sharing = removed ? 'removed' : 'shared';
  }
  for await (const { entries } of store.pages(endpointKey('')))
    for (const { value } of entries) {
      const endpoint = parseEndpoint(value);
      const row = endpoint && byId.get(endpoint.networkId);
      if (row) row.endpoints += 1;
    }
  return [...rows.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
