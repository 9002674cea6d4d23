import type { HostState } from './dataplane.js';
import { renderInternal } from './nft-internal.js';
import { renderMasquerade } from './nft-masquerade.js';
import { renderPublished } from './nft-published.js';
import { deleteTable, runScript } from './nft-script.js';
import { TABLE, assemble } from './nft-table.js';
import { CommandError, run } from './run.js';

/** What the table is made from. */
export type TableState = Pick<HostState, 'masqueradeFrom' | 'pools' | 'published' | 'internal'>;

/** The whole table; `prefix`: of the names of containers' interfaces. Throws HostError for nonsense in the state. */
export function renderTable(state: TableState, prefix: string): string {
  return assemble([
    renderInternal(state.internal),
    renderPublished(state.published, prefix),
    renderMasquerade(state.masqueradeFrom, state.pools),
  ]);
}

/** Our nftables table: keeps the kernel's copy as rendered last. */
export class NatTable {
  private wanted: string | undefined;
  private listing: string | undefined;

  /** `prefix`: of the names of containers' interfaces. */
  constructor(private readonly prefix: string) {}

  /** Replaces the table. Throws HostError. */
  async apply(state: TableState): Promise<void> {
    const rendered = renderTable(state, this.prefix);
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
    await deleteTable(`inet ${TABLE}`);
  }

  private async load(rendered: string): Promise<void> {
    // The same table as before must look as before: what somebody changed since it was loaded is no part of it.
    const before = rendered === this.wanted ? this.listing : undefined;
    await runScript(rendered);
    this.wanted = rendered;
    this.listing = before ?? (await list());
  }

  private async isIntact(): Promise<boolean> {
    return this.listing !== undefined && (await list()) === this.listing;
  }
}

/**
 * The kernel's table as text: what nft prints is compared with what it printed, never with what we wrote. Numbers
 * (`-n`) instead of names of services and protocols: looking those up takes most of the time of a long list.
 */
async function list(): Promise<string | undefined> {
  try {
    return await run('nft', ['-n', 'list', 'table', 'inet', TABLE]);
  } catch (error) {
    if (error instanceof CommandError && !error.isMissing) return undefined;
    throw error;
  }
}
