import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FabricKind } from '../bed/addresses.js';
import { Bed } from '../bed/bed.js';
import { EtcdMembers } from '../bed/etcd-members.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { Random } from '../chaos/random.js';
import { Load, NETWORK, createNetwork } from './load.js';

export interface SoakOptions {
  readonly hosts: number;
  readonly fabric: FabricKind;
  readonly milliseconds: number;
  readonly seed: number;
  /** Told what happens, a line each. */
  say(text: string): void;
}

/** What a run saw. Times in milliseconds. All lists but `behind` are empty where all is well. */
export interface SoakReport {
  readonly commands: number;
  readonly refused: number;
  readonly longest: number;
  readonly disturbances: Readonly<Record<string, number>>;
  /** After each time a host was cut off: from etcd's return until it had the routes made meanwhile. */
  readonly behind: readonly number[];
  readonly duplicates: readonly string[];
  readonly unexplained: readonly string[];
  /** What was not as it should be in the end, and routes that did not come. */
  readonly wrong: readonly string[];
}

/** Longest time a host may be behind after etcd's return. */
export const AGREED = 2_000;
/** How long a route is waited for before it counts as lost. */
const LOST = 30_000;
/** Members of etcd. */
const MEMBERS = 3;

/**
 * Hosts with a three-member etcd under a load of `docker run`, of which some are cut off, and lose their daemon or the
 * leader of etcd, again and again. It begins with one host; the others join under the load. In the end one crashes and
 * is removed.
 */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  const bed = await Bed.up({ hosts: options.hosts, fabric: options.fabric, engine: '28' });
  try {
    return await new Soak(bed, options).run();
  } finally {
    await bed.down();
  }
}

class Soak {
  private readonly random: Random;
  private readonly hosts: readonly Host[];
  private readonly load = new Load();
  private readonly counts: Record<string, number> = {};
  private readonly behind: number[] = [];
  private readonly wrong: string[] = [];
  private readonly boxes = new Map<Host, string>();
  private number = 0;

  constructor(
    private readonly bed: Bed,
    private readonly options: SoakOptions,
  ) {
    this.random = new Random(options.seed);
    this.hosts = Array.from({ length: options.hosts }, (_, index) => bed.host(index + 1));
  }

  async run(): Promise<SoakReport> {
    const { hosts, load, options } = this;
    const etcd = await EtcdMembers.start(hosts.slice(0, MEMBERS));
    for (const host of hosts) await this.join(host, etcd);
    const until = Date.now() + options.milliseconds;
    while (Date.now() < until) {
      const kind = this.random.pick(['leader', 'leader', 'cut', 'silence', 'daemon'] as const);
      this.counts[kind] = (this.counts[kind] ?? 0) + 1;
      if (kind === 'leader') await this.loseLeader(etcd);
      else if (kind === 'daemon') await this.loseDaemon(etcd);
      else await this.cutOff(kind, etcd);
      await sleep(1_000 + this.random.below(3_000));
    }
    await load.end();
    await this.inspect(etcd);
    await this.crashLast(etcd);
    const { commands, refused, longest, duplicates, unexplained } = load;
    const { counts: disturbances, behind, wrong } = this;
    return { commands, refused, longest, disturbances, behind, duplicates, unexplained, wrong };
  }

  /** A host more, while the others work. */
  private async join(host: Host, etcd: EtcdMembers): Promise<void> {
    await host.serve({ ETCD_ENDPOINTS: etcd.endpoints });
    await host.dockerd();
    await host.image();
    if (host === this.hosts[0]) await createNetwork(host, this.options.fabric === 'l3');
    await poll(`the network on ${host.name}`, 10_000, async () =>
      (await host.docker('network', 'ls', '--format', '{{.Name}}')).split('\n').includes(NETWORK),
    );
    this.boxes.set(host, await this.load.start(host, 'box'));
    for (const [other, address] of this.boxes) if (other !== host) await this.reaches(host, address);
    this.load.begin(host, this.random.fork());
    this.options.say(`${host.name} has joined`);
  }

  private async loseLeader(etcd: EtcdMembers): Promise<void> {
    const leader = await poll('a leader', 20_000, () => etcd.leader());
    this.options.say(`the leader on ${leader.name} is killed`);
    await etcd.kill(leader);
    await sleep(2_000 + this.random.below(3_000));
    await etcd.launch(leader);
    await etcd.untilHealthy();
  }

  private async loseDaemon(etcd: EtcdMembers): Promise<void> {
    const host = this.anyOf(this.hosts);
    this.options.say(`the daemon of ${host.name} is killed`);
    this.load.disturb(host);
    await host.stopServe('SIGKILL');
    await sleep(this.random.below(3_000));
    await host.serve({ ETCD_ENDPOINTS: etcd.endpoints });
    // What Docker asked in between it asks again for some seconds.
    await sleep(3_000);
    this.load.calm(host);
  }

  private async cutOff(kind: 'cut' | 'silence', etcd: EtcdMembers): Promise<void> {
    const { bed, load, hosts, random } = this;
    const victim = this.anyOf(hosts);
    const other = this.anyOf(hosts.filter(host => host !== victim));
    const pause = 2_000 + random.below(14_000);
    load.disturb(victim);
    const began = Date.now();
    await (kind === 'cut' ? bed.cut(victim) : bed.drop(victim));
    // Which of its containers can be reached from a host nobody has to ask etcd for.
    const own = this.boxes.get(victim);
    if (own !== undefined && !(await this.pings(victim, own))) this.wrong.push(`${victim.name} lost its own`);
    const name = `mark-${(this.number += 1)}`;
    const address = `198.18.${8 + (this.number % 8)}.${1 + (this.number % 250)}`;
    await load.start(other, name, '--ip', address);
    await sleep(Math.max(0, pause - (Date.now() - began)));
    await bed.heal();
    const healed = Date.now();
    await poll(`etcd as ${victim.name} sees it`, 60_000, async () => {
      const limits = ['--dial-timeout=300ms', '--command-timeout=500ms'];
      const argv = ['etcdctl', '--endpoints', etcd.endpoints, ...limits, 'get', 'none'];
      return (await victim.run(argv, { env: { ETCDCTL_API: '3' }, check: false })).code === 0;
    });
    const returned = Date.now();
    const gateway = victim.address.replace(/\d+$/, '1');
    const found = await poll('the route', LOST, async () => {
      const { stdout } = await victim.run(['ip', 'route', 'get', address], { check: false });
      return stdout !== '' && !stdout.includes(`via ${gateway} `);
    }).catch(() => false);
    const late = Date.now() - returned;
    const length = `${((healed - began) / 1000).toFixed(1)} s`;
    this.options.say(
      `${victim.name} was cut off (${kind}) for ${length}; ${found ? late : 'never'} ms behind etcd`,
    );
    if (found) this.behind.push(late);
    else this.wrong.push(`${victim.name} never had the route to ${address} after ${length} (${kind})`);
    await this.reaches(victim, address).catch(() =>
      this.wrong.push(`${victim.name} does not reach ${address}`),
    );
    await load.remove(other, { name, address });
    await sleep(2_000);
    load.calm(victim);
  }

  /** With all up and nobody working, all has to be as it should be. */
  private async inspect(etcd: EtcdMembers): Promise<void> {
    for (const host of this.hosts)
      for (const [other, address] of this.boxes)
        if (other !== host)
          await this.reaches(host, address).catch(() =>
            this.wrong.push(`${host.name} does not reach the box of ${other.name}`),
          );
    const { stdout } = await this.command(etcd, 'ipam', 'check');
    if (!/ 0 findings$/m.test(stdout)) this.wrong.push(stdout.trim());
  }

  private async crashLast(etcd: EtcdMembers): Promise<void> {
    const { hosts } = this;
    const [first, last] = [hosts[0], hosts.at(-1)];
    if (!first || !last || hosts.length <= MEMBERS) return;
    await last.crash();
    const routes = async () => (await first.run(['ip', 'route', 'show', 'proto', '81'])).stdout;
    const address = this.boxes.get(last) ?? '';
    const isRouted = async () =>
      !(await first.run(['ip', 'route', 'get', address])).stdout.includes(
        `via ${first.address.replace(/\d+$/, '1')} `,
      );
    await sleep(3_000);
    if (!(await isRouted())) this.wrong.push(`the routes to ${last.name} went before its Node`);
    await poll(`${last.name} counts as dead`, 60_000, async () => {
      return (await this.command(etcd, 'node', 'remove', last.name)).code === 0;
    });
    await poll(`the end of the routes to ${last.name}`, 5_000, async () => !(await isRouted())).catch(
      async () => this.wrong.push(`routes to ${last.name} are left:\n${await routes()}`),
    );
    this.options.say(`${last.name} has crashed and was removed`);
  }

  private command(etcd: EtcdMembers, ...args: string[]) {
    const [host] = this.hosts;
    if (!host) throw new Error('a cluster has hosts');
    const argv = [process.execPath, join(REPOSITORY, 'dist/main.js'), ...args];
    return host.run(argv, { env: { ETCD_ENDPOINTS: etcd.endpoints }, check: false });
  }

  private anyOf(hosts: readonly Host[]): Host {
    return hosts[this.random.below(hosts.length)] ?? this.bed.host(1);
  }

  private async pings(host: Host, address: string): Promise<boolean> {
    const argv = ['busybox', 'ping', '-c1', '-W1', address];
    return (await host.run(argv, { check: false })).code === 0;
  }

  private reaches(host: Host, address: string): Promise<true> {
    const argv = ['docker', 'exec', 'box', 'ping', '-c1', '-W1', address];
    return poll(`${host.name} reaches ${address}`, 10_000, async () => {
      return (await host.run(argv, { check: false })).code === 0;
    });
  }
}
