import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ports } from './embedded-options.js';
import { argumentsOf, isAlive } from './running-process.js';
import type { RunningProcess } from './running-process.js';

/** What is written down of our etcd, for later commands and for the daemon after a crash. */
export interface EmbeddedState extends RunningProcess {
  /** Without the program's name. */
  readonly argv: readonly string[];
  readonly clientUrls: readonly string[];
  readonly ports: Ports;
  /** The ports asked for, which others may have held. */
  readonly wanted: Ports;
}

/** A running etcd of ours. */
export interface RunningEmbedded {
  readonly pid: number;
  /** The one on loopback first. */
  readonly clientUrls: readonly string[];
}

/**
 * The etcd of ours that runs now, if one does; starts nothing.
 *
 * @param directory the parent of its data directory, where its state file lies
 */
export function findRunningEmbedded(directory: string): RunningEmbedded | undefined {
  const state = readState(directory);
  return state && isOurs(state) ? { pid: state.pid, clientUrls: state.clientUrls } : undefined;
}

/** Whether the process of the state file still runs and really is the etcd we started. */
export function isOurs(state: EmbeddedState): boolean {
  return isAlive(state) && sameArguments(argumentsOf(state.pid).slice(1), state.argv);
}

export function sameArguments(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((word, index) => word === other[index]);
}

/** Undefined where there is none, or none that can be read: then nothing is known to run. */
export function readState(directory: string): EmbeddedState | undefined {
  try {
    const state: unknown = JSON.parse(readFileSync(stateFile(directory), 'utf8'));
    return isState(state) ? state : undefined;
  } catch {
    return undefined;
  }
}

/** Replaces the file in one step, readable by its owner only. */
export function writeState(directory: string, state: EmbeddedState): void {
  const draft = `${stateFile(directory)}.new`;
  writeFileSync(draft, `${JSON.stringify(state, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(draft, stateFile(directory));
}

export function removeState(directory: string): void {
  rmSync(stateFile(directory), { force: true });
}

function stateFile(directory: string): string {
  return join(directory, 'etcd.json');
}

function isState(value: unknown): value is EmbeddedState {
  const state = value as Partial<EmbeddedState> | null;
  return (
    typeof state?.pid === 'number' &&
    typeof state.startTime === 'string' &&
    Array.isArray(state.argv) &&
    Array.isArray(state.clientUrls) &&
    [state.ports, state.wanted].every(ports => ports?.client !== undefined && ports.peer !== undefined)
  );
}
