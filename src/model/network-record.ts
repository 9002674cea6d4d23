import { formatJson, isObject, parseJson, textMap, textOr } from './json.js';
import type { JsonObject } from './json.js';

/**
 * What we remember of a Docker network, below our own prefix in etcd: dockerd tells a driver of it once, at
 * CreateNetwork, and never again, not even when either of us restarts.
 */
export interface NetworkRecord {
  /** Docker's NetworkID; another on each host unless the scope is global. */
  readonly id: string;
  /** The host on which it was created. */
  readonly node: string;
  /** Docker's name for it; undefined until the Docker API told us. */
  readonly name?: string;
  /** RFC 3339. */
  readonly created: string;
  readonly internal: boolean;
  /** What the user named with `--subnet`, in order, IPv4 first. Empty: pools that the PoolID names, or the default. */
  readonly subnets: readonly NetworkSubnet[];
  /** The `-o` options. */
  readonly options: Readonly<Record<string, string>>;
  /** Fields a newer version wrote. */
  readonly rest: JsonObject;
}

/** A `--subnet`, CIDR text, and the `--ip-range` inside it. */
export interface NetworkSubnet {
  readonly cidr: string;
  readonly range?: string;
}

export function parseNetworkRecord(text: string): NetworkRecord | undefined {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || typeof value.id !== 'string' || typeof value.node !== 'string') return undefined;
  const { id, node, name, created, internal, subnets, options, ...rest } = value;
  return {
    id: textOr(id),
    node: textOr(node),
    ...(typeof name === 'string' && name !== '' ? { name } : {}),
    created: textOr(created),
    internal: internal === true,
    subnets: Array.isArray(subnets) ? subnets.flatMap(parseSubnet) : [],
    options: textMap(options),
    rest,
  };
}

export function formatNetworkRecord({ rest, ...record }: NetworkRecord): string {
  return formatJson({ ...rest, ...record });
}

function parseSubnet(value: unknown): NetworkSubnet[] {
  if (!isObject(value) || typeof value.cidr !== 'string') return [];
  return [{ cidr: value.cidr, ...(typeof value.range === 'string' ? { range: value.range } : {}) }];
}
