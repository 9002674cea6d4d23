import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { inNamespace, NETWORK } from './support/namespace.js';
import type { Bench } from './support/namespace.js';
import type { PluginClient } from './support/plugin-client.js';
import { aim, round, say, table } from './support/report.js';

/**
 * What the daemon occupies with a thousand endpoints, and what it does while nobody asks it anything. The datastore
 * is an etcd beside it, whose memory is not counted.
 */

const ENDPOINTS = 1_000;
const IDLE_SECONDS = 30;
const CLOCK_TICKS = 100;

/** Resident megabytes now. */
function resident(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
}

/** Seconds of processor time so far, all threads. */
function processorTime(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS;
}

async function createNetwork(client: PluginClient): Promise<string> {
  const pool = await client.call('IpamDriver.RequestPool', {
    AddressSpace: 'CalicoGlobalAddressSpace',
    Pool: '10.64.0.0/16',
    SubPool: '',
    Options: {},
    V6: false,
  });
  await client.call('NetworkDriver.CreateNetwork', {
    NetworkID: NETWORK.Id,
    Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {} },
    IPv4Data: [{ AddressSpace: 'CalicoGlobalAddressSpace', Pool: pool['Pool'] }],
    IPv6Data: [],
  });
  return String(pool['PoolID']);
}

/** The calls of one `docker run`. */
async function createEndpoint(client: PluginClient, poolId: string, number: number): Promise<void> {
  const hex = number.toString(16).padStart(8, '0');
  const mac = `02:42:${hex.match(/../g)?.join(':') ?? ''}`;
  const address = await client.call('IpamDriver.RequestAddress', {
    PoolID: poolId,
    Address: '',
    Options: { 'com.docker.network.endpoint.macaddress': mac },
  });
  // Interfaces are called after the beginning of the endpoint's id.
  const endpoint = { NetworkID: NETWORK.Id, EndpointID: `${hex}${'e'.repeat(56)}` };
  await client.call('NetworkDriver.CreateEndpoint', {
    ...endpoint,
    Interface: { Address: address['Address'], AddressIPv6: '', MacAddress: mac },
    Options: { 'com.docker.network.endpoint.exposedports': [], 'com.docker.network.portmap': [] },
  });
  const SandboxKey = `/var/run/docker/netns/${hex}0000`;
  await client.call('NetworkDriver.Join', { ...endpoint, SandboxKey, Options: {} });
  await client.call('NetworkDriver.EndpointOperInfo', endpoint);
}

async function main({ etcd, daemon, open }: Bench): Promise<void> {
  const key = Buffer.from('/calico/ipam/v2/config').toString('base64');
  const value = Buffer.from('{"auto_allocate_blocks":true,"maxBlocksPerHost":5000}').toString('base64');
  await fetch(`${etcd}/v3/kv/put`, { method: 'POST', body: JSON.stringify({ key, value }) });
  const pid = daemon.pid ?? 0;
  const client = await open();
  const rows = [
    ['', 'RSS, MB'],
    ['started', round(resident(pid))],
  ];
  const poolId = await createNetwork(client);
  for (let number = 0; number < ENDPOINTS; number += 1) await createEndpoint(client, poolId, number);
  const full = resident(pid);
  rows.push([`${ENDPOINTS} endpoints`, round(full)]);
  const before = processorTime(pid);
  await sleep(IDLE_SECONDS * 1_000);
  const share = ((processorTime(pid) - before) / IDLE_SECONDS) * 100;
  rows.push([`after ${IDLE_SECONDS} s without a call`, round(resident(pid))]);
  table(rows);
  say();
  aim(`RSS with ${ENDPOINTS} endpoints`, Math.max(full, resident(pid)), '<=', 110, ' MB');
  aim(`processor time while idle, over ${IDLE_SECONDS} s`, share, '<', 0.5, ' %');
}

await inNamespace(main);
