import { Etcd3 } from 'etcd3';
import { inNamespace } from './support/namespace.js';
import type { Bench } from './support/namespace.js';
import type { PluginClient } from './support/plugin-client.js';
import { aim, median, percentile, round, say, table, timed } from './support/report.js';

/**
 * What an address costs: RequestAddress and ReleaseAddress through the daemon's socket against bare transactions
 * (one compare, two puts) by the same etcd client to the same etcd, alternating. Argument: number of addresses.
 */

const COUNT = Number(process.argv.slice(2).find(argument => /^\d+$/.test(argument)) ?? 3_000);
const WAYS = 16;
/** 16-way calls are made in so many rounds, theirs and ours in turn. */
const ROUNDS = 6;
const PER_ROUND = 960;
/** Calls until both sides are compiled: what grows is to be seen, not what warms up. */
const WARM_UP = 700;
const POOL = '10.64.0.0/16';
const SMALL = 'x'.repeat(64);

/** A sequence of bare transactions, each of which builds on the one before. */
class Bare {
  private revision = '0';
  private count = 0;

  constructor(
    private readonly etcd: Etcd3,
    private readonly name: string,
    /** The first key's value: a block is larger than a handle. */
    private readonly value = SMALL,
  ) {}

  async transact(): Promise<void> {
    const { etcd, name } = this;
    this.count += 1;
    const result = await etcd
      .if(`/bench/${name}`, 'Mod', '==', Number(this.revision))
      .then(
        etcd.put(`/bench/${name}`).value(this.value),
        etcd.put(`/bench/${name}/${this.count}`).value(SMALL),
      )
      .commit();
    if (!result.succeeded) throw new Error('a bare transaction lost its compare');
    this.revision = result.header.revision;
  }
}

/** What dockerd sends. */
class Addresses {
  private made = 0;

  constructor(private readonly poolId: string) {}

  async request(client: PluginClient): Promise<string> {
    this.made += 1;
    const hex = this.made.toString(16).padStart(8, '0');
    const mac = `02:42:${hex.match(/../g)?.join(':') ?? ''}`;
    const answer = await client.call('IpamDriver.RequestAddress', {
      PoolID: this.poolId,
      Address: '',
      Options: { 'com.docker.network.endpoint.macaddress': mac },
    });
    return String(answer['Address']);
  }

  async release(client: PluginClient, address: string): Promise<void> {
    const bare = address.split('/')[0];
    await client.call('IpamDriver.ReleaseAddress', { PoolID: this.poolId, Address: bare });
  }
}

interface Times {
  readonly ours: number[];
  readonly bare: number[];
  readonly large: number[];
}

async function sequential(work: () => Promise<unknown>, bare: Bare, large: Bare): Promise<Times> {
  const times: Times = { ours: [], bare: [], large: [] };
  for (let call = 0; call < COUNT; call += 1) {
    times.bare.push(await timed(() => bare.transact()));
    times.ours.push(await timed(work));
    // A control: how much of our time is the size of a block, which Calico's data model wants written whole.
    if (call % 3 === 0) times.large.push(await timed(() => large.transact()));
  }
  return times;
}

/** Seconds that `count` calls take, `WAYS` at a time. */
async function together(count: number, work: (way: number) => Promise<unknown>): Promise<number> {
  let left = count;
  const way = async (_: unknown, number: number): Promise<void> => {
    while (left-- > 0) await work(number);
  };
  return (await timed(() => Promise.all(Array.from({ length: WAYS }, way)))) / 1_000;
}

/** Late calls over early ones. */
function growth(times: readonly number[]): number {
  return median(times.slice(-100)) / median(times.slice(50, 150));
}

function row(name: string, times: readonly number[], bare: readonly number[]): string[] {
  const ratio = median(times) / median(bare);
  return [name, round(median(times)), round(percentile(times, 0.99)), round(ratio), round(growth(times))];
}

async function main({ etcd: endpoint, open }: Bench): Promise<void> {
  const etcd = new Etcd3({ hosts: endpoint });
  await etcd
    .put('/calico/ipam/v2/config')
    .value(JSON.stringify({ strict_affinity: true, auto_allocate_blocks: true, maxBlocksPerHost: 5_000 }));
  const client = await open();
  const pool = await client.call('IpamDriver.RequestPool', {
    AddressSpace: 'CalicoGlobalAddressSpace',
    Pool: POOL,
    SubPool: '',
    Options: {},
    V6: false,
  });
  const addresses = new Addresses(String(pool['PoolID']));
  const [bare, large] = [new Bare(etcd, 'bare'), new Bare(etcd, 'large', 'x'.repeat(6_000))];
  for (let call = 0; call < WARM_UP; call += 1) {
    await bare.transact();
    await addresses.release(client, await addresses.request(client));
  }

  const held: string[] = [];
  const request = await sequential(async () => void held.push(await addresses.request(client)), bare, large);
  const release = await sequential(() => addresses.release(client, held.pop() ?? ''), bare, large);
  say(`${COUNT} addresses, one call at a time (milliseconds)`);
  table([
    ['', 'median', 'p99', 'ratio', 'late/early'],
    row('bare transaction', [...request.bare, ...release.bare], request.bare),
    row('bare, one value of 6,000 bytes', [...request.large, ...release.large], request.bare),
    row('RequestAddress', request.ours, request.bare),
    row('ReleaseAddress', release.ours, release.bare),
  ]);
  aim('RequestAddress, median over bare', median(request.ours) / median(request.bare), '<=', 1.3);
  aim('ReleaseAddress, median over bare', median(release.ours) / median(release.bare), '<=', 1.3);
  aim(`RequestAddress, last 100 of ${COUNT} over calls 50-150`, growth(request.ours), '<=', 1.2);
  aim(`ReleaseAddress, last 100 of ${COUNT} over calls 50-150`, growth(release.ours), '<=', 1.2);
  await manyWays(etcd, client, addresses);
  etcd.close();
}

async function manyWays(etcd: Etcd3, client: PluginClient, addresses: Addresses): Promise<void> {
  const bares = Array.from({ length: WAYS }, (_, way) => new Bare(etcd, `way${way}`));
  const seconds = { request: 0, release: 0, bare: 0 };
  const held: string[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    seconds.bare += await together(PER_ROUND, async way => bares[way]?.transact());
    seconds.request += await together(PER_ROUND, async () => void held.push(await addresses.request(client)));
    seconds.release += await together(PER_ROUND, () => addresses.release(client, held.shift() ?? ''));
  }
  const perSecond = (time: number): number => (ROUNDS * PER_ROUND) / time;
  say(`\n${WAYS} calls at a time (calls per second)`);
  table([
    ['', 'per second'],
    ['bare transaction', round(perSecond(seconds.bare))],
    ['RequestAddress', round(perSecond(seconds.request))],
    ['ReleaseAddress', round(perSecond(seconds.release))],
  ]);
  aim(`RequestAddress, ${WAYS}-way throughput over bare`, seconds.bare / seconds.request, '>=', 2);
  aim(`ReleaseAddress, ${WAYS}-way throughput over bare`, seconds.bare / seconds.release, '>=', 2);
}

await inNamespace(main);
