import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import { IPAM_CONFIG_KEY, resourceKey } from '../../src/datastore/keys.js';
import type { Store } from '../../src/datastore/store.js';
import { parseCidr } from '../../src/ipam/cidr.js';
import { createLogger } from '../../src/log.js';
import { formatNewPool } from '../../src/model/ip-pool.js';
import { EtcdCluster } from '../contract/etcd-cluster.js';
import { healthy } from '../contract/etcd-process.js';
import type { ProcessOptions } from './allocator-process.js';
import { allocations, disagreements, ipamData } from './disagreements.js';
import { judge, parseLog } from './history.js';
import type { HistoryEvent, Verdict } from './history.js';
import { Random } from './random.js';

export interface RaceOptions {
  /** Calls of the allocators in all; a few more are made. */
  readonly operations: number;
  readonly seed: number;
  /** The race ends after so many seconds, however many operations that were. */
  readonly seconds?: number;
  /** The compiled `allocator-process.ts`. */
  readonly program: string;
  /** Ends the race early, with an error, and takes its processes away. */
  readonly signal?: AbortSignal;
  /** Is told how far the race has come, about every five seconds. */
  say?(text: string): void;
}

export interface Summary extends Verdict {
  readonly killsOfLeader: number;
  readonly killsOfProcesses: number;
  /** Looks at all of the IPAM data while the race ran. */
  readonly looks: number;
  /** What was wrong in them, or is left at the end, in words. */
  readonly disagreements: readonly string[];
  readonly seconds: number;
}

const NODES = 8;
const POOL = '10.77.0.0/24';
const BLOCK_SIZE = 29;
/** Milliseconds between two kills, from the beginning of one member's or process's return. */
const LEADER_KILLS = [2_500, 6_000] as const;
const LEADER_AWAY = [200, 1_500] as const;
/** In that share of the leader's kills another member goes with it, and the cluster has no majority. */
const MAJORITY_KILLS = 0.25;
const PROCESS_KILLS = [800, 2_500] as const;
const PROCESS_AWAY = [0, 400] as const;
/** Milliseconds for all to end once they have been told: longer than an allocator's own patience. */
const END = 120_000;
const IPAM = IPAM_CONFIG_KEY.replace(/config$/, '');

/** Runs the race. Throws where it cannot be run, or a process ends by itself; what it finds is in the summary. */
export async function race(options: RaceOptions): Promise<Summary> {
  const cluster = await EtcdCluster.start();
  const run = new Race(cluster, options);
  try {
    return await run.run();
  } finally {
    await run.close();
    await cluster.remove();
  }
}

/** The processes of one node, one after the other. */
interface Node {
  readonly name: string;
  readonly logs: string[];
  child: ChildProcess | undefined;
  /** How the present process ended by itself, if it did. */
  ended: number | string | undefined;
  earlier: number;
  done: number;
}

class Race {
  private readonly folder = mkdtempSync(join(tmpdir(), 'calico-race-'));
  private readonly store: Store;
  private readonly nodes: Node[] = Array.from({ length: NODES }, (_, index) => ({
    name: `node-${index + 1}`,
    logs: [],
    child: undefined,
    ended: undefined,
    earlier: 0,
    done: 0,
  }));
  private readonly over = new AbortController();
  private readonly wrong = new Set<string>();
  private readonly count = { leader: 0, process: 0, looks: 0 };

  constructor(
    private readonly cluster: EtcdCluster,
    private readonly options: RaceOptions,
  ) {
    this.store = createEtcdStore({ endpoints: cluster.endpoints }, createLogger('silent'));
  }

  async run(): Promise<Summary> {
    await this.createPool();
    const started = performance.now();
    for (const node of this.nodes) this.launch(node);
    const trouble = [this.killLeaders(), this.killProcesses(), this.look(), this.report()];
    try {
      await this.untilEnough();
    } finally {
      this.over.abort();
      await Promise.all(trouble);
    }
    const seconds = (performance.now() - started) / 1_000;
    await healthy({ endpoints: this.cluster.endpoints });
    for (const { child } of this.nodes) child?.send('finish');
    const until = Date.now() + END;
    while (this.nodes.some(({ child }) => child)) {
      this.demandAlive();
      if (Date.now() > until) throw new Error(`the allocators do not end within ${END / 1_000} s`);
      await pause(50);
    }
    await this.examine();
    const data = ipamData((await this.store.list(IPAM)).entries);
    for (const { address, holder } of allocations(data))
      this.wrong.add(`at the end ${address} is in use by ${JSON.stringify(holder)}`);
    for (const handle of data.handles.keys()) this.wrong.add(`at the end there is the handle ${handle}`);
    return {
      ...judge(this.histories()),
      killsOfLeader: this.count.leader,
      killsOfProcesses: this.count.process,
      looks: this.count.looks,
      disagreements: [...this.wrong],
      seconds,
    };
  }

  async close(): Promise<void> {
    this.over.abort();
    for (const { child } of this.nodes) child?.kill('SIGKILL');
    await this.store.close();
    if (process.env.CALICO_LIBNETWORK_TEST_KEEP === undefined)
      rmSync(this.folder, { recursive: true, force: true });
    else this.options.say?.(`logs are in ${this.folder}`);
  }

  private async createPool(): Promise<void> {
    const cidr = parseCidr(POOL);
    if (!cidr) throw new Error(POOL);
    const pool = { name: 'race', cidr, vxlanMode: 'Never', natOutgoing: true, madeForDocker: false } as const;
    const key = resourceKey('ippools', pool.name);
    await this.store.transact({
      compare: [{ key, is: 'absent' }],
      then: [{ put: key, value: formatNewPool({ ...pool, blockSize: BLOCK_SIZE }, new Date()) }],
    });
  }

  private launch(node: Node): void {
    const incarnation = node.logs.length + 1;
    const log = join(this.folder, `${node.name}.${incarnation}`);
    // Here, as the process may be killed before it has come to that.
    writeFileSync(log, '');
    node.logs.push(log);
    node.earlier += node.done;
    node.done = 0;
    const options: ProcessOptions = {
      node: node.name,
      incarnation,
      endpoints: this.cluster.endpoints,
      pool: POOL,
      seed: this.options.seed,
      log,
    };
    const errors = openSync(join(this.folder, 'errors'), 'a');
    const child = fork(this.options.program, [JSON.stringify(options)], {
      stdio: ['ignore', errors, errors, 'ipc'],
      execArgv: [],
    });
    closeSync(errors);
    node.child = child;
    child.on('message', done => (node.done = Number(done)));
    child.on('exit', (code, signal) => {
      node.child = undefined;
      // SIGKILL is ours.
      if (signal !== 'SIGKILL' && code !== 0) node.ended = signal ?? code ?? 'somehow';
    });
  }

  /** Operations so far, as far as told. */
  private done(): number {
    return this.nodes.reduce((sum, { earlier, done }) => sum + earlier + done, 0);
  }

  private async untilEnough(): Promise<void> {
    const until = Date.now() + (this.options.seconds ?? Infinity) * 1_000;
    while (this.done() < this.options.operations && Date.now() < until) {
      this.demandAlive();
      await pause(50);
    }
  }

  private demandAlive(): void {
    this.options.signal?.throwIfAborted();
    const dead = this.nodes.find(({ ended }) => ended !== undefined);
    if (dead)
      throw new Error(
        `the process of ${dead.name} ended with ${dead.ended}: ${readFileSync(join(this.folder, 'errors'), 'utf8').slice(-4_000)}`,
      );
  }

  private async killLeaders(): Promise<void> {
    const random = new Random(this.options.seed, 1);
    while (await this.sleep(random.between(...LEADER_KILLS))) {
      const leader = await this.cluster.leader();
      if (!leader) continue;
      const others = this.cluster.members.filter(member => member !== leader);
      const killed = [leader, ...(random.chance(MAJORITY_KILLS) ? others.slice(1) : [])];
      await Promise.all(killed.map(member => member.kill()));
      this.count.leader += 1;
      await pause(random.between(...LEADER_AWAY));
      for (const member of killed) this.cluster.launch(member);
    }
  }

  private async killProcesses(): Promise<void> {
    const random = new Random(this.options.seed, 2);
    while (await this.sleep(random.between(...PROCESS_KILLS))) {
      const node = random.pick(this.nodes);
      const child = node?.child;
      if (!node || !child) continue;
      const gone = new Promise(resolve => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
      this.count.process += 1;
      await pause(random.between(...PROCESS_AWAY));
      this.launch(node);
    }
  }

  /** Looks at the data again and again: at no revision may blocks, handles and affinities disagree. */
  private async look(): Promise<void> {
    while (await this.sleep(300)) await this.examine().catch(() => undefined);
  }

  private async examine(): Promise<void> {
    const { entries, revision } = await this.store.list(IPAM);
    this.count.looks += 1;
    for (const text of disagreements(ipamData(entries))) this.wrong.add(`at revision ${revision} ${text}`);
  }

  private async report(): Promise<void> {
    while (await this.sleep(5_000))
      this.options.say?.(
        `${this.done()} operations, ${this.count.leader} leaders and ${this.count.process} processes killed`,
      );
  }

  private histories(): HistoryEvent[][] {
    return this.nodes.flatMap(({ name, logs }) =>
      logs.map((log, index) => parseLog(name, index + 1, readFileSync(log, 'utf8'))),
    );
  }

  /** False where the race is over meanwhile. */
  private async sleep(milliseconds: number): Promise<boolean> {
    await pause(milliseconds, undefined, { signal: this.over.signal }).catch(() => undefined);
    return !this.over.signal.aborted;
  }
}

/** What is wrong with the race, in words; empty where nothing is. */
export function complaints(summary: Summary): string[] {
  const { duplicates, lost, leaks, faults, disagreements: wrong } = summary;
  return [
    ...duplicates.map(text => `held by two: ${text}`),
    ...lost.map(text => `freed under its holder: ${text}`),
    ...leaks.map(text => `leaked: ${text}`),
    ...faults.map(text => `fault: ${text}`),
    ...wrong.map(text => `disagreement: ${text}`),
  ];
}

/** The figures, in lines. */
export function describe(summary: Summary): string {
  const { operations, seconds, longest, ends } = summary;
  return [
    `operations        ${operations} in ${seconds.toFixed(1)} s: ${(operations / seconds).toFixed(0)} a second`,
    `  of which        ${Object.entries(ends)
      .map(([end, count]) => `${count} ${end}`)
      .join(', ')}; ${summary.cutOff} more were cut off`,
    `kills             ${summary.killsOfLeader} of the etcd leader, ${summary.killsOfProcesses} of allocators`,
    `longest operation ${(longest / 1_000).toFixed(2)} s`,
    `duplicates        ${summary.duplicates.length}`,
    `leaks             ${summary.leaks.length} (and ${summary.late} allocations of killed processes that came late)`,
    `lost              ${summary.lost.length}`,
    `disagreements     ${summary.disagreements.length} in ${summary.looks} looks at all data`,
    `faults            ${summary.faults.length}`,
  ].join('\n');
}
