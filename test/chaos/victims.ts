import { setTimeout as sleep } from 'node:timers/promises';
import type { HostEtcd } from '../bed/etcd.js';
import { startEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { EMBEDDED } from '../e2e/datastore.js';
import type { Random } from './random.js';

/** Which etcd the daemon has: its own, or one beside it. */
export type EtcdKind = 'embedded' | 'external';

type Signal = 'SIGKILL' | 'SIGTERM';

/** What runs on a host and can be killed: our daemon, dockerd, etcd, containers, the host. */
export class Victims {
  /** How often each was killed. */
  readonly kills = new Map<string, number>();
  /** Grows whenever something is killed, and when it is back. */
  epoch = 0;
  /** Something is being killed or started; undefined where all is up. */
  down: string | undefined;
  /** Docker can be asked. */
  dockerIsUp = false;
  private etcd: HostEtcd | undefined;

  constructor(
    private readonly host: Host,
    private readonly kind: EtcdKind,
    private readonly settings: Readonly<Record<string, string>>,
    private readonly say: (text: string) => void,
  ) {}

  /** Where etcd serves. */
  get endpoint(): string {
    return this.etcd?.endpoint ?? EMBEDDED;
  }

  /** Starts everything on a host that was booted. */
  async start(liveRestore: boolean): Promise<void> {
    if (this.kind === 'external') this.etcd = await startEtcd(this.host);
    await this.serve();
    await this.dockerd(liveRestore);
    await this.host.image();
  }

  /** Kills something and starts it again; returns when all is up. */
  async strike(random: Random): Promise<void> {
    const pause = random.below(2_500);
    // Long enough for dockerd (15 s for a call) and the daemon (10 s) to give up what they were asked.
    const long = random.chance(0.45) ? 14_000 + random.below(8_000) : pause;
    const signal = random.pick<Signal>(['SIGKILL', 'SIGKILL', 'SIGTERM']);
    const live = random.chance(0.75);
    const seed = random.below(1_000_000);
    const blow = random.weighted<() => Promise<void>>([
      [4, () => this.blow(`daemon ${signal}`, () => this.killDaemon(signal, long))],
      [4, () => this.blow(`dockerd ${signal}`, () => this.killDockerd(signal, pause, live))],
      [5, () => this.blow('etcd SIGKILL', () => this.killEtcd(long))],
      [3, () => this.killContainer(seed)],
      [2, () => this.blow(`daemon and dockerd ${signal}`, () => this.killBoth(signal, pause, live))],
      [1, () => this.blow('power cut', () => this.cutPower(pause, live))],
    ]);
    await blow();
  }

  private async blow(what: string, work: () => Promise<void>): Promise<void> {
    this.count(what);
    this.epoch += 1;
    this.down = what;
    const began = Date.now();
    await work();
    this.down = undefined;
    this.epoch += 1;
    this.say(`${what}: all is up again after ${Date.now() - began} ms`);
  }

  private async killDaemon(signal: Signal, pause: number): Promise<void> {
    await this.host.stopServe(signal);
    await sleep(pause);
    await this.serve();
  }

  private async killDockerd(signal: Signal, pause: number, live: boolean): Promise<void> {
    this.dockerIsUp = false;
    await this.host.killDockerd(signal);
    await sleep(pause);
    await this.dockerd(live);
  }

  private async killBoth(signal: Signal, pause: number, live: boolean): Promise<void> {
    this.dockerIsUp = false;
    await Promise.all([this.host.stopServe(signal), this.host.killDockerd(signal)]);
    await sleep(pause);
    await this.serve();
    await this.dockerd(live);
  }

  /** The daemon starts its own again. */
  private async killEtcd(pause: number): Promise<void> {
    if (this.etcd) {
      await this.etcd.process.stop('SIGKILL');
      await sleep(pause);
      this.etcd = await startEtcd(this.host);
      return;
    }
    const { stdout } = await this.host.run(['pidof', 'etcd'], { check: false });
    if (stdout.trim() !== '')
      await this.host.run(['kill', '-KILL', ...stdout.trim().split(/\s+/)], { check: false });
    await this.untilEtcdAnswers();
  }

  private async untilEtcdAnswers(): Promise<void> {
    for (let attempt = 0; attempt < 100; attempt++) {
      const argv = ['etcdctl', '--endpoints', this.endpoint, '--command-timeout=1s', 'endpoint', 'health'];
      const { code } = await this.host.run(argv, { env: { ETCDCTL_API: '3' }, check: false });
      if (code === 0) return;
      await sleep(200);
    }
    throw new Error(`etcd at ${this.endpoint} does not come back`);
  }

  private async cutPower(pause: number, live: boolean): Promise<void> {
    this.dockerIsUp = false;
    await this.host.crash();
    await sleep(pause);
    await this.host.boot();
    if (this.kind === 'external') this.etcd = await startEtcd(this.host);
    await this.serve();
    await this.dockerd(live);
  }

  /** Kills the process of one that runs; nothing else is down then. */
  private async killContainer(seed: number): Promise<void> {
    const ids = await this.host.docker('ps', '-q');
    const all = ids.split('\n');
    const id = all[seed % all.length];
    if (!id) return;
    const { stdout } = await this.host.run(['docker', 'inspect', '--format', '{{.State.Pid}}', id], {
      check: false,
    });
    if (!(Number(stdout) > 0)) return;
    this.count('container SIGKILL');
    this.epoch += 1;
    await this.host.run(['kill', '-KILL', stdout.trim()], { check: false });
  }

  private async serve(): Promise<void> {
    const etcd = this.etcd ? { ETCD_ENDPOINTS: this.etcd.endpoint } : {};
    await this.host.serve({ ...this.settings, ...etcd });
  }

  private async dockerd(live: boolean): Promise<void> {
    await this.host.dockerd(...(live ? ['--live-restore'] : []));
    this.dockerIsUp = true;
  }

  private count(what: string): void {
    this.kills.set(what, (this.kills.get(what) ?? 0) + 1);
  }
}
