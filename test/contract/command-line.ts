import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { findCommand, runCommand } from '../../src/cli/run-command.js';

const MAIN = new URL('../../dist/main.js', import.meta.url).pathname;

/** What a command did. */
export interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a command as a child process, with nothing in its environment but what is given. `input`: its standard input. */
export async function command(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  input = '',
): Promise<Ran> {
  if (!existsSync(MAIN)) throw new Error('these tests run dist/main.js: npm run build');
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env['PATH'] ?? '', DOCKER_HOST: 'unix:///nowhere', NODENAME: 'operator', ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const ended = once(child, 'exit');
  // One that refuses a file does not read to its end.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [status] = (await ended) as [number | null];
  return { status, out, err };
}

/** The same within this process, in a tenth of the time; without standard input. */
export async function commandHere(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Ran> {
  const found = findCommand(args);
  if (!found) throw new Error(`no command ${args.join(' ')}`);
  let [out, err] = ['', ''];
  const status = await runCommand(
    found.command,
    found.args,
    { DOCKER_HOST: 'unix:///nowhere', NODENAME: 'operator', ...env },
    {
      line: text => void (out += `${text}\n`),
      error: text => void (err += `${text}\n`),
      progress: () => undefined,
    },
  );
  return { status, out, err };
}
