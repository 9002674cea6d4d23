import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createEtcdStore } from '../src/datastore/etcd.js';
import { affinityKey, blockKey, resourceKey } from '../src/datastore/keys.js';
import type { Store, Write } from '../src/datastore/store.js';
import { assignAt, bump, createBlock } from '../src/ipam/block.js';
import { cidrOf, formatAddress, nth, parseCidr } from '../src/ipam/cidr.js';
import type { Cidr } from '../src/ipam/cidr.js';
import { createLogger } from '../src/log.js';
import { formatAffinity, formatBlock } from '../src/model/block.js';
import { formatNewPool } from '../src/model/ip-pool.js';
import { formatNewNode, tunnelMac } from '../src/model/node.js';
import { endpointHandle } from '../src/ipam/handles.js';
import { run } from '../src/setup/command.mjs';
import { inNamespace } from './support/namespace.js';
import type { Bench } from './support/namespace.js';
import { aim, median, percentile, round, say, timed } from './support/report.js';

/**
 * What a daemon makes of a large cluster: five thousand hosts with twenty blocks each in an etcd beside it, the routes in
 * a throw-away network namespace. `npm run bench -- nodes [NODES] [ADDRESSES IN USE PER BLOCK] [vxlan]`
 */

const NODES = Number(process.argv[2]) || 5_000;
const BLOCKS = 20;
const IN_USE = Number(process.argv[3]) || 2;
const IS_VXLAN = process.argv.includes('vxlan');
/** One address in so many blocks is used by another node. */
const BORROWING = 100;
const ROUNDS = 20;
const SINCE = new Date('2026-08-22T10:00:00Z');
const CLOCK_TICKS = 100;
const IDLE_SECONDS = Number(process.env['BENCH_IDLE_SECONDS'] ?? 60);
const OPERATIONS = 120;
const POOL = range('10.128.0.0/9');
const HOSTS = range('10.0.0.0/13');

function range(text: string): Cidr {
  const cidr = parseCidr(text);
  if (!cidr) throw new Error(text);
  return cidr;
}

/** The writes of one host: its Node and its blocks. Host 0 is this one. */
function host(number: number): Write[] {
  const name = number === 0 ? 'bench' : `node-${number}`;
  const address = formatAddress(nth(HOSTS, number + 1));
  const writes: Write[] = [];
  for (let index = 0; index < BLOCKS; index += 1) {
    const cidr = cidrOf(nth(POOL, (number * BLOCKS + index) * 64), 26);
    let block = createBlock(cidr, name, SINCE);
    for (let ordinal = 0; ordinal < IN_USE; ordinal += 1) {
      const isBorrowed = ordinal === 1 && (number * BLOCKS + index) % BORROWING === 7;
      const node = isBorrowed ? `node-${number + 1}` : name;
      const handle = endpointHandle(node, '02:42:00:00:00:01', formatAddress(nth(cidr, ordinal)));
      const secondary = { node, timestamp: '2026-08-22 10:00:00 +0000 UTC', request: `${ordinal}` };
      block = bump(assignAt(block, ordinal, { handle_id: handle, secondary }));
    }
    writes.push({ put: affinityKey(name, cidr), value: formatAffinity('confirmed') });
    writes.push({ put: blockKey(cidr), value: formatBlock(block) });
  }
  const tunnel = { address: formatAddress(nth(POOL, number * BLOCKS * 64 + 63)), mac: tunnelMac(name, 4) };
  const change = { addresses: { 4: `${address}/13` }, ...(IS_VXLAN ? { tunnels: { 4: tunnel } } : {}) };
  return [...writes, { put: resourceKey('nodes', name), value: formatNewNode(name, change, SINCE) }];
}

async function fill(store: Store): Promise<void> {
  const vxlanMode = IS_VXLAN ? 'Always' : 'Never';
  const pool = { name: 'bench', cidr: POOL, vxlanMode, natOutgoing: true, madeForDocker: false } as const;
  const value = formatNewPool(pool, SINCE);
  await store.transact({ compare: [], then: [{ put: resourceKey('ippools', 'bench'), value }] });
  const numbers = Array.from({ length: NODES }, (_, number) => number);
  const worker = async (): Promise<void> => {
    for (let some = numbers.splice(0, 2); some.length > 0; some = numbers.splice(0, 2)) {
      const writes = some.flatMap(host);
      for (let at = 0; at < writes.length; at += OPERATIONS)
        await store.transact({ compare: [], then: writes.slice(at, at + OPERATIONS) });
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

/** How many routes the kernel has in table main. */
function routeCount(): number {
  const text = readFileSync('/proc/net/fib_triestat', 'utf8');
  return Number(/Main:[^]*?Prefixes:\s+(\d+)/.exec(text)?.[1] ?? 0);
}

function memory(pid: number, field: 'VmHWM' | 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) / 1024;
}

/** Seconds of processor time so far. */
function processor(pid: number, inKernel = 0): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((inKernel ? 0 : Number(fields[11])) + Number(fields[12])) / CLOCK_TICKS;
}

/** Counts what happens to routes of ours in the kernel, as it happens. */
class RouteChanges {
  total = 0;
  private expected = Infinity;
  private reached: () => void = () => undefined;

  private readonly child: ChildProcess;

  /** By a child: a netlink socket of this process would end it when more comes than its buffer holds. */
  constructor(private readonly log: () => string[]) {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'ip', '-o', '-N', 'monitor', 'route'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.child = child;
    createInterface({ input: child.stdout }).on('line', line => {
      if (line.includes(' proto 81 ')) this.total += 1;
      if (this.total >= this.expected) this.reached();
    });
  }

  close(): void {
    this.child.kill();
  }

  /** Milliseconds until `work` has changed so many routes. */
  async after(count: number, work: () => Promise<unknown>): Promise<number> {
    this.expected = this.total + count;
    const done = new Promise<void>(resolve => (this.reached = resolve));
    return timed(async () => {
      await work();
      await Promise.race([
        done,
        sleep(10_000).then(() =>
          Promise.reject(new Error(`${this.total} changes\n${this.log().slice(-8).join('\n')}`)),
        ),
      ]);
    });
  }
}

async function main({ etcd, daemon, start, log }: Bench): Promise<void> {
  daemon.kill('SIGTERM');
  await once(daemon, 'exit');
  await run(['ip', 'address', 'add', '10.0.0.1/13', 'dev', 'eth0']);
  await run(['ip', 'link', 'set', 'outside', 'up']);
  const store = createEtcdStore({ endpoints: [etcd] }, createLogger('silent'));
  say(`filled in ${round((await timed(() => fill(store))) / 1_000)} s`);
  const total = (NODES - 1) * BLOCKS;
  // One route for each block of others, and for each borrowed address, ours included.
  const borrowed = IN_USE < 2 ? 0 : Math.floor((NODES * BLOCKS - 8) / BORROWING) + 1;
  const before = routeCount();
  const began = performance.now();
  const started = await start({ IP: '10.0.0.1/13' });
  const answered = performance.now() - began;
  const pid = started.pid ?? 0;
  const ready = async () => {
    while (routeCount() < before + total + borrowed) {
      if (performance.now() - began > 60_000)
        throw new Error(`${routeCount()} routes\n${log().slice(-5).join('\n')}`);
      await sleep(10);
    }
  };
  await ready();
  const programmed = performance.now() - began;
  say(`${NODES} nodes x ${BLOCKS} blocks${IS_VXLAN ? ', VXLAN' : ''}: ${routeCount() - before} routes`);
  aim('seconds until Docker is answered', answered / 1_000, '<', 5, ' s');
  aim('seconds until all routes are there', programmed / 1_000, '<', 5, ' s');
  say(
    `processor time so far: ${round(processor(pid))} s, of which in the kernel ${round(processor(pid, 1))} s`,
  );
  aim('peak of resident memory', memory(pid, 'VmHWM'), '<=', 250, ' MB');
  await sleep(5_000);
  aim('resident memory', memory(pid, 'VmRSS'), '<=', 250, ' MB');

  const changes = new RouteChanges(log);
  await sleep(500);
  const [joins, leaves, busy, changed]: [number[], number[], number[], number[]] = [[], [], [], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    const writes = host(NODES + 1 + round);
    const seen = changes.total;
    const used = processor(pid);
    joins.push(await changes.after(BLOCKS, () => store.transact({ compare: [], then: writes })));
    await sleep(150);
    busy.push((processor(pid) - used) * 1_000);
    changed.push(changes.total - seen);
    const node = resourceKey('nodes', `node-${NODES + 1 + round}`);
    leaves.push(await changes.after(BLOCKS, () => store.transact({ compare: [], then: [{ delete: node }] })));
  }
  aim('one node more: until its routes are there, median', median(joins), '<=', 50, ' ms');
  aim('one node more: 95th percentile', percentile(joins, 0.95), '<=', 50, ' ms');
  say(`one node more: processor time ${round(median(busy))} ms, routes changed ${Math.max(...changed)}`);
  aim('one node less: until its routes are gone, median', median(leaves), '<=', 50, ' ms');

  changes.close();
  const idle = processor(pid);
  await sleep(IDLE_SECONDS * 1_000);
  aim(
    `processor time while idle, over ${IDLE_SECONDS} s`,
    ((processor(pid) - idle) / IDLE_SECONDS) * 100,
    '<',
    2,
    ' %',
  );
  aim('resident memory after that', memory(pid, 'VmRSS'), '<=', 250, ' MB');
  const again = performance.now();
  await run(['ip', 'route', 'flush', 'proto', '81']);
  while (routeCount() < before + total) await sleep(20);
  say(`all routes flushed and back: ${round((performance.now() - again) / 1_000)} s`);
  started.kill('SIGTERM');
  await once(started, 'exit');
  await store.close();
}

await inNamespace(main);
