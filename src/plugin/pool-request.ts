import { RequestError } from '../errors.js';
import { covers, formatCidr, hasHostBits, overlap, parseCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';
import type { JsonObject } from '../model/json.js';
import { flag, requiredText, text, texts } from './fields.js';
import { ipamOptions } from './ipam-options.js';
import type { IpamOptions } from './ipam-options.js';
import { isOurAddressSpace } from './protocol.js';

/** A RequestPool: what one `--subnet`, or its absence, asks for. */
export interface PoolRequest {
  readonly family: Family;
  readonly subnet?: Cidr;
  readonly range?: Cidr;
  readonly options: IpamOptions;
}

/** Reads and checks RequestPool. Throws RequestError that names the option of `docker network create`. */
export function poolRequest(body: JsonObject): PoolRequest {
  const space = requiredText(body, 'AddressSpace');
  if (!isOurAddressSpace(space)) throw new RequestError(`AddressSpace "${space}" is not one of Calico's`);
  const family = flag(body, 'V6') ? 6 : 4;
  const subnet = rangeOf(text(body, 'Pool'), '--subnet', family);
  const range = rangeOf(text(body, 'SubPool'), '--ip-range', family);
  if (range && !subnet) throw new RequestError(`--ip-range ${formatCidr(range)} needs a --subnet around it`);
  if (subnet && range && !covers(subnet, range))
    throw new RequestError(`--ip-range ${formatCidr(range)} is not inside --subnet ${formatCidr(subnet)}`);
  const options = ipamOptions(texts(body, 'Options'), family, subnet);
  return { family, ...(subnet ? { subnet } : {}), ...(range ? { range } : {}), options };
}

function rangeOf(value: string, option: string, family: Family): Cidr | undefined {
  // "0.0.0.0/0" is how a network without --subnet was stored by engines and by the old plugin.
  if (value === '' || value === '0.0.0.0/0' || value === '::/0') return undefined;
  const cidr = value.includes('/') ? parseCidr(value) : undefined;
  if (!cidr) throw new RequestError(`${option} "${value}" is no CIDR like ${EXAMPLE[family]}`);
  if (cidr.family !== family) throw new RequestError(`${option} ${value} is not IPv${family}`);
  if (hasHostBits(value))
    throw new RequestError(
      `${option} ${value} has bits set right of its prefix length: ${formatCidr(cidr)} is meant?`,
    );
  const forbidden = FORBIDDEN.find(range => overlap(range.cidr, cidr));
  if (forbidden)
    throw new RequestError(`${option} ${value} is ${forbidden.what}: containers cannot have such addresses`);
  return cidr;
}

const EXAMPLE = { 4: '192.0.2.0/24', 6: 'fd80:1::/64' };

const FORBIDDEN = [
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['224.0.0.0/3', 'multicast or reserved'],
  ['fe80::/10', 'link-local'],
  ['ff00::/8', 'multicast'],
].flatMap(([range = '', what = '']) => {
  const cidr = parseCidr(range);
  return cidr ? [{ cidr, what }] : [];
});
