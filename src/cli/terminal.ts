import type { Environment, Output } from './command.js';
import { printableLines } from './table.js';

/** Resolves when all that was written has left the process: a pipe takes only so much at once. */
export async function flushed(): Promise<void> {
  for (const stream of [process.stdout, process.stderr])
    await new Promise<void>(done => stream.write('', () => done()));
}

/**
 * A command's output on this process's own streams. With `NO_COLOR` in the environment there are no colours anywhere. Control
 * characters of others, which a terminal would obey, are shown as `?`: what is in etcd may come from anybody.
 */
export function terminalOutput(env: Environment): Output {
  // A reader that has seen enough (`| head`, `2>&1 | head`) is no fault.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  let shown = false;
  const wipe = (): void => {
    if (shown) process.stderr.write('\r\x1b[K');
    shown = false;
  };
  const { isTTY, columns } = process.stdout;
  return {
    width: isTTY ? columns : undefined,
    hasColors: isTTY && !env.NO_COLOR && env.TERM !== 'dumb',
    line(text) {
      wipe();
      process.stdout.write(`${printableLines(text)}\n`);
    },
    error(text) {
      wipe();
      process.stderr.write(`${printableLines(text)}\n`);
    },
    progress(text) {
      if (!process.stderr.isTTY) return;
      wipe();
      if (text === undefined) return;
      process.stderr.write(text);
      shown = true;
    },
  };
}
