import { isObject, objectOrEmpty, textMap, textOr } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import type { DefinedSubnet, NetworkDefinition } from '../model/shared-network.js';

/** A network of Docker's with all that it was made of. */
export interface DefinedNetwork {
  readonly id: string;
  readonly name: string;
  /** As it is called on this host: a managed plugin's has a tag. */
  readonly driver: string;
  readonly ipamDriver: string;
  /** False for what belongs to a swarm, or follows from a network that only holds settings. */
  readonly isPlain: boolean;
  readonly definition: NetworkDefinition;
}

/** Whether Docker's name of a network's driver is ours; a managed plugin's has a tag. */
export function isCalicoDriver(driver: string): boolean {
  return /^calico(:|$)/.test(driver);
}

/** Docker's own names for the drivers on a host. */
export interface DriverNames {
  readonly driver: string;
  /** Undefined: as the definition says. */
  readonly ipamDriver?: string;
}

/** A network as `GET /networks` shows it (20.10, 26 and 28 agree, but for EnableIPv4, which came with 28). */
export function parseDefinedNetwork(network: JsonObject): DefinedNetwork {
  const ipam = objectOrEmpty(network.IPAM);
  const configs = Array.isArray(ipam.Config) ? ipam.Config.filter(isObject) : [];
  const ipamDriver = textOr(ipam.Driver);
  return {
    id: textOr(network.Id),
    name: textOr(network.Name),
    driver: textOr(network.Driver),
    ipamDriver,
    isPlain:
      network.Scope === 'local' &&
      network.ConfigOnly !== true &&
      textOr(objectOrEmpty(network.ConfigFrom).Network) === '',
    definition: {
      internal: network.Internal === true,
      attachable: network.Attachable === true,
      enableIPv4: network.EnableIPv4 !== false,
      enableIPv6: network.EnableIPv6 === true,
      ipamDriver: untagged(ipamDriver),
      ipamOptions: textMap(ipam.Options),
      subnets: configs.flatMap(typedSubnet),
      options: textMap(network.Options),
      labels: textMap(network.Labels),
    },
  };
}

/** The body of `POST /networks/create`. */
export function createRequest(
  name: string,
  definition: NetworkDefinition,
  { driver, ipamDriver = definition.ipamDriver }: DriverNames,
): JsonObject {
  return {
    Name: name,
    // Else 20.10 makes a second one of the same name.
    CheckDuplicate: true,
    Driver: driver,
    Internal: definition.internal,
    Attachable: definition.attachable,
    // Engines before 28 do not know it.
    ...(definition.enableIPv4 ? {} : { EnableIPv4: false }),
    EnableIPv6: definition.enableIPv6,
    IPAM: {
      Driver: ipamDriver,
      Options: definition.ipamOptions,
      Config: definition.subnets.map(({ subnet, range, gateway, auxiliary }) => ({
        Subnet: subnet,
        ...(range === undefined ? {} : { IPRange: range }),
        ...(gateway === undefined ? {} : { Gateway: gateway }),
        ...(Object.keys(auxiliary).length === 0 ? {} : { AuxiliaryAddresses: auxiliary }),
      })),
    },
    Options: definition.options,
    Labels: definition.labels,
  };
}

/**
 * Where no subnet of a family was typed Docker shows what the IPAM driver answered: ours answers with a link-local
 * gateway, which nobody can type.
 */
function typedSubnet({ Subnet, IPRange, Gateway, AuxiliaryAddresses }: JsonObject): DefinedSubnet[] {
  const [subnet, range, gateway] = [textOr(Subnet), textOr(IPRange), textOr(Gateway)];
  if (subnet === '' || subnet.endsWith('/0') || /^(169\.254\.|fe80:)/i.test(gateway)) return [];
  return [
    {
      subnet,
      ...(range === '' ? {} : { range }),
      ...(gateway === '' ? {} : { gateway }),
      auxiliary: textMap(AuxiliaryAddresses),
    },
  ];
}

function untagged(driver: string): string {
  return driver.split(':')[0] ?? driver;
}
