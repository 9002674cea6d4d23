import { blockKey, endpointKey, networkKey } from '../../src/datastore/keys.js';
import { cidrOf, formatAddress, nth } from '../../src/ipam/cidr.js';
import { formatBlock, parseBlock } from '../../src/model/block.js';
import type { Block } from '../../src/model/block.js';
import { formatNetworkRecord } from '../../src/model/network-record.js';
import { endpointName, formatNewEndpoint, hostInterfaceOf } from '../../src/model/workload-endpoint.js';
import { endpointHandle } from '../../src/ipam/handles.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { addPool, address as parsed, node, put, remove } from './ipam-node.js';

/** Long before any grace time. */
export const LONG_AGO = '2026-01-01 10:00:00 +0000 UTC';
export const POOL = '192.0.2.0/24';

/** A container as the two drivers leave it in the datastore. */
export interface Container {
  readonly node: string;
  readonly address: string;
  readonly handle: string;
  readonly endpoint: string;
}

/** A few hosts that do with the real allocator what Docker asks for, on one datastore. */
export class Hosts {
  readonly containers: Container[] = [];
  readonly networks: { readonly id: string; readonly node: string }[] = [];
  #next = 0;

  private constructor(
    readonly store: MemoryStore,
    private readonly nodes: ReadonlyMap<string, Awaited<ReturnType<typeof node>>>,
  ) {}

  static async create(names: readonly string[]): Promise<Hosts> {
    const store = new MemoryStore();
    await addPool(store, 'pool', POOL, { blockSize: 28 });
    await addPool(store, 'six', 'fd00:1::/64');
    const nodes = new Map<string, Awaited<ReturnType<typeof node>>>();
    for (const name of names) nodes.set(name, await node(store, name));
    const hosts = new Hosts(store, nodes);
    for (const name of names) await hosts.addNetwork(name);
    return hosts;
  }

  of(name: string) {
    const found = this.nodes.get(name);
    if (!found) throw new Error(name);
    return found;
  }

  /** A network on that host, perhaps with its gateway kept back. */
  async addNetwork(name: string, gateway?: string): Promise<string> {
    const id = this.#id();
    const secondary = { node: name, timestamp: LONG_AGO };
    if (gateway !== undefined) await this.of(name).allocator.reserve(parsed(gateway), 'gateway', secondary);
    const subnets = gateway === undefined ? [] : [{ cidr: POOL }];
    await put(
      this.store,
      networkKey(id),
      formatNetworkRecord({ id, node: name, created: '', internal: false, subnets, options: {}, rest: {} }),
    );
    this.networks.push({ id, node: name });
    return id;
  }

  /** A container on that host; throws what the allocator throws. */
  async run(name: string, family: 4 | 6 = 4): Promise<Container> {
    const endpointId = this.#id();
    const mac = `02:42:00:00:${endpointId.slice(0, 2)}:${endpointId.slice(2, 4)}`;
    const secondary = { node: name, timestamp: LONG_AGO };
    const handle = (given: string) => endpointHandle(name, mac, given);
    const address = formatAddress(
      await this.of(name).allocator.assign({ family, holder: { handle, secondary } }),
    );
    const networkId = this.networks.find(network => network.node === name)?.id ?? '';
    const key = endpointKey(endpointName(name, endpointId));
    const more = { addresses: [address], profiles: [], labels: {}, ports: [] };
    const endpoint = { node: name, endpointId, mac, networkId, interfaceName: hostInterfaceOf(endpointId) };
    await put(this.store, key, formatNewEndpoint({ ...endpoint, ...more }, new Date()));
    const container = { node: name, address, handle: handle(address), endpoint: key };
    this.containers.push(container);
    return container;
  }

  /** Removes a container, endpoint first as dockerd does. */
  async stop(container: Container): Promise<void> {
    this.containers.splice(this.containers.indexOf(container), 1);
    await remove(this.store, container.endpoint);
    await this.of(container.node).free(container.address);
  }

  #id(): string {
    this.#next += 1;
    return this.#next.toString(16).padStart(4, '0').padEnd(64, 'e');
  }
}

/** Every address in use with its handle, by the blocks that can be read. */
export function inUse(store: MemoryStore): string[] {
  return Object.entries(store.dump())
    .flatMap(([key, value]) => {
      const block = key.includes('/assignment/') ? parseBlock(value) : undefined;
      return (block?.allocations ?? []).flatMap((index, ordinal) => {
        if (!block || index === null) return [];
        const { handle_id: handle = '' } = block.attributes[index] ?? {};
        return [`${formatAddress(nth(block.cidr, ordinal))} ${handle}`];
      });
    })
    .sort();
}

/** Two hosts, three containers on the first and one on the second; `one` is the first container. */
export async function sound(): Promise<{ hosts: Hosts; one: Container; two: Container }> {
  const hosts = await Hosts.create(['node-1', 'node.2']);
  const one = await hosts.run('node-1');
  const two = await hosts.run('node-1');
  await hosts.run('node-1', 6);
  await hosts.run('node.2');
  await hosts.addNetwork('node-1', '192.0.2.200');
  return { hosts, one, two };
}

/** The key of the block a container's address is in. */
export function keyOfBlock({ address: text }: Container): string {
  return blockKey(cidrOf(parsed(text), 28));
}

export async function changeBlock(
  hosts: Hosts,
  at: Container,
  change: (block: Block) => Block,
): Promise<void> {
  const key = keyOfBlock(at);
  const block = parseBlock((await hosts.store.get(key))?.value ?? '');
  if (!block) throw new Error('no block');
  await put(hosts.store, key, formatBlock(change(block)));
}

export async function changeJson(
  hosts: Hosts,
  key: string,
  change: (value: { metadata: Record<string, unknown>; spec: Record<string, unknown> }) => unknown,
): Promise<void> {
  const value = (await hosts.store.get(key))?.value ?? '';
  await put(hosts.store, key, JSON.stringify(change(JSON.parse(value))));
}

/** Of a container's address in its block. */
export const ordinal = ({ address: text }: Container): number => Number(parsed(text).value & 15n);

/** Something that goes wrong in a {@link sound} datastore. */
export type Damage = (parts: Awaited<ReturnType<typeof sound>>) => Promise<unknown>;
