import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { run } from '../../src/setup/command.mjs';
import { PluginClient } from './plugin-client.js';

const INSIDE = '--in-namespace';
const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));
const ETCD = 'http://127.0.0.1:2379';
const SOCKETS = '/run/docker/plugins';
const DOCKER = '/run/docker.sock';
/** The one network of the Docker API that the daemon sees. */
export const NETWORK = { Id: 'b'.repeat(64), Name: 'bench', Driver: 'calico' } as const;

/** What a bench without dockerd works with. */
export interface Bench {
  /** The etcd that the daemon uses. */
  readonly etcd: string;
  readonly daemon: ChildProcess;
  /** Starts another daemon, with more settings, once the first has ended; resolves when it answers. */
  start(env?: Readonly<Record<string, string>>): Promise<ChildProcess>;
  /** A new connection to the daemon, which is both drivers. */
  open(): Promise<PluginClient>;
  /** What the daemon logged, line by line. */
  log(): string[];
}

/**
 * Runs `main` beside an etcd and a daemon, all in namespaces of their own: nothing of the machine's network is
 * touched, and the processes end with this one. BENCH_NODE_FLAGS are flags for the daemon's node, to profile it:
 * `--cpu-prof --cpu-prof-dir=/tmp/prof`.
 */
export async function inNamespace(main: (bench: Bench) => Promise<void>): Promise<void> {
  if (!process.argv.includes(INSIDE)) {
    const own = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const again = [process.execPath, ...process.argv.slice(1), INSIDE];
    process.exitCode = spawnSync('unshare', [...own, ...again], { stdio: 'inherit' }).status ?? 1;
    return;
  }
  // On a disk, as etcd's data really are: it waits for that with every transaction.
  const folder = mkdtempSync(join(tmpdir(), 'calico-bench-'));
  try {
    await network();
    const docker = await startDocker();
    const etcd = await startEtcd(folder);
    const log = join(folder, 'daemon.log');
    const daemon = await startDaemon(folder, log);
    await main({
      etcd: ETCD,
      daemon,
      start: env => startDaemon(folder, log, env),
      open: () => PluginClient.open(`${SOCKETS}/calico.sock`),
      log: () => readFileSync(log, 'utf8').trimEnd().split('\n'),
    });
    await stop(daemon);
    await stop(etcd);
    docker.closeAllConnections();
    docker.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A /run and a network as a host has them. */
async function network(): Promise<void> {
  await run(['mount', '-t', 'tmpfs', 'tmpfs', '/run']);
  mkdirSync(SOCKETS, { recursive: true });
  const lines = [
    'link set lo up',
    'link add eth0 type veth peer name outside',
    'address add 172.31.255.2/30 dev eth0',
    'link set eth0 up',
    'link set outside up',
    'route add default via 172.31.255.1',
  ];
  for (const line of lines) await run(['ip', ...line.split(' ')]);
}

/** As much of Docker's API as the daemon asks for: without a network's name it would go on looking for it. */
function startDocker(): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.url?.startsWith('/events') === true) response.flushHeaders();
    else response.end(JSON.stringify([NETWORK]));
  });
  return new Promise(resolve => server.listen(DOCKER, () => resolve(server)));
}

async function startEtcd(folder: string): Promise<ChildProcess> {
  const output = openSync(join(folder, 'etcd.log'), 'a');
  const peer = 'http://127.0.0.1:2380';
  const etcd = spawn(
    'etcd',
    [
      ...['--data-dir', join(folder, 'etcd'), '--listen-client-urls', ETCD, '--advertise-client-urls', ETCD],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', `default=${peer}`],
    ],
    { stdio: ['ignore', output, output] },
  );
  await until('etcd', async () => (await fetch(`${ETCD}/health`)).ok);
  return etcd;
}

/** The flags in the first line of the program, with which it runs when it is called by its name. */
function programFlags(): string {
  return readFileSync(MAIN, 'utf8').split('\n')[0]?.split(' node ')[1] ?? '';
}

async function startDaemon(
  folder: string,
  log: string,
  more: Readonly<Record<string, string>> = {},
): Promise<ChildProcess> {
  const output = openSync(log, 'a');
  const flags = `${programFlags()} ${process.env['BENCH_NODE_FLAGS'] ?? ''}`
    .split(' ')
    .filter(flag => flag !== '');
  const daemon = spawn(process.execPath, [...flags, MAIN, 'serve'], {
    stdio: ['ignore', output, output],
    env: {
      PATH: process.env['PATH'],
      ETCD_ENDPOINTS: ETCD,
      NODENAME: 'bench',
      CALICO_LIBNETWORK_SOCKET_DIR: SOCKETS,
      CALICO_LIBNETWORK_STATE_DIR: join(folder, 'state'),
      DOCKER_HOST: `unix://${DOCKER}`,
      ...more,
    },
  });
  await until('the daemon', async () => {
    if (daemon.exitCode !== null) throw new Error(readFileSync(log, 'utf8'));
    await PluginClient.open(`${SOCKETS}/calico.sock`);
    return true;
  });
  return daemon;
}

async function until(what: string, ready: () => Promise<boolean>): Promise<void> {
  let last: unknown;
  for (let attempt = 0; attempt < 500; attempt += 1) {
    try {
      if (await ready()) return;
    } catch (error) {
      last = error;
    }
    await sleep(20);
  }
  throw new Error(`${what} does not start`, { cause: last });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}
