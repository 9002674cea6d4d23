import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, renameSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { DatastoreError, reason } from '../errors.js';
import type { EmbeddedOptions, Ports } from './embedded-options.js';
import { argumentsOf } from './running-process.js';

const USUAL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** A log larger than this is put aside (one old log is kept) when etcd is started. */
const LOG_BYTES = 10 * 1024 * 1024;
const PORTS_TO_TRY = 100;

/**
 * Makes sure that etcd is installed and runs at all.
 *
 * @throws DatastoreError which says how to get it
 */
export function checkBinary(options: EmbeddedOptions): Promise<void> {
  const binary = options.binary ?? 'etcd';
  return new Promise((resolve, reject) => {
    execFile(binary, ['--version'], { env: environment(options), timeout: 10_000 }, error => {
      if (!error) return resolve();
      const why = error.code === 'ENOENT' ? `"${binary}" is not installed` : reason(error).trim();
      const remedy = 'apt-get install etcd-server, or set ETCD_ENDPOINTS to an etcd that runs elsewhere';
      reject(new DatastoreError(`etcd cannot be started (${why}): ${remedy}`, { cause: error }));
    });
  });
}

/** Creates the directories of etcd, for root's eyes only: the data holds every secret of the network. */
export function makeDirectories(dataDir: string): void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  chmodSync(dataDir, 0o700);
}

/**
 * Refuses a data directory in which another etcd lives: etcd itself would wait for it silently, for ever.
 *
 * @param except process number of an etcd that is about to be stopped
 * @throws DatastoreError
 */
export function checkLock(dataDir: string, except?: number): void {
  const holder = lockHolder(join(dataDir, 'member', 'snap', 'db'));
  if (holder === undefined || holder === except) return;
  const who = holder === 0 ? 'another etcd' : `another etcd, process ${holder}`;
  throw new DatastoreError(
    `the data directory ${dataDir} is in use by ${who}: stop it, or set ETCD_ENDPOINTS to use that one`,
  );
}

/** The process that holds a lock on the file (0: one outside our container), or undefined. */
function lockHolder(file: string): number | undefined {
  try {
    const { ino } = statSync(file);
    // "1: FLOCK  ADVISORY  WRITE 4711 fd:01:123456 0 EOF". The device is not compared: overlay file systems
    // show another one here than in stat.
    for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
      const [, kind, , , pid, place] = line.trim().split(/\s+/);
      if (kind !== 'FLOCK' || place?.split(':')[2] !== String(ino)) continue;
      const holder = Number(pid);
      if (holder === 0 || argumentsOf(holder).join(' ').includes('etcd')) return holder;
    }
  } catch {
    // No such file: the directory is new.
  }
  return undefined;
}

/**
 * The wanted ports, or the next free ones.
 *
 * @param ours ports held by an etcd of ours that is about to be stopped
 */
export async function choosePorts(wanted: Ports, ours: Ports | undefined): Promise<Ports> {
  const client = await nextFree(wanted.client, ours?.client, 0);
  return { client, peer: await nextFree(wanted.peer, ours?.peer, client) };
}

async function nextFree(wanted: number, ours: number | undefined, not: number): Promise<number> {
  for (let port = wanted; port < wanted + PORTS_TO_TRY; port++)
    if (port !== not && (port === ours || (await isFree(port)))) return port;
  throw new DatastoreError(
    `no port is free for etcd on 127.0.0.1 from ${wanted} to ${wanted + PORTS_TO_TRY - 1}`,
  );
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const probe = createServer()
      .on('error', () => resolve(false))
      .listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

/** Starts etcd so that it outlives us: a session of its own, and nothing of ours open but its log. */
export function spawnEtcd(options: EmbeddedOptions, argv: readonly string[]): ChildProcess {
  const log = openLog(join(dirname(options.dataDir), 'etcd.log'));
  try {
    const child = spawn(options.binary ?? 'etcd', argv, {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: '/',
      env: environment(options),
    });
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}

function openLog(file: string): number {
  try {
    if (statSync(file).size > LOG_BYTES) renameSync(file, `${file}.1`);
  } catch {
    // There is no log yet.
  }
  return openSync(file, 'a', 0o600);
}

/**
 * Not our own environment: etcd takes every ETCD_* variable for a flag, among them those that configure us
 * (ETCD_CERT_FILE), and refuses to start where a flag says otherwise.
 */
function environment(options: EmbeddedOptions): Record<string, string> {
  const env = { PATH: options.path ?? USUAL_PATH };
  // etcd 3.4 runs on arm64, but wants to be told that we know it was not tested there.
  return process.arch === 'arm64' ? { ...env, ETCD_UNSUPPORTED_ARCH: 'arm64' } : env;
}
