import { NoAddressError, RequestError } from '../errors.js';
import type { Allocator } from '../ipam/allocator.js';
import { goTime } from '../ipam/block.js';
import { cover, formatAddress, formatCidr, parseAddress } from '../ipam/cidr.js';
import type { Address, Cidr, Family } from '../ipam/cidr.js';
import { describePool } from '../ipam/facts.js';
import type { IpamFacts } from '../ipam/facts.js';
import type { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import { isDisappearing } from '../model/ip-pool.js';
import type { IpPool } from '../model/ip-pool.js';
import type { JsonObject } from '../model/json.js';
import { mac, requiredText, text, texts } from './fields.js';
import { endpointHandle } from './handles.js';
import { admits, formatPoolId, parsePoolId } from './pool-id.js';
import type { PoolChoice } from './pool-id.js';
import { poolRequest } from './pool-request.js';
import type { PoolRequest } from './pool-request.js';
import { ADDRESS_SPACE, GATEWAY4, GATEWAY6, LABEL } from './protocol.js';
import type { Methods } from './protocol.js';
import type { PoolRequests } from './pool-requests.js';

export interface IpamDriverParts {
  readonly allocator: Allocator;
  readonly facts: IpamFacts;
  readonly pools: PoolLifecycle;
  readonly requests: PoolRequests;
  /** Makes the default pools if there are none. */
  ensureDefaultPools(): Promise<void>;
  /** True where a network refers to the pool, as the datastore says now. */
  isNeeded(pool: IpPool): Promise<boolean>;
  /** An address is about to be released: nothing of this node may go on using it. */
  addressGone(address: string): Promise<void>;
  /** Where else the network that begins with this subnet takes addresses from when it is full. */
  furtherRanges(subnet: Cidr): readonly Cidr[];
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
      parts.requests.requested(request);
      await facts.ready();
      const choice = await choose(request, parts);
      const shown = choice.subnet ?? shownPool(choice, facts);
      if (!choice.subnet) parts.requests.answered(shown);
      return {
        PoolID: formatPoolId(choice),
        Pool: formatCidr(shown),
        // The gateway that containers really have. Naming it here spares a RequestAddress on every engine.
        Data: { [LABEL.gateway]: dummyGateway(choice.family) },
      };
    },

    /** One round trip where no pool of ours is left over. */
    'IpamDriver.ReleasePool': async body => {
      await facts.ready();
      const { subnet, family } = choiceOf(body);
      if (!subnet) parts.requests.released(family);
      const pool = subnet && facts.poolAround(subnet);
      if (pool?.isOurs) await pools.removeIfUnused(pool.name, found => parts.isNeeded(found));
      return {};
    },

    /** One round trip in the common case; see {@link Allocator}. */
    'IpamDriver.RequestAddress': async body => {
      await facts.ready();
      const choice = choiceOf(body);
      const options = texts(body, 'Options');
      const wanted = text(body, 'Address');
      const around = choice.subnet && facts.poolAround(choice.subnet);
      if (around && isDisappearing(around)) await pools.putBack(around);
      const isGateway = options[LABEL.requestType] === LABEL.gateway;
      if (isGateway && wanted === '') return { Address: dummyGateway(choice.family), Data: {} };
      const hardware = mac(options[LABEL.macAddress] ?? '', 'the MAC address');
      const secondary = { node: facts.node, timestamp: goTimestamp(new Date()) };
      const address = wanted === '' ? undefined : wantedAddress(wanted, choice, facts);
      if (address && hardware === undefined)
        await allocator.reserve(address, isGateway ? 'gateway' : 'aux', secondary);
      else if (hardware === undefined)
        throw new RequestError(
          'an address was asked for without a MAC address: Docker 20.10 or later is needed',
        );
      const holder = {
        handle: (given: string) => endpointHandle(facts.node, hardware ?? '', given),
        secondary,
      };
      if (address && hardware !== undefined) await allocator.assignAddress(address, holder);
      const given = address ?? (await anyAddress(choice, holder, parts));
      return { Address: `${formatAddress(given)}/${given.family === 4 ? 32 : 128}`, Data: {} };
    },

    /** One round trip. Never an error for what is not ours to free: dockerd would only log it. */
    'IpamDriver.ReleaseAddress': async body => {
      requiredText(body, 'PoolID');
      const address = parseAddress(requiredText(body, 'Address').split('/')[0] ?? '');
      if (!address) throw new RequestError(`Address "${text(body, 'Address')}" is no IP address`);
      if (isDummy(address)) return {};
      await parts.addressGone(formatAddress(address));
      await allocator.release(address);
      return {};
    },
  };
}

async function choose(request: PoolRequest, parts: IpamDriverParts): Promise<PoolChoice> {
  const { family, subnet, range, options } = request;
  const named = options.pools && namedPools(options.pools, family, parts.facts);
  if (subnet) {
    const pool = await parts.pools.poolFor(subnet, options);
    if (named && !named.includes(pool.name))
      throw new RequestError(
        `--subnet ${formatCidr(subnet)} lies in ${describePool(pool)}, which --ipam-opt ippools does not name`,
      );
    return { family, subnet, ...(range ? { range } : {}) };
  }
  if (named) return { family, pools: named };
  if (defaultPools(family, parts.facts).length === 0) await parts.ensureDefaultPools();
  if (defaultPools(family, parts.facts).length > 0) return { family };
  const remedy = family === 4 ? 'create an IPPool' : 'set CALICO_IPV6POOL_CIDR for the daemon';
  throw new RequestError(
    `there is no IPv${family} pool for networks without a subnet: give the network an IPv${family} --subnet, or ${remedy}`,
  );
}

/** Those of the named pools that are of the family. All must exist and be usable, whatever their family. */
function namedPools(names: readonly string[], family: Family, facts: IpamFacts): string[] {
  const found = names.map(name => {
    const pool = facts.allPools().find(candidate => candidate.name === name);
    if (!pool) throw new RequestError(`--ipam-opt ippools: there is no IPPool ${name}`);
    if (pool.disabled) throw new RequestError(`--ipam-opt ippools: ${describePool(pool)} is disabled`);
    if (!pool.allowsWorkloads)
      throw new RequestError(
        `--ipam-opt ippools: ${describePool(pool)} is not meant for containers (allowedUses)`,
      );
    return pool;
  });
  const ours = found.filter(pool => pool.cidr.family === family).map(pool => pool.name);
  if (ours.length === 0)
    throw new RequestError(`--ipam-opt ippools=${names.join(',')}: none of them is IPv${family}`);
  return ours;
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

/** The pools a network without subnet takes its addresses from. */
function poolsOf(choice: PoolChoice, facts: IpamFacts): IpPool[] {
  const { pools, family } = choice;
  return pools ? facts.allPools().filter(pool => pools.includes(pool.name)) : defaultPools(family, facts);
}

/**
 * The range dockerd is shown for a network without subnet. IPv4: 0.0.0.0/0, which every engine exempts from its checks
 * (they would ask again and again). IPv6 has no such exemption before 27: the range around the pools, which contains no
 * nameserver of the host.
 */
function shownPool(choice: PoolChoice, facts: IpamFacts): Cidr {
  const everything: Cidr = { family: choice.family, base: 0n, length: 0 };
  if (choice.family === 4) return everything;
  return cover(poolsOf(choice, facts).map(pool => pool.cidr)) ?? everything;
}

/** From the network's first subnet, or a further one when that is full. */
async function anyAddress(
  choice: PoolChoice,
  holder: Parameters<Allocator['assign']>[0]['holder'],
  parts: IpamDriverParts,
): Promise<Address> {
  const { family, pools } = choice;
  const first = choice.range ?? choice.subnet;
  const ranges = choice.subnet ? [first, ...parts.furtherRanges(choice.subnet)] : [undefined];
  for (const [index, within] of ranges.entries()) {
    try {
      return await parts.allocator.assign({
        family,
        holder,
        ...(within ? { within } : {}),
        ...(pools ? { pools } : {}),
      });
    } catch (error) {
      if (!(error instanceof NoAddressError) || index === ranges.length - 1) throw error;
    }
  }
  throw new NoAddressError('no free address');
}

function wantedAddress(wanted: string, choice: PoolChoice, facts: IpamFacts): Address {
  const address = parseAddress(wanted.split('/')[0] ?? '');
  if (!address) throw new RequestError(`Address "${wanted}" is no IP address`);
  if (!admits(choice, address)) {
    const where = choice.subnet
      ? `the network's subnet ${formatCidr(choice.subnet)}`
      : `an IPv${choice.family} network`;
    throw new RequestError(`address ${wanted} is not in ${where}`);
  }
  if (!choice.subnet && !poolsOf(choice, facts).some(pool => pool === facts.poolOf(address)))
    throw new RequestError(
      `address ${wanted} is in none of the network's pools: ${poolsOf(choice, facts).map(describePool).join(', ') || 'there are none'}`,
    );
  return address;
}

function dummyGateway(family: Family): string {
  return family === 4 ? `${GATEWAY4}/32` : `${GATEWAY6}/128`;
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
