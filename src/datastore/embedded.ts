import type { ChildProcess } from 'node:child_process';
import { dirname, resolve } from 'node:path';
import { DatastoreError, reason } from '../errors.js';
import type { Logger } from '../log.js';
import { checkEmbeddedOptions, DEFAULT_PORTS, embeddedArguments, loopbackUrl } from './embedded-options.js';
import type { EmbeddedOptions, Ports } from './embedded-options.js';
import { checkBinary, checkLock, choosePorts, makeDirectories, spawnEtcd } from './embedded-start.js';
import { isOurs, readState, removeState, sameArguments, writeState } from './embedded-state.js';
import type { EmbeddedState } from './embedded-state.js';
import { isAlive, startTimeOf, terminate } from './running-process.js';
import type { RunningProcess } from './running-process.js';

export type { EmbeddedOptions } from './embedded-options.js';
export { findRunningEmbedded } from './embedded-state.js';
export type { RunningEmbedded } from './embedded-state.js';

/** How often a process is looked at: one that is not our child tells nobody when it dies. */
const LOOK_MILLISECONDS = 500;
const FIRST_PAUSE_MILLISECONDS = 200;
/** For one question after its health. */
const HEALTH_MILLISECONDS = 2_000;
const LONGEST_PAUSE_MILLISECONDS = 10_000;
/** An etcd that lived this long did not die of how it was started: the next restart is quick again. */
const STEADY_MILLISECONDS = 30_000;
/** An adopted etcd that is not healthy by then is replaced. */
const ADOPTED_HEALTHY_MILLISECONDS = 5_000;

/** Our own single-member etcd. */
export interface Embedded {
  /** Where clients on this host reach it; fixed for as long as it is supervised. */
  readonly clientUrl: string;
  /** Process number now; undefined between a death and the restart. */
  readonly pid: number | undefined;
  /** Resolves when it first serves; rejects when it is stopped before that. */
  readonly ready: Promise<void>;
  /** Ends it: SIGTERM, SIGKILL after 5 s. Its data stays. */
  stop(): Promise<void>;
}

/**
 * Starts our own etcd, or takes over the one a killed daemon left behind, and keeps it running until `stop`.
 * Returns as soon as the client URL is known; health is waited for in `ready`.
 *
 * @throws RequestError for a `listen` that would be open to everybody
 * @throws DatastoreError where etcd is not installed, or another etcd uses the data directory
 */
export async function startEmbedded(given: EmbeddedOptions, log: Logger): Promise<Embedded> {
  checkEmbeddedOptions(given);
  const options = { ...given, dataDir: resolve(given.dataDir) };
  const directory = dirname(options.dataDir);
  makeDirectories(options.dataDir);
  const state = readState(directory);
  const left = state && isOurs(state) ? state : undefined;
  const wanted: Ports = {
    client: options.clientPort ?? DEFAULT_PORTS.client,
    peer: options.peerPort ?? DEFAULT_PORTS.peer,
  };
  if (left && isWhatWeWant(left, options, wanted)) {
    log.info({ pid: left.pid, url: loopbackUrl(left.ports) }, 'took over the etcd that was running');
    return new Supervisor(options, left.ports, wanted, { adopt: left }, log);
  }
  await checkBinary(options);
  checkLock(options.dataDir, left?.pid);
  const ports = await choosePorts(wanted, left?.ports);
  return new Supervisor(options, ports, wanted, left ? { replace: left } : {}, log);
}

function isWhatWeWant(left: EmbeddedState, options: EmbeddedOptions, wanted: Ports): boolean {
  return (
    left.wanted.client === wanted.client &&
    left.wanted.peer === wanted.peer &&
    sameArguments(left.argv, embeddedArguments(options, left.ports))
  );
}

/** What an earlier daemon left running. */
interface Left {
  readonly adopt?: RunningProcess;
  readonly replace?: RunningProcess;
}

class Supervisor implements Embedded {
  readonly clientUrl: string;
  readonly ready: Promise<void>;
  readonly #options: EmbeddedOptions;
  readonly #directory: string;
  readonly #ports: Ports;
  readonly #wanted: Ports;
  readonly #argv: readonly string[];
  readonly #log: Logger;
  readonly #end = new AbortController();
  readonly #finished: Promise<void>;
  #process: RunningProcess | undefined;
  #becomeReady: () => void = () => undefined;
  #giveUpReady: (error: Error) => void = () => undefined;

  constructor(options: EmbeddedOptions, ports: Ports, wanted: Ports, left: Left, log: Logger) {
    this.clientUrl = loopbackUrl(ports);
    this.#options = options;
    this.#directory = dirname(options.dataDir);
    this.#ports = ports;
    this.#wanted = wanted;
    this.#argv = embeddedArguments(options, ports);
    this.#log = log;
    this.ready = new Promise((done, giveUp) => {
      this.#becomeReady = done;
      this.#giveUpReady = giveUp;
    });
    this.ready.catch(() => undefined); // nobody need wait for it
    this.#finished = this.#supervise(left);
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async stop(): Promise<void> {
    this.#end.abort();
    this.#giveUpReady(new DatastoreError('etcd was stopped'));
    await this.#finished;
    if (this.#process) await terminate(this.#process);
    this.#process = undefined;
    // By now somebody else may have started one here, whose state this is not ours to remove.
    const state = readState(this.#directory);
    if (!state || !isOurs(state)) removeState(this.#directory);
  }

  /** Runs until `stop`; never throws. */
  async #supervise({ adopt, replace }: Left): Promise<void> {
    if (replace) {
      this.#log.info({ pid: replace.pid }, 'stopping the etcd that was running with other settings');
      await terminate(replace);
    }
    this.#process = adopt;
    if (adopt && !(await this.#isHealthyWithin(ADOPTED_HEALTHY_MILLISECONDS, adopt))) {
      if (this.#isStopped) return;
      this.#log.warn({ pid: adopt.pid }, 'the etcd that was running does not answer and is replaced');
      await terminate(adopt);
    }
    let pause = FIRST_PAUSE_MILLISECONDS;
    while (!this.#isStopped) {
      const since = Date.now();
      if (!this.#process || !isAlive(this.#process)) this.#process = await this.#start();
      if (this.#process) await this.#outlive(this.#process);
      if (this.#isStopped) return;
      this.#process = undefined;
      if (Date.now() - since >= STEADY_MILLISECONDS) pause = FIRST_PAUSE_MILLISECONDS;
      this.#log.error(
        { log: `${this.#directory}/etcd.log` },
        `etcd has ended; starting it again in ${pause} ms`,
      );
      await this.#pause(pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MILLISECONDS);
    }
  }

  get #isStopped(): boolean {
    return this.#end.signal.aborted;
  }

  async #start(): Promise<RunningProcess | undefined> {
    try {
      const pid = await started(spawnEtcd(this.#options, this.#argv));
      const startTime = startTimeOf(pid);
      if (startTime === undefined) return undefined; // it died at once
      const process = { pid, startTime };
      const { listen } = this.#options;
      const clientUrls = listen === undefined ? [this.clientUrl] : [this.clientUrl, listen];
      const [ports, wanted] = [this.#ports, this.#wanted];
      writeState(this.#directory, { ...process, argv: this.#argv, clientUrls, ports, wanted });
      this.#log.info({ pid, url: this.clientUrl }, 'started etcd');
      return process;
    } catch (error) {
      this.#log.error({ reason: reason(error) }, 'etcd could not be started');
      return undefined;
    }
  }

  /** Returns when the process has ended or we are stopped; reports `ready` on the way. */
  async #outlive(process: RunningProcess): Promise<void> {
    if (await this.#isHealthyWithin(Infinity, process)) this.#becomeReady();
    while (!this.#isStopped && isAlive(process)) await this.#pause(LOOK_MILLISECONDS);
  }

  /** False also when the process ends or we are stopped. */
  async #isHealthyWithin(milliseconds: number, process: RunningProcess): Promise<boolean> {
    const until = Date.now() + milliseconds;
    while (!this.#isStopped && isAlive(process) && Date.now() < until) {
      if (await isHealthy(this.clientUrl, this.#end.signal)) return true;
      await this.#pause(50);
    }
    return false;
  }

  #pause(milliseconds: number): Promise<void> {
    const { signal } = this.#end;
    return new Promise(done => {
      if (signal.aborted) return done();
      const wake = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', wake);
        done();
      };
      const timer = setTimeout(wake, milliseconds);
      signal.addEventListener('abort', wake);
    });
  }
}

/** The process number of a child once it really runs. */
function started(child: ChildProcess): Promise<number> {
  return new Promise((done, fail) => {
    child.once('error', fail);
    child.once('spawn', () => done(child.pid ?? 0));
  });
}

/** etcd's own opinion, which takes a read through its log: true means that it serves. */
async function isHealthy(url: string, stop: AbortSignal): Promise<boolean> {
  // Not AbortSignal.any with AbortSignal.timeout: in Node 20 the garbage collector may take that away before it fires, and
  // an etcd that hangs would be waited for for five minutes.
  const end = new AbortController();
  const abort = (): void => end.abort();
  const timer = setTimeout(abort, HEALTH_MILLISECONDS);
  stop.addEventListener('abort', abort);
  try {
    const answer = await fetch(`${url}/health`, { signal: end.signal });
    return answer.ok && (await answer.text()).includes('true');
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    stop.removeEventListener('abort', abort);
  }
}
