import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPrometheusMetrics } from '../src/metrics/prometheus.js';
import { inNamespace } from './support/namespace.js';
import type { Bench } from './support/namespace.js';
import { PluginClient } from './support/plugin-client.js';
import { aim, median, percentile, round, say, table, timed } from './support/report.js';

/**
 * What measuring costs a call: two daemons on one etcd, one of which serves metrics that are scraped every five seconds, are
 * asked in turn. Each pair of answers is compared, so that what else the machine does counts for both; what the
 * processor did for each is told as well, and what the counters themselves cost. Argument: number of addresses.
 */

const COUNT = Number(process.argv.slice(2).find(argument => /^\d+$/.test(argument)) ?? 3_000);
const WARM_UP = 1_000;
const PORT = 9099;
/** What a RequestAddress tells: itself, and its transaction. */
const PER_CALL = 2;
const TOLD = 200_000;

/** RequestAddress and ReleaseAddress through one daemon. */
class Addresses {
  private made = 0;

  constructor(
    private readonly client: PluginClient,
    private readonly poolId: string,
    private readonly prefix: string,
  ) {}

  /** Milliseconds that the request took; the address is given back. */
  async once(): Promise<number> {
    this.made += 1;
    const hex = this.made.toString(16).padStart(8, '0');
    const mac = `02:${this.prefix}:${hex.match(/../g)?.join(':') ?? ''}`;
    let address = '';
    const time = await timed(async () => {
      const options = { 'com.docker.network.endpoint.macaddress': mac };
      const body = { PoolID: this.poolId, Address: '', Options: options };
      address = String((await this.client.call('IpamDriver.RequestAddress', body))['Address']);
    });
    const bare = address.split('/')[0];
    await this.client.call('IpamDriver.ReleaseAddress', { PoolID: this.poolId, Address: bare });
    return time;
  }
}

/** A daemon of its own, and its addresses. */
async function asked(bench: Bench, name: string, cidr: string, prefix: string, env: Record<string, string>) {
  const folder = `/run/${name}`;
  const daemon = await bench.start({
    NODENAME: name,
    CALICO_LIBNETWORK_SOCKET_DIR: folder,
    CALICO_LIBNETWORK_STATE_DIR: `${folder}-state`,
    // No network uses the pool: it would go after a minute.
    CALICO_LIBNETWORK_GC_GRACE: '1h',
    ...env,
  });
  const client = await open(`${folder}/calico.sock`);
  const body = { AddressSpace: 'CalicoGlobalAddressSpace', Pool: cidr, SubPool: '', Options: {}, V6: false };
  const pool = String((await client.call('IpamDriver.RequestPool', body))['PoolID']);
  return { daemon, addresses: new Addresses(client, pool, prefix) };
}

async function open(path: string): Promise<PluginClient> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await PluginClient.open(path);
    } catch (error) {
      if (attempt === 500) throw error;
      await sleep(20);
    }
  }
}

async function main(bench: Bench): Promise<void> {
  const [off, on] = [
    await asked(bench, 'quiet', '10.64.0.0/24', '42', {}),
    await asked(bench, 'loud', '10.65.0.0/24', '43', { CALICO_LIBNETWORK_METRICS_ADDRESS: String(PORT) }),
  ];
  for (let call = 0; call < WARM_UP; call += 1) {
    await off.addresses.once();
    await on.addresses.once();
  }
  const scrapes: number[] = [];
  const scrape = async (): Promise<void> => {
    scrapes.push(await timed(async () => (await fetch(`http://127.0.0.1:${PORT}/metrics`)).text()));
  };
  const scraping = setInterval(() => void scrape(), 5_000);
  const used = (): [number, number] => [processorTime(off.daemon.pid), processorTime(on.daemon.pid)];
  const before = used();
  const [without, measured]: [number[], number[]] = [[], []];
  for (let call = 0; call < COUNT; call += 1) {
    // Who is asked first has the colder processor.
    const order = [
      async () => without.push(await off.addresses.once()),
      async () => measured.push(await on.addresses.once()),
    ];
    for (const ask of call % 2 === 0 ? order : order.reverse()) await ask();
  }
  clearInterval(scraping);
  const [busyOff, busyOn] = used().map((time, index) => time - (before[index] ?? 0));
  await scrape();
  for (const { daemon } of [off, on]) daemon.kill();

  const differences = without.map((time, call) => (measured[call] ?? NaN) - time);
  say(`${COUNT} RequestAddress of each daemon in turn (milliseconds)`);
  table([
    ['', 'median', 'p99'],
    ['without metrics', round(median(without)), round(percentile(without, 0.99))],
    ['with metrics', round(median(measured)), round(percentile(measured, 0.99))],
    ['scrape', round(median(scrapes)), round(percentile(scrapes, 0.99))],
  ]);
  const share = (median(differences) / median(without)) * 100;
  say(`median of the differences: ${round(median(differences) * 1_000)} µs (${round(share)} %)`);
  const more = ((busyOn ?? NaN) / (busyOff ?? NaN) - 1) * 100;
  say(
    `processor time: ${round(busyOff ?? NaN)} s without, ${round(busyOn ?? NaN)} s with metrics (${round(more)} % more)`,
  );
  const told = await costOfTelling();
  aim('what a RequestAddress tells the counters', ((told * PER_CALL) / median(without)) * 100, '<=', 1, ' %');
  aim('what measuring costs, median of differences', share, '<=', 1, ' %');
}

/** Seconds of processor time so far, all threads. */
function processorTime(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Milliseconds of one figure told. */
async function costOfTelling(): Promise<number> {
  const metrics = createPrometheusMetrics('bench');
  const tell = async (): Promise<void> => {
    for (let count = 0; count < TOLD; count += 1) metrics.called('IpamDriver.RequestAddress', 'ok', 0.0013);
  };
  await tell();
  const each = (await timed(tell)) / TOLD;
  say(`a figure told: ${round(each * 1_000)} µs`);
  return each;
}

await inNamespace(main);
