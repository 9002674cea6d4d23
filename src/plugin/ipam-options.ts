import { RequestError } from '../errors.js';
import { formatCidr } from '../ipam/cidr.js';
import type { Cidr, Family } from '../ipam/cidr.js';
import { BLOCK_SIZES } from '../model/ip-pool.js';
import type { Encapsulation } from '../model/ip-pool.js';

/** What `--ipam-opt` can say. It reaches RequestPool, once for each family and subnet, with the same options. */
export interface IpamOptions {
  /** IPPools of this family to use, by name. */
  readonly pools?: readonly string[];
  /** For a pool made on the fly, and only where it fits the one that is there. */
  readonly blockSize?: number;
  /** A block size that only the other family can have: fine where the network has that, too. */
  readonly otherBlockSize?: number;
  readonly natOutgoing?: boolean;
  readonly vxlanMode?: Encapsulation;
}

/** An option of `docker network create`: for the table in the documents. */
export interface DocumentedOption {
  readonly name: string;
  readonly help: string;
}

export const IPAM_OPTIONS: readonly DocumentedOption[] = [
  {
    name: 'ippools',
    help: 'names of the IPPools to use, comma separated; with `--ipv6` also names of IPv6 pools',
  },
  {
    name: 'blockSize',
    help: 'prefix length of the blocks of a pool made for `--subnet`: 20 to 32, IPv6 116 to 128',
  },
  {
    name: 'natOutgoing',
    help: '`true` or `false`, for a pool made for `--subnet`: masquerade what leaves the pools',
  },
  { name: 'vxlanMode', help: '`Never`, `Always` or `CrossSubnet`, for a pool made for `--subnet`' },
];

/** Docker adds such options by itself (a swarm does). */
const DOCKERS_OWN = /^com\.docker\.network\./;
const POOL_NAME = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/;

/**
 * Reads `--ipam-opt`. Values that only fit the other family are left to that family's request: dockerd sends all
 * options with each. Throws RequestError that names the option and what is known.
 */
export function ipamOptions(
  given: Readonly<Record<string, string>>,
  family: Family,
  subnet: Cidr | undefined,
): IpamOptions {
  for (const name of Object.keys(given))
    if (!DOCKERS_OWN.test(name) && !IPAM_OPTIONS.some(option => option.name === name))
      throw new RequestError(
        `unknown option --ipam-opt ${name}: the calico IPAM driver knows ${IPAM_OPTIONS.map(option => option.name).join(', ')}`,
      );
  const { ippools, blockSize, natOutgoing, vxlanMode } = given;
  const forNewPool = Object.keys(given).find(name => name !== 'ippools' && !DOCKERS_OWN.test(name));
  if (forNewPool !== undefined && ippools !== undefined)
    throw new RequestError(
      `--ipam-opt ${forNewPool} is for a pool made on the fly: it does not go with --ipam-opt ippools`,
    );
  if (forNewPool !== undefined && !subnet && family === 4)
    throw new RequestError(`--ipam-opt ${forNewPool} is for a pool made on the fly: it needs a --subnet`);
  return {
    ...(ippools === undefined ? {} : { pools: poolNames(ippools) }),
    ...(blockSize === undefined ? {} : parseBlockSize(blockSize, family, subnet)),
    ...(natOutgoing === undefined ? {} : { natOutgoing: parseBoolean('natOutgoing', natOutgoing) }),
    ...(vxlanMode === undefined ? {} : { vxlanMode: parseEncapsulation(vxlanMode) }),
  };
}

function poolNames(value: string): string[] {
  const names = value.split(',').map(name => name.trim());
  for (const name of names)
    if (!POOL_NAME.test(name))
      throw new RequestError(`--ipam-opt ippools=${value}: "${name}" is no name of an IPPool`);
  return names;
}

function parseBlockSize(
  value: string,
  family: Family,
  subnet: Cidr | undefined,
): { blockSize?: number; otherBlockSize?: number } {
  const size = Number(value);
  const fits = ({ min, max }: { min: number; max: number }) =>
    Number.isInteger(size) && size >= min && size <= max;
  if (!fits(BLOCK_SIZES[4]) && !fits(BLOCK_SIZES[6]))
    throw new RequestError(`--ipam-opt blockSize=${value}: must be 20 to 32 for IPv4, 116 to 128 for IPv6`);
  if (!fits(BLOCK_SIZES[family])) return { otherBlockSize: size };
  if (subnet && size < subnet.length)
    throw new RequestError(
      `--ipam-opt blockSize=${value}: a block of /${size} does not fit into --subnet ${formatCidr(subnet)}`,
    );
  return { blockSize: size };
}

function parseBoolean(name: string, value: string): boolean {
  if (!/^(true|false)$/i.test(value))
    throw new RequestError(`--ipam-opt ${name}=${value}: must be true or false`);
  return value.toLowerCase() === 'true';
}

function parseEncapsulation(value: string): Encapsulation {
  const found = (['Never', 'Always', 'CrossSubnet'] as const).find(
    mode => mode.toLowerCase() === value.toLowerCase(),
  );
  if (!found) throw new RequestError(`--ipam-opt vxlanMode=${value}: must be Never, Always or CrossSubnet`);
  return found;
}
