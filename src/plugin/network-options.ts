import { RequestError } from '../errors.js';
import { isObject } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { flag } from './fields.js';
import { isOurAddressSpace, LABEL } from './protocol.js';

/** `docker network create` as far as it concerns the network driver. */
export interface NetworkOptions {
  readonly internal: boolean;
  /** The `-o` options we know. */
  readonly options: Readonly<Record<string, string>>;
}

/** Options of ours for `-o`, each with its check: the text of what is wrong, or nothing. */
const KNOWN: Readonly<Record<string, (value: string) => string | undefined>> = {};

/** Docker adds such options by itself, more with every version. */
const DOCKERS_OWN = /^com\.docker\.network\./;

/** Reads and checks the options of CreateNetwork. Throws RequestError that names the option. */
export function networkOptions(options: JsonObject): NetworkOptions {
  const generic = options[LABEL.generic] ?? {};
  if (!isObject(generic)) throw new RequestError(`${LABEL.generic} must be an object`);
  const known: Record<string, string> = {};
  for (const [name, value] of Object.entries(generic)) {
    if (DOCKERS_OWN.test(name)) continue;
    const check = Object.hasOwn(KNOWN, name) ? KNOWN[name] : undefined;
    if (!check) throw new RequestError(unknownOption(name));
    const problem = check(String(value));
    if (problem !== undefined) throw new RequestError(`-o ${name}=${String(value)}: ${problem}`);
    known[name] = String(value);
  }
  if (flag(options, LABEL.internal)) throw new RequestError('--internal is not supported yet: leave it out');
  return { internal: false, options: known };
}

function unknownOption(name: string): string {
  const list = Object.keys(KNOWN);
  return `unknown option -o ${name}: the calico driver knows ${list.length > 0 ? list.join(', ') : 'none'}`;
}

/**
 * Refuses networks whose addresses are not ours to give: Docker's own IPAM would give the same to containers of two
 * hosts. `data`: IPv4Data and IPv6Data of CreateNetwork.
 */
export function checkAddressSpaces(data: readonly JsonObject[]): void {
  for (const { AddressSpace: space } of data)
    if (!isOurAddressSpace(String(space)))
      throw new RequestError("the calico driver needs Calico's addresses: add --ipam-driver calico-ipam");
}
