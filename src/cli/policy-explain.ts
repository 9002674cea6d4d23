import { networkInterfaces } from 'node:os';
import { pino } from 'pino';
import { policySources } from '../agent/policy-sources.js';
import { loadConfig } from '../config.js';
import { ENDPOINT_NAMESPACE, NETWORKS_PREFIX, resourcesPrefix } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import { daemonSettings } from '../doctor/settings.js';
import { DockerEngine } from '../docker/engine.js';
import { formatAddress, parseAddress } from '../ipam/cidr.js';
import { isObject, parseJson, textList, textOr } from '../model/json.js';
import { parseNetworkRecord } from '../model/network-record.js';
import { parseEndpoint } from '../model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import { endpointAt, evaluatePath } from '../policy/evaluate.js';
import { explanation, parseTraffic, trafficText } from '../policy/explain.js';
import { isClosed, policyEndpoint } from '../policy/facts.js';
import { PolicyResolver } from '../policy/resolve.js';
import { UsageError } from './command.js';
import type { Output, Run } from './command.js';
import { withDatastore } from './datastore.js';
import { keptApart } from './internal-networks.js';
import { PacketEnds } from './packet-ends.js';
import { publishedHints } from './published-hints.js';

/**
 * `policy explain FROM TO PROTO/PORT`: each tier, policy and rule that is looked at, in both directions, and the verdict.
 * Exit status 0: allowed; 1: denied. One listing of each kind of resource that policy is made of, of all
 * endpoints and of the records of networks.
 */
export const run: Run = async (args, env, out) => {
  const published = args.includes('--published');
  const [from, to, traffic, ...more] = args.filter(arg => arg !== '--published');
  if (from === undefined || to === undefined || traffic === undefined || more.length > 0)
    throw new UsageError('policy explain needs FROM, TO and what is sent, as tcp/80');
  // What the host itself may send is the daemon's to say, and seldom in the environment of who asks.
  const { env: settings } = daemonSettings(env, path => loadConfig(path).socketDir);
  const config = loadConfig(settings);
  const ends = new PacketEnds(() => new DockerEngine(config.dockerHost).containers());
  const resolver = new PolicyResolver(config.nodeName, config.hostAction);
  const { endpoints, networks } = await withDatastore(config, store => read(store, resolver, out));
  for (const endpoint of endpoints) ends.add(endpoint);
  const { source, destination } = await ends.between(from, to);
  const family = destination.address.includes(':') ? 6 : 4;
  const packet = {
    family,
    source: source.address,
    destination: destination.address,
    ...usage(() => parseTraffic(traffic, family)),
    isTranslated: published,
  } as const;
  out.line(`${source.name} to ${destination.name}, ${trafficText(packet)}`);
  for (const hint of publishedHints(endpoints, packet, from, traffic)) out.error(`note: ${hint}`);
  // Beside Felix nothing of ours keeps internal networks apart.
  const apart =
    config.dataplane === 'felix'
      ? undefined
      : keptApart(networks, endpoints, source.address, destination.address);
  if (apart !== undefined) {
    for (const line of [apart, 'denied']) out.line(line);
    return 1;
  }
  for (const { name, address } of [source, destination]) {
    const endpoint = endpointAt(resolver.facts, address);
    if (!endpoint || !isClosed(endpoint)) continue;
    out.line(
      `${name} is closed until its endpoint has a MAC address: see the log of the daemon on ${endpoint.node}`,
    );
    out.line('denied');
    return 1;
  }
  const isFromHost = !endpointAt(resolver.facts, source.address) && isOwn(source.address);
  if (isFromHost && config.hostAction !== 'policy') {
    out.line(`what the host itself sends: ${config.hostAction} (CALICO_LIBNETWORK_DEFAULT_HOST_ACTION)`);
    out.line(config.hostAction === 'allow' ? 'allowed' : 'denied');
    return config.hostAction === 'allow' ? 0 : 1;
  }
  const path = evaluatePath(resolver.facts, packet);
  for (const line of explanation(path, source.name, destination.name)) out.line(line);
  return path.verdict === 'allow' ? 0 : 1;
};

/** Reads all that counts; what of it cannot be applied is said. */
async function read(store: Store, resolver: PolicyResolver, out: Output) {
  const endpoints: WorkloadEndpoint[] = [];
  const log = pino({ level: 'warn' }, { write: line => note(line, out) });
  const sources = policySources(store, log);
  try {
    await Promise.all(sources.map(source => source.ready));
    for (const source of sources) for (const key of source.keys()) source.tell(resolver, key);
    const prefix = `${resourcesPrefix('workloadendpoints')}${ENDPOINT_NAMESPACE}/`;
    for await (const { entries } of store.pages(prefix))
      for (const { key, value } of entries) {
        const endpoint = parseEndpoint(value);
        if (!endpoint) continue;
        resolver.setEndpoint(key, policyEndpoint(endpoint));
        endpoints.push(endpoint);
      }
    const { entries: records } = await store.list(NETWORKS_PREFIX);
    return { endpoints, networks: records.flatMap(({ value }) => parseNetworkRecord(value) ?? []) };
  } finally {
    for (const source of sources) source.close();
  }
}

function note(line: string, out: Output): void {
  const said = parseJson(line);
  if (!isObject(said)) return;
  for (const problem of textList(said.problems)) out.error(`note: ${textOr(said.path)}: ${problem}`);
}

/** An address of this host. */
function isOwn(address: string): boolean {
  const own = Object.values(networkInterfaces()).flatMap(each => each ?? []);
  return own.some(one => {
    const parsed = parseAddress(one.address.split('%')[0] ?? '');
    return parsed !== undefined && formatAddress(parsed) === address;
  });
}

function usage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof RangeError ? new UsageError(error.message) : error;
  }
}
