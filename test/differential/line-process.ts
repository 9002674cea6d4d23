import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { transpiled } from '../host/pretend-host.js';

/** A program of ours that runs in a namespace and answers `{id, method, args}` lines with `{id, value}` or `{id, error}`. */
export class LineProcess {
  private readonly waiting = new Map<number, (answer: { value?: unknown; error?: string }) => void>();
  private next = 1;
  private readonly child;

  /** `enter`: command that leads into the namespace. `script`: path of the program below the repository's root. Ends
   *  with this process. */
  constructor(enter: readonly string[], script: string) {
    const program = join(transpiled(script), script.replace(/\.ts$/, '.js'));
    const argv = [...enter, process.execPath, program];
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', ...argv], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.child.stdout }).on('line', text => {
      const answer = JSON.parse(text) as { id: number; value?: unknown; error?: string };
      this.waiting.get(answer.id)?.(answer);
    });
    this.child.on('exit', code => {
      for (const answer of this.waiting.values()) answer({ error: `${script} ended with ${String(code)}` });
    });
    this.child.stdin.on('error', () => undefined);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** What the method answers; throws what it throws, and where the program has ended. */
  async call(method: string, ...args: readonly unknown[]): Promise<unknown> {
    if (this.child.exitCode !== null) throw new Error(`${method}: the program has ended`);
    const id = this.next++;
    const answer = await new Promise<{ value?: unknown; error?: string }>(resolve => {
      this.waiting.set(id, resolve);
      this.child.stdin.write(`${JSON.stringify({ id, method, args })}\n`);
    });
    this.waiting.delete(id);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.value;
  }

  /** Resolves when it has ended. */
  async end(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const ended = new Promise(resolve => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await ended;
  }
}
