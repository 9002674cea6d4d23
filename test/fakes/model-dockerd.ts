import type { FakeDataplane } from './dataplane.js';
import type { FakeDocker } from './docker-api.js';

/** Sends one request to whichever daemon lives; rejects with what dockerd would show. */
export type Send = (method: string, body: object) => Promise<Record<string, unknown>>;

/** `docker network create`. */
export interface NetworkWish {
  readonly subnet: string;
  readonly subnet6?: string;
  readonly gateway?: string;
  readonly aux?: string;
}

/** `docker run`. */
export interface ContainerWish {
  readonly network: string;
  readonly mac: string;
  readonly ip?: string;
  /** Asks for a port of the host, whichever is free. */
  readonly port?: number;
}

interface Created {
  readonly wish: NetworkWish;
  readonly pools: readonly string[];
  readonly reserved: readonly { readonly PoolID: string; readonly Address: string }[];
}

interface Started {
  readonly network: string;
  readonly given: readonly { readonly PoolID: string; readonly Address: string }[];
}

const SPACE = 'CalicoGlobalAddressSpace';
const MAC = 'com.docker.network.endpoint.macaddress';

/**
 * What dockerd sends to a driver, in which order, and what it takes back where something fails: as recorded from 20.10, 26
 * and 28, with all that it forgets. What it has it shows in `docker`; what runs uses its interface in `kernel`.
 */
export class ModelDockerd {
  private readonly networks = new Map<string, Created>();
  private readonly containers = new Map<string, Started>();
  private next = 0;

  constructor(
    private readonly send: Send,
    private readonly docker: FakeDocker,
    private readonly kernel: FakeDataplane,
  ) {}

  /** Whether it came to be. */
  async createNetwork(id: string, wish: NetworkWish): Promise<boolean> {
    const pools: string[] = [];
    const reserved: { PoolID: string; Address: string }[] = [];
    try {
      for (const subnet of [wish.subnet, wish.subnet6]) {
        if (subnet === undefined) continue;
        const V6 = subnet.includes(':');
        const { PoolID } = await this.send('IpamDriver.RequestPool', {
          ...{ AddressSpace: SPACE, Pool: subnet, SubPool: '', Options: {}, V6 },
        });
        pools.push(String(PoolID));
        if (V6) continue;
        for (const [Address, Options] of [
          [wish.gateway, { RequestAddressType: 'com.docker.network.gateway' }],
          [wish.aux, null],
        ] as const) {
          if (Address === undefined) continue;
          await this.send('IpamDriver.RequestAddress', { PoolID, Address, Options });
          reserved.push({ PoolID: String(PoolID), Address });
        }
      }
    } catch {
      // Addresses are not given back within one family (moby, ipamAllocateVersion).
      for (const PoolID of pools) await this.quietly('IpamDriver.ReleasePool', { PoolID });
      return false;
    }
    try {
      await this.send('NetworkDriver.CreateNetwork', networkRequest(id, wish));
    } catch {
      await this.releaseAll(reserved, pools);
      return false;
    }
    this.networks.set(id, { wish, pools, reserved });
    const gateway = wish.gateway === undefined ? {} : { Gateway: wish.gateway };
    const aux = wish.aux === undefined ? {} : { AuxiliaryAddresses: { a: wish.aux } };
    this.docker.networks.set(id, {
      name: `net-${id.slice(0, 2)}`,
      ipam: [{ Subnet: wish.subnet, ...gateway, ...aux }],
    });
    return true;
  }

  async removeNetwork(id: string): Promise<void> {
    const created = this.networks.get(id);
    if (!created) return;
    await this.releaseAll(created.reserved, created.pools);
    await this.quietly('NetworkDriver.DeleteNetwork', { NetworkID: id });
    this.networks.delete(id);
    this.docker.networks.delete(id);
  }

  /** Whether it runs. */
  async start(name: string, wish: ContainerWish): Promise<boolean> {
    const network = this.networks.get(wish.network);
    if (!network) return false;
    this.next += 1;
    const EndpointID = `e${String(this.next).padStart(3, '0')}${'0'.repeat(60)}`;
    const ids = { NetworkID: wish.network, EndpointID };
    const given: { PoolID: string; Address: string }[] = [];
    try {
      for (const [index, PoolID] of network.pools.entries()) {
        const asked = { PoolID, Address: index === 0 ? (wish.ip ?? '') : '', Options: { [MAC]: wish.mac } };
        const { Address } = await this.send('IpamDriver.RequestAddress', asked);
        given.push({ PoolID, Address: String(Address).split('/')[0] ?? '' });
      }
    } catch {
      // What it got before, it keeps for ever (moby, createEndpoint).
      return false;
    }
    const ports =
      wish.port === undefined
        ? []
        : [{ Proto: 6, IP: '', Port: wish.port, HostIP: '', HostPort: 0, HostPortEnd: 0 }];
    const Options = { 'com.docker.network.portmap': ports };
    const [v4, v6] = given.map(({ Address }) => Address);
    const Interface = {
      Address: v4 === undefined ? '' : `${v4}/32`,
      AddressIPv6: v6 === undefined ? '' : `${v6}/128`,
      MacAddress: wish.mac,
    };
    try {
      await this.send('NetworkDriver.CreateEndpoint', { ...ids, Interface, Options });
    } catch {
      await this.releaseAll(given, []);
      return false;
    }
    const { docker, kernel } = this;
    docker.endpoints.set(EndpointID, {
      network: wish.network,
      mac: wish.mac,
      addresses: given.map(({ Address }) => Address),
    });
    this.containers.set(name, { network: wish.network, given });
    this.endpointOf.set(name, EndpointID);
    try {
      await this.send('NetworkDriver.Join', {
        ...ids,
        SandboxKey: `/var/run/docker/netns/${this.next}`,
        Options,
      });
      kernel.inUse.add(interfaceOf(EndpointID));
      await this.send('NetworkDriver.ProgramExternalConnectivity', { ...ids, Options });
    } catch {
      await this.stop(name);
      return false;
    }
    return true;
  }

  /** What it is told in vain it does not say again. */
  async stop(name: string): Promise<void> {
    const started = this.containers.get(name);
    const EndpointID = this.endpointOf.get(name);
    if (!started || EndpointID === undefined) return;
    const ids = { NetworkID: started.network, EndpointID };
    await this.quietly('NetworkDriver.RevokeExternalConnectivity', ids);
    this.kernel.inUse.delete(interfaceOf(EndpointID));
    await this.quietly('NetworkDriver.Leave', ids);
    await this.quietly('NetworkDriver.DeleteEndpoint', ids);
    this.docker.endpoints.delete(EndpointID);
    this.containers.delete(name);
    await this.releaseAll(started.given, []);
  }

  /** It and all that runs are killed; it comes back and has lost its containers without a word. */
  crash(): void {
    this.containers.clear();
    this.docker.endpoints.clear();
    this.kernel.inUse.clear();
    this.docker.restart();
  }

  private readonly endpointOf = new Map<string, string>();

  private async releaseAll(addresses: Created['reserved'], pools: readonly string[]): Promise<void> {
    for (const address of addresses) await this.quietly('IpamDriver.ReleaseAddress', address);
    for (const PoolID of pools) await this.quietly('IpamDriver.ReleasePool', { PoolID });
  }

  /** Errors of these are only logged. */
  private async quietly(method: string, body: object): Promise<void> {
    await this.send(method, body).catch(() => undefined);
  }
}

function interfaceOf(endpointId: string): string {
  return `cali${endpointId.slice(0, 11)}`;
}

function networkRequest(NetworkID: string, { subnet, subnet6, gateway, aux }: NetworkWish): object {
  const data = { AddressSpace: SPACE, Pool: subnet, Gateway: `${gateway ?? '169.254.1.1'}/32` };
  return {
    NetworkID,
    Options: { 'com.docker.network.enable_ipv6': subnet6 !== undefined, 'com.docker.network.generic': {} },
    IPv4Data: [aux === undefined ? data : { ...data, AuxAddresses: { a: `${aux}/32` } }],
    IPv6Data: subnet6 === undefined ? [] : [{ AddressSpace: SPACE, Pool: subnet6 }],
  };
}
