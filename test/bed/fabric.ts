import type { FabricKind, Plug } from './addresses.js';
import { segmentsOf } from './addresses.js';
import { Machine } from './machine.js';

/**
 * The switch that loses frames. A frame is marked with the number of the port it came in by; the mark survives
 * the router between two segments, so loss works the same on one segment and across two.
 */
const LOSS = (ports: readonly string[]) => `
table bridge bed {
  set silent { type ifname; }
  set lost { type mark . ifname; }
  chain in {
    type filter hook prerouting priority -300; policy accept;
    iifname @silent drop
${ports.map((port, index) => `    iifname "${port}" meta mark set ${index + 1}`).join('\n')}
  }
  chain across {
    type filter hook forward priority 0; policy accept;
    oifname @silent drop
    meta mark . oifname @lost drop
  }
  chain out {
    type filter hook output priority 0; policy accept;
    oifname @silent drop
    meta mark . oifname @lost drop
  }
}
`;

/** The network that joins the hosts of a bed: bridges, a router, and cables that can be pulled. */
export class Fabric {
  private constructor(
    /** The namespaces it lives in, which also are "the outside world" of the hosts. */
    readonly machine: Machine,
    private readonly mtu: number,
    private readonly ports: readonly string[],
  ) {}

  /** Makes the bridges and the router for hosts on these ports. */
  static async up(
    kind: FabricKind,
    mtu: number,
    ports: readonly string[],
    env: Readonly<Record<string, string>>,
  ): Promise<Fabric> {
    const machine = await Machine.start('fabric', env);
    const lines = segmentsOf(kind).flatMap(({ bridge, mac, gateway, gateway6 }) => [
      `link add ${bridge} address ${mac} mtu ${mtu} type bridge`,
      `address add ${gateway}/24 dev ${bridge}`,
      `address add ${gateway6}/64 dev ${bridge} nodad`,
      `link set ${bridge} up`,
    ]);
    await machine.run(['ip', '-batch', '-'], { input: lines.join('\n') });
    for (const setting of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding'])
      await machine.run(['tee', `/proc/sys/net/${setting}`], { input: '1' });
    // A machine with br_netfilter would send bridged frames through iptables; this switch is only a switch.
    for (const family of ['iptables', 'ip6tables'])
      await machine.run(['tee', `/proc/sys/net/bridge/bridge-nf-call-${family}`], {
        input: '0',
        check: false,
      });
    await machine.run(['nft', '-f', '-'], { input: LOSS(ports) });
    return new Fabric(machine, mtu, ports);
  }

  /** Runs a cable from a port to the interface eth0 of a host, with its addresses and default routes. */
  async connect(plug: Plug, host: Machine): Promise<void> {
    // After a crash the kernel takes the old cable away at its leisure.
    await this.machine.run(['ip', 'link', 'delete', plug.port], { check: false });
    const mtu = String(this.mtu);
    await this.machine.runInNetwork([
      ...['ip', 'link', 'add', plug.port, 'mtu', mtu, 'type', 'veth'],
      ...['peer', 'name', 'eth0', 'address', plug.mac, 'mtu', mtu, 'netns', String(host.pid)],
    ]);
    await this.machine.run(['ip', 'link', 'set', plug.port, 'master', plug.bridge, 'up']);
    const lines = [
      `address add ${plug.address}/24 dev eth0`,
      `address add ${plug.address6}/64 dev eth0 nodad`,
      'link set eth0 up',
      `route add default via ${plug.gateway}`,
      `-6 route add default via ${plug.gateway6}`,
    ];
    for (const line of lines) await host.run(['ip', ...line.split(' ')]);
  }

  /** Pulls a cable: the host's eth0 has no carrier. */
  async cut(port: string): Promise<void> {
    await this.machine.run(['ip', 'link', 'set', port, 'down']);
  }

  /** Plugs a cable in again. */
  async plugIn(port: string): Promise<void> {
    await this.machine.run(['ip', 'link', 'set', port, 'up']);
  }

  /** Loses every frame between two ports, or between one and all, while both keep their carrier. */
  async drop(port: string, other?: string): Promise<void> {
    if (other === undefined) return this.add('silent', `"${port}"`);
    await this.add('lost', `${this.markOf(port)} . "${other}", ${this.markOf(other)} . "${port}"`);
  }

  /** Ends all loss and plugs in all cables. */
  async healAll(): Promise<void> {
    for (const set of ['silent', 'lost'])
      await this.machine.run(['nft', 'flush', 'set', 'bridge', 'bed', set]);
    // A host that is crashed has no cable.
    for (const port of this.ports)
      await this.machine.run(['ip', 'link', 'set', port, 'up'], { check: false });
  }

  private async add(set: string, elements: string): Promise<void> {
    await this.machine.run(['nft', '-f', '-'], { input: `add element bridge bed ${set} { ${elements} }\n` });
  }

  private markOf(port: string): number {
    return this.ports.indexOf(port) + 1;
  }
}
