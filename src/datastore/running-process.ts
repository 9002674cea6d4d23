import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

/** A process that cannot be mistaken for a later one with the same number. */
export interface RunningProcess {
  readonly pid: number;
  /** Clock ticks between boot and the start of the process, as in /proc/PID/stat. */
  readonly startTime: string;
}

/** The start time of a live process; undefined where there is none, or only its unreaped remains. */
export function startTimeOf(pid: number): string | undefined {
  try {
    // The command's name, in parentheses, may itself contain anything: count from the last parenthesis.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export function isAlive(process: RunningProcess): boolean {
  return startTimeOf(process.pid) === process.startTime;
}

/** The arguments of a process, its name first; empty where it does not run. */
export function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** Ends a process: SIGTERM, and SIGKILL where it is still there after `patience` milliseconds. */
export async function terminate(target: RunningProcess, patience = 5_000): Promise<void> {
  signal(target, 'SIGTERM');
  const until = Date.now() + patience;
  while (isAlive(target) && Date.now() < until) await pause(20);
  signal(target, 'SIGKILL');
  while (isAlive(target)) await pause(20);
}

function signal(target: RunningProcess, name: NodeJS.Signals): void {
  try {
    if (isAlive(target)) process.kill(target.pid, name);
  } catch {
    // It went away between the look and the signal.
  }
}
