import { spawn, spawnSync } from 'node:child_process';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { pino } from 'pino';
import { KernelThread } from '../src/host/kernel-thread.js';
import { LinkReaper } from '../src/host/reaper.js';
import { createLinuxDataplane } from '../src/host/linux.js';
import { RtNetlink } from '../src/host/rtnetlink.js';

/**
 * Why the dataplane speaks netlink itself and deletes interfaces on a thread: one `ip -batch` process against
 * netlink for the same veth with its route; what a deletion does to the event loop; what attach costs in all.
 * Compile it with src (tsc --rootDir . --outDir DIR) and run it by plain node, as root; it goes into a network
 * namespace of its own.
 */

const ROUNDS = 100;
const IN_NAMESPACE = '--in-namespace';

/** Milliseconds that `work` takes. */
async function timed(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Nearest-rank percentile. */
function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

function row(name: string, values: readonly number[]): number {
  const median = percentile(values, 0.5);
  const columns = [median, percentile(values, 0.9), percentile(values, 1)].map(ms =>
    ms.toFixed(2).padStart(8),
  );
  process.stdout.write(`${name.padEnd(52)}${columns.join('')}\n`);
  return median;
}

function ip(args: readonly string[], input: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('ip', args, { stdio: ['pipe', 'inherit', 'inherit'] });
    child.on('exit', code => (code === 0 ? resolve() : reject(new Error(`ip ${args.join(' ')}: ${code}`))));
    // ip may end before it has read its empty input.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

const MAC = '02:42:0a:00:00:01';
const HOST_MAC = 'ee:ee:ee:ee:ee:ee';

async function main(): Promise<void> {
  const netlink = new RtNetlink();
  const thread = new KernelThread();
  const reaper = new LinkReaper(thread);
  const times = { netlink: [], ip: [], inline: [], thread: [], loop: [], attach: [], detach: [] } as Record<
    string,
    number[]
  >;
  const note = (name: string, ms: number): void => void times[name]?.push(ms);
  const viaNetlink = async (): Promise<void> => {
    const spec = { name: 'cali0', mac: HOST_MAC, peerName: 'temp0', peerMac: MAC, mtu: 1450, group: 81 };
    const { index } = await netlink.createVeth(spec);
    await netlink.addRoutes([{ destination: '10.0.0.1/32', type: 'unicast', device: index }], 81, 'replace');
  };
  const batch = [
    `link add cali0 address ${HOST_MAC} mtu 1450 type veth peer name temp0 address ${MAC} mtu 1450`,
    'link set cali0 up',
    'route replace 10.0.0.1/32 dev cali0 scope link proto 81',
    '',
  ].join('\n');
  await ip(['link', 'set', 'lo', 'up'], '');
  await reaper.delete('none');
  // Alternating: the machine may be slower for a while.
  for (let round = 0; round < ROUNDS; round += 1) {
    note('netlink', await timed(viaNetlink));
    note('inline', await timed(() => netlink.deleteLink('cali0')));
    note('ip', await timed(() => ip(['-batch', '-'], batch)));
    const loop = monitorEventLoopDelay({ resolution: 1 });
    loop.enable();
    note('thread', await timed(() => reaper.delete('cali0')));
    loop.disable();
    note('loop', loop.max / 1e6);
  }
  await reaper.close();
  await thread.close();
  netlink.close();

  const dataplane = createLinuxDataplane({}, pino({ level: 'silent' }));
  for (let round = 0; round < ROUNDS; round += 1) {
    const names = { hostInterface: `cali${round}`, containerInterface: `temp${round}` };
    const addresses = ['10.0.0.1', 'fd00::1'];
    const wiring = { ...names, mac: MAC, addresses, mtu: 1450, sharesSandbox: false };
    note('attach', await timed(() => dataplane.attach(wiring)));
    note('detach', await timed(() => dataplane.detach(wiring.hostInterface)));
  }
  await dataplane.close();

  process.stdout.write(`${'milliseconds'.padEnd(52)}  median     p90     max\n`);
  const ours = row('veth, up, route: netlink', times['netlink'] ?? []);
  const theirs = row('veth, up, route: one ip -batch', times['ip'] ?? []);
  row('delete the veth on the main thread (loop blocked)', times['inline'] ?? []);
  row('delete the veth on the reaper thread', times['thread'] ?? []);
  row('  longest turn of the event loop meanwhile', times['loop'] ?? []);
  row('attach, two addresses, sysctls and all', times['attach'] ?? []);
  row('detach until the promise resolves', times['detach'] ?? []);
  process.stdout.write(`netlink / ip -batch = ${(ours / theirs).toFixed(2)}\n`);
}

if (process.argv.includes(IN_NAMESPACE)) await main();
else {
  const args = ['--net', '--mount', process.execPath, process.argv[1] ?? '', IN_NAMESPACE];
  process.exitCode = spawnSync('unshare', args, { stdio: 'inherit' }).status ?? 1;
}
