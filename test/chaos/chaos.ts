import { setTimeout as sleep } from 'node:timers/promises';
import { KeyedLock } from '../../src/keyed-lock.js';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';
import { runningContainers } from '../e2e/seen.js';
import { Aftermath } from './aftermath.js';
import { ALWAYS_THERE, createNetwork, isFair, isNetworkCreation, nextCommand } from './commands.js';
import { Random } from './random.js';
import type { ChaosOptions, ChaosReport } from './report.js';
import { Victims } from './victims.js';
import { faults } from './watch.js';

const SETTINGS = { CALICO_LIBNETWORK_GC_GRACE: '3s', CALICO_LIBNETWORK_RECONCILE_INTERVAL: '2s' };
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
    const { agreementAfter, leaks } = await new Aftermath(host, victims.endpoint, options).look();
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
}
