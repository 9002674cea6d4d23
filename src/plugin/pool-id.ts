import { RequestError } from '../errors.js';
import { contains, covers, formatCidr, parseCidr } from '../ipam/cidr.js';
import type { Address, Cidr, Family } from '../ipam/cidr.js';

/**
 * What a network's addresses may be taken from. dockerd stores its text, the PoolID, and gives it back with every
 * request, after restarts and upgrades of either side: so it says everything and we remember nothing.
 */
export type PoolChoice =
  /** Any pool that may be used without naming it. */
  | { readonly kind: 'default'; readonly family: Family }
  /** A `--subnet`, of which only `range` (an `--ip-range`) is given out unasked. */
  | { readonly kind: 'subnet'; readonly subnet: Cidr; readonly range?: Cidr };

/** Calico's own names for the default pools: networks of the old plugin have them stored. */
const DEFAULTS: Readonly<Record<string, Family>> = { CalicoPoolIPv4: 4, CalicoPoolIPv6: 6 };
/** Changes when the text behind it is to be read differently; old texts stay readable. */
const VERSION = 'calico:v1:';

export function formatPoolId(choice: PoolChoice): string {
  if (choice.kind === 'default') return `CalicoPoolIPv${choice.family}`;
  const range = choice.range ? `?range=${formatCidr(choice.range)}` : '';
  return `${VERSION}${formatCidr(choice.subnet)}${range}`;
}

/**
 * Reads a PoolID. `cidrOfPool` finds an IPPool by name, as the old plugin's PoolIDs are names. Throws RequestError
 * for what is none of ours.
 */
export function parsePoolId(id: string, cidrOfPool: (name: string) => Cidr | undefined): PoolChoice {
  const family = Object.hasOwn(DEFAULTS, id) ? DEFAULTS[id] : undefined;
  if (family) return { kind: 'default', family };
  if (!id.startsWith(VERSION)) {
    const subnet = cidrOfPool(id);
    if (subnet) return { kind: 'subnet', subnet };
    throw new RequestError(
      `PoolID "${id}" is not ours, and no IPPool has that name: remove the network and create it again`,
    );
  }
  const [subnetText = '', query = ''] = id.slice(VERSION.length).split('?');
  const subnet = parseCidr(subnetText);
  const rangeText = new URLSearchParams(query).get('range');
  const range = rangeText === null ? undefined : parseCidr(rangeText);
  if (!subnet || (rangeText !== null && !range))
    throw new RequestError(`PoolID "${id}" cannot be read: remove the network and create it again`);
  return { kind: 'subnet', subnet, ...(range ? { range } : {}) };
}

/** Where an address that nobody asked for by name is taken from; undefined: any default pool. */
export function automaticRange(choice: PoolChoice): Cidr | undefined {
  return choice.kind === 'default' ? undefined : (choice.range ?? choice.subnet);
}

/** Throws RequestError where `--ip-range` is no part of `--subnet`. */
export function checkRange(subnet: Cidr, range: Cidr): void {
  if (!covers(subnet, range))
    throw new RequestError(`--ip-range ${formatCidr(range)} is not inside --subnet ${formatCidr(subnet)}`);
}

/** True where the network may hold the address: anywhere in its subnet, also outside its `--ip-range`. */
export function admits(choice: PoolChoice, address: Address): boolean {
  return choice.kind === 'default' ? choice.family === address.family : contains(choice.subnet, address);
}
