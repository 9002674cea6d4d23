import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { KeyedLock } from '../../src/keyed-lock.js';
import { Bed } from '../bed/bed.js';
import type { Engine } from '../bed/engines.js';
import type { Host } from '../bed/host.js';
import { disagreements, expectAgreement } from '../e2e/agreement.js';
import { dump } from '../e2e/datastore.js';
import { kernelHas, runningContainers } from '../e2e/seen.js';
import { ALWAYS_THERE, createNetwork, isFair, isNetworkCreation, nextCommand } from './commands.js';
import { Random } from './random.js';
import { Victims } from './victims.js';
import type { EtcdKind } from './victims.js';
import { faults } from './watch.js';

/** What a run is made of; the same seed gives the same commands and kills in the same order, at about the same times. */
export interface ChaosOptions {
  readonly seed: number;
  readonly milliseconds: number;
  readonly engine: Engine;
  readonly etcd: EtcdKind;
  /** Told what happens, a line each. */
  say(text: string): void;
}

/** What a run saw. All lists are empty where all is well. Times in milliseconds. */
export interface ChaosReport {
  readonly commands: number;
  /** Commands that docker refused. */
  readonly refused: number;
  /** Refusals that cannot be explained while nothing was killed, with how often. */
  readonly unexplained: readonly string[];
  /** Commands that had no end. */
  readonly hung: readonly string[];
  readonly kills: Readonly<Record<string, number>>;
  readonly looks: number;
  readonly pings: number;
  readonly duplicates: readonly string[];
  readonly unreachable: readonly string[];
  readonly longest: { readonly command: string; readonly milliseconds: number };
  /** The longest of those during which nothing was down. */
  readonly longestUndisturbed: { readonly command: string; readonly milliseconds: number };
  /** Containers that ran when the typing and killing was over. */
  readonly survivors: number;
  /** From when all was up for good; undefined where they never agreed. */
  readonly agreementAfter: number | undefined;
  /** What did not agree in the end, and what was left when all was removed. */
  readonly leaks: readonly string[];
}

const SETTINGS = { CALICO_LIBNETWORK_GC_GRACE: '3s', CALICO_LIBNETWORK_RECONCILE_INTERVAL: '2s' };
/** Grace and interval, and what a busy machine takes. */
const AGREED = 3_000 + 2_000 + 10_000;
const WORKERS = 3;
/** dockerd waits 15 s for each call that our daemon cannot take, and a command may need many. */
const NO_END = 240_000;

/** Types and kills for a while on a host of its own, then sees whether all agree and nothing stays. */
export async function chaos(options: ChaosOptions): Promise<ChaosReport> {
  const bed = await Bed.up({ engine: options.engine });
  try {
    return await new Run(options, bed.host(1)).all();
  } finally {
    await bed.down();
  }
}

class Run {
  private readonly random: Random;
  private readonly victims: Victims;
  private until = Infinity;
  private commands = 0;
  private refused = 0;
  private looks = 0;
  private pings = 0;
  private longest = { command: '', milliseconds: 0 };
  private longestUndisturbed = { command: '', milliseconds: 0 };
  private readonly creations = new KeyedLock();
  private readonly unexplained = new Map<string, number>();
  private readonly hung: string[] = [];
  private readonly duplicates = new Set<string>();
  private readonly unreachable = new Set<string>();

  constructor(
    private readonly options: ChaosOptions,
    private readonly host: Host,
  ) {
    this.random = new Random(options.seed);
    this.victims = new Victims(host, options.etcd, SETTINGS, options.say);
  }

  async all(): Promise<ChaosReport> {
    const { random, host, victims, options } = this;
    const [killing, ...typing] = Array.from({ length: 1 + WORKERS }, () => random.fork());
    await victims.start(random.chance(0.5));
    await host.docker(...createNetwork(ALWAYS_THERE));
    this.until = Date.now() + options.milliseconds;
    await Promise.all([
      ...typing.map(each => this.type(each)),
      ...(killing ? [this.kill(killing)] : []),
      this.watch(),
    ]);
    const survivors = (await runningContainers(host)).length;
    const { agreementAfter, leaks } = await this.end();
    return {
      commands: this.commands,
      refused: this.refused,
      unexplained: [...this.unexplained].map(([text, times]) => `${times} x ${text}`),
      hung: this.hung,
      kills: Object.fromEntries(victims.kills),
      looks: this.looks,
      pings: this.pings,
      duplicates: [...this.duplicates],
      unreachable: [...this.unreachable],
      longest: this.longest,
      longestUndisturbed: this.longestUndisturbed,
      survivors,
      agreementAfter,
      leaks,
    };
  }

  private get isOver(): boolean {
    return Date.now() >= this.until;
  }

  private async type(random: Random): Promise<void> {
    while (!this.isOver) {
      const each = random.fork();
      const command = nextCommand(each);
      const pause = each.below(400);
      while (!this.victims.dockerIsUp && !this.isOver) await sleep(50);
      if (this.isOver) return;
      // Of two that create a network of one name at once, Docker may let both.
      if (isNetworkCreation(command))
        await this.creations.run(command.join(' '), () => this.command(command));
      else await this.command(command);
      await sleep(pause);
    }
  }

  private async command(argv: readonly string[]): Promise<void> {
    const { epoch, down } = this.victims;
    const command = argv.join(' ');
    const began = Date.now();
    this.commands += 1;
    const answer = await this.host
      .run(['docker', ...argv], { check: false, timeout: NO_END })
      .catch((error: unknown) => ({ code: 255, stderr: String(error) }));
    const milliseconds = Date.now() - began;
    const isUndisturbed = down === undefined && this.victims.epoch === epoch;
    if (milliseconds >= NO_END) this.hung.push(`docker ${command}`);
    if (milliseconds > this.longest.milliseconds) this.longest = { command, milliseconds };
    if (isUndisturbed && milliseconds > this.longestUndisturbed.milliseconds)
      this.longestUndisturbed = { command, milliseconds };
    if (answer.code === 0) return;
    this.refused += 1;
    if (!isUndisturbed || isFair(answer.stderr)) return;
    const text = `docker ${command}: ${answer.stderr.trim()}`;
    this.unexplained.set(text, (this.unexplained.get(text) ?? 0) + 1);
    this.options.say(`unexplained after ${milliseconds} ms: ${text}`);
  }

  private async kill(random: Random): Promise<void> {
    while (!this.isOver) {
      const each = random.fork();
      const pause = 3_000 + each.below(6_000);
      await sleep(Math.max(0, Math.min(pause, this.until - Date.now())));
      // The last time while the last commands are under way.
      await this.victims.strike(each);
    }
  }

  private async watch(): Promise<void> {
    while (!this.isOver) {
      await sleep(2_000);
      const { epoch, down } = this.victims;
      if (down !== undefined) continue;
      const found = await faults(this.host).catch(() => undefined);
      // What was killed meanwhile may have been asked.
      if (!found || this.victims.epoch !== epoch) continue;
      this.looks += 1;
      this.pings += found.asked;
      for (const [all, now] of [
        [this.duplicates, found.duplicates],
        [this.unreachable, found.unreachable],
      ] as const)
        for (const text of now) {
          if (!all.has(text)) this.options.say(`WRONG: ${text}`);
          all.add(text);
        }
    }
  }

  /** All is up by now. */
  private async end(): Promise<{ agreementAfter: number | undefined; leaks: string[] }> {
    const { host, victims, options } = this;
    const { endpoint } = victims;
    const agreed = await expectAgreement(host, { within: AGREED, endpoint }).catch(() => undefined);
    const leaks = agreed === undefined ? await disagreements(host, endpoint) : [];
    options.say(agreed === undefined ? `no agreement: ${leaks.join('; ')}` : `agreement after ${agreed} ms`);
    for (const line of await this.evidence(leaks)) options.say(line);
    const found = await faults(host);
    leaks.push(...found.duplicates, ...found.unreachable);
    await this.removeAll();
    const until = Date.now() + AGREED;
    let left = ['not looked at'];
    while (left.length > 0 && Date.now() < until) left = await this.left().catch(error => [String(error)]);
    return { agreementAfter: agreed, leaks: [...leaks, ...left.map(what => `left in the end: ${what}`)] };
  }

  /** What the daemon logged of the endpoints of containers that are named. */
  private async evidence(leaks: readonly string[]): Promise<string[]> {
    const log = readFileSync(this.host.logFile('calico-libnetwork'), 'utf8').split('\n');
    const named = (await runningContainers(this.host)).filter(({ name }) =>
      leaks.some(leak => leak.split(/\W+/).includes(name)),
    );
    return named.flatMap(({ name, id, started, endpoints }) =>
      endpoints.flatMap(({ endpointId }) => [
        `${name} (${id.slice(0, 12)}, up since ${started}) has endpoint ${endpointId}; the daemon logged:`,
        ...log.filter(line => line.includes(endpointId)),
      ]),
    );
  }

  private async removeAll(): Promise<void> {
    const { host, options } = this;
    const list = async (...argv: string[]) =>
      (await host.docker(...argv)).split('\n').filter(line => line !== '');
    const remove = async () => {
      const containers = await list('ps', '-aq');
      if (containers.length > 0) await host.run(['docker', 'rm', '-f', ...containers], { check: false });
      const networks = await list('network', 'ls', '-q', '--filter', 'type=custom');
      const { code, stderr } = networks.length
        ? await host.run(['docker', 'network', 'rm', ...networks], { check: false })
        : { code: 0, stderr: '' };
      return code === 0 && (await list('ps', '-aq')).length === 0 ? undefined : stderr.trim();
    };
    const complaint = await remove();
    if (complaint === undefined) return;
    // What dockerd believes after a crash of its own may be wrong until it starts again.
    options.say(`docker cannot remove all at once: ${complaint}`);
    await host.killDockerd();
    await host.dockerd();
    const again = await remove();
    if (again !== undefined) options.say(`nor after a restart: ${again}`);
  }

  /** What is there when all is removed. */
  private async left(): Promise<string[]> {
    const { endpoint } = this.victims;
    const kernel = await kernelHas(this.host);
    const keys = Object.keys(await dump(this.host, endpoint));
    return [
      ...(await disagreements(this.host, endpoint)),
      ...kernel.links,
      ...kernel.routes,
      ...kernel.published.map(address => `a port of ${address}`),
      ...keys.filter(key => /\/handle\/|\/workloadendpoints\/|\/v1\/networks\/|192-0-2|198-51-100/.test(key)),
    ];
  }
}

/** A report as lines to print. */
export function format(report: ChaosReport, { seed, engine, etcd }: ChaosOptions): string {
  const kills = Object.entries(report.kills);
  const total = kills.reduce((sum, [, times]) => sum + times, 0);
  const list = (what: string, all: readonly string[]) => [
    `${what}: ${all.length}`,
    ...all.map(each => `  ${each}`),
  ];
  const { longest, longestUndisturbed: quiet } = report;
  return [
    `chaos on Docker ${engine}, ${etcd} etcd, seed ${seed}`,
    `docker commands: ${report.commands}, refused ${report.refused}`,
    `kills: ${total} (${kills.map(([what, times]) => `${what} ${times}`).join(', ')})`,
    `looks while all was up: ${report.looks}, pings ${report.pings}`,
    ...list('leaks', report.leaks),
    ...list('duplicates', report.duplicates),
    ...list('unreachable', report.unreachable),
    ...list('commands without end', report.hung),
    ...list('refusals unexplained', report.unexplained),
    `longest docker command: ${longest.milliseconds} ms (${longest.command}); with all up: ${quiet.milliseconds} ms (${quiet.command})`,
    `containers up in the end: ${report.survivors}; agreement after ${report.agreementAfter ?? 'never: more than ' + String(AGREED)} ms`,
  ].join('\n');
}
