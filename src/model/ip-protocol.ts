/** Protocols over IP: numbers, and the names that Calico has for some. */

const NAMED = new Map([
  ['icmp', 1],
  ['tcp', 6],
  ['udp', 17],
  ['icmpv6', 58],
  ['sctp', 132],
  ['udplite', 136],
]);

/** Those that have ports. */
export const PORT_PROTOCOLS: readonly number[] = [6, 17, 132, 136];
/** What ports with names are of, in a rule that says no protocol: as in Felix. */
export const NAMED_PORT_PROTOCOL = 6;
/** ICMP of each family. */
export const ICMP = { 4: 1, 6: 58 } as const;

/** The number, from 1 to 255, of a protocol given as one or by name, in any case: old writers use lower case. Undefined where
 *  it is none. */
export function protocolNumber(value: unknown): number | undefined {
  const text = typeof value === 'string' || typeof value === 'number' ? String(value).toLowerCase() : '';
  const number = NAMED.get(text) ?? (/^\d{1,3}$/.test(text) ? Number(text) : 0);
  return number > 0 && number < 256 ? number : undefined;
}

/** A protocol's name in lower case, else its number. */
export function protocolName(number: number): string {
  return [...NAMED].find(([, known]) => known === number)?.[0] ?? String(number);
}
