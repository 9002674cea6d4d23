/** Programs that go on running when we have ended: no terminal, output to a file. */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { environment } from './command.mjs';

/**
 * @typedef {object} Background
 * @property {string} name for messages
 * @property {readonly string[]} argv
 * @property {string} log its output is appended here
 * @property {string} [pidFile] written with its pid; for a program that writes none itself
 * @property {() => Promise<boolean>} ready
 */

/** Milliseconds that a program may take until it is ready. */
const PATIENCE = 180_000;

/**
 * Starts a program and waits until it is ready. What it throws when that does not happen has the log's last lines.
 * @param {Background} program
 */
export async function startInBackground({ name, argv, log, pidFile, ready }) {
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, 'a');
  const [command = '', ...args] = argv;
  // Of its own session: neither Ctrl-C here nor the end of the terminal reaches it.
  const child = spawn(command, args, {
    cwd: '/',
    env: environment(),
    detached: true,
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  let end = '';
  child.on('error', error => (end = error.message));
  child.on('exit', (code, signal) => (end = `ended with ${signal ?? `status ${code}`}`));
  child.unref();
  const until = Date.now() + PATIENCE;
  while (!(await ready())) {
    if (end !== '')
      throw new Error(`${name} did not start (${end}). Its log, ${log}, ends with:\n${tail(log)}`);
    if (Date.now() > until)
      throw new Error(`${name} runs, but does not answer. Its log, ${log}, ends with:\n${tail(log)}`);
    await sleep(100);
  }
  if (pidFile !== undefined) writeFileSync(pidFile, `${child.pid}\n`);
}

/** @param {string} log */
function tail(log) {
  return readFileSync(log, 'utf8').trimEnd().split('\n').slice(-12).join('\n');
}
