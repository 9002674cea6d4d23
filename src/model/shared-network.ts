import { formatCidr, parseCidr } from '../ipam/cidr.js';
import { formatJson, isObject, objectOrEmpty, parseJson, textList, textMap, textOr } from './json.js';
import type { JsonObject } from './json.js';

/** What a network is made of, as a user typed it: the same on all hosts. */
export interface NetworkDefinition {
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  /** `calico-ipam` or `calico`, without the tag of a managed plugin. */
  readonly ipamDriver: string;
  /** `--ipam-opt`. */
  readonly ipamOptions: Readonly<Record<string, string>>;
  /** What was typed with `--subnet`, in order, IPv4 first. */
  readonly subnets: readonly DefinedSubnet[];
  /** `-o`. */
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
}

/** A `--subnet` and what belongs to it, as text of Docker's. */
export interface DefinedSubnet {
  readonly subnet: string;
  readonly range?: string;
  readonly gateway?: string;
  /** Addresses by name. */
  readonly auxiliary: Readonly<Record<string, string>>;
}

/** A network that all hosts have, or, once `removed`, that none is to have. Identity across hosts is the name. */
export interface SharedNetwork {
  readonly name: string;
  /** Docker's id of what it was made of, so another where it was removed and made again; random in older versions. */
  readonly uid: string;
  /** Node. */
  readonly createdBy: string;
  /** RFC 3339. */
  readonly created: string;
  readonly definition: NetworkDefinition;
  /** Docker's ids, on whatever host, of what had the name before it was removed: these are to go, not to be shared. */
  readonly old: readonly string[];
  /** By a node, RFC 3339. */
  readonly removed?: { readonly by: string; readonly at: string };
  /** Fields a newer version wrote. */
  readonly rest: JsonObject;
}

/** What becomes of a host's network when it is shared. `id`: Docker's; `old`: see {@link SharedNetwork}. */
export function newSharedNetwork(
  { id, name, definition }: { id: string; name: string; definition: NetworkDefinition },
  node: string,
  old: readonly string[] = [],
): SharedNetwork {
  const created = new Date().toISOString();
  return { name, uid: id, createdBy: node, created, definition, old, rest: {} };
}

/** Undefined where the text is none. */
export function parseSharedNetwork(text: string): SharedNetwork | undefined {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || typeof value.name !== 'string' || typeof value.uid !== 'string') return undefined;
  if (!isNetworkName(value.name) || !isObject(value.definition)) return undefined;
  const { name, uid, createdBy, created, definition, old, removed, ...rest } = value;
  return {
    name: textOr(name),
    uid: textOr(uid),
    createdBy: textOr(createdBy),
    created: textOr(created),
    definition: parseDefinition(objectOrEmpty(definition)),
    old: textList(old),
    ...(isObject(removed) ? { removed: { by: textOr(removed.by), at: textOr(removed.at) } } : {}),
    rest,
  };
}

export function formatSharedNetwork({ rest, ...network }: SharedNetwork): string {
  return formatJson({ ...rest, ...network });
}

/** Docker's own rule for names; anything else would not be one in a key either. */
export function isNetworkName(name: string): boolean {
  return /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name);
}

/**
 * In what two definitions differ, in words of `docker network create`; empty where containers would not notice.
 * Labels and `--attachable` are no difference: compose puts its version into labels.
 */
export function differences(one: NetworkDefinition, other: NetworkDefinition): string[] {
  const parts = [comparable(one), comparable(other)] as const;
  return Object.keys(parts[0]).filter(part => parts[0][part] !== parts[1][part]);
}

function comparable(definition: NetworkDefinition): Record<string, string> {
  const { internal, enableIPv4, enableIPv6, ipamOptions, subnets, options } = definition;
  return {
    '--internal': String(internal),
    '--ipv4': String(enableIPv4),
    '--ipv6': String(enableIPv6),
    '--subnet': subnets.map(({ subnet }) => canonical(subnet)).join(),
    '--ip-range': subnets.map(({ range = '' }) => canonical(range)).join(),
    '--gateway': subnets.map(({ gateway = '' }) => canonical(gateway)).join(),
    '--aux-address': subnets.map(({ auxiliary }) => sorted(auxiliary, canonical)).join(),
    '--ipam-opt': sorted(ipamOptions),
    '-o': sorted(options),
  };
}

/** An address or CIDR as we write it; engines write the same differently. What is neither stays as it is. */
export function canonical(text: string): string {
  if (text === '') return '';
  const cidr = parseCidr(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
  return cidr ? formatCidr(cidr) : text;
}

function sorted(map: Readonly<Record<string, string>>, value = (text: string) => text): string {
  const entries = Object.entries(map).map(([name, text]) => [name, value(text)] as const);
  return formatJson(entries.sort(([one], [other]) => (one < other ? -1 : 1)));
}

function parseDefinition(value: JsonObject): NetworkDefinition {
  const subnets = Array.isArray(value.subnets) ? value.subnets.filter(isObject) : [];
  return {
    internal: value.internal === true,
    attachable: value.attachable === true,
    enableIPv4: value.enableIPv4 !== false,
    enableIPv6: value.enableIPv6 === true,
    ipamDriver: textOr(value.ipamDriver),
    ipamOptions: textMap(value.ipamOptions),
    subnets: subnets.map(({ subnet, range, gateway, auxiliary }) => ({
      subnet: textOr(subnet),
      ...(typeof range === 'string' ? { range } : {}),
      ...(typeof gateway === 'string' ? { gateway } : {}),
      auxiliary: textMap(auxiliary),
    })),
    options: textMap(value.options),
    labels: textMap(value.labels),
  };
}
