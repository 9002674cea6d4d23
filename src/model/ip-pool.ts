import { createHash } from 'node:crypto';
import { formatCidr, parseCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import { formatJson, isObject, numberOrZero, objectOrEmpty, textList } from './json.js';
import type { JsonObject } from './json.js';
import { formatChangedResource, formatNewResource, parseResource } from './resource.js';
import type { Resource } from './resource.js';
import { parseSelector } from './selector.js';
import type { Labels } from './selector-tree.js';

export type Encapsulation = 'Never' | 'Always' | 'CrossSubnet';

/** Calico's IPPool with all defaults filled in. */
export interface IpPool {
  readonly name: string;
  readonly cidr: Cidr;
  /** Prefix length of its blocks. */
  readonly blockSize: number;
  readonly vxlanMode: Encapsulation;
  readonly natOutgoing: boolean;
  /** No new addresses; those in use stay. */
  readonly disabled: boolean;
  /** Used where nobody names a pool. */
  readonly automatic: boolean;
  readonly allowsWorkloads: boolean;
  /** Hosts may have addresses of it for their ends of a tunnel. */
  readonly allowsTunnels: boolean;
  readonly selectsNode: (labels: Labels) => boolean;
  /** We made it for a `--subnet` and nobody edited it since: it goes with its last network. */
  readonly isOurs: boolean;
  readonly resource: Resource;
}

/** Marks a pool made on the fly; the value is a digest of its spec, which an edit changes. */
const MADE_FOR_DOCKER = 'org.projectcalico.libnetwork/made-for-docker';
/** Two steps of deletion: nobody takes a new address of a disabled pool while its blocks are released. */
const DISAPPEARING = 'org.projectcalico.libnetwork/disappearing';

/** Prefix lengths a block may have. */
export const BLOCK_SIZES = {
  4: { default: 26, min: 20, max: 32 },
  6: { default: 122, min: 116, max: 128 },
} as const;

/** Parses an IPPool; undefined where it is none that can be used. */
export function parseIpPool(text: string): IpPool | undefined {
  const resource = parseResource(text);
  const spec = resource?.spec;
  const cidr = typeof spec?.cidr === 'string' ? parseCidr(spec.cidr) : undefined;
  if (!resource || !spec || !cidr) return undefined;
  const blockSize = numberOrZero(spec.blockSize) || BLOCK_SIZES[cidr.family].default;
  if (
    !Number.isInteger(blockSize) ||
    blockSize < Math.max(cidr.length, BLOCK_SIZES[cidr.family].min) ||
    blockSize > BLOCK_SIZES[cidr.family].max
  )
    return undefined;
  const uses = textList(spec.allowedUses);
  const selectsNode = selector(spec.nodeSelector);
  // Docker's containers have no namespace object: such a selector is asked about no labels at all.
  const selectsNamespace = selector(spec.namespaceSelector)({});
  return {
    name: resource.name,
    cidr,
    blockSize,
    vxlanMode: spec.vxlanMode === 'Always' || spec.vxlanMode === 'CrossSubnet' ? spec.vxlanMode : 'Never',
    natOutgoing: spec.natOutgoing === true,
    disabled: spec.disabled === true || typeof resource.metadata.deletionTimestamp === 'string',
    automatic: spec.assignmentMode !== 'Manual',
    allowsWorkloads: uses.length === 0 || uses.includes('Workload'),
    allowsTunnels: uses.length === 0 || uses.includes('Tunnel'),
    selectsNode: labels => selectsNamespace && isAllocatable(resource.rest.status) && selectsNode(labels),
    isOurs: resource.annotations[MADE_FOR_DOCKER] === digest(spec),
    resource,
  };
}

/** Newest Calico can say in a pool's status that it gives no addresses. */
function isAllocatable(status: unknown): boolean {
  const { conditions } = objectOrEmpty(status);
  const refused = (condition: unknown) =>
    isObject(condition) && condition.type === 'Allocatable' && condition.status === 'False';
  return !(Array.isArray(conditions) && conditions.some(refused));
}

/** A selector that cannot be parsed selects nothing: a pool meant for some nodes must not become everybody's. */
function selector(text: unknown): (labels: Labels) => boolean {
  try {
    return parseSelector(typeof text === 'string' ? text : '').matches;
  } catch {
    return () => false;
  }
}

/** What of a new pool can be chosen. */
export interface NewPool {
  readonly name: string;
  readonly cidr: Cidr;
  readonly vxlanMode: Encapsulation;
  readonly natOutgoing: boolean;
  /** Default: Calico's, or the pool's own length where that is longer. */
  readonly blockSize?: number;
  /** Made for one `--subnet`: used only where that is named, and disappears with its last network. */
  readonly madeForDocker: boolean;
}

/** The prefix length of a new pool's blocks. */
export function newBlockSize({ blockSize, cidr }: Pick<NewPool, 'blockSize' | 'cidr'>): number {
  return blockSize ?? Math.max(BLOCK_SIZES[cidr.family].default, cidr.length);
}

/** The text of a new IPPool, every default written out as newest Calico does. */
export function formatNewPool(pool: NewPool, now: Date): string {
  const spec = {
    cidr: formatCidr(pool.cidr),
    vxlanMode: pool.vxlanMode,
    ipipMode: 'Never',
    natOutgoing: pool.natOutgoing,
    blockSize: newBlockSize(pool),
    nodeSelector: 'all()',
    allowedUses: ['Workload', 'Tunnel'],
    assignmentMode: pool.madeForDocker ? 'Manual' : 'Automatic',
  };
  const annotations = pool.madeForDocker ? { annotations: { [MADE_FOR_DOCKER]: digest(spec) } } : {};
  return formatNewResource('IPPool', { name: pool.name, ...annotations }, spec, now);
}

/** The pool's text on its way out: disabled, so that no address is taken from it any more. */
export function formatDisappearing(pool: IpPool): string {
  return withSpec(pool, { ...pool.resource.spec, disabled: true }, { [DISAPPEARING]: 'true' });
}

/** The pool's text as it was before {@link formatDisappearing}: somebody needs it after all. */
export function formatReturned(pool: IpPool): string {
  const { disabled: _disabled, ...spec } = pool.resource.spec;
  return withSpec(pool, spec, { [DISAPPEARING]: undefined });
}

/** True between the two steps of a deletion (whoever does it may have died). */
export function isDisappearing(pool: IpPool): boolean {
  return pool.disabled && pool.resource.annotations[DISAPPEARING] === 'true';
}

/** Digest of the fields a user can edit; `disabled` is left out, as our own deletion sets it. */
function digest(spec: JsonObject): string {
  const { disabled: _disabled, ...rest } = spec;
  const text = formatJson(Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1)));
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function withSpec(pool: IpPool, spec: JsonObject, annotations: Record<string, string | undefined>): string {
  return formatChangedResource(pool.resource, {
    metadata: { annotations: { ...pool.resource.annotations, ...annotations } },
    spec,
  });
}
