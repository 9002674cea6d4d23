import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { childrenOf, exitStatus, signalProcess } from '../../src/setup/command.mjs';
import { poll } from './poll.js';

/** A program that goes on running in a machine of the bed, its output in a file. */
export class Running {
  /** True once the program has ended. */
  ended = false;

  private constructor(
    /** The program itself, as a pid of the real machine. */
    readonly pid: number,
    /** File that has its output, after that of earlier programs with this log. */
    readonly log: string,
    /** Exit status, 128 + n after signal n; resolves when it has ended and never rejects. */
    readonly exited: Promise<number>,
  ) {
    void exited.then(() => {
      this.ended = true;
    });
  }

  /**
   * Starts `argv`, which enters a machine with nsenter. nsenter waits outside and passes no signal on, so the
   * program's own pid is looked up.
   */
  static async start(argv: readonly string[], env: NodeJS.ProcessEnv, log: string): Promise<Running> {
    const output = openSync(log, 'a');
    const [command = '', ...args] = argv;
    const child = spawn(command, args, { env, detached: true, stdio: ['ignore', output, output] });
    closeSync(output);
    let over = false;
    const exited = new Promise<number>(resolve => {
      child.on('error', () => resolve(127));
      child.on('exit', (code, signal) => resolve(exitStatus(code, signal)));
    });
    void exited.then(() => {
      over = true;
    });
    const outside = child.pid;
    if (outside === undefined) throw new Error(`cannot run ${command}`);
    const pid = await poll(`start of ${argv.join(' ')}`, 10_000, () =>
      over ? outside : childrenOf(outside)[0],
    );
    return new Running(pid, log, exited);
  }

  /** Sends a signal; await `exited` to know that it worked. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    if (!this.ended) signalProcess(this.pid, signal);
  }

  /** Sends a signal and waits for the end, with SIGKILL after `timeout` milliseconds. Returns the exit status. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeout = 60_000): Promise<number> {
    this.kill(signal);
    const timer = setTimeout(() => this.kill('SIGKILL'), timeout);
    const status = await this.exited;
    clearTimeout(timer);
    return status;
  }

  /** All the output so far. */
  output(): string {
    return readFileSync(this.log, 'utf8');
  }

  /** The last lines of the output, for a message. */
  tail(lines = 15): string {
    return this.output().trimEnd().split('\n').slice(-lines).join('\n');
  }
}
