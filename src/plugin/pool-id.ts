import { RequestError } from '../errors.js';
import { contains, formatCidr, parseCidr } from '../ipam/cidr.js';
import type { Address, Cidr, Family } from '../ipam/cidr.js';

/**
 * What a network's addresses may be taken from. dockerd stores its text, the PoolID, and gives it back with every
 * request, after restarts and upgrades of either side: so it says everything and we remember nothing.
 */
export interface PoolChoice {
  readonly family: Family;
  /** `--subnet`. */
  readonly subnet?: Cidr;
  /** `--ip-range`: of the subnet, only this is given out unasked. */
  readonly range?: Cidr;
  /** `--ipam-opt ippools`: only these. With neither this nor a subnet: any pool that may be used without naming it. */
  readonly pools?: readonly string[];
}

/** Calico's own names for the default pools: networks of the old plugin have them stored. */
const DEFAULTS: Readonly<Record<string, Family>> = { CalicoPoolIPv4: 4, CalicoPoolIPv6: 6 };
/** Changes when the text behind it is to be read differently; old texts stay readable. */
const VERSION = 'calico:v1:';

export function formatPoolId({ family, subnet, range, pools }: PoolChoice): string {
  if (!subnet && !pools) return `CalicoPoolIPv${family}`;
  const more = [
    ...(subnet ? [] : [`family=${family}`]),
    ...(range ? [`range=${formatCidr(range)}`] : []),
    ...(pools ? [`pools=${pools.join(',')}`] : []),
  ];
  return VERSION + (subnet ? formatCidr(subnet) : '') + (more.length > 0 ? `?${more.join('&')}` : '');
}

/**
 * Reads a PoolID. `cidrOfPool` finds an IPPool by name, as the old plugin's PoolIDs are names. Throws RequestError
 * for what is none of ours.
 */
export function parsePoolId(id: string, cidrOfPool: (name: string) => Cidr | undefined): PoolChoice {
  const family = Object.hasOwn(DEFAULTS, id) ? DEFAULTS[id] : undefined;
  if (family) return { family };
  if (!id.startsWith(VERSION)) {
    const subnet = cidrOfPool(id);
    if (subnet) return { family: subnet.family, subnet };
    throw new RequestError(`PoolID "${id}" is not ours, and no IPPool has that name: ${CREATE_AGAIN}`);
  }
  const choice = parseChoice(id.slice(VERSION.length));
  if (!choice) throw new RequestError(`PoolID "${id}" cannot be read: ${CREATE_AGAIN}`);
  return choice;
}

const CREATE_AGAIN = 'remove the network and create it again';

function parseChoice(text: string): PoolChoice | undefined {
  const [subnetText = '', query = ''] = text.split('?');
  const more = new URLSearchParams(query);
  const subnet = subnetText === '' ? undefined : parseCidr(subnetText);
  const rangeText = more.get('range');
  const range = rangeText === null ? undefined : parseCidr(rangeText);
  const pools = more.get('pools')?.split(',');
  const named = more.get('family');
  const family = subnet?.family ?? (named === '4' ? 4 : named === '6' ? 6 : undefined);
  if (!family || (subnetText !== '' && !subnet) || (rangeText !== null && !range)) return undefined;
  if (!subnet && !pools) return undefined;
  return { family, ...(subnet ? { subnet } : {}), ...(range ? { range } : {}), ...(pools ? { pools } : {}) };
}

/** True where the network may hold the address: anywhere in its subnet, also outside its `--ip-range`. */
export function admits(choice: PoolChoice, address: Address): boolean {
  return choice.subnet ? contains(choice.subnet, address) : choice.family === address.family;
}
