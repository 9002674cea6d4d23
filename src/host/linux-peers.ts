import type { Logger } from '../log.js';
import { HostError, reason } from '../errors.js';
import type { IpMonitor } from './ip-monitor.js';
import { NetlinkSocket } from './netlink.js';
import { TunnelHosts } from './nft-tunnel-hosts.js';
import { PeerRoutes } from './peer-routes.js';
import type { InterfaceAddress, PeerHop, Peers, Tunnel, TunnelPeer } from './peers.js';
import { RtNetlink } from './rtnetlink.js';
import { Vxlan } from './vxlan.js';

/** Notifications come in swarms: look once, this many milliseconds after the first. */
const DEBOUNCE = 100;
/** The log names this many of the routes that were put back. */
const REPORTED = 10;
/** So many routes are compared with the kernel at every so-and-so-many-th check only. */
const MANY = 5_000;
const SELDOM = 20;

/** What can be chosen. */
export interface LinuxPeersOptions {
  /** rtm_protocol of our routes. */
  readonly routeProtocol: number;
  /** Milliseconds between checks of everything that no notification asks for. */
  readonly checkInterval: number;
  readonly monitor: IpMonitor;
}

/** See {@link Peers}. Opens up to four netlink sockets. */
export class LinuxPeers implements Peers {
  private readonly netlink = new RtNetlink();
  private readonly socket = new NetlinkSocket(0);
  private readonly vxlan = {
    4: new Vxlan(4, this.netlink, this.socket),
    6: new Vxlan(6, this.netlink, this.socket),
  };
  private readonly hosts = { 4: new TunnelHosts(4), 6: new TunnelHosts(6) };
  private readonly routes: PeerRoutes;
  private readonly listeners = new Set<() => void>();
  private unlisten = (): void => undefined;
  private timer: NodeJS.Timeout | undefined;
  private due: NodeJS.Timeout | undefined;
  /** What the next look is for: everything, or only what was lost. */
  private isAllDue = false;
  private areTunnelsDue = false;
  private checks = 0;
  private addressesChanged = false;
  private isApplied = false;
  private complaint: string | undefined;
  private failure: string | undefined;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly options: LinuxPeersOptions,
    private readonly log: Logger,
  ) {
    this.routes = new PeerRoutes(this.netlink, options.routeProtocol, family => this.vxlan[family].index);
  }

  async routeAll(routes: ReadonlyMap<string, PeerHop>): Promise<void> {
    await this.inTurn(() => this.routes.replaceAll(routes));
    this.isApplied = true;
    this.follow();
    this.complain();
  }

  async route(changes: ReadonlyMap<string, PeerHop | undefined>): Promise<void> {
    await this.inTurn(() => this.routes.change(changes));
    this.complain();
  }

  async tunnel(family: 4 | 6, tunnel: Tunnel | undefined, ends: readonly TunnelPeer[]): Promise<void> {
    const vxlan = this.vxlan[family];
    await this.inTurn(async () => {
      if (!tunnel) return this.unwire(family);
      const { index } = vxlan;
      // First: nobody else's packets are unpacked, not for a moment.
      await this.hosts[family].accept(ends.map(({ host }) => host));
      try {
        await vxlan.apply(tunnel, ends);
      } catch (error) {
        // What another Calico's device unpacks is no business of ours. Otherwise they stay: ours may be there, of the daemon
        // before this one, or come by itself when what is wrong has passed.
        if (await vxlan.isAnothers().catch(() => false)) await this.hosts[family].accept(undefined);
        throw error;
      }
      // Routes by a device that was made anew went with the old one, or had to wait for it.
      if (vxlan.index !== index) await this.routes.restore();
    });
    this.isApplied = true;
    this.follow();
  }

  /** Puts back the rules that say who may use the tunnels, if somebody changed them. Throws HostError. */
  checkTunnelHosts(isThorough: boolean): Promise<boolean> {
    return this.inTurn(async () => {
      const restored = [await this.hosts[4].check(isThorough), await this.hosts[6].check(isThorough)];
      return restored.includes(true);
    });
  }

  tunnelMtu(family: 4 | 6): number | undefined {
    return this.vxlan[family].mtu;
  }

  async addresses(): Promise<readonly InterfaceAddress[]> {
    const links = new Map((await this.netlink.links()).map(link => [link.index, link]));
    const found = [...(await this.netlink.addresses())].sort((a, b) => a.device - b.device);
    return found.flatMap(({ device, address, prefixLength, scope, isPassing }) => {
      const link = links.get(device);
      if (!link) return [];
      const isLasting = scope === 0 && !isPassing;
      return [{ interfaceName: link.name, isUp: link.isUp, address, prefixLength, isLasting }];
    });
  }

  async sourceTo(address: string): Promise<string | undefined> {
    return (await this.netlink.lookup(address))?.source;
  }

  onAddressChange(changed: () => void): () => void {
    this.listeners.add(changed);
    this.follow();
    return () => this.listeners.delete(changed);
  }

  /** Takes all routes to other hosts off this one; nothing comes back. */
  async removeAll(): Promise<void> {
    this.unfollow();
    this.isApplied = false;
    await this.inTurn(async () => {
      await this.routes.removeAll();
      await this.unwire(4);
      await this.unwire(6);
    });
  }

  /** Leaves everything as it is. */
  async close(): Promise<void> {
    this.unfollow();
    this.listeners.clear();
    await this.turn;
    this.socket.close();
    this.netlink.close();
    this.hosts[4].close();
    this.hosts[6].close();
  }

  private async unwire(family: 4 | 6): Promise<void> {
    await this.vxlan[family].remove();
    await this.hosts[family].accept(undefined);
  }

  private follow(): void {
    if (this.timer !== undefined) return;
    const changed = (): void => {
      this.addressesChanged = true;
      this.soon(true);
    };
    this.timer = setInterval(() => this.check(), this.options.checkInterval).unref();
    this.unlisten = this.options.monitor.listen({
      lost: destination => this.routes.lost(destination) && this.soon(false),
      // IPv4 routes go without a word when their interface is set down.
      linkUp: (_name, isVeth) => !isVeth && this.soon(true),
      device: name => this.tunnels().some(vxlan => vxlan.isMine(name)) && this.soonTunnels(),
      neighbour: (name, address) =>
        this.tunnels().some(vxlan => vxlan.wants(name, address)) && this.soonTunnels(),
      addresses: changed,
      overrun: changed,
    });
  }

  private unfollow(): void {
    this.unlisten();
    clearInterval(this.timer);
    clearTimeout(this.due);
    [this.timer, this.due] = [undefined, undefined];
  }

  /** To compare a hundred thousand routes takes a second of processor time, and notifications tell what goes. */
  private check(): void {
    this.checks += 1;
    this.soon(this.routes.size < MANY || this.checks % SELDOM === 0);
  }

  private tunnels(): Vxlan[] {
    return [this.vxlan[4], this.vxlan[6]];
  }

  private soonTunnels(): void {
    this.areTunnelsDue = true;
    this.soon(false);
  }

  private soon(everything: boolean): void {
    this.isAllDue ||= everything;
    this.due ??= setTimeout(() => {
      this.due = undefined;
      void this.look();
    }, DEBOUNCE).unref();
  }

  /** Puts right what is missing. Never throws. */
  private async look(): Promise<void> {
    const [everything, tunnelsToo, addressesChanged] = [
      this.isAllDue,
      this.areTunnelsDue,
      this.addressesChanged,
    ];
    [this.isAllDue, this.areTunnelsDue, this.addressesChanged] = [false, false, false];
    if (addressesChanged) for (const listener of this.listeners) listener();
    if (!this.isApplied) return;
    try {
      const restored = await this.inTurn(() => this.restore(everything, everything || tunnelsToo));
      this.failure = undefined;
      if (restored.length > 0)
        this.log.warn(
          { repaired: restored.slice(0, REPORTED), count: restored.length },
          'put right what was missing on the way to other hosts',
        );
      this.complain();
    } catch (error) {
      this.failed(reason(error));
      // A dump that fails tells nothing: the next look is at everything.
      this.isAllDue = true;
    }
  }

  private async restore(everything: boolean, tunnelsToo: boolean): Promise<string[]> {
    const restored: string[] = [];
    const failures: string[] = [];
    const attempt = (work: Promise<string[]>): Promise<void> =>
      work.then(
        done => void restored.push(...done),
        (error: unknown) => void failures.push(reason(error)),
      );
    const indexes = (): string =>
      this.tunnels()
        .map(({ index }) => index)
        .join();
    const before = indexes();
    // A tunnel that cannot be made must not keep routes from the host; one made anew has lost its routes.
    if (tunnelsToo) for (const vxlan of this.tunnels()) await attempt(vxlan.restore());
    const all = everything || indexes() !== before;
    const routes = all ? this.routes.restore() : this.routes.restoreMissing();
    await attempt(
      routes.then(made => made.map((one, at) => (at < REPORTED ? this.routes.describe(one) : one))),
    );
    if (failures.length > 0) throw new HostError(failures.join('; '));
    return restored;
  }

  /** Says it once, while it stays the same. */
  private failed(text: string): void {
    if (text !== this.failure) this.log.error({ reason: text }, 'cannot check the way to other hosts');
    this.failure = text;
  }

  /** Says what the kernel does not take: once, and again when that changes. */
  private complain(): void {
    const problem = this.routes.problem();
    if (problem === this.complaint) return;
    this.complaint = problem;
    if (problem === undefined) this.log.info('all routes to other hosts are there');
    else this.log.warn({ reason: problem }, 'cannot route to some other hosts');
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }
}
