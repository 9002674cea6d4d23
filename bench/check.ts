import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  affinityKey,
  blockKey,
  endpointKey,
  handleKey,
  networkKey,
  resourceKey,
} from '../src/datastore/keys.js';
import { createEtcdStore } from '../src/datastore/etcd.js';
import type { Store, Write } from '../src/datastore/store.js';
import { assignAt, bump, createBlock } from '../src/ipam/block.js';
import { cidrOf, formatAddress, formatCidr, nth, parseCidr } from '../src/ipam/cidr.js';
import { createLogger } from '../src/log.js';
import { formatAffinity, formatBlock, formatHandle } from '../src/model/block.js';
import { formatNewPool } from '../src/model/ip-pool.js';
import { formatNetworkRecord } from '../src/model/network-record.js';
import { endpointName, formatNewEndpoint, hostInterfaceOf } from '../src/model/workload-endpoint.js';
import { endpointHandle } from '../src/ipam/handles.js';
import { inNamespace, NETWORK } from './support/namespace.js';
import { aim, round, say } from './support/report.js';

/**
 * How long `ipam check` takes and what it occupies with a hundred thousand containers on a hundred hosts, the command
 * as it is installed, beside a real etcd. `npm run bench -- check [ADDRESSES]`
 */

const ADDRESSES = Number(process.argv[2]) || 100_000;
const NODES = 100;
/** Addresses of a block. */
const BLOCK = 64;
const MAIN = fileURLToPath(new URL('../src/main.js', import.meta.url));
const CLOCK_TICKS = 100;
const SINCE = new Date('2026-08-22T10:00:00Z');

/** The writes that a block full of containers comes from. */
function containers(number: number): Write[] {
  const pool = parseCidr('10.64.0.0/12');
  if (!pool) throw new Error('no pool');
  const cidr = cidrOf(nth(pool, number * BLOCK), 26);
  const node = `node-${number % NODES}`;
  let block = createBlock(cidr, node, SINCE);
  const writes: Write[] = [{ put: affinityKey(node, cidr), value: formatAffinity('confirmed') }];
  for (let ordinal = 0; ordinal < BLOCK && number * BLOCK + ordinal < ADDRESSES; ordinal += 1) {
    const address = formatAddress(nth(cidr, ordinal));
    const hex = (number * BLOCK + ordinal).toString(16).padStart(8, '0');
    const mac = `02:42:${hex.match(/../g)?.join(':') ?? ''}`;
    const handle = endpointHandle(node, mac, address);
    const endpointId = `${hex}${'e'.repeat(56)}`;
    const secondary = { node, timestamp: '2026-08-22 10:00:00 +0000 UTC', request: hex };
    block = bump(assignAt(block, ordinal, { handle_id: handle, secondary }));
    const endpoint = {
      ...{ node, endpointId, mac, addresses: [address], profiles: ['bench'], networkId: NETWORK.Id },
      ...{ interfaceName: hostInterfaceOf(endpointId), labels: { role: 'bench' }, ports: [] },
      sandbox: { key: `/var/run/docker/netns/${hex}0000`, place: 1 },
    };
    writes.push(
      { put: handleKey(handle), value: formatHandle({ [formatCidr(cidr)]: 1 }) },
      { put: endpointKey(endpointName(node, endpointId)), value: formatNewEndpoint(endpoint, SINCE) },
    );
  }
  return [...writes, { put: blockKey(cidr), value: formatBlock(block) }];
}

async function fill(store: Store): Promise<void> {
  const cidr = parseCidr('10.64.0.0/12');
  if (!cidr) throw new Error('no pool');
  const pool = { name: 'bench', cidr, vxlanMode: 'Never', natOutgoing: true, madeForDocker: false } as const;
  const network = {
    id: NETWORK.Id,
    node: 'node-0',
    name: 'bench',
    created: SINCE.toISOString(),
    internal: false,
  };
  const first: Write[] = [
    { put: resourceKey('ippools', 'bench'), value: formatNewPool(pool, SINCE) },
    {
      put: networkKey(NETWORK.Id),
      value: formatNetworkRecord({ ...network, subnets: [], options: {}, rest: {} }),
    },
  ];
  await store.transact({ compare: [], then: first });
  const numbers = Array.from({ length: Math.ceil(ADDRESSES / BLOCK) }, (_, number) => number);
  const worker = async (): Promise<void> => {
    for (let number = numbers.shift(); number !== undefined; number = numbers.shift()) {
      const writes = containers(number);
      for (let at = 0; at < writes.length; at += 100)
        await store.transact({ compare: [], then: writes.slice(at, at + 100) });
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

/** Peak of resident memory so far, in MB, and processor time, in seconds; zeros once the process is gone. */
function usage(pid: number): { megabytes: number; processor: number } {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const processor = (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS;
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return { megabytes: Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024, processor };
  } catch {
    return { megabytes: 0, processor: 0 };
  }
}

/** Runs the command. BENCH_NODE_FLAGS are flags for its node, to profile it. */
async function check(etcd: string, flags: readonly string[], expected: number) {
  const began = performance.now();
  const env = { PATH: process.env['PATH'], ETCD_ENDPOINTS: etcd };
  const more = (process.env['BENCH_NODE_FLAGS'] ?? '').split(' ').filter(flag => flag !== '');
  const command = spawn(process.execPath, [...flags, ...more, MAIN, 'ipam', 'check'], {
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  let most = { megabytes: 0, processor: 0 };
  const look = setInterval(() => {
    const { megabytes, processor } = usage(command.pid ?? 0);
    most = { megabytes: Math.max(most.megabytes, megabytes), processor: Math.max(most.processor, processor) };
  }, 20);
  const [status] = await once(command, 'exit');
  clearInterval(look);
  if (status !== expected) throw new Error(`ipam check ended with status ${status}`);
  return { seconds: (performance.now() - began) / 1_000, ...most };
}

await inNamespace(async ({ etcd, daemon }) => {
  // Its mirrors of all this would only take time away.
  daemon.kill('SIGTERM');
  await once(daemon, 'exit');
  const store = createEtcdStore({ endpoints: [etcd] }, createLogger('silent'));
  await fill(store);
  say(`${ADDRESSES} containers on ${NODES} nodes`);
  const installed = (readFileSync(MAIN, 'utf8').split('\n')[0]?.split(' node ')[1] ?? '').split(' ');
  await figures('as installed', etcd, installed, 0);
  await figures('node main.js', etcd, [], 0);
  const [left] = (await store.list(handleKey('libnetwork.node-7.'))).entries;
  await store.transact({ compare: [], then: [{ delete: left?.key ?? '' }] });
  await figures('with a finding, so two listings', etcd, installed, 1);
  await store.close();
});

async function figures(name: string, etcd: string, flags: readonly string[], status: number): Promise<void> {
  const { seconds, megabytes, processor } = await check(etcd, flags, status);
  aim(`${name}: seconds`, seconds, '<', 10, ' s');
  say(`${name}: processor time ${round(processor)} s`);
  aim(`${name}: peak RSS`, megabytes, '<', 300, ' MB');
}
