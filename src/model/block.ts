import { formatCidr, parseCidr, size } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import { formatJson, isObject, numberOrZero, objectOrEmpty, parseJson, textMap } from './json.js';
import type { JsonObject } from './json.js';

/**
 * The values of Calico's IPAM keys. Readers take everything that any Calico since 2018 wrote (nulls, absent fields,
 * fields we do not know, which are kept); writers write what the newest does.
 */

/** Who holds an address. Equal attributes are stored once per block and shared by index. */
export interface AllocationAttribute {
  readonly handle_id?: string;
  /** Free metadata; `node` is what routes a borrowed address. */
  readonly secondary?: Readonly<Record<string, string>>;
  /** Calico's cooldown: the address was released then and must not be given out yet. */
  readonly releasedAt?: string;
  /** Fields of other writers. */
  readonly [field: string]: unknown;
}

/** A block of addresses, `/calico/ipam/v2/assignment/…`. Immutable: every operation makes a new one, so a lost
 *  compare-and-swap leaves nothing half-changed in a cache. */
export interface Block {
  readonly cidr: Cidr;
  /** `host:<node>`, `virtual:load-balancer`, or null: no owner. */
  readonly affinity: string | null;
  /** RFC 3339. */
  readonly affinityClaimTime?: string;
  /** By ordinal: index into `attributes`, or null where free. */
  readonly allocations: readonly (number | null)[];
  /** Free ordinals, first in first out: the one released last comes back last. */
  readonly unallocated: readonly number[];
  readonly attributes: readonly AllocationAttribute[];
  readonly sequenceNumber: bigint;
  /** By ordinal: the block's sequence number when it was assigned. */
  readonly sequenceNumbers: ReadonlyMap<number, bigint>;
  /** Fields we do not know, written back as they were read. */
  readonly rest: JsonObject;
}

/** The value of a block key as a Block; undefined where it is none (foreign garbage must not stop us). */
export function parseBlock(text: string): Block | undefined {
  const value = parseObject(text);
  const cidr = typeof value?.cidr === 'string' ? parseCidr(value.cidr) : undefined;
  if (!value || !cidr || size(cidr) > 65_536n) return undefined;
  const {
    allocations,
    unallocated,
    attributes,
    affinity,
    sequenceNumber,
    sequenceNumberForAllocation,
    ...others
  } = value;
  const { cidr: _cidr, affinity_claim_time: claimTime, deleted: _deleted, ...rest } = others;
  const addresses = Number(size(cidr));
  if (!Array.isArray(allocations) || allocations.length !== addresses || !allocations.every(isIndexOrNull))
    return undefined;
  if (!Array.isArray(unallocated) || !unallocated.every(o => Number.isInteger(o) && o >= 0 && o < addresses))
    return undefined;
  return {
    cidr,
    affinity: typeof affinity === 'string' && affinity !== '' ? affinity : null,
    ...(typeof claimTime === 'string' ? { affinityClaimTime: claimTime } : {}),
    allocations,
    unallocated,
    attributes: Array.isArray(attributes) ? attributes.map(parseAttribute) : [],
    sequenceNumber: parseInteger(sequenceNumber),
    sequenceNumbers: new Map(
      Object.entries(objectOrEmpty(sequenceNumberForAllocation))
        .map(([ordinal, number]) => [Number(ordinal), parseInteger(number)] as const)
        .filter(([ordinal]) => ordinal in allocations),
    ),
    rest,
  };
}

/** The block's text. Put together by hand: every allocation does this, and {@link formatJson} looks at each number. */
export function formatBlock(block: Block): string {
  const sequence = [...block.sequenceNumbers].map(([ordinal, number]) => `"${ordinal}":${number}`);
  const fields = [
    `"cidr":"${formatCidr(block.cidr)}"`,
    `"affinity":${JSON.stringify(block.affinity)}`,
    ...(block.affinityClaimTime === undefined
      ? []
      : [`"affinity_claim_time":${JSON.stringify(block.affinityClaimTime)}`]),
    `"allocations":${JSON.stringify(block.allocations)}`,
    `"unallocated":${JSON.stringify(block.unallocated)}`,
    `"attributes":${formatJson(block.attributes)}`,
    `"sequenceNumber":${block.sequenceNumber}`,
    `"sequenceNumberForAllocation":{${sequence.join()}}`,
    '"deleted":false',
    ...Object.entries(block.rest).map(([name, value]) => `${JSON.stringify(name)}:${formatJson(value)}`),
  ];
  return `{${fields.join()}}`;
}

export type AffinityState = 'pending' | 'confirmed' | 'pendingDeletion';

/** The state in an affinity key; data from before 2018-03 is empty and means confirmed. */
export function parseAffinityState(text: string): AffinityState {
  const state = parseObject(text)?.state;
  return state === 'pending' || state === 'pendingDeletion' ? state : 'confirmed';
}

export function formatAffinity(state: AffinityState): string {
  return formatJson({ state, deleted: false });
}

/** How many addresses a handle holds, by block (CIDR text). The id is only in the key. */
export type HandleCounts = Readonly<Record<string, number>>;

export function parseHandle(text: string): HandleCounts {
  const blocks = parseObject(text)?.block;
  const counts = isObject(blocks) ? Object.entries(blocks) : [];
  return Object.fromEntries(
    counts.filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );
}

export function formatHandle(counts: HandleCounts): string {
  return formatJson({ block: counts, deleted: false });
}

/** Calico's `/calico/ipam/v2/config`. */
export interface IpamConfig {
  /** Never take an address from another host's block. */
  readonly strictAffinity: boolean;
  readonly autoAllocateBlocks: boolean;
  /** Blocks a node may own per family. */
  readonly maxBlocksPerHost: number;
  readonly cooldownSeconds: number;
}

/** What Calico does where nothing sets it: 20 blocks per node and family. */
const DEFAULT_MAX_BLOCKS = 20;

/** The configuration in a value, or the defaults where the key is absent. An absent key means automatic blocks, an
 *  absent *field* means none: so does Calico read it. */
export function parseIpamConfig(text: string | undefined): IpamConfig {
  const value = text === undefined ? { auto_allocate_blocks: true } : (parseObject(text) ?? {});
  const max = numberOrZero(value.maxBlocksPerHost);
  return {
    strictAffinity: value.strict_affinity === true,
    autoAllocateBlocks: value.auto_allocate_blocks === true,
    maxBlocksPerHost: max > 0 ? max : DEFAULT_MAX_BLOCKS,
    cooldownSeconds: Math.max(0, numberOrZero(value.ipCooldownSeconds)),
  };
}

function parseObject(text: string): JsonObject | undefined {
  try {
    const value = parseJson(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function parseAttribute(value: unknown): AllocationAttribute {
  if (!isObject(value)) return {};
  const { handle_id: handle, secondary, ...rest } = value;
  return {
    // An ancient writer appended garbage behind a carriage return.
    ...(typeof handle === 'string' ? { handle_id: handle.split('\r')[0] ?? handle } : {}),
    ...(isObject(secondary) ? { secondary: textMap(secondary) } : {}),
    ...rest,
  };
}

function isIndexOrNull(value: unknown): boolean {
  return value === null || (Number.isInteger(value) && Number(value) >= 0);
}

function parseInteger(value: unknown): bigint {
  if (typeof value === 'bigint') return value;
  return typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : 0n;
}
