import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { transpiled } from './pretend-host.js';
import type { Namespace } from './pretend-host.js';

export type Protocol = 'tcp' | 'udp';

/** Serves ports and asks at others, inside a namespace (traffic.ts); ends with the test's process. */
export class Talker {
  private readonly waiting = new Map<number, (answer: { value?: unknown; error?: string }) => void>();
  private next = 1;
  private readonly child;

  constructor(space: Namespace) {
    const script = join(transpiled(), 'test/host/traffic.js');
    const args = ['-t', String(space.pid), '-n', process.execPath, script];
    this.child = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.child.stdout }).on('line', text => {
      const answer = JSON.parse(text) as { id: number; value?: unknown; error?: string };
      this.waiting.get(answer.id)?.(answer);
    });
  }

  /** Answers on a TCP and UDP port with `<name> <who asks> <bytes>`. */
  async serve(port: number, name: string): Promise<void> {
    await this.call('serve', port, name);
  }

  /** The answer; rejects where there is none within 300 ms. `from`: own port, for UDP. */
  async ask(
    protocol: Protocol,
    address: string,
    port: number,
    question = 'hello',
    from = 0,
  ): Promise<string> {
    return String(await this.call('ask', protocol, address, port, question, from));
  }

  /** Who answers, or `nobody`. */
  async who(protocol: Protocol, address: string, port: number, from = 0): Promise<string> {
    return this.ask(protocol, address, port, 'hello', from).then(
      answer => answer.split(' ')[0] ?? '',
      () => 'nobody',
    );
  }

  /** Makes a connection that stays open. */
  async open(address: string, port: number): Promise<void> {
    await this.call('open', address, port);
  }

  end(): void {
    this.child.stdin.end();
  }

  private async call(method: string, ...args: readonly unknown[]): Promise<unknown> {
    const id = this.next++;
    const answer = await new Promise<{ value?: unknown; error?: string }>(resolve => {
      this.waiting.set(id, resolve);
      this.child.stdin.write(`${JSON.stringify({ id, method, args })}\n`);
    });
    this.waiting.delete(id);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.value;
  }
}
