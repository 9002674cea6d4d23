import { join } from 'node:path';
import type { CommandResult } from '../../src/setup/command.mjs';
import type { FabricKind } from './addresses.js';
import { plugOf } from './addresses.js';
import { cgroupParent } from './cgroups.js';
import type { Engine } from './engines.js';
import { engineFolder } from './engines.js';
import { Fabric } from './fabric.js';
import { Host, hostEnvironment } from './host.js';
import type { IptablesKind } from './iptables.js';
import { iptablesFolder } from './iptables.js';
import { makeBedFolder, newBedId, removeBed, removeLeftovers } from './leftovers.js';
import type { RunOptions } from './machine.js';

/** What a bed should have. */
export interface BedOptions {
  /** Number of hosts, named h1, h2 … Default 1. */
  readonly hosts?: number;
  /** Of all hosts, or one for each in turn. Default 20. */
  readonly engine?: Engine | readonly Engine[];
  /** l2: one segment. l3: two segments (odd and even hosts) with a router between. Default l2. */
  readonly fabric?: FabricKind;
  /** Default nft. */
  readonly iptables?: IptablesKind;
  /** Of the fabric and of the hosts' eth0. Default 1500. */
  readonly mtu?: number;
}

/**
 * Pretend hosts on this machine and the network between them. Several beds can exist at once and see nothing of
 * each other. Needs root.
 */
export class Bed {
  /** Those of this process that are up. */
  static readonly live = new Set<Bed>();

  private constructor(
    /** Unique on this machine. */
    readonly id: string,
    private readonly network: Fabric,
    readonly hosts: readonly Host[],
  ) {
    Bed.live.add(this);
  }

  /** Makes the fabric and boots the hosts; no daemon runs in them. Take it `down()` in the end. */
  static async up(options: BedOptions = {}): Promise<Bed> {
    const { hosts: count = 1, engine = '20', fabric: kind = 'l2', iptables = 'nft', mtu = 1500 } = options;
    if (process.getuid?.() !== 0) throw new Error('a bed needs root');
    await removeLeftovers();
    const folders = await Promise.all([engine].flat().map(engineFolder));
    const id = newBedId();
    const folder = makeBedFolder(id);
    let fabric: Fabric | undefined;
    let hosts: Host[] = [];
    try {
      const iptablesPrograms = iptablesFolder(iptables, folder);
      const envs = folders.map(programs => hostEnvironment(programs, iptablesPrograms));
      const envOf = (index: number) => envs[index % envs.length] ?? {};
      const plugs = Array.from({ length: count }, (_, index) => plugOf(kind, index + 1));
      const network = await Fabric.up(
        kind,
        mtu,
        plugs.map(({ port }) => port),
        envOf(0),
      );
      fabric = network;
      hosts = plugs.map((plug, index) => {
        const disk = join(folder, plug.port);
        const env = envOf(index);
        return new Host({ plug, fabric: network, disk, cgroupParent: cgroupParent(id, plug.port), env });
      });
      await Promise.all(hosts.map(host => host.boot()));
      return new Bed(id, network, hosts);
    } catch (error) {
      await Promise.all([...hosts.map(host => host.crash()), fabric?.machine.end()]);
      await removeBed(id);
      throw error;
    }
  }

  /** Host `number`, from 1. */
  host(number: number): Host {
    const host = this.hosts[number - 1];
    if (host === undefined) throw new Error(`the bed has ${this.hosts.length} hosts, there is no h${number}`);
    return host;
  }

  /** The IPv4 address of a host's eth0. */
  addressOf(host: Host): string {
    return host.address;
  }

  /** Runs a command in the outside world: the fabric's namespaces, where the hosts' default gateway is. */
  fabric(argv: readonly string[], options?: RunOptions): Promise<CommandResult> {
    return this.network.machine.run(argv, options);
  }

  /** The outside world's namespaces, for what has to go on running there. */
  get outside(): Fabric['machine'] {
    return this.network.machine;
  }

  /** Pulls a host's cable: its eth0 loses its carrier. */
  cut(host: Host): Promise<void> {
    return this.network.cut(host.name);
  }

  /** Loses all frames between two hosts, or one host and everything, without either noticing. */
  drop(host: Host, other?: Host): Promise<void> {
    return this.network.drop(host.name, other?.name);
  }

  /** Plugs a host's cable in again; without a host, all cables, and ends all `drop`. */
  heal(host?: Host): Promise<void> {
    return host === undefined ? this.network.healAll() : this.network.plugIn(host.name);
  }

  /**
   * Ends everything and removes it. With CALICO_LIBNETWORK_TEST_KEEP set the folder with disks and logs stays
   * until the next run.
   */
  async down(): Promise<void> {
    Bed.live.delete(this);
    await Promise.all([...this.hosts.map(host => host.crash()), this.network.machine.end()]);
    await removeBed(this.id, process.env['CALICO_LIBNETWORK_TEST_KEEP'] !== undefined);
  }
}
