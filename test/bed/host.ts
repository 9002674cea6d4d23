import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { CommandResult } from '../../src/setup/command.mjs';
import { answers } from '../../src/setup/answers.mjs';
import { IMPORT_ARGUMENTS } from '../../src/setup/image.mjs';
import { environment } from '../../src/setup/command.mjs';
import type { Plug } from './addresses.js';
import { removeCgroupsOf } from './cgroups.js';
import { mountDisk } from './disk.js';
import type { Fabric } from './fabric.js';
import { imageTar } from './image.js';
import type { RunOptions } from './machine.js';
import { Machine } from './machine.js';
import { REPOSITORY } from './paths.js';
import type { Running } from './running.js';

/** What a host is made of; {@link Bed} decides. */
export interface HostParts {
  readonly plug: Plug;
  readonly fabric: Fabric;
  /** Folder of the real machine with the host's disk and logs. */
  readonly disk: string;
  /** Parent of its containers' cgroups. */
  readonly cgroupParent: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Sockets by which dockerd finds our driver. */
const PLUGIN_SOCKETS = ['/run/docker/plugins/calico.sock', '/run/docker/plugins/calico-ipam.sock'];

/** A pretend host: a machine with a disk, a cable to the fabric and, when started, a dockerd and our daemon. */
export class Host {
  private running: Machine | undefined;
  private dockerEngine: Running | undefined;
  private daemon: Running | undefined;

  constructor(private readonly parts: HostParts) {}

  /** Its hostname, and the name of its port at the fabric. */
  get name(): string {
    return this.parts.plug.port;
  }

  get address(): string {
    return this.parts.plug.address;
  }

  get address6(): string {
    return this.parts.plug.address6;
  }

  /** Its namespaces. Throws while the host is down. */
  get machine(): Machine {
    if (this.running === undefined) throw new Error(`${this.name} is down`);
    return this.running;
  }

  /** Switches it on: the disk as it was, /run empty, no daemon running. */
  async boot(): Promise<void> {
    if (this.running?.alive) throw new Error(`${this.name} is up already`);
    mkdirSync(join(this.parts.disk, 'log'), { recursive: true });
    this.running = await Machine.start(this.name, this.parts.env);
    await mountDisk(this.running, this.parts.disk);
    await this.parts.fabric.connect(this.parts.plug, this.running);
  }

  /** Pulls the plug: everything in it is killed at once. Fine when it is down. */
  async crash(): Promise<void> {
    await this.running?.end();
    await removeCgroupsOf(this.parts.cgroupParent);
    this.running = undefined;
    this.dockerEngine = undefined;
    this.daemon = undefined;
  }

  /** Runs a command in it, to its end. A status other than 0 throws unless `check` is false. */
  run(argv: readonly string[], options?: RunOptions): Promise<CommandResult> {
    return this.machine.run(argv, options);
  }

  /** Starts a command that goes on running; its output goes to the log of that name (default: the command's). */
  spawn(
    argv: readonly string[],
    options: Pick<RunOptions, 'env' | 'cwd'> & { log?: string } = {},
  ): Promise<Running> {
    const { log = argv[0]?.split('/').at(-1) ?? 'command', ...rest } = options;
    return this.machine.spawn(argv, this.logFile(log), rest);
  }

  /** A file of the host as a path for the test process. Use /run, not /var/run. */
  path(path: string): string {
    return this.machine.path(path);
  }

  /** File on the real machine with the output of `dockerd`, `calico-libnetwork` or what was spawned. */
  logFile(name: string): string {
    return join(this.parts.disk, 'log', name);
  }

  /** Starts dockerd with these options and waits until it answers. */
  async dockerd(...args: string[]): Promise<Running> {
    if (this.dockerEngine && !this.dockerEngine.ended) throw new Error(`dockerd runs on ${this.name}`);
    const engine = await this.spawn(['dockerd', '--cgroup-parent', this.parts.cgroupParent, ...args]);
    this.dockerEngine = engine;
    // Long: with a driver that does not answer it first waits a quarter of a minute for each network.
    await this.untilReady('dockerd', engine, 180_000, () =>
      answers(this.path('/run/docker.sock'), 'GET', '/_ping'),
    );
    return engine;
  }

  /** Ends dockerd and waits for that. SIGKILL leaves its containers running. Returns its exit status. */
  async killDockerd(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    if (this.dockerEngine === undefined) throw new Error(`no dockerd on ${this.name}`);
    return this.dockerEngine.stop(signal);
  }

  /** Runs the docker client and returns what it printed, without the last line end. Throws with its error text. */
  async docker(...args: string[]): Promise<string> {
    return (await this.run(['docker', ...args])).stdout.trimEnd();
  }

  /** Runs the docker client where it has to fail, and returns its error text. */
  async dockerFails(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(['docker', ...args], { check: false });
    if (code === 0) throw new Error(`docker ${args.join(' ')} worked, but should have failed: ${stdout}`);
    return stderr.trimEnd();
  }

  /** Imports busybox:latest, which has ping, ip, nc, httpd and the like. */
  async image(): Promise<void> {
    await this.run(['docker', ...IMPORT_ARGUMENTS], { input: await imageTar() });
  }

  /** Starts our daemon with these settings and waits until both of its sockets answer. */
  async serve(env: Readonly<Record<string, string>> = {}): Promise<Running> {
    if (this.daemon && !this.daemon.ended) throw new Error(`the daemon runs on ${this.name}`);
    const argv = [process.execPath, join(REPOSITORY, 'dist/main.js'), 'serve'];
    const daemon = await this.spawn(argv, { env, log: 'calico-libnetwork' });
    this.daemon = daemon;
    for (const socket of PLUGIN_SOCKETS)
      await this.untilReady('calico-libnetwork', daemon, 30_000, () =>
        answers(this.path(socket), 'POST', '/Plugin.Activate'),
      );
    return daemon;
  }

  /** Ends our daemon and waits for that. Returns its exit status. */
  async stopServe(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    if (this.daemon === undefined) throw new Error(`no daemon on ${this.name}`);
    return this.daemon.stop(signal);
  }

  /** Waits for a daemon, and tells what it logged when it ends or does not answer. */
  private async untilReady(
    name: string,
    daemon: Running,
    timeout: number,
    ready: () => Promise<boolean>,
  ): Promise<void> {
    const until = Date.now() + timeout;
    while (!(await ready())) {
      if (daemon.ended) throw new Error(`${name} on ${this.name} ended:\n${daemon.tail()}`);
      if (Date.now() > until) throw new Error(`${name} on ${this.name} does not answer:\n${daemon.tail()}`);
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }
}

/**
 * The environment of all commands in a host. PATH has its engine first, then its iptables, then what the real
 * machine has and this very node. Of the machine's docker client settings and credentials nothing gets in.
 */
export function hostEnvironment(engine: string, iptables: string): Readonly<Record<string, string>> {
  const path = [engine, iptables, environment()['PATH'], dirname(process.execPath)];
  return { PATH: path.join(':'), HOME: '/root', LANG: 'C.UTF-8', DOCKER_CONFIG: '/etc/docker/client' };
}
