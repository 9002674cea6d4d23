import type { Logger } from 'pino';
import type { SaidGone } from './said-gone.js';
import { AddressInUseError, NoAddressError, reason, RequestError } from '../errors.js';
import type { Allocator } from '../ipam/allocator.js';
import { allocationMetadata } from '../ipam/block.js';
import { formatAddress, formatCidr, parseAddress } from '../ipam/cidr.js';
import type { Address, Cidr, Family } from '../ipam/cidr.js';
import { describePool } from '../ipam/facts.js';
import type { IpamFacts } from '../ipam/facts.js';
import type { PoolLifecycle } from '../ipam/pool-lifecycle.js';
import { isDisappearing } from '../model/ip-pool.js';
import type { JsonObject } from '../model/json.js';
import type { NetworkCreations } from './creations.js';
import { mac, requiredText, text, texts } from './fields.js';
import { endpointHandle } from '../ipam/handles.js';
import { admits, formatPoolId, parsePoolId } from './pool-id.js';
import type { PoolChoice } from './pool-id.js';
import { choosePools, poolsOf, shownPool } from './pool-choice.js';
import { poolRequest } from './pool-request.js';
import { ADDRESS_SPACE, GATEWAY4, GATEWAY6, LABEL } from './protocol.js';
import type { Methods } from './protocol.js';
import type { PoolRequests } from './pool-requests.js';
import { UnjoinedAddresses } from './unjoined.js';

export interface IpamDriverParts {
  readonly allocator: Allocator;
  readonly facts: IpamFacts;
  readonly pools: PoolLifecycle;
  readonly requests: PoolRequests;
  readonly creations: NetworkCreations;
  /** Makes the default pools if there are none. */
  ensureDefaultPools(): Promise<void>;
  /** True where a network of this host has the subnet. */
  hasNetwork(subnet: Cidr): boolean;
  /** True where an endpoint of this node has the address. */
  hasEndpoint(address: string): boolean;
  /** True where a container of this host uses the address, whatever the datastore says. */
  hasContainer(address: string): Promise<boolean>;
  /** An address is about to be released: nothing of this node may go on using it. False: another's, it is to stay. */
  addressGone(address: string): Promise<boolean>;
  /** Where else the network that begins with this subnet takes addresses from when it is full. */
  furtherRanges(subnet: Cidr): readonly Cidr[];
  readonly saidGone: SaidGone;
  readonly log: Logger;
}

/** Docker's IpamDriver on Calico's IPAM. */
export function ipamDriver(parts: IpamDriverParts): Methods {
  const { allocator, facts, pools, creations } = parts;
  const unjoined = new UnjoinedAddresses();
  const choiceOf = (body: JsonObject) =>
    parsePoolId(
      requiredText(body, 'PoolID'),
      name => facts.allPools().find(pool => pool.name === name)?.cidr,
    );

  /** Gives back what the creation of a network had got before it failed. */
  const giveUp = async (subnet: Cidr, reserved: readonly Address[]): Promise<void> => {
    for (const address of reserved) await allocator.release(address);
    await pools.removeAround(subnet);
  };
  /** Keeps an address back for a network that is being created. Where that cannot be, the creation has failed. */
  const keepBack = async (wanted: string, type: string, choice: PoolChoice): Promise<Address> => {
    try {
      const address = wantedAddress(wanted, choice, facts);
      await allocator.reserve(address, type, allocationMetadata(facts.node));
      if (choice.subnet) creations.reserved(choice.subnet, address);
      parts.saidGone.delete(formatAddress(address));
      return address;
    } catch (error) {
      // Docker 20.10 does not say that it gives up.
      if (choice.subnet) await giveUp(choice.subnet, creations.refused(choice.subnet)).catch(later);
      throw error;
    }
  };
  /** dockerd keeps the IPv4 address of a container that is refused an IPv6 one (moby, createEndpoint). */
  const giveBackOther = async (hardware: string): Promise<void> => {
    for (const address of unjoined.of(hardware)) {
      const text = formatAddress(address);
      if (!parts.hasEndpoint(text))
        await allocator.releaseHandle(address, endpointHandle(facts.node, hardware, text));
    }
  };
  const later = (error: unknown): void =>
    parts.log.warn({ reason: reason(error) }, 'cannot give back now what a failed request had got');

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
      if (request.subnet) parts.saidGone.delete(formatCidr(request.subnet));
      const choice = await choosePools(request, parts);
      if (choice.subnet) creations.began(choice.subnet);
      const shown = choice.subnet ?? shownPool(choice, facts);
      if (!choice.subnet) parts.requests.answered(shown);
      return {
        PoolID: formatPoolId(choice),
        Pool: formatCidr(shown),
        // The gateway that containers really have. Naming it here spares a RequestAddress on every engine.
        Data: { [LABEL.gateway]: dummyGateway(choice.family) },
      };
    },

    /** One round trip where no pool of ours is left over. It is the end of a network, or of a creation that failed. */
    'IpamDriver.ReleasePool': async body => {
      await facts.ready();
      const { subnet, family } = choiceOf(body);
      if (!subnet) parts.requests.released(family);
      // The removal of another network of the host with that subnet, while one is created, looks the same.
      if (subnet)
        await parts.saidGone.during(formatCidr(subnet), () =>
          giveUp(subnet, parts.hasNetwork(subnet) ? [] : creations.failed(subnet)),
        );
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
      // It went with another network that had the subnet; nothing records networks of other drivers.
      if (choice.subnet && !around) await pools.poolFor(choice.subnet);
      const isGateway = options[LABEL.requestType] === LABEL.gateway;
      if (isGateway && wanted === '') return { Address: dummyGateway(choice.family), Data: {} };
      const hardware = mac(options[LABEL.macAddress] ?? '', 'the MAC address');
      if (hardware === undefined) {
        if (wanted !== '') return answer(await keepBack(wanted, isGateway ? 'gateway' : 'aux', choice));
        throw new RequestError(
          'an address was asked for without a MAC address: Docker 20.10 or later is needed',
        );
      }
      const holder = {
        handle: (given: string) => endpointHandle(facts.node, hardware, given),
        secondary: allocationMetadata(facts.node),
      };
      try {
        const address =
          wanted === '' ? await anyAddress(choice, holder, parts) : wantedAddress(wanted, choice, facts);
        if (wanted !== '' && (await parts.hasContainer(formatAddress(address))))
          throw new AddressInUseError(`address ${wanted} is in use by a container of this host`);
        if (wanted !== '') await allocator.assignAddress(address, holder);
        // The last that is asked for: dockerd has all it wants.
        if (address.family === 6) unjoined.forget(hardware);
        else unjoined.given(hardware, address);
        parts.saidGone.delete(formatAddress(address));
        return answer(address);
      } catch (error) {
        if (choice.family === 6) await giveBackOther(hardware).catch(later);
        throw error;
      }
    },

    /** One round trip. Never an error for what is not ours to free: dockerd would only log it. */
    'IpamDriver.ReleaseAddress': async body => {
      requiredText(body, 'PoolID');
      const address = parseAddress(requiredText(body, 'Address').split('/')[0] ?? '');
      if (!address) throw new RequestError(`Address "${text(body, 'Address')}" is no IP address`);
      if (isDummy(address)) return {};
      creations.released(address);
      const shown = formatAddress(address);
      await parts.saidGone.during(shown, async () => {
        if (await parts.addressGone(shown)) await allocator.release(address);
      });
      return {};
    },
  };
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

function answer(address: Address): { Address: string; Data: object } {
  return { Address: `${formatAddress(address)}/${address.family === 4 ? 32 : 128}`, Data: {} };
}
