import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import ts from 'typescript';
import type { EndpointWiring } from '../../src/host/dataplane.js';
import type { LinuxDataplane } from '../../src/host/linux.js';
import type { LinuxPeers } from '../../src/host/linux-peers.js';
import type { PeerHop, Tunnel, TunnelPeer } from '../../src/host/peers.js';
import type { PortReservations } from '../../src/host/port-reservations.js';
import type { PlainPolicy } from './plain-policy.js';

/**
 * Throw-away hosts and containers: network namespaces held by a process each, so that they vanish with it and have no
 * name anywhere. The code under test is transpiled to a temporary folder and run inside by plain node (agent.ts).
 */

const ROOT = new URL('../..', import.meta.url).pathname;

/** Debian package of every tool the tests need. */
const TOOLS = {
  ip: 'iproute2',
  nft: 'nftables',
  'iptables-nft': 'iptables',
  'iptables-legacy': 'iptables',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  busybox: 'busybox-static',
};

/**
 * For beforeAll: fails, naming the Debian package, where a tool is missing (these tests never pass by being skipped),
 * and answers with what to do after all tests of the file.
 */
export async function prepare(): Promise<() => void> {
  if (process.getuid?.() !== 0) throw new Error('the host tests make network namespaces: run them as root');
  for (const [tool, source] of Object.entries(TOOLS)) {
    await exec('which', [tool]).catch(() => {
      throw new Error(`${tool} is missing: apt-get install ${source}`);
    });
  }
  const folder = transpiled();
  return () => rmSync(folder, { recursive: true, force: true });
}

/** Runs a command; answers with its standard output. */
export function exec(command: string, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, [...args], (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${command} ${args.join(' ')}: ${stdout}${stderr}${String(error.code)}`));
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

/** A network namespace held by a process. */
export class Namespace {
  constructor(protected readonly holder: ChildProcess) {}

  get pid(): number {
    return this.holder.pid ?? 0;
  }

  /** Runs a command in it; words are separated by single spaces. */
  run(line: string, input = ''): Promise<string> {
    return exec('nsenter', ['-t', String(this.pid), '-n', '-m', ...line.split(' ')], input);
  }

  /** Runs commands in it, one after another. */
  async all(lines: readonly string[]): Promise<void> {
    for (const line of lines) await this.run(line);
  }

  /** Whether `address` answers one ping within a second. */
  async reaches(address: string): Promise<boolean> {
    const ping = address.includes(':') ? 'busybox ping -6' : 'busybox ping';
    return this.run(`${ping} -c 1 -W 1 ${address}`).then(
      () => true,
      () => false,
    );
  }

  end(): void {
    this.holder.kill('SIGKILL');
  }
}

/** What `call` may name, with its arguments and result. */
type Methods = LinuxDataplane &
  Pick<PortReservations, 'reserve' | 'release'> &
  Pick<LinuxPeers, 'addresses' | 'sourceTo' | 'tunnelMtu'> & {
    tunnel(family: 4 | 6, tunnel: Tunnel | null, ends: readonly TunnelPeer[]): Promise<void>;
    logged(): unknown[];
    generation(): number;
    enforce(policy: PlainPolicy): Promise<void>;
    enforceAll(policies: readonly PlainPolicy[]): Promise<void>;
    routeAll(routes: readonly (readonly [string, PeerHop])[]): Promise<void>;
    route(changes: readonly (readonly [string, PeerHop | null])[]): Promise<void>;
  };

/** A host with the dataplane running in it. */
export class PretendHost extends Namespace {
  private readonly waiting = new Map<number, (answer: { value?: unknown; error?: string }) => void>();
  private readonly others: Namespace[] = [];
  private next = 1;
  private hasEnded = false;

  private constructor(holder: ChildProcess) {
    super(holder);
    if (holder.stdout === null) throw new Error('no standard output');
    createInterface({ input: holder.stdout }).on('line', text => {
      const answer = JSON.parse(text) as { id: number; value?: unknown; error?: string };
      this.waiting.get(answer.id)?.(answer);
    });
    holder.on('exit', (code, signal) => {
      for (const answer of this.waiting.values())
        answer({ error: `the agent of the pretend host ended (${signal ?? code})` });
      this.hasEnded = true;
    });
  }

  /** Boots a host: loopback up, forwarding off, no other interface. `checkInterval`: milliseconds. */
  static async boot(kind: 'linux' | 'felix' = 'linux', checkInterval = 1000): Promise<PretendHost> {
    const agent = join(transpiled(), 'test/host/agent.js');
    // A /run of its own: iptables-legacy locks a file there.
    const script = 'mount -t tmpfs run /run && exec "$0" "$@"';
    const args = [
      '--net',
      '--mount',
      'sh',
      '-c',
      script,
      process.execPath,
      agent,
      kind,
      String(checkInterval),
    ];
    const holder = spawn('unshare', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const host = new PretendHost(holder);
    await host.call('defaultMtu');
    await host.all(['ip link set lo up', 'busybox sysctl -q -w net.ipv4.ip_forward=0']);
    return host;
  }

  /** The daemon after this one, on the same host; this one lives on. */
  async successor(kind: 'linux' | 'felix'): Promise<PretendHost> {
    const agent = join(transpiled(), 'test/host/agent.js');
    const args = ['-t', String(this.pid), '-n', '-m', process.execPath, agent, kind];
    const host = new PretendHost(spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'inherit'] }));
    await host.call('defaultMtu');
    return host;
  }

  /** Calls the dataplane in the host. */
  async call<Name extends keyof Methods>(
    method: Name,
    ...args: Methods[Name] extends (...args: infer Args) => unknown ? Args : never
  ): Promise<Methods[Name] extends (...args: never[]) => infer Result ? Awaited<Result> : never> {
    if (this.hasEnded) throw new Error('the agent of the pretend host has ended');
    const id = this.next++;
    const answer = await new Promise<{ value?: unknown; error?: string }>(resolve => {
      this.waiting.set(id, resolve);
      this.holder.stdin?.write(`${JSON.stringify({ id, method, args })}\n`);
    });
    this.waiting.delete(id);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.value as never;
  }

  /** An empty namespace that ends with the host. */
  async namespace(): Promise<Namespace> {
    // It goes with this process, however that ends.
    const inHost = ['--pdeathsig', 'KILL', 'nsenter', '-t', String(this.pid), '-m'];
    const holder = spawn('setpriv', [...inHost, 'unshare', '--net', 'busybox', 'sleep', '1d']);
    const space = new Namespace(holder);
    this.others.push(space);
    const own = await exec('readlink', ['/proc/self/ns/net']);
    await until(async () => {
      const its = await exec('readlink', [`/proc/${space.pid}/ns/net`]).catch(() => own);
      return its !== own && (await exec('cat', [`/proc/${space.pid}/comm`])).startsWith('busybox');
    });
    await space.run('ip link set lo up');
    return space;
  }

  /** Attaches an endpoint and gives it to a new container, as dockerd does after Join. */
  async container(wiring: EndpointWiring): Promise<Namespace> {
    const container = await this.namespace();
    await this.call('attach', wiring);
    await this.run(`ip link set ${wiring.containerInterface} netns ${container.pid}`);
    await container.run(`ip link set ${wiring.containerInterface} name cali0`);
    for (const address of wiring.addresses) {
      const length = address.includes(':') ? '128 nodad' : '32';
      await container.run(`ip addr add ${address}/${length} dev cali0`);
    }
    await container.run('ip link set cali0 up');
    await container.all([
      'ip route add 169.254.1.1/32 dev cali0 scope link',
      'ip route add default via 169.254.1.1',
    ]);
    if (wiring.addresses.some(address => address.includes(':'))) {
      await container.run('ip -6 route add default via fe80::ecee:eeff:feee:eeee dev cali0');
    }
    return container;
  }

  /** A namespace behind a cable: host 198.51.100.1 and 2001:db8::1, outside .2 and ::2, with routes to the host only. */
  async outside(): Promise<Namespace> {
    const outside = await this.namespace();
    await this.run(`ip link add uplink type veth peer name cable netns ${outside.pid}`);
    await this.all(['ip addr add 198.51.100.1/24 dev uplink', 'ip addr add 2001:db8::1/64 dev uplink nodad']);
    await this.run('ip link set uplink up');
    await outside.all([
      'ip addr add 198.51.100.2/24 dev cable',
      'ip addr add 2001:db8::2/64 dev cable nodad',
    ]);
    await outside.run('ip link set cable up');
    return outside;
  }

  /** Ends the host and everything in it. */
  shutDown(): void {
    for (const other of this.others) other.end();
    this.end();
  }
}

/** An endpoint number n with 10.65.0.n and, for two addresses, fd65::n. */
export function endpoint(n: number, addresses: readonly string[] = [`10.65.0.${n}`]): EndpointWiring {
  const mac = `02:42:0a:41:00:${n.toString(16).padStart(2, '0')}`;
  return {
    hostInterface: `cali${n}`,
    containerInterface: `temp${n}`,
    mac,
    addresses,
    mtu: 1450,
    sharesSandbox: false,
  };
}

/** Waits until `isSo` answers true; fails after `limit` milliseconds. */
export async function until(isSo: () => Promise<boolean>, limit = 5000): Promise<void> {
  const end = Date.now() + limit;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`not so after ${limit} ms: ${isSo.toString()}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

let built: string | undefined;
const done = new Set<string>();

/**
 * The folder with src/host, the agents and what they import as JavaScript; made once per test file; see {@link prepare}.
 * `programs`: further ones, as paths below the repository's root.
 */
export function transpiled(...programs: readonly string[]): string {
  const folder = built ?? mkdtempSync(join(tmpdir(), 'host-test-'));
  if (built === undefined) {
    built = folder;
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    // Not all of it is imported: threads are started by the names of their files.
    const host = readdirSync(join(ROOT, 'src/host')).map(name => `src/host/${name}`);
    for (const file of [...host, 'test/host/agent.ts', 'test/host/traffic.ts']) transpile(folder, file);
  }
  for (const file of programs) transpile(folder, file);
  return folder;
}

/** One file, and what it imports of ours. */
function transpile(folder: string, file: string): void {
  if (done.has(file)) return;
  done.add(file);
  const compilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
  };
  const { outputText } = ts.transpileModule(readFileSync(join(ROOT, file), 'utf8'), { compilerOptions });
  const target = join(folder, file.replace(/\.ts$/, '.js'));
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, outputText);
  for (const [, imported = ''] of outputText.matchAll(/ from '(\.[^']+)\.js'/g))
    transpile(folder, join(dirname(file), `${imported}.ts`));
}
