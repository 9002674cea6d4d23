import { bytesOf, textOf } from './bytes.js';
import { deletionOf } from './nft-script.js';

/**
 * How the nftables table is put together: each concept (masquerading, published ports, internal networks) renders what
 * it needs as a {@link Part}, and {@link assemble} makes one script of them.
 */

/** Name of our table, family inet (hence IPv4 and IPv6 in one place; NAT there since kernel 5.2). */
export const TABLE = 'calico_libnetwork';

/** The chains the kernel calls, each only where a part has rules for it. `-100`: "dstnat" is a name in prerouting only. */
const HOOKS = {
  guard: 'type filter hook prerouting priority raw',
  prerouting: 'type nat hook prerouting priority dstnat',
  nat_output: 'type nat hook output priority -100',
  postrouting: 'type nat hook postrouting priority srcnat',
  input: 'type filter hook input priority filter',
  forward: 'type filter hook forward priority filter',
  output: 'type filter hook output priority filter',
} as const;

export type Hook = keyof typeof HOOKS;
const HOOK_NAMES = Object.keys(HOOKS) as Hook[];

/** What one concept adds to the table. */
export interface Part {
  /** Lines of sets, maps and chains of its own. */
  readonly objects: readonly string[];
  readonly rules: Partial<Readonly<Record<Hook, readonly string[]>>>;
}

/**
 * The whole table as a script for `nft -f`, which is one transaction: packets see the old table or the new one.
 * Rules of earlier parts come first.
 */
export function assemble(parts: readonly Part[]): string {
  const chains = HOOK_NAMES.flatMap(name => {
    const rules = parts.flatMap(part => part.rules[name] ?? []);
    return rules.length === 0 ? [] : chain(name, [`${HOOKS[name]}; policy accept;`, ...rules]);
  });
  return [
    ...deletionOf(`inet ${TABLE}`),
    `table inet ${TABLE} {`,
    ...parts.flatMap(part => part.objects),
    ...chains,
    '}',
    '',
  ].join('\n');
}

/** A chain that others jump to, or the kernel calls where its first line says so. */
export function chain(name: string, lines: readonly string[]): string[] {
  return [`  chain ${name} {`, ...lines.map(line => `    ${line}`), '  }'];
}

/** A set; `type` with flags, e.g. `ipv4_addr; flags interval`. Elements are sorted, and each is there once. */
export function set(name: string, type: string, elements: readonly string[]): string[] {
  return [`  set ${name} {`, `    type ${type}`, ...elementsLine([...new Set(elements)]), '  }'];
}

/** A map. Of two entries with one key the first counts: nft would refuse the whole table. */
export function map(name: string, type: string, entries: readonly (readonly [string, string])[]): string[] {
  const byKey = new Map([...entries].reverse());
  return [
    `  map ${name} {`,
    `    type ${type}`,
    ...elementsLine([...byKey].map(([key, value]) => `${key} : ${value}`)),
    '  }',
  ];
}

/** An address as nft prints it; throws HostError for what is none, and might be a piece of script. */
export function canonical(address: string): string {
  return textOf(bytesOf(address));
}

/** Whether an address or CIDR is IPv6. */
export function is6(address: string): boolean {
  return address.includes(':');
}

function elementsLine(elements: readonly string[]): string[] {
  return elements.length === 0 ? [] : [`    elements = { ${[...elements].sort().join(', ')} }`];
}
