import { blockKey, IPAM_CONFIG_KEY, resourceKey } from '../datastore/keys.js';
import type { Entry } from '../datastore/store.js';
import { parseBlock } from '../model/block.js';
import type { AllocationAttribute, Block } from '../model/block.js';
import { parseIpPool } from '../model/ip-pool.js';
import { isObject, parseJson } from '../model/json.js';
import { holderOf } from './block.js';
import { ownership } from './check-ownership.js';
import { Affinities } from './check-affinities.js';
import { contentFindings } from './check-block.js';
import { Endpoints } from './check-endpoints.js';
import { unreadable } from './check-finding.js';
import type { Finding } from './check-finding.js';
import { Handles } from './check-handles.js';
import { blockFact, blockOverlaps, poolFindings, poolOverlaps } from './check-ranges.js';
import type { BlockFact, PoolFact } from './check-ranges.js';
import { contains, formatCidr, nth, parseAddress, parseCidr } from './cidr.js';
import type { Address, Cidr } from './cidr.js';

export interface CheckOptions {
  readonly now: Date;
  /** An allocation younger than this, in milliseconds, may still wait for its endpoint or network. */
  readonly grace: number;
}

export interface CheckResult {
  readonly blocks: number;
  /** Addresses in use, by the blocks. */
  readonly inUse: number;
  /** Of these, how many are too young to be missed by an owner. */
  readonly inProgress: number;
  readonly findings: readonly Finding[];
}

/**
 * Compares everything in the datastore with everything else. Pure: it is given each entry once, read at one revision,
 * in the order pools, networks, affinities, endpoints, handles, blocks (whose contents are compared with all before);
 * it keeps of each only what the comparison needs.
 */
export class Check {
  private readonly findings: Finding[] = [];
  private readonly pools: PoolFact[] = [];
  private readonly blocks = new Map<string, BlockFact>();
  private readonly unknown: Cidr[] = [];
  private readonly affinities = new Affinities();
  private readonly endpoints = new Endpoints();
  private readonly handles = new Handles();
  private readonly isClaimed = (address: Address): boolean => this.endpoints.isClaimed(address);
  private readonly isRecent = ({ secondary }: AllocationAttribute): boolean => {
    const time = parseTimestamp(secondary?.timestamp ?? '');
    // Hosts' clocks differ: a time a little ahead is recent too.
    return Math.abs(this.options.now.getTime() - time) < this.options.grace;
  };
  private inUse = 0;
  private inProgress = 0;

  constructor(private readonly options: CheckOptions) {}

  config(entry: Entry): void {
    if (entry.key === IPAM_CONFIG_KEY && !isJsonObject(entry.value))
      this.findings.push(unreadable(entry, 'IPAM configuration'));
  }

  pool(entry: Entry): void {
    const pool = parseIpPool(entry.value);
    if (!pool) this.findings.push(unreadable(entry, 'IPPool'));
    else if (resourceKey('ippools', pool.name) !== entry.key)
      this.findings.push(mismatch(entry, `IPPool ${pool.name}`));
    else this.pools.push({ key: entry.key, cidr: pool.cidr, pool });
  }

  network(entry: Entry): void {
    this.findings.push(...this.endpoints.addNetwork(entry));
  }

  affinity(entry: Entry): void {
    this.findings.push(...this.affinities.add(entry));
  }

  endpoint(entry: Entry): void {
    this.findings.push(...this.endpoints.addEndpoint(entry));
  }

  handle(entry: Entry): void {
    this.findings.push(...this.handles.add(entry));
  }

  block(entry: Entry): void {
    const { key, revision } = entry;
    const block = parseBlock(entry.value);
    if (!block || blockKey(block.cidr) !== key) {
      this.findings.push(
        block ? mismatch(entry, `block ${formatCidr(block.cidr)}`) : unreadable(entry, 'block'),
      );
      this.ignore(key);
      return;
    }
    const fact = blockFact(key, block, revision);
    this.blocks.set(formatCidr(block.cidr), fact);
    this.findings.push(
      ...poolFindings(fact, this.pools),
      ...this.affinities.compare(key, block, revision),
      ...contentFindings(key, block, revision, this.isClaimed),
    );
    this.handles.compare(key, block, revision);
    block.allocations.forEach((index, ordinal) => {
      if (index !== null) this.allocation(key, block, ordinal);
    });
  }

  /** The result, after all entries. */
  finish(): CheckResult {
    this.findings.push(
      ...poolOverlaps(this.pools),
      ...blockOverlaps([...this.blocks.values()]),
      ...this.affinities.withoutBlock(blockKey),
      ...this.handles.findings(text => this.revisionOf(text)),
      ...this.endpoints.unheld(text => {
        const address = parseAddress(text);
        return address !== undefined && this.unknown.some(cidr => contains(cidr, address));
      }),
    );
    const { inUse, inProgress, findings } = this;
    return { blocks: this.blocks.size + this.unknown.length, inUse, inProgress, findings };
  }

  /** Nothing may be concluded from a block that cannot be read. */
  private ignore(key: string): void {
    const cidr = parseCidr((key.split('/').at(-1) ?? '').replace(/-(\d+)$/, '/$1'));
    if (!cidr) return;
    this.unknown.push(cidr);
    this.affinities.skip(cidr);
  }

  private revisionOf(text: string): { key: string; revision: string | undefined } | 'unreadable' {
    const known = this.blocks.get(text);
    if (known) return known;
    const cidr = parseCidr(text);
    if (!cidr || this.unknown.some(other => formatCidr(other) === text)) return 'unreadable';
    return { key: blockKey(cidr), revision: undefined };
  }

  private allocation(key: string, block: Block, ordinal: number): void {
    this.inUse += 1;
    const holder = holderOf(block, ordinal) ?? {};
    const owner = ownership(key, nth(block.cidr, ordinal), holder, this.endpoints, this.isRecent);
    if (owner === 'in progress') this.inProgress += 1;
    else if (owner !== 'owned') this.findings.push(owner);
  }
}

/** Milliseconds since 1970 of Go's `2026-08-22 10:00:00.123456789 +0000 UTC`; NaN where it is none. */
function parseTimestamp(text: string): number {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d+)? \+0000 UTC/.exec(text);
  return match ? Date.parse(`${match[1]}T${match[2]}Z`) : NaN;
}

function isJsonObject(text: string): boolean {
  try {
    return isObject(parseJson(text));
  } catch {
    return false;
  }
}

function mismatch({ key }: Entry, what: string): Finding {
  const text = `it holds ${what}, and is left as it is: see who wrote it, and correct or delete it`;
  return { kind: 'key-mismatch', keys: [key], text };
}
