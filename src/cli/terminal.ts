import type { Output } from './command.js';

/** A command's output on this process's own streams. */
export function terminalOutput(): Output {
  let shown = false;
  const wipe = (): void => {
    if (shown) process.stderr.write('\r\x1b[K');
    shown = false;
  };
  return {
    line(text) {
      wipe();
      process.stdout.write(`${text}\n`);
    },
    error(text) {
      wipe();
      process.stderr.write(`${text}\n`);
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
