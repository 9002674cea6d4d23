import type { Logger } from '../log.js';
import { reason } from '../errors.js';
import type { Dataplane, EndpointWiring, ForeignRoute, HostInterface } from './dataplane.js';
import { defaultMtu, foreignRoutes } from './facts.js';
import type { LinuxOptions } from './linux.js';
import { IpMonitor } from './ip-monitor.js';
import { LinuxPeers } from './linux-peers.js';
import type { Peers } from './peers.js';
import { NftNetlink } from './nft-netlink.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { deleteTable } from './nft-script.js';
import { KernelThread } from './kernel-thread.js';
import { LinkReaper } from './reaper.js';
import { rewire } from './rewire.js';
import type { ContainerSide } from './rewire.js';
import { RtNetlink } from './rtnetlink.js';
import { Veths, hostInterfaces } from './veth.js';

/**
 * The dataplane beside a Felix on the same host: makes and deletes veths, with the settings their host ends need
 * until Felix sees them, and leaves routes, masquerading, forwarding and policy to Felix, which derives them from
 * the workload endpoints in etcd. Deletes the policy table that a daemon with the other dataplane left. Opens netlink
 * sockets.
 */
export function createFelixDataplane(options: LinuxOptions, log: Logger): FelixDataplane {
  return new FelixDataplane(options, log);
}

/** See {@link Dataplane} and {@link createFelixDataplane}. */
export class FelixDataplane implements Dataplane {
  readonly peers: Peers;
  private readonly host: LinuxPeers;
  private readonly netlink = new RtNetlink();
  private readonly thread = new KernelThread();
  private readonly reaper = new LinkReaper(this.thread);
  private readonly veths = new Veths(this.netlink, this.reaper);

  private readonly protocol: number;
  /** Resolves when no policy of ours is in force; undefined: to be tried. */
  private isLeft: Promise<void> | undefined;

  constructor(
    options: LinuxOptions,
    private readonly log: Logger,
  ) {
    this.protocol = options.routeProtocol ?? 81;
    const { protocol: routeProtocol } = this;
    const monitor = new IpMonitor(routeProtocol, reason =>
      log.warn({ reason }, 'no notifications of addresses'),
    );
    const host = new LinuxPeers(
      { routeProtocol, checkInterval: options.checkInterval ?? 30_000, monitor },
      log,
    );
    this.host = host;
    const byFelix = async () => undefined;
    this.peers = {
      routeAll: byFelix,
      route: byFelix,
      tunnel: byFelix,
      tunnelMtu: () => undefined,
      addresses: () => host.addresses(),
      sourceTo: address => host.sourceTo(address),
      onAddressChange: changed => host.onAddressChange(changed),
    };
    this.leavePolicy().catch((error: unknown) => {
      const message = `table inet ${POLICY_TABLE}, of the time before Felix, cannot be deleted: no new container gets through`;
      log.error({ reason: reason(error) }, message);
    });
  }

  async attach(wiring: EndpointWiring): Promise<void> {
    await this.leavePolicy();
    await this.veths.ensure(wiring);
  }

  async rewire(wiring: EndpointWiring, side: ContainerSide): Promise<void> {
    if (!(await this.netlink.link(wiring.hostInterface))) await rewire(this, wiring, side);
  }

  async detach(hostInterface: string): Promise<void> {
    if (this.reaper.isDeleting(hostInterface) || (await this.netlink.link(hostInterface)) === undefined)
      return;
    this.reaper.delete(hostInterface).catch((error: unknown) => {
      this.log.error({ interface: hostInterface, reason: reason(error) }, 'cannot delete an interface');
    });
  }

  async repair(): Promise<readonly string[]> {
    return [];
  }

  async apply(): Promise<void> {
    // Felix's.
  }

  async applyPolicy(): Promise<void> {
    // Felix's, from the same resources in etcd.
  }

  async holdUntilPolicy(): Promise<void> {
    // Felix's too.
  }

  /** A table that nobody keeps any more drops all that it does not know. Tried once, and again after a failure. */
  private leavePolicy(): Promise<void> {
    this.isLeft ??= deletePolicyTable().then(
      isDeleted => {
        if (isDeleted) this.log.warn({ table: POLICY_TABLE }, 'deleted our policy table: Felix enforces now');
      },
      (error: unknown) => {
        this.isLeft = undefined;
        throw error;
      },
    );
    return this.isLeft;
  }

  async dockerStarted(): Promise<void> {
    // Forwarding is Felix's too.
  }

  hostInterfaces(): Promise<readonly HostInterface[]> {
    return hostInterfaces(this.netlink, this.reaper);
  }

  /** Routes are Felix's. */
  routedTo(): undefined {
    return undefined;
  }

  async defaultMtu(): Promise<number> {
    return defaultMtu(this.netlink);
  }

  async foreignRoutes(): Promise<readonly ForeignRoute[]> {
    return foreignRoutes(this.netlink, this.protocol);
  }

  async removeAll(): Promise<void> {
    // Nothing of ours is there.
  }

  async close(): Promise<void> {
    await this.reaper.close();
    await this.thread.close();
    await this.host.close();
    this.netlink.close();
  }
}

/** Answers whether there was one. Needs nft only then; throws HostError. */
async function deletePolicyTable(): Promise<boolean> {
  const nftables = new NftNetlink();
  try {
    if ((await nftables.tableHandle(POLICY_TABLE)) === undefined) return false;
    await deleteTable(`inet ${POLICY_TABLE}`);
    return true;
  } finally {
    nftables.close();
  }
}
