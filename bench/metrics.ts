import { setTimeout as sleep } from 'node:timers/promises';
import { createPrometheusMetrics } from '../src/metrics/prometheus.js';
import { inNamespace } from './support/namespace.js';
import type { Bench } from './support/namespace.js';
import { PluginClient } from './support/plugin-client.js';
import { aim, median, percentile, round, say, table, timed } from './support/report.js';

/**
 * What measuring costs a call: two daemons on one etcd, one of which serves metrics that are scraped every second, are
 * asked in turn. Each pair of answers is compared, so that what else the machine does counts for both. And, since two
 * daemons differ by more than that, what the counters themselves cost. Argument: number of addresses.
 */

const COUNT = Number(process.argv.slice(2).find(argument => /^\d+$/.test(argument)) ?? 3_000);
const WARM_UP = 1_000;
const MEASURED = '/run/measured';
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

async function addressesOf(client: PluginClient, cidr: string, prefix: string): Promise<Addresses> {
  const space = 'CalicoGlobalAddressSpace';
  const body = { AddressSpace: space, Pool: cidr, SubPool: '', Options: {}, V6: false };
  return new Addresses(client, String((await client.call('IpamDriver.RequestPool', body))['PoolID']), prefix);
}

async function main(bench: Bench): Promise<void> {
  const quiet = await bench.open();
  await bench.start({
    NODENAME: 'measured',
    CALICO_LIBNETWORK_SOCKET_DIR: MEASURED,
    CALICO_LIBNETWORK_STATE_DIR: '/run/measured-state',
    CALICO_LIBNETWORK_METRICS_ADDRESS: String(PORT),
  });
  const loud = await open(`${MEASURED}/calico.sock`);
  const [off, on] = [
    await addressesOf(quiet, '10.64.0.0/24', '42'),
    await addressesOf(loud, '10.65.0.0/24', '43'),
  ];
  for (let call = 0; call < WARM_UP; call += 1) {
    await off.once();
    await on.once();
  }
  const scrapes: number[] = [];
  const scrape = async (): Promise<void> => {
    scrapes.push(await timed(async () => (await fetch(`http://127.0.0.1:${PORT}/metrics`)).text()));
  };
  const scraping = setInterval(() => void scrape(), 1_000);
  const [without, measured]: [number[], number[]] = [[], []];
  for (let call = 0; call < COUNT; call += 1) {
    // Who is asked first has the colder processor.
    const order = [async () => without.push(await off.once()), async () => measured.push(await on.once())];
    for (const ask of call % 2 === 0 ? order : order.reverse()) await ask();
  }
  clearInterval(scraping);
  await scrape();
  quiet.close();
  loud.close();

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
  const told = await costOfTelling();
  aim('what a RequestAddress tells the counters', ((told * PER_CALL) / median(without)) * 100, '<=', 1, ' %');
  aim('what measuring costs, median of differences', share, '<=', 1, ' %');
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
