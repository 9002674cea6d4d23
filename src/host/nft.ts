import type { HostState } from './dataplane.js';
import { GATEWAY4 } from './routes.js';
import { CommandError, run } from './run.js';

/** Name of our table, family inet (hence IPv4 and IPv6 in one place; NAT there since kernel 5.2). */
export const TABLE = 'calico_libnetwork';

/**
 * The whole table as a script for `nft -f`, which is one transaction: packets see the old table or the new one.
 * The first line makes sure there is one to delete.
 */
export function renderTable(state: Pick<HostState, 'masqueradeFrom' | 'pools'>): string {
  const is6 = (cidr: string): boolean => cidr.includes(':');
  const of4 = (cidrs: readonly string[]): string[] => cidrs.filter(cidr => !is6(cidr));
  const of6 = (cidrs: readonly string[]): string[] => cidrs.filter(is6);
  return [
    `table inet ${TABLE} {}`,
    `delete table inet ${TABLE}`,
    `table inet ${TABLE} {`,
    ...renderSet('masquerade_from4', 'ipv4_addr', of4(state.masqueradeFrom)),
    ...renderSet('masquerade_from6', 'ipv6_addr', of6(state.masqueradeFrom)),
    ...renderSet('pools4', 'ipv4_addr', of4(state.pools)),
    ...renderSet('pools6', 'ipv6_addr', of6(state.pools)),
    '  chain postrouting {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    // Random ports: two connections opened at once must not be given the same one (a lost SYN, a second's delay).
    '    ip saddr @masquerade_from4 ip daddr != @pools4 masquerade fully-random',
    '    ip6 saddr @masquerade_from6 ip6 daddr != @pools6 masquerade fully-random',
    '  }',
    // Nobody has the gateway's address; its route to lo exists for the ARP proxy only (routes.ts) and would send a
    // packet round until its TTL ends.
    '  chain forward {',
    '    type filter hook forward priority filter; policy accept;',
    `    ip daddr ${GATEWAY4} drop`,
    '  }',
    '}',
    '',
  ].join('\n');
}

function renderSet(name: string, type: string, cidrs: readonly string[]): string[] {
  const elements = cidrs.length === 0 ? [] : [`    elements = { ${[...cidrs].sort().join(', ')} }`];
  return [`  set ${name} {`, `    type ${type}; flags interval; auto-merge`, ...elements, '  }'];
}

/** Our nftables table: keeps the kernel's copy as rendered last. */
export class NatTable {
  private wanted: string | undefined;
  private listing: string | undefined;

  /** Replaces the table. Throws HostError. */
  async apply(state: Pick<HostState, 'masqueradeFrom' | 'pools'>): Promise<void> {
    const rendered = renderTable(state);
    if (rendered === this.wanted && (await this.isIntact())) return;
    await this.load(rendered);
  }

  /** Puts the table back if it is not what was applied last; answers whether it had to. */
  async check(): Promise<boolean> {
    if (this.wanted === undefined || (await this.isIntact())) return false;
    await this.load(this.wanted);
    return true;
  }

  /** Deletes the table. Missing is fine. */
  async remove(): Promise<void> {
    this.wanted = undefined;
    await run('nft', ['-f', '-'], `table inet ${TABLE} {}\ndelete table inet ${TABLE}\n`);
  }

  private async load(rendered: string): Promise<void> {
    await run('nft', ['-f', '-'], rendered);
    this.wanted = rendered;
    this.listing = await list();
  }

  private async isIntact(): Promise<boolean> {
    return this.listing !== undefined && (await list()) === this.listing;
  }
}

/** The kernel's table as text: what nft prints is compared with what it printed, never with what we wrote. */
async function list(): Promise<string | undefined> {
  try {
    return await run('nft', ['list', 'table', 'inet', TABLE]);
  } catch (error) {
    if (error instanceof CommandError && !error.isMissing) return undefined;
    throw error;
  }
}
