import { RequestError } from '../errors.js';
import type { Allocator } from '../ipam/allocator.js';
import { goTime } from '../ipam/block.js';
import type { Holder } from '../ipam/block-requests.js';
import {
  cover,
  formatAddress,
  formatCidr,
  hasHostBits,
  overlap,
  parseAddress,
  parseCidr,
  sameCidr,
} from '../ipam/cidr.js';
import type { Address, Cidr, Family } from '../ipam/cidr.js';
import { describePool } from '../ipam/facts.js';
import type { IpamFacts } from '../ipam/facts.js';
import type { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import type { IpPool } from '../model/ip-pool.js';
import type { JsonObject } from '../model/json.js';
import { endpointHandle, reservationHandle } from './handles.js';
import { flag, mac, requiredText, text, texts } from './fields.js';
import type { RequestLoop } from './request-loop.js';
import { admits, automaticRange, checkRange, formatPoolId, parsePoolId } from './pool-id.js';
import type { PoolChoice } from './pool-id.js';
import { ADDRESS_SPACE, GATEWAY4, GATEWAY6, isOurAddressSpace, LABEL } from './protocol.js';
import type { Methods } from './protocol.js';

/** Options Docker adds by itself (a swarm does). */
const DOCKERS_OWN = /^com\.docker\.network\./;

export interface IpamDriverParts {
  readonly allocator: Allocator;
  readonly facts: IpamFacts;
  readonly pools: PoolLifecycle;
  readonly loop: RequestLoop;
  /** Makes the default pools if there are none. */
  ensureDefaultPools(): Promise<void>;
  /** True where a network refers to the pool, as the datastore says now. */
  isNeeded(pool: IpPool): Promise<boolean>;
}

/** Docker's IpamDriver on Calico's IPAM. */
export function ipamDriver(parts: IpamDriverParts): Methods {
  const { allocator, facts, pools } = parts;
  const choiceOf = (body: JsonObject) =>
    parsePoolId(
      requiredText(body, 'PoolID'),
      name => facts.allPools().find(pool => pool.name === name)?.cidr,
    );

  return {
    // A MAC before the address: it names the allocation's owner and ties RequestAddress to CreateEndpoint.
    'IpamDriver.GetCapabilities': () => ({ RequiresMACAddress: true, RequiresRequestReplay: false }),
    'IpamDriver.GetDefaultAddressSpaces': () => ({
      LocalDefaultAddressSpace: ADDRESS_SPACE,
      GlobalDefaultAddressSpace: ADDRESS_SPACE,
    }),

    /** No round trip where the pool exists; see {@link PoolLifecycle.poolFor}. */
    'IpamDriver.RequestPool': async body => {
      const request = poolRequest(body);
      parts.loop.requested(request);
      await facts.ready();
      const choice = request.subnet
        ? await subnetChoice(request.subnet, request.range, pools)
        : await defaultChoice(request.family, parts);
      return {
        PoolID: formatPoolId(choice),
        Pool: formatCidr(choice.kind === 'subnet' ? choice.subnet : shownPool(request.family, facts)),
        // The gateway that containers really have. Naming it here spares a RequestAddress on every engine.
        Data: { [LABEL.gateway]: request.family === 4 ? `${GATEWAY4}/32` : `${GATEWAY6}/128` },
      };
    },

    /** One round trip where no pool of ours is left over. */
    'IpamDriver.ReleasePool': async body => {
      await facts.ready();
      const choice = choiceOf(body);
      parts.loop.released(choice.kind === 'default' ? choice.family : choice.subnet.family);
      const pool = choice.kind === 'subnet' ? facts.poolAround(choice.subnet) : undefined;
      if (pool?.isOurs) await pools.removeIfUnused(pool.name, found => parts.isNeeded(found));
      return {};
    },

    /** One round trip in the common case; see {@link Allocator}. */
    'IpamDriver.RequestAddress': async body => {
      await facts.ready();
      const choice = choiceOf(body);
      const options = texts(body, 'Options');
      const wanted = text(body, 'Address');
      const isGateway = options[LABEL.requestType] === LABEL.gateway;
      const family = choice.kind === 'default' ? choice.family : choice.subnet.family;
      if (isGateway && wanted === '')
        return { Address: family === 4 ? `${GATEWAY4}/32` : `${GATEWAY6}/128`, Data: {} };
      const hardware = mac(options[LABEL.macAddress] ?? '', 'the MAC address');
      const holder = holderFor(facts.node, hardware, isGateway);
      const address =
        wanted === ''
          ? await anyAddress(choice, holder, allocator)
          : await thisAddress(wanted, choice, holder, parts);
      return { Address: `${formatAddress(address)}/${address.family === 4 ? 32 : 128}`, Data: {} };
    },

    /** One round trip. Never an error for what is not ours to free: dockerd would only log it. */
    'IpamDriver.ReleaseAddress': async body => {
      requiredText(body, 'PoolID');
      const address = parseAddress(requiredText(body, 'Address').split('/')[0] ?? '');
      if (!address) throw new RequestError(`Address "${text(body, 'Address')}" is no IP address`);
      if (!isDummy(address)) await allocator.release(address);
      return {};
    },
  };
}

interface PoolRequest {
  readonly family: Family;
  readonly subnet?: Cidr;
  readonly range?: Cidr;
}

function poolRequest(body: JsonObject): PoolRequest {
  const space = requiredText(body, 'AddressSpace');
  if (!isOurAddressSpace(space)) throw new RequestError(`AddressSpace "${space}" is not one of Calico's`);
  const family = flag(body, 'V6') ? 6 : 4;
  for (const name of Object.keys(texts(body, 'Options')))
    if (!DOCKERS_OWN.test(name))
      throw new RequestError(`unknown option --ipam-opt ${name}: Calico's IPAM driver knows none`);
  const subnet = rangeOf(text(body, 'Pool'), '--subnet', family);
  const range = rangeOf(text(body, 'SubPool'), '--ip-range', family);
  if (range && !subnet) throw new RequestError(`--ip-range ${formatCidr(range)} needs a --subnet around it`);
  if (subnet && range) checkRange(subnet, range);
  return { family, ...(subnet ? { subnet } : {}), ...(range ? { range } : {}) };
}

function rangeOf(value: string, option: string, family: Family): Cidr | undefined {
  // "0.0.0.0/0" is how a network without --subnet was stored by engines and by the old plugin.
  if (value === '' || value === '0.0.0.0/0' || value === '::/0') return undefined;
  const cidr = value.includes('/') ? parseCidr(value) : undefined;
  if (!cidr)
    throw new RequestError(
      `${option} "${value}" is no CIDR like ${family === 4 ? '192.0.2.0/24' : 'fd80:1::/64'}`,
    );
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

const FORBIDDEN = [
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['224.0.0.0/3', 'multicast or reserved'],
  ['fe80::/10', 'link-local'],
  ['ff00::/8', 'multicast'],
].flatMap(([text = '', what = '']) => {
  const cidr = parseCidr(text);
  return cidr ? [{ cidr, what }] : [];
});

async function subnetChoice(
  subnet: Cidr,
  range: Cidr | undefined,
  pools: PoolLifecycle,
): Promise<PoolChoice> {
  await pools.poolFor(subnet);
  return { kind: 'subnet', subnet, ...(range ? { range } : {}) };
}

async function defaultChoice(family: Family, parts: IpamDriverParts): Promise<PoolChoice> {
  if (defaultPools(family, parts.facts).length === 0) await parts.ensureDefaultPools();
  if (defaultPools(family, parts.facts).length > 0) return { kind: 'default', family };
  const setting = family === 4 ? 'create an IPPool' : 'set CALICO_IPV6POOL_CIDR for the daemon';
  throw new RequestError(
    `there is no IPv${family} pool for networks without a subnet: give the network an IPv${family} --subnet, or ${setting}`,
  );
}

function defaultPools(family: Family, facts: IpamFacts): IpPool[] {
  const labels = facts.nodeLabels;
  return facts
    .allPools()
    .filter(
      pool =>
        pool.cidr.family === family &&
        !pool.disabled &&
        pool.automatic &&
        pool.allowsWorkloads &&
        pool.selectsNode(labels),
    );
}

/**
 * The range dockerd is shown for a network without subnet. IPv4: 0.0.0.0/0, which every engine exempts from its checks
 * (they would ask again and again). IPv6 has no such exemption before 27: the range around the default pools, which
 * contains no nameserver of the host.
 */
function shownPool(family: Family, facts: IpamFacts): Cidr {
  const everything: Cidr = { family, base: 0n, length: 0 };
  if (family === 4) return everything;
  return cover(defaultPools(6, facts).map(pool => pool.cidr)) ?? everything;
}

/** True for the range that stands for the default pools in dockerd's eyes. */
export function isDefaultSubnet(subnet: Cidr, facts: IpamFacts): boolean {
  return sameCidr(subnet, shownPool(subnet.family, facts));
}

function holderFor(node: string, hardware: string | undefined, isGateway: boolean): Holder {
  const secondary = { node, timestamp: goTimestamp(new Date()) };
  if (hardware !== undefined)
    return { handle: address => endpointHandle(node, hardware, address), secondary };
  const type = isGateway ? 'gateway' : 'aux';
  return {
    handle: address => reservationHandle(node, type, address),
    secondary: { ...secondary, type: `docker-${type}` },
  };
}

function anyAddress(choice: PoolChoice, holder: Holder, allocator: Allocator): Promise<Address> {
  const within = automaticRange(choice);
  const family = choice.kind === 'default' ? choice.family : choice.subnet.family;
  return allocator.assign({ family, holder, ...(within ? { within } : {}) });
}

async function thisAddress(
  wanted: string,
  choice: PoolChoice,
  holder: Holder,
  { allocator, facts }: IpamDriverParts,
): Promise<Address> {
  const address = parseAddress(wanted.split('/')[0] ?? '');
  if (!address) throw new RequestError(`Address "${wanted}" is no IP address`);
  if (!admits(choice, address)) {
    const where =
      choice.kind === 'subnet'
        ? `the network's subnet ${formatCidr(choice.subnet)}`
        : `an IPv${choice.family} network`;
    throw new RequestError(`address ${wanted} is not in ${where}`);
  }
  if (
    choice.kind === 'default' &&
    !defaultPools(choice.family, facts).some(pool => pool === facts.poolOf(address))
  )
    throw new RequestError(
      `address ${wanted} is in none of the network's pools: ${defaultPools(choice.family, facts).map(describePool).join(', ') || 'there are none'}`,
    );
  await allocator.assignAddress(address, holder);
  return address;
}

/** Addresses that dockerd releases although nobody allocated them: gateways that RequestPool named. */
function isDummy(address: Address): boolean {
  const shown = formatAddress(address);
  return shown === GATEWAY4 || shown === GATEWAY6 || shown === '0.0.0.0' || shown === '::';
}

/** As Calico's own clients write it into `timestamp`. */
function goTimestamp(now: Date): string {
  return goTime(now).replace('T', ' ').replace('Z', ' +0000 UTC');
}
