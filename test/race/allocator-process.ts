import { openSync, writeSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { IPAM_CONFIG_KEY } from '../../src/datastore/keys.js';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import type { Store } from '../../src/datastore/store.js';
import { inTime, withDeadline } from '../../src/deadline.js';
import { CalicoError, DatastoreError, RequestError, reason } from '../../src/errors.js';
import { Allocator } from '../../src/ipam/allocator.js';
import { releaseBlock } from '../../src/ipam/claim.js';
import { formatAddress, nth, parseAddress, parseCidr, size } from '../../src/ipam/cidr.js';
import type { Address, Cidr } from '../../src/ipam/cidr.js';
import { IpamFacts } from '../../src/ipam/facts.js';
import { reservedFor, reservingNodes } from '../../src/ipam/reservation.js';
import { createLogger } from '../../src/log.js';
import { CALL_DEADLINE } from '../../src/plugin/app.js';
import { endpointHandle } from '../../src/ipam/handles.js';
import { allocations, ipamData } from './disagreements.js';
import type { Allocation } from './disagreements.js';
import { ENDPOINT, formatEvent } from './history.js';
import type { What } from './history.js';
import { Random } from './random.js';

/**
 * One node of the race, as a process of its own: asks for addresses and gives them back as the IPAM driver does, with
 * the same deadlines, and writes down what happens. It is killed at any time; its successor begins with what etcd says.
 * The parent ends it with the message `finish`.
 */

/** The only argument, as JSON. */
export interface ProcessOptions {
  readonly node: string;
  readonly incarnation: number;
  readonly endpoints: readonly string[];
  readonly pool: string;
  readonly seed: number;
  /** Path of the log. */
  readonly log: string;
}

/** Calls at a time, as dockerd makes them when many containers start. */
const LANES = 4;
const PER_LANE = 6;
/** Addresses a node wants, at least and at most: eight nodes want more than a /24 has, on average. */
const WANTED = [8, 70] as const;
/** Every so many addresses there is one that networks reserve. */
const RESERVED_STEP = 19;
/** Some callers have less patience than dockerd: their calls fail in the middle while there is no leader. */
const HASTY = { share: 0.1, milliseconds: [30, 600] } as const;
/** Milliseconds the allocator has to take back what failed requests may have got. Its delays add up to 30 s. */
const UNDO_PATIENCE = 45_000;

class AllocatorProcess {
  private readonly file: number;
  private readonly store: Store;
  private readonly facts: IpamFacts;
  private readonly allocator: Allocator;
  private readonly random: Random;
  private readonly pool: Cidr;
  /** What we have, by address: `endpoint`, or what it is reserved as. */
  private readonly held = new Map<string, string>();
  /** Addresses whose release failed: etcd may have done it nevertheless. */
  private readonly uncertain = new Set<string>();
  /** Reservations that failed: what is found of them is ours. */
  private readonly failedReservations = new Set<string>();
  private operations = 0;
  private wanted = 0;
  finishing = false;

  constructor(private readonly options: ProcessOptions) {
    const { node, incarnation, seed, endpoints, pool } = options;
    const log = createLogger('silent');
    this.file = openSync(options.log, 'a');
    this.store = createEtcdStore({ endpoints }, log);
    this.facts = new IpamFacts(this.store, node, log);
    this.allocator = new Allocator(this.store, this.facts, { isGlobal: false, isRouted: () => false }, log);
    this.random = new Random(
      seed,
      [...node].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 0),
      incarnation,
    );
    this.pool = parseCidr(pool) ?? fail(pool);
  }

  async run(): Promise<void> {
    this.write('up');
    await this.facts.whenRead();
    await this.releaseInherited();
    while (!this.finishing) {
      this.wanted = this.random.between(...WANTED);
      await Promise.all(Array.from({ length: LANES }, () => this.lane()));
      // Nothing of ours is under way now, so what is released here cannot be what another call has just got.
      await this.settle();
      process.send?.(this.operations);
    }
    while (this.uncertain.size > 0) await this.settle();
    await this.compareWithDatastore();
    for (const address of [...this.held.keys()]) await this.release(address);
    while (this.uncertain.size > 0) await this.settle();
    this.facts.close();
    await this.store.close();
  }

  private async lane(): Promise<void> {
    for (let call = 0; call < PER_LANE && !this.finishing; call += 1) {
      const isHungry = this.held.size < this.wanted;
      if (this.random.chance(isHungry ? 0.8 : 0.2)) await this.acquire();
      else await this.release(this.random.pick([...this.held.keys()]));
    }
  }

  private async acquire(): Promise<void> {
    const mac = this.newMac();
    const way = this.random.next();
    if (way < 0.7) return this.assign(mac);
    // A call whose connection was lost is sent again by dockerd, and both may be served.
    if (way < 0.75) return void (await Promise.all([this.assign(mac), this.assign(mac)]));
    const address = nth(this.pool, this.random.between(0, Number(size(this.pool)) - 1));
    if (way < 0.85) return this.assignAddress(address, mac);
    if (way < 0.88)
      return void (await Promise.all([this.assignAddress(address, mac), this.assignAddress(address, mac)]));
    // `docker restart` of a container with --ip.
    const known = parseAddress(this.random.pick([...this.held.keys()]) ?? '');
    if (way < 0.9 && known && this.held.get(formatAddress(known)) === ENDPOINT) {
      await this.release(formatAddress(known));
      return this.assignAddress(known, mac);
    }
    const kept =
      Math.floor(this.random.between(0, Number(size(this.pool)) - 1) / RESERVED_STEP) * RESERVED_STEP;
    return this.reserve(nth(this.pool, kept), this.random.chance(0.85) ? 'gateway' : 'aux');
  }

  private assign(mac: string): Promise<void> {
    const holder = this.holder(mac);
    const within = this.random.chance(0.5) ? { within: this.pool } : {};
    return this.ask('', ENDPOINT, () => this.allocator.assign({ family: 4, holder, ...within }));
  }

  private assignAddress(address: Address, mac: string): Promise<void> {
    return this.ask(formatAddress(address), ENDPOINT, async () => {
      await this.allocator.assignAddress(address, this.holder(mac));
      return address;
    });
  }

  private reserve(address: Address, type: string): Promise<void> {
    return this.ask(formatAddress(address), type, async () => {
      await this.allocator.reserve(address, type, this.secondary());
      return address;
    });
  }

  private async ask(wanted: string, as: string, work: () => Promise<Address>): Promise<void> {
    const operation = (this.operations += 1);
    this.write('asking', wanted, as, operation);
    try {
      const address = formatAddress(await answerInTime(work, this.patience()));
      this.write('got', address, as, operation);
      this.held.set(address, as);
    } catch (error) {
      if (as !== ENDPOINT) this.failedReservations.add(wanted);
      this.write('refused', wanted, this.nameOf(error), operation);
    }
  }

  private async release(address: string | undefined): Promise<void> {
    const parsed = parseAddress(address ?? '');
    if (address === undefined || !parsed) return;
    const operation = (this.operations += 1);
    this.held.delete(address);
    this.write('releasing', address, '', operation);
    try {
      const freed = await answerInTime(() => this.allocator.release(parsed), this.patience());
      this.uncertain.delete(address);
      this.write('released', address, String(freed), operation);
    } catch (error) {
      this.uncertain.add(address);
      this.write('unreleased', address, this.nameOf(error), operation);
    }
  }

  /** Brings to an end what failed, and gives a block back now and then so that others may claim it. */
  private async settle(): Promise<void> {
    for (const address of [...this.uncertain])
      // Got again since: so it had been released.
      if (this.held.has(address)) this.uncertain.delete(address);
      else await this.release(address);
    const block = this.random.chance(0.3) ? this.random.pick(this.facts.confirmedBlocks()) : undefined;
    if (!block || this.finishing) return;
    try {
      await answerInTime(() => releaseBlock(this.store, this.options.node, block));
    } catch (error) {
      this.nameOf(error);
    }
  }

  /** A killed process's addresses: nobody needs them any more. */
  private async releaseInherited(): Promise<void> {
    const ours = await this.untilAnswered(() => this.ourAllocations());
    for (const { address } of ours) this.write('found', address);
    this.write('listed');
    for (const { address } of ours) await this.release(address);
    while (this.uncertain.size > 0) await this.settle();
  }

  /** What we were told we hold must become what etcd says we hold; the rest is written down. */
  private async compareWithDatastore(): Promise<void> {
    const until = Date.now() + UNDO_PATIENCE;
    for (;;) {
      const ours = await this.untilAnswered(() => this.ourAllocations());
      const unknown = ours.filter(({ address }) => !this.held.has(address));
      for (const found of unknown.filter(each => this.isInherited(each))) {
        this.write('late', found.address);
        await this.release(found.address);
      }
      const leaks = unknown.filter(each => !this.isInherited(each));
      if (leaks.length > 0 && Date.now() < until) {
        await pause(500);
        continue;
      }
      for (const { address, holder } of leaks) {
        this.write('leak', address, JSON.stringify(holder));
        await this.release(address);
      }
      const known = new Set(ours.map(({ address }) => address));
      for (const address of this.held.keys()) if (!known.has(address)) this.write('lost', address);
      return;
    }
  }

  private async ourAllocations(): Promise<Allocation[]> {
    const { entries } = await this.store.list(IPAM_CONFIG_KEY.replace(/config$/, ''));
    const { node } = this.options;
    return allocations(ipamData(entries)).filter(({ holder }) =>
      reservedFor(holder) === undefined
        ? holder.secondary?.node === node
        : reservingNodes(holder).includes(node),
    );
  }

  /** Made by an earlier process of this node, as far as one can tell: a shared reservation does not say. */
  private isInherited({ address, holder }: Allocation): boolean {
    const { incarnation } = this.options;
    if (reservedFor(holder) !== undefined) return incarnation > 1 && !this.failedReservations.has(address);
    return holder.secondary?.incarnation !== String(incarnation);
  }

  private async untilAnswered<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await answerInTime(work);
      } catch (error) {
        this.nameOf(error);
        await pause(100);
      }
    }
  }

  private holder(mac: string) {
    return {
      handle: (given: string) => endpointHandle(this.options.node, mac, given),
      secondary: this.secondary(),
    };
  }

  private secondary() {
    return { node: this.options.node, incarnation: String(this.options.incarnation) };
  }

  /** Milliseconds the next call may take. */
  private patience(): number {
    return this.random.chance(HASTY.share) ? this.random.between(...HASTY.milliseconds) : CALL_DEADLINE;
  }

  private newMac(): string {
    const byte = () => this.random.between(0, 255).toString(16).padStart(2, '0');
    return `02:42:${byte()}:${byte()}:${byte()}:${byte()}`;
  }

  /** The error's class; what no trouble with etcd or want of addresses explains, is written down as a fault. */
  private nameOf(error: unknown): string {
    const known = error instanceof CalicoError && !(error instanceof RequestError);
    if (!known)
      this.write('fault', '', error instanceof Error ? (error.stack ?? error.message) : reason(error));
    return error instanceof Error ? error.name : 'unknown';
  }

  private write(what: What, address = '', detail = '', operation = 0): void {
    const time = process.hrtime.bigint();
    // Straight to the kernel: what was written is there whatever happens to us.
    writeSync(this.file, formatEvent({ time, what, address, detail, operation }));
  }
}

/** As the plugin's sockets answer dockerd. */
function answerInTime<T>(work: () => Promise<T>, milliseconds = CALL_DEADLINE): Promise<T> {
  return inTime(withDeadline(milliseconds, work), milliseconds + 500, () => new DatastoreError('late'));
}

function fail(pool: string): never {
  throw new Error(`${pool} is no range`);
}

const racer = new AllocatorProcess(JSON.parse(process.argv[2] ?? '{}'));
process.on('message', () => (racer.finishing = true));
// Without its parent a race has no end.
const orphaned = () => process.exit(1);
process.on('disconnect', orphaned);
await racer.run();
process.off('disconnect', orphaned);
process.disconnect();
