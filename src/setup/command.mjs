/**
 * Running other programs, with nothing but Node's own modules: this is used before `npm ci`. Always an argument
 * array, never a shell.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** @typedef {{ stdout: string, stderr: string, code: number }} CommandResult `code` is 128 + n after signal n. */

/**
 * @typedef {object} RunOptions
 * @property {string | Uint8Array | undefined} [input] standard input; none unless given
 * @property {number | undefined} [timeout] milliseconds; then the command and its children are killed
 * @property {NodeJS.ProcessEnv | undefined} [env] the whole environment; ours unless given
 * @property {string | undefined} [cwd]
 * @property {boolean | undefined} [check] whether a status other than 0 throws {@link CommandError}; default true
 * @property {string | undefined} [title] what a message calls it; the command line unless given
 */

/** A command that ended badly. The message is the command line and what it said. */
export class CommandError extends Error {
  /**
   * @param {string} title
   * @param {CommandResult} result
   * @param {string} [what]
   */
  constructor(title, result, what = `status ${result.code}`) {
    const said = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-15).join('\n');
    super(`${title}: ${what}${said ? `: ${said}` : ''}`);
    this.name = 'CommandError';
    this.result = result;
  }
}

/** Signal numbers that matter for exit codes as a shell would report them. */
const SIGNALS = /** @type {Record<string, number>} */ ({ SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 });

/**
 * Exit status the way a shell tells it.
 * @param {number | null} code
 * @param {string | null} signal
 */
export function exitStatus(code, signal) {
  return code ?? 128 + (SIGNALS[signal ?? ''] ?? 0);
}

/**
 * Pids of the direct children of a process, empty when it is gone.
 * @param {number} pid
 * @returns {number[]}
 */
export function childrenOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return text ? text.split(' ').map(Number) : [];
  } catch {
    return [];
  }
}

/**
 * Sends a signal to a process that may be gone already.
 * @param {number} pid
 * @param {NodeJS.Signals} signal
 */
export function signalProcess(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone: what we wanted of it is over.
  }
}

/**
 * Runs a command to its end.
 * @param {readonly string[]} argv
 * @param {RunOptions} [options]
 * @returns {Promise<CommandResult>}
 */
export function run(argv, options = {}) {
  const { input, timeout, env = environment(), cwd, check = true, title = argv.join(' ') } = options;
  const [command = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env,
      cwd,
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    const stdout = /** @type {Buffer[]} */ ([]);
    const stderr = /** @type {Buffer[]} */ ([]);
    child.stdout?.on('data', chunk => stdout.push(chunk));
    child.stderr?.on('data', chunk => stderr.push(chunk));
    // A command may end without reading all of its input: its status tells, not our broken pipe.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
    let late = false;
    const timer =
      timeout === undefined
        ? undefined
        : setTimeout(() => {
            late = true;
            // Children first: `nsenter` does not pass signals on, and what it runs would live on.
            for (const pid of child.pid ? childrenOf(child.pid) : []) signalProcess(pid, 'SIGKILL');
            child.kill('SIGKILL');
          }, timeout);
    child.on('error', error => {
      clearTimeout(timer);
      reject(new Error(`cannot run ${command}: ${error.message}`));
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const result = {
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
        code: exitStatus(code, signal),
      };
      if (late) reject(new CommandError(title, result, `no end after ${timeout} ms`));
      else if (check && result.code !== 0) reject(new CommandError(title, result));
      else resolve(result);
    });
  });
}

/** The system's own folders. root's PATH may lack sbin, where ip, nft and dockerd are. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/**
 * Our environment, with a PATH that has the system's folders in any case.
 * @returns {NodeJS.ProcessEnv}
 */
export function environment() {
  const path = [...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_FOLDERS];
  return { ...process.env, PATH: path.filter(folder => folder !== '').join(delimiter) };
}

/**
 * Where a command is.
 * @param {string} name
 * @returns {string | undefined}
 */
export function findCommand(name) {
  return (environment().PATH ?? '')
    .split(delimiter)
    .map(folder => join(folder, name))
    .find(path => isExecutable(path));
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * The text of anything thrown.
 * @param {unknown} error
 */
export function reason(error) {
  return error instanceof Error ? error.message : String(error);
}
