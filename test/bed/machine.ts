import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import type { CommandResult } from '../../src/setup/command.mjs';
import { childrenOf, run, signalProcess } from '../../src/setup/command.mjs';
import { poll } from './poll.js';
import { Running } from './running.js';

/** How a command is run in a machine. */
export interface RunOptions {
  /** Standard input; none unless given. */
  readonly input?: string | Uint8Array;
  /** Milliseconds, then the command is killed and the call throws. Default 120,000. */
  readonly timeout?: number;
  /** Added to the machine's own environment. Nothing of the test's environment gets in. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working folder; default `/`. */
  readonly cwd?: string;
  /** Whether a status other than 0 throws. Default true; with false look at `code`. */
  readonly check?: boolean;
}

/**
 * A machine made of namespaces: network, mounts, hostname, IPC and processes of its own, with tini as its PID 1.
 * Killing that init ends everything in it at once, as pulling the plug does.
 */
export class Machine {
  private constructor(
    readonly name: string,
    /** Its init, as a pid of the real machine. */
    readonly pid: number,
    private readonly env: Readonly<Record<string, string>>,
  ) {}

  /**
   * Starts an empty machine. It dies with the process that calls this, whatever kills that process: nothing of a
   * test run that was killed goes on running.
   */
  static async start(name: string, env: Readonly<Record<string, string>>): Promise<Machine> {
    const holder = spawn(
      'setpriv',
      [
        ...['--pdeathsig', 'KILL'],
        ...['unshare', '--fork', '--kill-child', '--net', '--mount', '--uts', '--ipc', '--pid'],
        ...['--propagation', 'private', '--mount-proc'],
        ...['tini-static', '-s', '--', 'sleep', 'infinity'],
      ],
      { detached: true, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let complaint = '';
    holder.stderr.on('data', chunk => (complaint += String(chunk)));
    const failed = new Promise<never>((_, reject) => {
      holder.on('error', reject);
      holder.on('exit', () => reject(new Error(`machine ${name} ended: ${complaint.trim()}`)));
    });
    // Later on its end is the usual thing: the machine was crashed or taken down.
    failed.catch(() => undefined);
    const outside = holder.pid;
    if (outside === undefined) return failed;
    const ready = poll(`machine ${name}`, 10_000, () =>
      childrenOf(outside).find(pid => readText(`/proc/${pid}/cmdline`).startsWith('tini')),
    );
    ready.catch(() => undefined);
    const machine = new Machine(name, await Promise.race([ready, failed]), env);
    await machine.run(['hostname', name]);
    await machine.run(['ip', 'link', 'set', 'lo', 'up']);
    return machine;
  }

  /** Whether it has not been ended. */
  get alive(): boolean {
    return existsSync(`/proc/${this.pid}/ns/net`);
  }

  /** Runs a command in it, to its end. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    const { timeout = 120_000, input, check } = options;
    const title = `${this.name}: ${argv.join(' ')}`;
    return run(this.enter(argv, options), { input, timeout, check, title, env: this.environment(options) });
  }

  /** Starts a command that goes on running, with its output appended to the file `log`. */
  spawn(
    argv: readonly string[],
    log: string,
    options: Pick<RunOptions, 'env' | 'cwd'> = {},
  ): Promise<Running> {
    return Running.start(this.enter(argv, options), this.environment(options), log);
  }

  /** Runs a command of the real machine that sees only the network of this one: pids mean what they mean outside. */
  runInNetwork(
    argv: readonly string[],
    options: Pick<RunOptions, 'input' | 'check'> = {},
  ): Promise<CommandResult> {
    return run(['nsenter', '--target', String(this.pid), '--net', '--', ...argv], {
      timeout: 10_000,
      ...options,
    });
  }

  /**
   * A file of the machine, as a path for the test process: for reading, writing and connecting to sockets. Write
   * /run, not /var/run: an absolute symbolic link would lead back to the real machine.
   */
  path(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }

  /** Ends it and everything in it. Fine when it has ended already. */
  async end(): Promise<void> {
    if (!this.alive) return;
    signalProcess(this.pid, 'SIGKILL');
    await poll(`end of machine ${this.name}`, 30_000, () => !this.alive);
  }

  private enter(argv: readonly string[], { cwd }: Pick<RunOptions, 'cwd'>): string[] {
    const into = [
      'nsenter',
      '--target',
      String(this.pid),
      '--net',
      '--mount',
      '--uts',
      '--ipc',
      '--pid',
      '--',
    ];
    return [...into, ...(cwd === undefined ? [] : ['env', `--chdir=${cwd}`]), ...argv];
  }

  private environment({ env }: Pick<RunOptions, 'env'>): NodeJS.ProcessEnv {
    return { ...this.env, ...env };
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
