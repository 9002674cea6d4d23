import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { EtcdOptions } from '../../src/datastore/etcd.js';
import { createLogger } from '../../src/log.js';
import { withDeadline } from '../../src/deadline.js';

export const quiet = createLogger('silent');

/** Free TCP ports on loopback, different from one another. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer()
            .on('error', reject)
            .listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = servers.map(server => (server.address() as AddressInfo).port);
  await Promise.all(servers.map(server => new Promise(done => server.close(done))));
  return ports;
}

/** An etcd of the test's own, in a directory that vanishes with it. */
export class EtcdProcess {
  readonly directory = mkdtempSync(join(tmpdir(), 'calico-etcd-'));
  #child: ChildProcess | undefined;

  constructor(
    readonly clientPort: number,
    readonly peerPort: number,
    readonly scheme: 'http' | 'https' = 'http',
    readonly more: readonly string[] = [],
    readonly name = 'test',
  ) {}

  get endpoint(): string {
    return `${this.scheme}://127.0.0.1:${this.clientPort}`;
  }

  /** Starts, or starts again on the same data. */
  launch(cluster = `${this.name}=http://127.0.0.1:${this.peerPort}`): void {
    const log = openSync(join(this.directory, 'log'), 'a');
    const peer = `http://127.0.0.1:${this.peerPort}`;
    this.#child = spawn(
      'etcd',
      // prettier-ignore
      ['--name', this.name, '--data-dir', join(this.directory, 'data'), '--listen-client-urls', this.endpoint,
       '--advertise-client-urls', this.endpoint, '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer,
       '--initial-cluster', cluster, '--heartbeat-interval', '50', '--election-timeout', '500', ...this.more],
      { stdio: ['ignore', log, log] },
    );
  }

  /** Stops the process as it is, with its connections open, until `thaw`. */
  async freeze(): Promise<void> {
    this.#child?.kill('SIGSTOP');
    await pause(50); // its threads on other processors take a moment
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  /** Kills it and waits until it is gone; the data stays. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise(done => child.once('exit', done));
    child.kill('SIGCONT');
    child.kill('SIGKILL');
    await gone;
  }

  /** Writes a snapshot of what there is now; its file, for {@link restore}. */
  snapshot(): string {
    const file = join(this.directory, 'snapshot.db');
    this.control('snapshot', 'save', file);
    return file;
  }

  /** Kills it and replaces its data by a snapshot, as an operator does. `token`: another makes it another cluster. */
  async restore(file: string, token = 'etcd-cluster'): Promise<void> {
    await this.kill();
    const data = join(this.directory, 'data');
    rmSync(data, { recursive: true, force: true });
    const peer = `http://127.0.0.1:${this.peerPort}`;
    // prettier-ignore
    this.control('snapshot', 'restore', file, '--data-dir', data, '--name', this.name, '--initial-cluster-token', token,
      '--initial-cluster', `${this.name}=${peer}`, '--initial-advertise-peer-urls', peer);
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Runs etcdctl against this etcd. Throws what it printed where it failed. */
  control(...words: string[]): string {
    const run = spawnSync('etcdctl', ['--endpoints', this.endpoint, ...words], {
      encoding: 'utf8',
      env: { ...process.env, ETCDCTL_API: '3' },
    });
    if (run.status !== 0) throw new Error(`etcdctl ${words.join(' ')}: ${run.stderr}${run.stdout}`);
    return run.stdout;
  }
}

/** A running cluster of three, as an operator has it. */
export class EtcdCluster {
  private constructor(readonly members: readonly EtcdProcess[]) {}

  static async start(): Promise<EtcdCluster> {
    demandEtcd();
    const ports = await freePorts(6);
    const cluster = new EtcdCluster(
      [0, 1, 2].map(i => new EtcdProcess(ports[i] ?? 0, ports[i + 3] ?? 0, 'http', [], `m${i}`)),
    );
    for (const member of cluster.members) cluster.launch(member);
    await healthy({ endpoints: cluster.endpoints });
    return cluster;
  }

  get endpoints(): string[] {
    return this.members.map(member => member.endpoint);
  }

  /** Starts a member, or starts it again on its data. */
  launch(member: EtcdProcess): void {
    member.launch(this.members.map(({ name, peerPort }) => `${name}=http://127.0.0.1:${peerPort}`).join(','));
  }

  /** The leader and the others; all members must answer. */
  async roles(): Promise<{ leader: EtcdProcess; followers: EtcdProcess[] }> {
    return eventually(() => {
      const isLeader = (member: EtcdProcess): boolean => {
        // Ids are larger than JavaScript's numbers: compared as text.
        const status = member.control('endpoint', 'status', '-w', 'json');
        const id = /"member_id":(\d+)/.exec(status)?.[1];
        return id !== undefined && /"leader":(\d+)/.exec(status)?.[1] === id;
      };
      const leader = this.members.find(isLeader);
      if (!leader) throw new Error('the cluster has no leader');
      return { leader, followers: this.members.filter(member => member !== leader) };
    });
  }

  async remove(): Promise<void> {
    for (const member of this.members) await member.remove();
  }
}

/** Fails with the remedy where there is no etcd: a contract test that skips itself proves nothing. */
export function demandEtcd(): void {
  if (spawnSync('etcd', ['--version']).error)
    throw new Error('these tests need a real etcd: apt-get install etcd-server etcd-client');
}

/** A running single etcd. `more` are further etcd flags. */
export async function startEtcd(
  scheme: 'http' | 'https' = 'http',
  more: readonly string[] = [],
  options: Partial<EtcdOptions> = {},
): Promise<EtcdProcess> {
  demandEtcd();
  const [client = 0, peer = 0] = await freePorts(2);
  const etcd = new EtcdProcess(client, peer, scheme, more);
  etcd.launch();
  await healthy({ endpoints: [etcd.endpoint], ...options });
  return etcd;
}

/** Waits until a linearizable read works. */
export async function healthy(options: EtcdOptions, milliseconds = 20_000): Promise<void> {
  const store = createEtcdStore(options, quiet);
  try {
    await eventually(() => withDeadline(1_000, () => store.ping()), milliseconds);
  } finally {
    await store.close();
  }
}

/** Repeats a check until it no longer throws; then, at the latest after `milliseconds`, throws what it threw. */
export async function eventually<T>(check: () => T | Promise<T>, milliseconds = 10_000): Promise<T> {
  const until = Date.now() + milliseconds;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > until) throw error;
      await pause(20);
    }
  }
}
