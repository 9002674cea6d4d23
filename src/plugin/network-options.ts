import { RequestError } from '../errors.js';
import { isObject, textOr } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { flag } from './fields.js';
import type { DocumentedOption } from './ipam-options.js';
import { IPAM_OPTIONS } from './ipam-options.js';
import { isOurAddressSpace, LABEL } from './protocol.js';

/** `docker network create` as far as it concerns the network driver. */
export interface NetworkOptions {
  readonly internal: boolean;
  /** The `-o` options we know, by our names. */
  readonly options: Readonly<Record<string, string>>;
}

interface NetworkOption extends DocumentedOption {
  /** Docker's own name for the same thing, where it has one. */
  readonly alias?: string;
  /** What is wrong with a value, if anything. */
  check(value: string, ipv6: boolean): string | undefined;
}

const MTU = { min: 68, min6: 1280, max: 65_535 };

export const NETWORK_OPTIONS: readonly NetworkOption[] = [
  {
    name: 'mtu',
    alias: 'com.docker.network.driver.mtu',
    help: `MTU of the containers' interfaces: ${MTU.min} to ${MTU.max}, with IPv6 at least ${MTU.min6}`,
    check(value, ipv6) {
      const min = ipv6 ? MTU.min6 : MTU.min;
      const mtu = Number(value);
      if (/^\d+$/.test(value) && mtu >= min && mtu <= MTU.max) return undefined;
      return `must be a whole number from ${min}${ipv6 ? ' (the least that IPv6 allows)' : ''} to ${MTU.max}`;
    },
  },
  {
    name: 'profile',
    help: "name of the profile of the network's endpoints, instead of the network's own name",
    check: value =>
      /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}$/.test(value)
        ? undefined
        : 'must be a name of letters, digits, dots, dashes and underscores that begins with a letter or digit',
  },
];

/** Docker adds such options by itself, more with every version. */
const DOCKERS_OWN = /^com\.docker\.network\./;

/** Reads and checks the options of CreateNetwork. Throws RequestError that names the option. */
export function networkOptions(options: JsonObject): NetworkOptions {
  const generic = options[LABEL.generic] ?? {};
  if (!isObject(generic)) throw new RequestError(`${LABEL.generic} must be an object`);
  const ipv6 = flag(options, LABEL.enableIpv6);
  const known: Record<string, string> = {};
  for (const [name, value] of Object.entries(generic)) {
    const option = NETWORK_OPTIONS.find(candidate => candidate.name === name || candidate.alias === name);
    if (!option && DOCKERS_OWN.test(name)) continue;
    if (!option) throw new RequestError(unknownOption(name));
    if (typeof value === 'object') throw new RequestError(`-o ${name} must be text`);
    const problem = option.check(String(value), ipv6);
    if (problem !== undefined) throw new RequestError(`-o ${name}=${String(value)}: ${problem}`);
    known[option.name] = String(value);
  }
  return { internal: flag(options, LABEL.internal), options: known };
}

function unknownOption(name: string): string {
  if (IPAM_OPTIONS.some(option => option.name === name))
    return `-o ${name} comes too late to choose addresses: say --ipam-opt ${name}`;
  return `unknown option -o ${name}: the calico driver knows ${NETWORK_OPTIONS.map(option => option.name).join(', ')}`;
}

/**
 * Refuses networks whose addresses are not ours to give: Docker's own IPAM would give the same to containers of two
 * hosts. `data`: IPv4Data and IPv6Data of CreateNetwork.
 */
export function checkAddressSpaces(data: readonly JsonObject[]): void {
  for (const { AddressSpace: space } of data)
    if (!isOurAddressSpace(textOr(space)))
      throw new RequestError("the calico driver needs Calico's addresses: add --ipam-driver calico-ipam");
}
