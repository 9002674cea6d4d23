import {
  AFFINITIES_PREFIX,
  HANDLES_PREFIX,
  NETWORKS_PREFIX,
  parseAffinityKey,
} from '../../src/datastore/keys.js';
import { holderOf, ownedBy, violations } from '../../src/ipam/block.js';
import { covers, formatAddress, formatCidr, nth, parseCidr } from '../../src/ipam/cidr.js';
import { RESERVATION_PREFIXES } from '../../src/ipam/reservation.js';
import { parseBlock, parseHandle } from '../../src/model/block.js';
import { parseIpPool } from '../../src/model/ip-pool.js';
import { isObject, objectOrEmpty } from '../../src/model/json.js';
import type { JsonObject } from '../../src/model/json.js';
import { parseNetworkRecord } from '../../src/model/network-record.js';
import { hostInterfaceOf, parseEndpoint } from '../../src/model/workload-endpoint.js';
import { parseEndpointHandle } from '../../src/ipam/handles.js';
import type { Host } from '../bed/host.js';
import { dump, EMBEDDED } from './datastore.js';
import { kernelHas, ourNetworks, runningContainers } from './seen.js';

/**
 * Where Docker, the datastore and the kernel of the only host of a bed do not agree: one line each, and none where all
 * is well. What is looked at: the running containers' addresses, WorkloadEndpoints, handles, blocks, affinities,
 * reservations, network records, pools made for networks, interfaces, routes and the nftables table.
 */
export async function disagreements(host: Host, endpoint = EMBEDDED): Promise<string[]> {
  const networks = await ourNetworks(host);
  const containers = await runningContainers(host);
  const seen = containers.flatMap(container => container.endpoints);
  const stored = await dump(host, endpoint);
  const kernel = await kernelHas(host);
  const node = host.name;
  const docker = seen.flatMap(({ endpointId, addresses }) =>
    addresses.map(address => `${endpointId.slice(0, 11)} ${address}`),
  );
  const workloads = valuesOf(stored, '/workloadendpoints/').flatMap(text => parseEndpoint(text) ?? []);
  const handles = idsBelow(stored, HANDLES_PREFIX).filter(id => !isReservation(id));
  const wiring = seen.map(({ endpointId }) => hostInterfaceOf(endpointId));
  return [
    ...repeated(
      'address held twice',
      docker.map(line => line.split(' ')[1] ?? ''),
    ),
    ...differing(
      'endpoint',
      docker,
      'etcd',
      workloads.flatMap(each => each.addresses.map(address => `${each.endpointId.slice(0, 11)} ${address}`)),
    ),
    ...differing(
      'handle of',
      seen.flatMap(({ mac, addresses }) => addresses.map(address => `${mac} ${address}`)),
      'etcd',
      handles.map(id => {
        const parsed = parseEndpointHandle(id);
        return parsed?.node === node ? `${parsed.mac} ${parsed.address}` : id;
      }),
    ),
    ...differing('interface', wiring, 'the kernel', kernel.links),
    ...differing(
      'route',
      docker.map(line => line.replace(/^(\S+) (\S+)$/, '$2 dev cali$1')),
      'the kernel',
      kernel.routes,
    ),
    ...differing(
      'network',
      networks.map(({ Id: id }) => String(id)),
      'etcd',
      valuesOf(stored, NETWORKS_PREFIX).flatMap(text => parseNetworkRecord(text)?.id ?? []),
    ),
    ...kernel.published
      .filter(address => !docker.some(line => line.endsWith(` ${address}`)))
      .map(address => `a port leads to ${address}, which nothing has`),
    ...containers
      .filter(({ isPublished }) => isPublished)
      .filter(each => !each.endpoints.some(one => one.addresses.some(it => kernel.published.includes(it))))
      .map(({ name }) => `no port leads to ${name}`),
    ...kernel.named.filter(name => !wiring.includes(name)).map(name => `the table names ${name}`),
    ...blockDisagreements(stored, node),
    ...reservationDisagreements(stored, networks),
    ...poolDisagreements(stored),
  ];
}

/** Asks until all agree, and answers with how many milliseconds that took; throws with what does not. */
export async function expectAgreement(
  host: Host,
  { within = 10_000, endpoint = EMBEDDED }: { within?: number; endpoint?: string } = {},
): Promise<number> {
  const began = Date.now();
  for (;;) {
    const asked = Date.now();
    const found = await disagreements(host, endpoint).catch((error: unknown) => [String(error)]);
    if (found.length === 0) return asked - began;
    if (asked - began > within)
      throw new Error(`no agreement within ${within} ms:\n${found.map(line => `- ${line}`).join('\n')}`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}

/** Where blocks, handles and affinities disagree among themselves. */
function blockDisagreements(stored: Stored, node: string): string[] {
  const found: string[] = [];
  const counted = new Map<string, number>();
  const owned = new Set<string>();
  for (const [key, text] of Object.entries(stored)) {
    if (!key.includes('/assignment/') || text === undefined) continue;
    const block = parseBlock(text);
    if (!block) {
      found.push(`${key} is no block`);
      continue;
    }
    const name = formatCidr(block.cidr);
    found.push(...violations(block).map(what => `block ${name}: ${what}`));
    if (block.affinity === ownedBy(node)) owned.add(name);
    block.allocations.forEach((index, ordinal) => {
      if (index === null) return;
      const id = holderOf(block, ordinal)?.handle_id ?? 'nobody';
      counted.set(`${id} ${name}`, (counted.get(`${id} ${name}`) ?? 0) + 1);
      const address = formatAddress(nth(block.cidr, ordinal));
      if (!id.endsWith(`.${address}`)) found.push(`block ${name}: ${address} is held by ${id}`);
    });
  }
  const told = idsBelow(stored, HANDLES_PREFIX).flatMap(id =>
    Object.entries(parseHandle(stored[HANDLES_PREFIX + id] ?? '')).map(([cidr, n]) => `${id} ${cidr} ${n}`),
  );
  const used = [...counted].map(([which, times]) => `${which} ${times}`);
  const affinities = Object.keys(stored).filter(key => key.startsWith(AFFINITIES_PREFIX));
  const confirmed = affinities.flatMap(key => {
    const cidr = parseAffinityKey(key)?.cidr;
    return cidr ? [formatCidr(cidr)] : [];
  });
  return [
    ...found,
    ...differing('handle', told, 'the blocks', used, 'the handles'),
    ...differing('affinity', [...owned], 'the affinities', confirmed, 'the blocks'),
  ];
}

function reservationDisagreements(stored: Stored, networks: readonly JsonObject[]): string[] {
  const kept = networks.flatMap(network => {
    const configs = objectOrEmpty(network.IPAM).Config;
    const ranges = Array.isArray(configs) ? configs.filter(isObject) : [];
    return ranges.flatMap(({ Gateway, AuxiliaryAddresses }) =>
      [Gateway, ...Object.values(objectOrEmpty(AuxiliaryAddresses))].map(each => String(each).split('/')[0]),
    );
  });
  return idsBelow(stored, HANDLES_PREFIX)
    .filter(id => isReservation(id) && !kept.some(address => id.endsWith(`.${address}`)))
    .map(id => `${id} is no network's`);
}

function poolDisagreements(stored: Stored): string[] {
  const subnets = valuesOf(stored, NETWORKS_PREFIX).flatMap(
    text => parseNetworkRecord(text)?.subnets.flatMap(({ cidr }) => parseCidr(cidr) ?? []) ?? [],
  );
  return valuesOf(stored, '/ippools/').flatMap(text => {
    const pool = parseIpPool(text);
    const isLeft = pool?.isOurs && !subnets.some(subnet => covers(pool.cidr, subnet));
    return isLeft ? [`IPPool ${pool.name} is no network's`] : [];
  });
}

type Stored = Awaited<ReturnType<typeof dump>>;

function valuesOf(stored: Stored, part: string): string[] {
  return Object.entries(stored).flatMap(([key, text]) =>
    key.includes(part) && text !== undefined ? [text] : [],
  );
}

function idsBelow(stored: Stored, prefix: string): string[] {
  return Object.keys(stored).flatMap(key => (key.startsWith(prefix) ? [key.slice(prefix.length)] : []));
}

function isReservation(handle: string): boolean {
  return RESERVATION_PREFIXES.some(prefix => handle.startsWith(prefix));
}

function differing(
  what: string,
  ours: readonly string[],
  other: string,
  theirs: readonly string[],
  own = 'Docker',
): string[] {
  return [
    ...ours
      .filter(each => !theirs.includes(each))
      .map(each => `${what} ${each}: ${own} has it, ${other} has not`),
    ...theirs
      .filter(each => !ours.includes(each))
      .map(each => `${what} ${each}: ${other} has it, ${own} has not`),
    ...repeated(`${what} twice in ${other}`, theirs),
  ];
}

function repeated(what: string, all: readonly string[]): string[] {
  return [...new Set(all.filter((each, index) => all.indexOf(each) !== index))].map(
    each => `${what}: ${each}`,
  );
}
