import { execFile } from 'node:child_process';
import { HostError } from '../errors.js';

/** Where commands are looked for, whatever environment the daemon was started with: /usr/sbin is often missing. */
export const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Milliseconds; long enough for iptables to wait for its lock (`-w 5`), short enough not to hold up a plugin call for ever. */
const TIMEOUT_MS = 10_000;
const OUTPUT_LIMIT = 64 * 1024 * 1024;
/** Debian package of each command, for the error of a missing one. */
const PACKAGES: Readonly<Record<string, string>> = {
  nft: 'nftables',
  ip: 'iproute2',
  nsenter: 'util-linux',
};

/** A command failed, or cannot be run at all (`isMissing`). The message is its command line and what it said. */
export class CommandError extends HostError {
  constructor(
    message: string,
    readonly isMissing: boolean,
  ) {
    super(message);
  }
}

/**
 * Runs a command without a shell and answers with its standard output; ends it after `timeout` milliseconds. Throws
 * {@link CommandError}.
 */
export async function run(
  command: string,
  args: readonly string[],
  input?: string,
  timeout = TIMEOUT_MS,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout, maxBuffer: OUTPUT_LIMIT, env: { PATH, LC_ALL: 'C' } };
    const child = execFile(command, [...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(commandError([command, ...args].join(' '), command, error, stderr, timeout));
    });
    // A command that ends without reading its input; its exit status says why.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
  });
}

interface ExecError extends Error {
  readonly code?: string | number | null | undefined;
  readonly killed?: boolean | undefined;
}

function commandError(
  line: string,
  command: string,
  error: ExecError,
  stderr: string,
  timeout: number,
): CommandError {
  if (error.code === 'ENOENT') {
    const source = PACKAGES[command] ?? 'iptables';
    return new CommandError(
      `${line}: command not found; install it (Debian: apt-get install ${source})`,
      true,
    );
  }
  if (error.code === 'EACCES') return new CommandError(`${line}: the command must not be run`, true);
  const said = stderr.trim();
  const how = error.killed === true ? `no answer within ${timeout} ms` : `exit status ${String(error.code)}`;
  return new CommandError(`${line}: ${said === '' ? how : said}`, false);
}
