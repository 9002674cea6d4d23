import { isIP } from 'node:net';
import { HostError } from '../errors.js';
import { addressSet, checkNumber, portSet } from './nft-policy-names.js';
import { is6 } from './nft-table.js';
import { isMac } from './policy.js';
import type { AddressSet, ConsentedPort, EndpointPolicy, PortSet, SetId } from './policy.js';
import { mergeRanges, rangeOf, rangeText } from './ranges.js';
import { checkInterfaceName } from './sysctl.js';

/** Types of the fields of a set's keys, as nft names them. */
export type Field = 'ifname' | 'ether_addr' | 'ipv4_addr' | 'ipv6_addr' | 'inet_proto' | 'inet_service';

/** A set, or a map to verdicts. */
export interface SetType {
  readonly fields: readonly Field[];
  readonly isMap: boolean;
  /** Keys are ranges of addresses. */
  readonly isRanges: boolean;
}

/** Keys as nft writes them; of a map with the verdict, otherwise with undefined. */
export type Elements = ReadonlyMap<string, string | undefined>;

const ADDRESS = { 4: 'ipv4_addr', 6: 'ipv6_addr' } as const;

/** Sets that are always there. Keys of all but the last two begin with the host interface. */
export const FIXED_SETS: Readonly<Record<string, SetType>> = {
  macs: type('ifname', 'ether_addr'),
  sources4: type('ifname', 'ether_addr', 'ipv4_addr'),
  sources6: type('ifname', 'ether_addr', 'ipv6_addr'),
  egress: { ...type('ifname'), isMap: true },
  ingress: { ...type('ifname'), isMap: true },
  from_host: { ...type('ifname'), isMap: true },
  consented4: type('ipv4_addr', 'inet_proto', 'inet_service'),
  consented6: type('ipv6_addr', 'inet_proto', 'inet_service'),
};

const FAMILIES = [4, 6] as const;

/** Declaration of a type as nft wants it in a script. */
export function typeText({ fields, isMap, isRanges }: SetType): string {
  return `type ${fields.join(' . ')}${isMap ? ' : verdict' : ''};${isRanges ? ' flags interval;' : ''}`;
}

/** Chains that judge an endpoint's packets. */
export interface EndpointChains {
  readonly ingress: string;
  readonly egress: string;
}

/** What one endpoint adds to the fixed sets: `[set, key, verdict]`. Throws HostError for nonsense. */
export function endpointElements(
  name: string,
  { mac, sources }: EndpointPolicy,
  { ingress, egress }: EndpointChains,
  fromHost: 'allow' | 'policy' | 'deny',
): (readonly [string, string, string | undefined])[] {
  const interfaceKey = `"${checkInterfaceName(name)}"`;
  const macKey = `${interfaceKey} . ${checkMac(mac)}`;
  const host = { allow: 'accept', policy: `goto ${ingress}`, deny: 'drop' }[fromHost];
  return [
    ['macs', macKey, undefined],
    ...[...new Set(sources)].map(
      source => [`sources${family(source)}`, `${macKey} . ${source}`, undefined] as const,
    ),
    ['egress', interfaceKey, `goto ${egress}`],
    ['ingress', interfaceKey, `goto ${ingress}`],
    ['from_host', interfaceKey, host],
  ];
}

/** What published ports add to the fixed sets. */
export function consentedElements(ports: readonly ConsentedPort[]): (readonly [string, string, undefined])[] {
  return ports.map(({ address, protocol, port }) => [
    `consented${family(address)}`,
    portKey(address, protocol, port),
    undefined,
  ]);
}

/** A set with its content. */
export interface FilledSet {
  readonly name: string;
  readonly type: SetType;
  readonly elements: Elements;
}

/** Whether a selector's set has to be one of ranges. */
export function isRanges({ nets }: AddressSet): boolean {
  return nets.length > 0;
}

/** A selector's sets, one for each family. */
export function addressSets(id: SetId, set: AddressSet): FilledSet[] {
  return FAMILIES.map(n => ({
    name: addressSet(id, n, isRanges(set)),
    type: { ...type(ADDRESS[n]), isRanges: isRanges(set) },
    elements: isRanges(set) ? rangeElements(set, n) : keys(ofFamily(set.addresses, n)),
  }));
}

/** A named port's sets, one for each family. */
export function portSets(id: SetId, members: PortSet): FilledSet[] {
  const parsed = [...members].map(member => {
    const [address = '', protocol, port] = member.split(' ');
    return { n: family(address), key: portKey(address, Number(protocol), Number(port)) };
  });
  return FAMILIES.map(n => ({
    name: portSet(id, n),
    type: type(ADDRESS[n], 'inet_proto', 'inet_service'),
    elements: keys(parsed.filter(member => member.n === n).map(({ key }) => key)),
  }));
}

/** `4` or `6`; throws HostError for what is no address, and might be a piece of script. */
export function family(address: string): 4 | 6 {
  const found = isIP(address);
  if ((found === 4 || found === 6) && !address.includes('%')) return found;
  throw new HostError(`"${address}" is no IP address`);
}

function rangeElements({ addresses, nets }: AddressSet, n: 4 | 6): Elements {
  const own = nets.filter(net => is6(net) === (n === 6));
  return keys(mergeRanges([...own, ...ofFamily(addresses, n)].map(rangeOf)).map(rangeText));
}

function ofFamily(addresses: Iterable<string>, n: 4 | 6): string[] {
  return [...addresses].filter(address => family(address) === n);
}

function keys(list: readonly string[]): Elements {
  return new Map(list.map(key => [key, undefined]));
}

function portKey(address: string, protocol: number, port: number): string {
  return `${address} . ${checkNumber(protocol, 255)} . ${checkNumber(port, 65_535)}`;
}

function checkMac(mac: string): string {
  if (isMac(mac)) return mac;
  throw new HostError(`"${mac}" is no MAC address in lower case with colons`);
}

function type(...fields: Field[]): SetType {
  return { fields, isMap: false, isRanges: false };
}
