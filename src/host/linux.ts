import type { Logger } from '../log.js';
import { HostError, reason } from '../errors.js';
import { Conntrack } from './conntrack.js';
import type {
  Dataplane,
  EndpointWiring,
  ForeignRoute,
  HostInterface,
  HostState,
  PublishedPort,
} from './dataplane.js';
import { defaultMtu, foreignRoutes, hostLinks } from './facts.js';
import { Forwarding } from './forwarding.js';
import { HostAddresses } from './host-addresses.js';
import { IpMonitor } from './ip-monitor.js';
import { LinuxPeers } from './linux-peers.js';
import { LoopbackPorts } from './loopback.js';
import { NatTable } from './nft.js';
import { PolicyTable } from './nft-policy.js';
import type { HostPolicy } from './policy.js';
import { KernelThread } from './kernel-thread.js';
import { LinkReaper } from './reaper.js';
import { rewire } from './rewire.js';
import type { ContainerSide } from './rewire.js';
import { HostRoutes } from './routes.js';
import { RtNetlink } from './rtnetlink.js';
import { StaleFlows } from './stale-flows.js';
import { turnOnForwarding4, turnOnForwarding6 } from './sysctl.js';
import { Upkeep } from './upkeep.js';
import type { Repair } from './upkeep.js';
import { Veths, hasIpv6, hostInterfaces } from './veth.js';
import { watchNftables } from './watch.js';
import type { Watch } from './watch.js';

/** What can be chosen about the host's side. */
export interface LinuxOptions {
  /** rtm_protocol of every route of ours, 81 where not given; Felix uses 80. */
  readonly routeProtocol?: number;
  /** What the names of host interfaces begin with, `cali` where not given. */
  readonly interfacePrefix?: string;
  /** Milliseconds between checks that need no notification, 30,000 where not given. */
  readonly checkInterval?: number;
}

/** Parts of the host that are looked at on their own; `rules` and `tunnelRules` without what is in their sets. */
type Part = 'routes' | 'table' | 'forwarding' | 'policy' | 'rules' | 'tunnels' | 'tunnelRules';
const PERIODIC: readonly Part[] = ['routes', 'table', 'forwarding', 'policy', 'tunnels'];

/** The dataplane of our own: routes, masquerading and forwarding by this process. Opens a netlink socket. */
export function createLinuxDataplane(options: LinuxOptions, log: Logger): LinuxDataplane {
  return new LinuxDataplane(options, log);
}

/** See {@link Dataplane}; each part of the work has a file of its own. */
export class LinuxDataplane implements Dataplane {
  readonly peers: LinuxPeers;
  private readonly netlink = new RtNetlink();
  private readonly thread = new KernelThread();
  private readonly reaper = new LinkReaper(this.thread);
  private readonly veths = new Veths(this.netlink, this.reaper);
  private readonly addresses = new HostAddresses(this.netlink);
  private readonly conntrack = new Conntrack();
  private readonly flows = new StaleFlows(this.conntrack);
  private readonly table: NatTable;
  private readonly routes: HostRoutes;
  private readonly loopback: LoopbackPorts;
  private readonly forwarding: Forwarding;
  private readonly monitor: IpMonitor;
  private unlisten = (): void => undefined;
  private readonly protocol: number;
  private readonly prefix: string;
  private readonly checkInterval: number;
  private readonly policy: PolicyTable;
  private readonly upkeep: Upkeep<Part>;
  private watching: Watch | undefined;
  private isApplied = false;
  /** Whatever changes shared parts waits for what does so already. */
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    options: LinuxOptions,
    private readonly log: Logger,
  ) {
    this.protocol = options.routeProtocol ?? 81;
    this.prefix = options.interfacePrefix ?? 'cali';
    this.checkInterval = options.checkInterval ?? 30_000;
    const every = `looking every ${this.checkInterval} ms only`;
    this.monitor = new IpMonitor(this.protocol, reason =>
      log.warn({ reason }, `no notifications of routes and addresses: ${every}`),
    );
    const { monitor, protocol: routeProtocol, checkInterval } = this;
    this.peers = new LinuxPeers({ routeProtocol, checkInterval, monitor }, log);
    this.table = new NatTable(this.prefix);
    this.routes = new HostRoutes(this.netlink, this.protocol);
    this.loopback = new LoopbackPorts(this.routes);
    this.forwarding = new Forwarding(this.prefix, log);
    this.policy = new PolicyTable(
      this.prefix,
      (forgetFlows, begunSince) => this.thread.run({ forgetFlows, begunSince }),
      log,
    );
    this.upkeep = new Upkeep<Part>(
      {
        routes: () => this.inTurn(() => this.restoreRoutes()),
        table: () => this.ifApplied(async () => ((await this.table.check()) ? ['nftables table'] : [])),
        forwarding: () => this.ifApplied(() => this.forwarding.check()),
        policy: async () => ((await this.policy.check(true)) ? ['policy table'] : []),
        rules: async () => ((await this.policy.check(false)) ? ['policy table'] : []),
        tunnels: async () => ((await this.peers.checkTunnelHosts(true)) ? ['hosts of the VXLAN'] : []),
        tunnelRules: async () => ((await this.peers.checkTunnelHosts(false)) ? ['hosts of the VXLAN'] : []),
      },
      log,
    );
  }

  /**
   * As the port says. Turns IP forwarding on where it still is off: dockerd, which is up by now, has set its FORWARD
   * policy to DROP by then or never will, and it does so only where it turns forwarding on itself.
   */
  async attach(wiring: EndpointWiring): Promise<void> {
    this.watch();
    if (turnOnForwarding4()) this.log.info('turned net.ipv4.ip_forward on');
    if (hasIpv6(wiring) && turnOnForwarding6()) this.log.info('turned net.ipv6.conf.all.forwarding on');
    const link = await this.veths.ensure(wiring);
    try {
      await this.addresses.add(link, wiring);
      await this.routes.addEndpoint(link, wiring);
      this.loopback.attached(link.name);
    } catch (error) {
      await this.detach(wiring.hostInterface).catch(() => undefined);
      throw error;
    }
  }

  async rewire(wiring: EndpointWiring, side: ContainerSide): Promise<void> {
    if (!(await this.netlink.link(wiring.hostInterface))) await rewire(this, wiring, side);
  }

  /**
   * Resolves when the routes are gone; the interface follows within some 20 ms, on a thread of its own. The same
   * name may be attached at once: that waits. A deletion that fails is logged, and made up for by the next detach or
   * attach of the name.
   */
  async detach(hostInterface: string): Promise<void> {
    if (this.reaper.isDeleting(hostInterface)) return;
    this.addresses.forget(hostInterface);
    if (!(await this.routes.removeEndpoint(hostInterface))) return;
    this.reaper.delete(hostInterface).catch((error: unknown) => {
      this.log.error({ interface: hostInterface, reason: reason(error) }, 'cannot delete an interface');
    });
  }

  async repair(endpoints: readonly EndpointWiring[]): Promise<readonly string[]> {
    this.watch();
    return this.inTurn(async () => {
      const links = new Map((await hostLinks(this.netlink, this.prefix)).map(link => [link.name, link]));
      const settings: string[] = [];
      for (const wiring of endpoints) {
        const link = links.get(wiring.hostInterface);
        if (link === undefined || this.reaper.isDeleting(link.name)) continue;
        this.routes.remember(link, wiring);
        this.addresses.remember(link, wiring);
        settings.push(...(await this.veths.repair(link, wiring)));
        // Reading a dozen settings takes 0.1 ms; with hundreds of endpoints others need a turn in between.
        await new Promise(resolve => setImmediate(resolve));
      }
      return [...settings, ...this.loopback.restore(), ...(await this.restoreRoutes())];
    });
  }

  async apply(state: HostState): Promise<void> {
    await this.inTurn(async () => {
      // A part that fails (nft is missing, iptables refuses) must not keep the others from the host.
      const parts = [
        async () => {
          await this.table.apply(state);
          this.loopback.want(state.published);
          await this.forgetFlows(state.published);
        },
        () => this.routes.applyBlocks(state.ownBlocks),
        async () => this.upkeep.report(await this.forwarding.check(), !this.isApplied),
      ];
      const failures: string[] = [];
      for (const part of parts) await part().catch((error: unknown) => failures.push(reason(error)));
      this.isApplied = true;
      if (failures.length > 0) throw new HostError(failures.join('; '));
    });
    this.watch();
  }

  async applyPolicy(policy: HostPolicy): Promise<void> {
    this.watch();
    await this.policy.apply(policy);
  }

  async holdUntilPolicy(): Promise<void> {
    this.watch();
    await this.policy.hold();
  }

  /** Call when dockerd has (re)started: iptables-legacy tells nobody of its changes. */
  async dockerStarted(): Promise<void> {
    if (this.isApplied) await this.upkeep.check('forwarding');
  }

  hostInterfaces(): Promise<readonly HostInterface[]> {
    return hostInterfaces(this.netlink, this.reaper);
  }

  routedTo(address: string): string | undefined {
    return this.routes.ownerOf(address);
  }

  async defaultMtu(): Promise<number> {
    return defaultMtu(this.netlink);
  }

  async foreignRoutes(): Promise<readonly ForeignRoute[]> {
    return foreignRoutes(this.netlink, this.protocol);
  }

  /** As the port says, and endpoints' routes too: nothing of our protocol number stays. Interfaces do. */
  async removeAll(): Promise<void> {
    this.unwatch();
    this.isApplied = false;
    await this.policy.remove();
    await this.peers.removeAll();
    await this.inTurn(async () => {
      this.loopback.closeAll((await hostLinks(this.netlink, this.prefix)).map(link => link.name));
      await this.routes.removeAll();
      await this.table.remove();
      await this.forwarding.remove();
    });
  }

  /** Leaves everything on the host as it is. Waits for interfaces being deleted. */
  async close(): Promise<void> {
    this.unwatch();
    await this.turn;
    await this.policy.close();
    await this.reaper.close();
    await this.thread.close();
    await this.peers.close();
    this.conntrack.close();
    this.netlink.close();
  }

  private watch(): void {
    if (this.watching !== undefined) return;
    const { routes, upkeep } = this;
    upkeep.start(this.checkInterval, PERIODIC);
    this.unlisten = this.monitor.listen({
      lost: destination => routes.isWanted(destination) && upkeep.soon('routes'),
      linkUp: name => (routes.isEndpoint(name) || name === 'lo') && upkeep.soon('routes'),
      overrun: () => upkeep.soon('routes'),
    });
    this.watching = watchNftables({
      transaction: async () => {
        await upkeep.check('rules');
        // Not awaited: it has to wait for routes to other hosts that are being changed, and policy must not.
        upkeep.soon('tunnelRules');
        return !this.policy.owesLook;
      },
      table: () => upkeep.soon('table'),
      filter: () => upkeep.soon('forwarding'),
      // A kernel without nf_tables: there still is the periodic check.
      failed: reason =>
        this.log.warn({ reason }, `no notifications: looking every ${this.checkInterval} ms only`),
    });
  }

  private unwatch(): void {
    this.upkeep.stop();
    this.watching?.close();
    this.watching = undefined;
    this.unlisten();
  }

  /** A check that was due before removeAll must not put back what that took away. */
  private ifApplied(repair: Repair): Promise<readonly string[]> {
    return this.inTurn(async () => (this.isApplied ? repair() : []));
  }

  private async restoreRoutes(): Promise<string[]> {
    return [...(await this.addresses.restore()), ...(await this.routes.restore())];
  }

  /** Flows that go on to an old target end by themselves some day: no reason to fail. */
  private async forgetFlows(published: readonly PublishedPort[]): Promise<void> {
    const local = async (): Promise<Set<string>> =>
      new Set((await this.netlink.addresses()).map(({ address }) => address));
    try {
      await this.flows.apply(published, local);
    } catch (error) {
      this.log.warn({ reason: reason(error) }, 'cannot look for flows to ports that lead elsewhere now');
    }
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }
}
