import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../bed/host.js';
import type { Random } from '../chaos/random.js';
import { CALICO } from '../e2e/calico-host.js';

export const NETWORK = 'net';
/** Addresses that nobody asks for come from the lower half; the upper one is for those asked for by name. */
const SUBNET = ['--subnet=198.18.0.0/20', '--ip-range=198.18.0.0/21'];
/** Containers per host, at most. */
const MOST = 6;
/** Milliseconds after which a docker command counts as one without end. */
const NO_END = 60_000;

export function createNetwork(host: Host, isRouted: boolean): Promise<string> {
  const vxlan = isRouted ? ['--ipam-opt', 'vxlanMode=CrossSubnet'] : [];
  return host.docker('network', 'create', ...CALICO, ...SUBNET, ...vxlan, NETWORK);
}

/** Starts and removes containers on many hosts, and keeps the books: who has which address. */
export class Load {
  commands = 0;
  /** Refusals on hosts that were disturbed, which is fair. */
  refused = 0;
  /** Milliseconds of the longest `docker run` that worked on a host that was not disturbed. */
  longest = 0;
  readonly duplicates: string[] = [];
  /** Failures on hosts that nobody had disturbed. */
  readonly unexplained: string[] = [];
  private readonly holders = new Map<string, string>();
  private readonly disturbances = new Map<Host, number>();
  private readonly running: Promise<void>[] = [];
  private readonly kept = new Map<Host, { name: string; address: string }[]>();
  private isOver = false;
  private number = 0;

  /** From now on a failure on this host is fair, also of what is under way; until {@link calm}. */
  disturb(host: Host): void {
    this.disturbances.set(host, (this.disturbances.get(host) ?? 0) + 1);
    this.disturbed.add(host);
  }

  calm(host: Host): void {
    this.disturbed.delete(host);
  }

  /** Begins on a host; returns at once. */
  begin(host: Host, random: Random): void {
    this.kept.set(host, []);
    this.running.push(this.work(host, random));
  }

  /** Ends it and removes what it made. */
  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.running);
    await Promise.all(
      [...this.kept].map(async ([host, containers]) => {
        for (const container of [...containers]) await this.remove(host, container);
      }),
    );
  }

  /** Starts a container whose address is of interest by itself; answers with that. Throws docker's refusal. */
  async start(host: Host, name: string, ...args: string[]): Promise<string> {
    const command = ['docker', 'run', '-d', '--name', name, '--net', NETWORK, ...args];
    await host.run([...command, '--stop-signal', 'KILL', 'busybox', 'sleep', '1d'], { timeout: NO_END });
    const format = `{{(index .NetworkSettings.Networks "${NETWORK}").IPAddress}}`;
    const address = await host.docker('inspect', '--format', format, name);
    const holder = this.holders.get(address);
    const taker = `${name} on ${host.name}`;
    if (holder !== undefined) this.duplicates.push(`${address} of ${holder} was given to ${taker}`);
    this.holders.set(address, taker);
    return address;
  }

  async remove(host: Host, container: { name: string; address: string }): Promise<void> {
    this.holders.delete(container.address);
    const argv = ['docker', 'rm', '-f', container.name];
    const { code } = await host.run(argv, { check: false, timeout: NO_END });
    const kept = this.kept.get(host) ?? [];
    if (code === 0 && kept.includes(container)) kept.splice(kept.indexOf(container), 1);
  }

  private readonly disturbed = new Set<Host>();

  private async work(host: Host, random: Random): Promise<void> {
    const kept = this.kept.get(host) ?? [];
    while (!this.isOver) {
      const victim = kept[random.below(MOST + 1)];
      if (kept.length < MOST && !victim) await this.tryToStart(host, kept);
      else if (victim) await this.remove(host, victim).catch(() => undefined);
      await sleep(random.below(300));
    }
  }

  private async tryToStart(host: Host, kept: { name: string; address: string }[]): Promise<void> {
    const name = `load-${host.name}-${(this.number += 1)}`;
    const before = this.disturbances.get(host);
    const isCalm = () => !this.disturbed.has(host) && this.disturbances.get(host) === before;
    const wasCalm = isCalm();
    const began = Date.now();
    this.commands += 1;
    try {
      kept.push({ name, address: await this.start(host, name) });
      if (wasCalm && isCalm()) this.longest = Math.max(this.longest, Date.now() - began);
    } catch (error) {
      if (wasCalm && isCalm()) this.unexplained.push(`${host.name}: ${String(error).trim()}`);
      else this.refused += 1;
      await host.run(['docker', 'rm', '-f', name], { check: false, timeout: NO_END }).catch(() => undefined);
    }
  }
}
